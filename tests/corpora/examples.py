"""Small conversations for the tests of corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from joyful_ray.corpora.shards import write_corpus
from joyful_ray.schema import Conversation, FeatureContract, Label, Manifest, Modality

LABELS = ["joy", "anger", "neutral"]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def contract(width: int) -> FeatureContract:
    return FeatureContract(extractor="made up", version="1", width=width, licence="none")


CONTRACTS: dict[Modality, FeatureContract] = {"text": contract(3), "audio": contract(2)}


def conversation(conversation_id: str = "c0", utterances: int = 3, **changes: Any) -> Conversation:
    """Utterances whose vectors count upward; `changes` replaces fields."""
    labels: list[Label] = [LABELS[index % 3] for index in range(utterances)]
    fields: dict[str, Any] = {
        "conversation_id": conversation_id,
        "utterance_ids": [f"{conversation_id}_u{index}" for index in range(utterances)],
        "speakers": [f"speaker {index % 2}" for index in range(utterances)],
        "labels": labels,
        "features": {
            "text": np.arange(utterances * 3, dtype=np.float32).reshape(utterances, 3),
            "audio": np.arange(utterances * 2, dtype=np.float32).reshape(utterances, 2) / 2,
        },
        "present": {"text": np.ones(utterances, bool), "audio": np.ones(utterances, bool)},
        "texts": [f"words {index}" for index in range(utterances)],
    }
    return Conversation(**{**fields, **changes})


def with_gaps(conversation_id: str = "gaps") -> Conversation:
    """Two utterances: one cell of the first audio vector is absent, the second has no audio at all."""
    audio = np.array([[1.0, np.nan], [np.nan, np.nan]], dtype=np.float32)
    full = conversation(conversation_id, 2, labels=["joy", None])
    full.features["audio"] = audio
    full.present["audio"] = np.array([True, False])
    return full


def write(uri: str, splits: dict[Any, Any], **settings: Any) -> Manifest:
    """`write_corpus` with this file's labels and widths."""
    defaults: dict[str, Any] = {
        "name": "small",
        "task": "single-label",
        "labels": LABELS,
        "modalities": CONTRACTS,
        "has_texts": True,
    }
    return write_corpus(uri, splits=splits, **{**defaults, **settings})


def assert_same(found: Conversation, expected: Conversation) -> None:
    for name in ("conversation_id", "utterance_ids", "speakers", "labels", "texts"):
        assert getattr(found, name) == getattr(expected, name)
    assert set(found.features) == set(expected.features)
    for modality in expected.features:
        np.testing.assert_array_equal(found.features[modality], expected.features[modality])
        np.testing.assert_array_equal(found.present[modality], expected.present[modality])
        assert found.features[modality].dtype == np.float32
        assert found.present[modality].dtype == np.bool_

"""A tiny deterministic corpus for the tests of data and train: every modality shows the label, with noise and gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from joyful_ray.config import JobConfig, merge, resolve
from joyful_ray.corpora.shards import write_corpus
from joyful_ray.schema import Conversation, FeatureContract, Label, Modality, Split, Task

LABELS = ["joy", "anger", "neutral"]
WIDTHS: dict[Modality, int] = {"text": 6, "audio": 4}
CONTRACTS = {name: FeatureContract(extractor="made up", version="1", width=width) for name, width in WIDTHS.items()}
GENDERS = {"speaker 0": "female", "speaker 1": "male"}
COUNTS: dict[Split, int] = {"train": 23, "dev": 7, "test": 5}
"""23 is not divisible by 2, 3, 4 or 5."""

SMALL: dict[str, Any] = {
    "model": {
        "feature_dropout": 0.0,
        "fusion": {
            "global_width": 8,
            "global_layers": 1,
            "global_feedforward": 16,
            "specific_width": 8,
            "basis_vectors": 4,
        },
        "context": {"kind": "transformer", "width": 8, "hidden": None, "layers": 1, "heads": 2, "feedforward": 16},
        "encoder": {"kind": "relational-transformer", "width": 8, "layers": 1, "heads": 2, "dropout": 0.0},
        "classifier": {"hidden": 8, "skip_graph": False},
    },
    "objective": {
        "fusion_weight": 0.06,
        "contrast_weight": 0.3,
        "temperature": 1.0,
        "class_weighting": 0.0,
        "consistency": 0.0,
    },
    "train": {
        "epochs": 3,
        "patience": 10,
        "batch_conversations": 6,
        "micro_batches": 2,
        "evaluation_utterances": 16,
        "ema_decay": 0.0,
        "min_steps": 0,
        "device": "cpu",
    },
    "graph": {"window_past": 3, "window_future": 3},
    "cluster": {"workers": 0},
}
"""Settings of a model of a few thousand parameters, independent of the default preset."""


def small_job(*overrides: Mapping[str, Any], **settings: Any) -> JobConfig:
    """`SMALL` with changes merged over it."""
    tree = SMALL
    for above in (*overrides, settings):
        tree = merge(tree, above)
    return resolve(tree)


def tiny_conversation(
    name: str, *, task: Task = "single-label", widths: Mapping[Modality, int] = WIDTHS
) -> Conversation:
    """1 to 9 utterances of 1 to 3 speakers, some unlabeled, some vectors and cells missing; determined by the name."""
    draw = np.random.default_rng([ord(letter) for letter in name])
    count = int(draw.integers(1, 10))
    speakers = int(draw.integers(1, 4))
    states = draw.integers(0, len(LABELS), count)
    features: dict[Modality, Any] = {}
    present: dict[Modality, Any] = {}
    for modality, width in widths.items():
        values = draw.normal(size=(count, width)) + 2.0 * np.eye(len(LABELS), width)[states] + 5.0
        values[draw.random((count, width)) < 0.05] = np.nan
        here = draw.random(count) >= 0.1
        values[~here] = np.nan
        features[modality] = values.astype(np.float32)
        present[modality] = here
    labels: list[Label] = [_label(int(state), task) if draw.random() > 0.1 else None for state in states]
    return Conversation(
        conversation_id=name,
        utterance_ids=[f"{name}-{place}" for place in range(count)],
        speakers=[f"speaker {who}" for who in draw.integers(0, speakers, count)],
        labels=labels,
        features=features,
        present=present,
    )


def _label(state: int, task: Task) -> Label:
    if task == "single-label":
        return LABELS[state]
    if task == "multi-label":
        return [LABELS[place] for place in range(len(LABELS)) if (state + 1) >> place & 1]
    return float(state) - 1.0


def tiny_conversations(split: Split, count: int, *, task: Task = "single-label") -> list[Conversation]:
    return [tiny_conversation(f"{split}-{place:03d}", task=task) for place in range(count)]


def write_tiny(
    folder: Path | str,
    *,
    task: Task = "single-label",
    counts: Mapping[Split, int] = COUNTS,
    shard_conversations: int = 5,
    labels: Sequence[str] = LABELS,
) -> str:
    """Write the corpus in shards of `shard_conversations`."""
    write_corpus(
        str(folder),
        name="tiny",
        task=task,
        labels=[] if task == "regression" else labels,
        modalities=CONTRACTS,
        splits={split: tiny_conversations(split, count, task=task) for split, count in counts.items()},
        shard_conversations=shard_conversations,
    )
    return str(folder)


def with_genders(conversations: Sequence[Conversation]) -> list[Conversation]:
    """The same conversations with the gender of two speakers; that of the others is unknown."""
    return [
        replace(each, speaker_attributes={"gender": [GENDERS.get(name) for name in each.speakers]})
        for each in conversations
    ]


def write_gendered(folder: Path | str, counts: Mapping[Split, int]) -> str:
    """Write the corpus with the attribute gender."""
    write_corpus(
        str(folder),
        name="gendered",
        task="single-label",
        labels=LABELS,
        speaker_attributes=["gender"],
        modalities=CONTRACTS,
        splits={split: with_genders(tiny_conversations(split, count)) for split, count in counts.items()},
        shard_conversations=7,
    )
    return str(folder)

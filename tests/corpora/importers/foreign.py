"""Writes pickles of exactly the layouts that other projects publish, for the importers' tests."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

TURNS = {"Ses01F_impro01": 3, "Ses02M_script01": 2, "Ses05F_impro02": 4}


def write_pickle(path: Path, content: Any, protocol: int = 2) -> str:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return str(path)


def vectors(count: int, width: int, start: float = 1) -> list[np.ndarray]:
    """Vectors as these files hold them: a list of float arrays, an utterance each."""
    return [np.full(width, start + index, dtype=np.float32) for index in range(count)]


def iemocap_tuple(labels: dict[str, list[int]] | None = None) -> tuple[Any, ...]:
    """DialogueRNN's and MMGCN's nine parts; ten train dialogues, one test dialogue."""
    names = [f"Ses0{1 + index % 4}F_impro{index:02d}" for index in range(10)] + ["Ses05F_impro02"]
    count = {name: 2 + index % 3 for index, name in enumerate(names)}
    return (
        {name: [f"{name}_F{index:03d}" for index in range(count[name])] for name in names},
        {name: ["F" if index % 2 else "M" for index in range(count[name])] for name in names},
        labels or {name: [index % 6 for index in range(count[name])] for name in names},
        {name: vectors(count[name], 100) for name in names},
        {name: vectors(count[name], 100, 2) for name in names},
        {name: vectors(count[name], 512, 3) for name in names},
        {name: [f"sentence {index}" for index in range(count[name])] for name in names},
        names[:10],
        names[10:],
    )


def meld_tuple() -> tuple[Any, ...]:
    """MMGCN's ten parts of MELD: number ids, one-hot speakers, arrays, sets of ids, and an entry nobody reads."""
    count = {0: 2, 1: 1, 2: 3, 1153: 2}
    return (
        {name: list(range(count[name])) for name in count},
        {name: [np.eye(9, dtype=int)[index % 3].tolist() for index in range(count[name])] for name in count},
        {name: [index % 7 for index in range(count[name])] for name in count},
        {name: np.array(vectors(count[name], 600)) for name in count},
        {name: np.array(vectors(count[name], 300)) for name in count},
        {name: np.array(vectors(count[name], 342)) for name in count},
        {name: [f"sentence {index}" for index in range(count[name])] for name in count},
        {2, 0, 1},
        {1153},
        {name: [0] * count[name] for name in count},
    )


def samples(module: str, splits: dict[str, list[dict[str, Any]]], path: Path) -> str:
    """A dict of lists of `Sample` objects of a package that is not installed here."""
    fake = types.ModuleType(f"{module}.Sample")

    class Sample:
        pass

    Sample.__module__, Sample.__qualname__ = f"{module}.Sample", "Sample"
    fake.Sample = Sample  # type: ignore[attr-defined]
    sys.modules[module] = sys.modules[f"{module}.Sample"] = fake
    try:
        content: dict[str, list[Any]] = {}
        for split, entries in splits.items():
            content[split] = []
            for entry in entries:
                made = Sample()
                made.__dict__.update(entry)
                content[split].append(made)
        return write_pickle(path, content, protocol=4)
    finally:
        del sys.modules[module], sys.modules[f"{module}.Sample"]


def sample(vid: Any, labels: list[Any], **changes: Any) -> dict[str, Any]:
    """The attributes of one Sample; `text` is the old feature that nobody uses any more."""
    count = len(labels)
    entry = {
        "vid": vid,
        "speaker": ["M" if index % 2 else "F" for index in range(count)],
        "label": labels,
        "text": vectors(count, 5, 50),
        "audio": vectors(count, 100),
        "visual": vectors(count, 512),
        "sentence": [f"sentence {index}" for index in range(count)],
        "sbert_sentence_embeddings": np.array(vectors(count, 768, 7)),
    }
    return {**entry, **changes}


def mmsa(ids: dict[str, list[str]], *, is_aligned: bool = True) -> dict[str, Any]:
    """MMSA's dict: frames of text, audio and vision, labels in [-3, 3], lengths where not aligned."""
    content: dict[str, Any] = {}
    for split, names in ids.items():
        count = len(names)
        label = np.linspace(-3, 3, count, dtype=np.float32) if count > 1 else np.array([0.5], dtype=np.float32)
        content[split] = {
            "raw_text": np.array([f"sentence {name}" for name in names]),
            "id": list(names),
            "text": np.ones((count, 4, 6), dtype=np.float32),
            "text_bert": np.ones((count, 3, 4), dtype=np.float32),
            "audio": np.ones((count, 4, 2), dtype=np.float32),
            "vision": np.ones((count, 4, 3), dtype=np.float32),
            "annotations": ["Positive" if value > 0 else "Negative" for value in label],
            "classification_labels": (label > 0).astype(np.float32),
            "regression_labels": label,
        }
        if not is_aligned:
            content[split]["audio_lengths"] = [2] * count
            content[split]["vision_lengths"] = [4] * count
    return content

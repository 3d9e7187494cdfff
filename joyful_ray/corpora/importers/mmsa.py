"""The pickles of the MMSA framework (MOSI, MOSEI, SIMS): one sequence of frames per utterance, averaged to a vector.

A dict of `train`, `valid`, `test`, each a dict of arrays: `text` (N, L, W), `audio`, `vision`, `raw_text`, `id`
(`<video>$_$<clip>`), `regression_labels` in [-3, 3], and sometimes `audio_lengths`, `vision_lengths`. Utterances are
grouped by video and sorted by clip.

The vector of an utterance is the mean of its frames. Frames beyond its length and frames of zeros (padding, or no face)
do not count, nor do single values that are not finite; the published audio has some, and the notes of the manifest
count them. An utterance without frames is not present.

Shapes: N = utterances of a split, L = frames, W = width.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.importers.base import ImportSource
from joyful_ray.corpora.validation import Draft, Problem
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import MODALITIES, FeatureContract, Label, Modality, Split, Task
from joyful_ray.storage import Location

CLIP = re.compile(r"(?P<video>.+?)(?:\$_\$|\[)(?P<clip>\d+)\]?\Z")
SPLIT_KEYS: dict[Split, str] = {"train": "train", "dev": "valid", "test": "test"}
NEEDED = ("id", "raw_text", "regression_labels")
TASKS_HERE = ("regression", "single-label")
CLASSES = ["negative", "positive"]
MMSA_OPTIONS = {
    "task": "regression (the default) or single-label: negative below 0, positive above, 0 unlabeled",
    **{f"{name}_extractor": f"extractor of the {name} vectors, for the manifest" for name in MODALITIES},
}


def is_mmsa(content: Any) -> bool:
    """Whether the content of a pickle has this layout."""
    if not isinstance(content, dict):
        return False
    parts = [content[key] for key in SPLIT_KEYS.values() if key in content]
    return bool(parts) and all(isinstance(part, dict) for part in parts)


def read_mmsa(name: str, place: Location, content: Mapping[str, Any], options: Mapping[str, str]) -> ImportSource:
    """Read the content of an MMSA pickle.

    Raises:
        CorpusError: an array is missing or has another length.
    """
    task: Any = options.get("task", "regression")
    if task not in TASKS_HERE:
        raise ConfigError(f"option task must be {' or '.join(TASKS_HERE)}, not {task}")
    parts = {split: content[key] for split, key in SPLIT_KEYS.items() if key in content}
    notes: dict[str, Any] = {"layout": "mmsa", "pooling": "mean over frames"}
    vectors = {split: _pooled(place, split, part, notes) for split, part in parts.items()}
    first = next(iter(vectors.values()))
    return ImportSource(
        name=name,
        task=task,
        labels=CLASSES if task == "single-label" else [],
        modalities={
            modality: FeatureContract(
                extractor=options.get(f"{modality}_extractor", "MMSA"),
                version="unknown",
                width=values.shape[1],
                parameters={"pooling": "mean over frames"},
            )
            for modality, values in first.items()
        },
        drafts=_drafts(place, parts, vectors, task),
        has_texts=True,
        utterances=sum(len(part["id"]) for part in parts.values()),
        notes=notes,
    )


def _pooled(
    place: Location, split: Split, part: Mapping[str, Any], notes: dict[str, Any]
) -> dict[Modality, np.ma.MaskedArray]:
    missing = [key for key in NEEDED if key not in part]
    if missing:
        raise CorpusError(f"{place.uri}: {SPLIT_KEYS[split]} has no {missing[0]}; it has {', '.join(map(str, part))}")
    count = len(part["id"])
    for key in NEEDED:
        if len(part[key]) != count:
            raise CorpusError(f"{place.uri}: {SPLIT_KEYS[split]} has {count} ids but {len(part[key])} {key}")
    pooled: dict[Modality, np.ma.MaskedArray] = {}
    for modality in MODALITIES:
        if modality not in part:
            continue
        frames = np.asarray(part[modality])
        if frames.ndim not in (2, 3) or len(frames) != count or frames.dtype.kind not in "fiu":
            raise CorpusError(f"{place.uri}: {modality} of {SPLIT_KEYS[split]} has shape {frames.shape}, not (N, L, W)")
        frames_NLW = frames if frames.ndim == 3 else frames[:, None]
        not_finite = int((~np.isfinite(frames_NLW)).sum())
        if not_finite:
            notes[f"{split}_{modality}_values_not_finite"] = not_finite
        pooled[modality] = mean_of_frames(frames_NLW, part.get(f"{modality}_lengths"))
    if not pooled:
        raise CorpusError(f"{place.uri}: {SPLIT_KEYS[split]} has none of text, audio and vision")
    return pooled


def mean_of_frames(frames_NLW: NDArray, lengths_N: Any = None) -> np.ma.MaskedArray:
    """Mean of the frames, (N, W); masked if an utterance has none.

    Frames beyond the length of the utterance, frames of zeros, and values that are not finite do not count.
    """
    values_NLW = np.where(np.isfinite(frames_NLW), frames_NLW, np.nan).astype(np.float64)
    counts_NL = np.any(np.nan_to_num(frames_NLW, nan=1.0, posinf=1.0, neginf=1.0) != 0, axis=2)
    if lengths_N is not None:
        counts_NL &= np.arange(values_NLW.shape[1])[None] < np.asarray(lengths_N)[:, None]
    values_NLW[~counts_NL] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no frame is NaN, and then masked
        return np.ma.masked_invalid(np.nanmean(values_NLW, axis=1))


def _drafts(
    place: Location,
    parts: Mapping[Split, Mapping[str, Any]],
    vectors: Mapping[Split, Mapping[Modality, np.ma.MaskedArray]],
    task: Task,
) -> Iterator[tuple[Split, Draft]]:
    for split, part in parts.items():
        videos: dict[str, list[tuple[int, int]]] = {}
        for index, name in enumerate(part["id"]):
            match = CLIP.match(str(name))
            if match is None:
                reason = f"id {name!r} of {SPLIT_KEYS[split]} is not <video>$_$<clip>"
                yield split, Draft("", problems=[Problem(reason, place.uri)])
                continue
            videos.setdefault(match["video"], []).append((int(match["clip"]), index))
        for video, clips in videos.items():
            clips.sort()
            rows = [index for _, index in clips]
            yield (
                split,
                Draft(
                    conversation_id=video,
                    utterance_ids=[f"{video}_{clip}" for clip, _ in clips],
                    speakers=["speaker"] * len(clips),
                    labels=[_label(part["regression_labels"][row], task) for row in rows],
                    texts=[str(part["raw_text"][row]) for row in rows],
                    vectors={modality: values[rows] for modality, values in vectors[split].items()},
                    file=place.uri,
                ),
            )


def _label(value: Any, task: Task) -> Label:
    number = float(np.asarray(value).reshape(-1)[0])
    if task == "regression":
        return number
    return None if number == 0 else CLASSES[int(number > 0)]

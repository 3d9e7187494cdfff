"""Synthetic corpora with known structure, and with the score of the best possible model in `manifest.notes["optimum"]`.

Shapes: as in synthetic_process.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.synthetic_optimum import optimum_notes
from joyful_ray.corpora.synthetic_process import (
    LABELS,
    OTHER,
    OWN,
    SEVERAL_LABELS,
    SIGNAL,
    SPEAKERS,
    Turns,
    draw_states,
    draw_turns,
    draw_vectors,
    signals_of,
)
from joyful_ray.corpora.writer import CorpusWriter
from joyful_ray.errors import ConfigError
from joyful_ray.schema import Conversation, FeatureContract, Label, Manifest, Modality, Split, Task

WIDTHS: dict[Modality, int] = {"text": 32, "audio": 16, "vision": 24}
PART = 2000
"""Conversations that are drawn together, so that memory does not grow with the corpus."""
SHARES: dict[Split, float] = {"train": 0.8, "dev": 0.1, "test": 0.1}


def synthesize(
    out: str,
    *,
    conversations: int,
    seed: int,
    task: Task = "single-label",
    widths: Mapping[Modality, int] | None = None,
    absent_vectors: float = 0.05,
    absent_cells: float = 0.01,
    structure_seed: int = 0,
    overwrite: bool = False,
    watch: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write a synthetic corpus.

    Args:
        out: where the corpus goes; a path or s3:// URI.
        conversations: total number; 80 % train, 10 % dev, 10 % test, at least one each.
        seed: determines the conversations.
        task: single-label, multi-label or regression.
        widths: width of each modality's vectors, at least 4; modalities that are left out are not written.
        absent_vectors, absent_cells: share of vectors, and of single values in the other vectors, that are missing.
        structure_seed: determines the signals in the vectors; corpora with the same value come from the same domain.
        overwrite: replace a corpus that is already at `out`.
        watch: called with the number of conversations written so far, and with that of all.

    Raises:
        ConfigError: fewer than three conversations, or a width below 4.
    """
    chosen: dict[Modality, int] = dict(WIDTHS if widths is None else widths)
    if conversations < 3:
        raise ConfigError(f"--conversations is {conversations}; each of train, dev and test needs one")
    for modality, width in chosen.items():
        if width < 4:
            raise ConfigError(f"{modality} vectors have width {width}; at least 4 is needed")
    signals = signals_of(task, chosen, structure_seed)
    bounds = _split_bounds(conversations)
    model = {"task": task, "own": OWN, "other": OTHER, "signal": SIGNAL[task], "structure_seed": structure_seed}
    with CorpusWriter(
        out,
        name=f"synthetic-{task}-{conversations}-{seed}",
        task=task,
        labels={"single-label": LABELS, "multi-label": SEVERAL_LABELS, "regression": []}[task],
        modalities={modality: _contract(width, model) for modality, width in chosen.items()},
        notes={"seed": seed},
        overwrite=overwrite,
    ) as writer:
        done = 0
        for start in range(0, conversations, PART):
            count = min(PART, conversations - start)
            part = _Part.draw(task, start, count, signals, seed, absent_vectors, absent_cells)
            if start <= bounds["test"][0] < start + count:
                writer.notes |= part.optimum(signals, first=bounds["test"][0])
            for split, conversation in part.conversations(bounds, seed):
                writer.write(split, conversation)
                done += 1
                if watch is not None:
                    watch(done, conversations)
    assert writer.manifest is not None
    return writer.manifest


@dataclass(frozen=True)
class _Part:
    """Conversations that are drawn together, from `start` on."""

    task: Task
    start: int
    turns: Turns
    states_U: NDArray
    vectors: Mapping[Modality, NDArray[np.float32]]

    @classmethod
    def draw(
        cls,
        task: Task,
        start: int,
        count: int,
        signals: Mapping[Modality, NDArray],
        seed: int,
        absent_vectors: float,
        absent_cells: float,
    ) -> _Part:
        random = np.random.default_rng([seed, 17, start] if start else [seed, 17])
        turns = draw_turns(count, random)
        states_U = draw_states(task, turns, random)[turns.said_NT]
        vectors = draw_vectors(task, states_U, signals, random, absent_vectors, absent_cells)
        return cls(task, start, turns, states_U, vectors)

    def optimum(self, signals: Mapping[Modality, NDArray], *, first: int) -> dict[str, Any]:
        """Notes on the best possible model, for the conversations from `first` on."""
        return optimum_notes(self.task, self.turns, self.states_U, self.vectors, signals, first=first - self.start)

    def conversations(self, bounds: Mapping[Split, tuple[int, int]], seed: int) -> Iterator[tuple[Split, Conversation]]:
        """Each with its split."""
        ends = np.cumsum(self.turns.lengths_N)
        present = {modality: np.asarray(~np.isnan(values).all(axis=1)) for modality, values in self.vectors.items()}
        for place, count in enumerate(self.turns.lengths_N):
            length, index = int(count), self.start + place
            mine = slice(int(ends[place]) - length, int(ends[place]))
            split = next(split for split, (first, last) in bounds.items() if first <= index < last)
            name = f"{split}_{seed}_{index}"
            yield (
                split,
                Conversation(
                    conversation_id=name,
                    utterance_ids=[f"{name}_{turn}" for turn in range(length)],
                    speakers=[SPEAKERS[speaker] for speaker in self.turns.speaker_NT[place, :length]],
                    labels=[_label(self.task, state) for state in self.states_U[mine]],
                    features={modality: values[mine] for modality, values in self.vectors.items()},
                    present={modality: flags[mine] for modality, flags in present.items()},
                ),
            )


def _contract(width: int, model: dict[str, Any]) -> FeatureContract:
    return FeatureContract(extractor="joyful synth", version="1", parameters=model, width=width, licence="CC0-1.0")


def _split_bounds(conversations: int) -> dict[Split, tuple[int, int]]:
    dev = max(1, round(SHARES["dev"] * conversations))
    test = max(1, round(SHARES["test"] * conversations))
    train = conversations - dev - test
    return {"train": (0, train), "dev": (train, train + dev), "test": (train + dev, conversations)}


def _label(task: Task, state: Any) -> Label:
    if task == "regression":
        return float(np.float32(state))
    if task == "multi-label":
        return [SEVERAL_LABELS[index] for index in np.flatnonzero(state)]
    return LABELS[state]

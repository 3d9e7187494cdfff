"""The random process behind synthetic corpora: who speaks, in which state, and how the vectors show it.

Labels depend on all three modalities, on the speaker's own last emotion and on what the other speaker last felt: each
speaker carries a state from turn to turn, and at a turn it stays (`OWN`), answers the other speaker's state (`OTHER`)
or is drawn again. Vectors show the state with noise; each modality distinguishes only some states. For regression the
state is a number; for multi-label it is six states that are on or off.

Shapes: N = conversations, T = utterances of the longest, U = utterances in total, K = states, W = width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from joyful_ray.schema import MODALITIES, Modality, Task

LABELS = ["neutral", "joy", "sadness", "anger", "surprise", "fear"]
SEVERAL_LABELS = ["happiness", "sadness", "anger", "surprise", "disgust", "fear"]
"""Label names for multi-label, where several apply at once."""
SPEAKERS = ["Ada", "Ben", "Cem", "Dia"]
OWN, OTHER = 0.5, 0.35
FRESH = np.array([0.44, 0.16, 0.14, 0.1, 0.1, 0.06])
"""Probability of each label if neither speaker's state decides."""
ANSWERS = np.array([0, 1, 2, 5, 1, 3])
"""The label with which a speaker answers each of the other's: anger with fear, fear with anger, surprise with joy."""
CODES: dict[Modality, NDArray] = {
    "text": np.array([0, 1, 0, 0, 1, 1]),
    "audio": np.array([0, 0, 1, 1, 0, 1]),
    "vision": np.array([0, 0, 0, 1, 1, 1]),
}
"""The states that each modality distinguishes. Only text tells neutral from joy, only audio neutral from sadness, only
vision joy from surprise and sadness from anger."""
BITS: dict[Modality, list[int]] = {"text": [0, 1, 2, 3], "audio": [2, 3, 4, 5], "vision": [4, 5, 0, 1]}
"""Which of the six multi-label states each modality shows."""
OWN_PULL, OTHER_PULL, FRESH_SPREAD = 0.55, 0.35, 0.6
"""Regression: a state is this share of the speaker's last and of the other's, plus Gaussian noise of this spread."""
SIGNAL: dict[Task, float] = {"single-label": 2.0, "multi-label": 1.5, "regression": 0.8}
"""Distance between two states in one modality, in standard deviations of the noise."""


@dataclass(frozen=True)
class Turns:
    """Who speaks when.

    Attributes:
        lengths_N: number of utterances of each conversation.
        speaker_NT: number of the speaker, from 0 in each conversation.
        other_NT: the last different speaker before that turn; -1 if there was none.
    """

    lengths_N: NDArray[np.int64]
    speaker_NT: NDArray[np.int64]
    other_NT: NDArray[np.int64]

    @property
    def said_NT(self) -> NDArray[np.bool_]:
        """Mask of the cells that are utterances; it selects them conversation by conversation."""
        return np.arange(self.speaker_NT.shape[1])[None, :] < self.lengths_N[:, None]


def draw_turns(conversations: int, random: np.random.Generator) -> Turns:
    """Draw conversations of 1 to 30 utterances among 2 to 4 speakers; about 3 % have a single utterance."""
    lengths_N = np.clip(random.negative_binomial(3, 0.2, conversations), 1, 30).astype(np.int64)
    lengths_N[random.random(conversations) < 0.02] = 1
    count_N = random.choice([2, 3, 4], size=conversations, p=[0.6, 0.25, 0.15])
    longest = int(lengths_N.max())
    speaker_NT = np.zeros((conversations, longest), dtype=np.int64)
    other_NT = np.full((conversations, longest), -1, dtype=np.int64)
    for turn in range(1, longest):
        before_N = speaker_NT[:, turn - 1]
        step_N = np.where(random.random(conversations) < 0.25, 0, random.integers(1, count_N))
        speaker_NT[:, turn] = (before_N + step_N) % count_N
        other_NT[:, turn] = np.where(step_N == 0, other_NT[:, turn - 1], before_N)
    return Turns(lengths_N, speaker_NT, other_NT)


def transitions(task: Task) -> tuple[NDArray, NDArray]:
    """Transition probabilities given the two states: (own, other, new), and (own, new) before another speaker spoke.

    For multi-label these are six tables of two states each, with a leading dimension.
    """
    if task == "multi-label":
        fresh_K = 0.1 + 0.5 * FRESH
        fresh = np.stack([1 - fresh_K, fresh_K], axis=1)
        stay, answer = np.eye(2), np.eye(2)
    else:
        fresh, stay, answer = FRESH[None], np.eye(len(FRESH)), np.eye(len(FRESH))[ANSWERS]
    both = OWN * stay[None, :, None, :] + OTHER * answer[None, None] + (1 - OWN - OTHER) * fresh[:, None, None]
    alone = (OWN + OTHER) * stay[None] + (1 - OWN - OTHER) * fresh[:, None]
    return (both, alone) if task == "multi-label" else (both[0], alone[0])


def draw_states(task: Task, turns: Turns, random: np.random.Generator) -> NDArray:
    """Draw the state at each turn: (N, T) of class numbers or of real numbers, or (N, T, 6) of zeros and ones."""
    conversations, longest = turns.speaker_NT.shape
    rows_N = np.arange(conversations)
    last_NS: NDArray
    if task == "regression":
        last_NS = random.normal(size=(conversations, len(SPEAKERS)))
    elif task == "multi-label":
        last_NS = (random.random((conversations, len(SPEAKERS), len(LABELS))) < 0.1 + 0.5 * FRESH).astype(np.int64)
    else:
        last_NS = random.choice(len(LABELS), size=(conversations, len(SPEAKERS)), p=FRESH)
    states = np.zeros((conversations, longest, *last_NS.shape[2:]), dtype=last_NS.dtype)
    for turn in range(longest):
        own, other = last_NS[rows_N, turns.speaker_NT[:, turn]], last_NS[rows_N, turns.other_NT[:, turn]]
        has_other_N = turns.other_NT[:, turn] >= 0
        new = _next_state(task, own, other, has_other_N, random)
        last_NS[rows_N, turns.speaker_NT[:, turn]] = new
        states[:, turn] = new
    return states


def _next_state(
    task: Task, own: NDArray, other: NDArray, has_other_N: NDArray[np.bool_], random: np.random.Generator
) -> NDArray:
    if task == "regression":
        pull = np.where(has_other_N, OWN_PULL * own + OTHER_PULL * other, OWN_PULL * own)
        return pull + FRESH_SPREAD * random.normal(size=len(own))
    both, alone = transitions(task)
    if task == "multi-label":
        label_K = np.arange(len(LABELS))
        with_other = both[label_K, own, other]
        chances = np.where(has_other_N[:, None, None], with_other, alone[label_K, own])
    else:
        chances = np.where(has_other_N[:, None], both[own, other], alone[own])
    thresholds = np.cumsum(chances, axis=-1)[..., :-1]
    return (random.random(chances.shape[:-1])[..., None] > thresholds).sum(axis=-1)


def signals_of(task: Task, widths: Mapping[Modality, int], structure_seed: int) -> dict[Modality, NDArray]:
    """The signal that each state adds to a vector; the noise has a standard deviation of 1.

    Returns:
        Per modality (K, W): for single-label the mean of each class; for multi-label what each label adds, each in
        separate dimensions; for regression, (1, W), what a state of 1 adds.
    """
    signals: dict[Modality, NDArray] = {}
    for modality in MODALITIES:
        if modality not in widths:
            continue
        random = np.random.default_rng([structure_seed, MODALITIES.index(modality)])
        width = widths[modality]
        if task == "multi-label":
            signal = np.zeros((len(LABELS), width))
            for place, label in enumerate(BITS[modality]):
                mine = np.arange(width) % len(BITS[modality]) == place
                signal[label, mine] = random.normal(size=mine.sum())
                signal[label] /= np.linalg.norm(signal[label])
        else:
            axes = np.linalg.qr(random.normal(size=(width, 2)))[0].T
            signal = axes[:1] if task == "regression" else axes[CODES[modality]] / np.sqrt(2)
        signals[modality] = SIGNAL[task] * signal
    return signals


def draw_vectors(
    task: Task,
    states_U: NDArray,
    signals: Mapping[Modality, NDArray],
    random: np.random.Generator,
    absent_vectors: float,
    absent_cells: float,
) -> dict[Modality, NDArray[np.float32]]:
    """Draw vectors per modality, (U, W): the signal of the state plus noise; NaN marks values that are not present."""
    vectors: dict[Modality, NDArray[np.float32]] = {}
    for modality, signal in signals.items():
        if task == "single-label":
            clean_UW = signal[states_U]
        else:
            clean_UW = states_U.reshape(len(states_U), -1) @ signal
        vectors_UW = (clean_UW + random.normal(size=clean_UW.shape)).astype(np.float32)
        vectors_UW[random.random(vectors_UW.shape) < absent_cells] = np.nan
        vectors_UW[random.random(len(vectors_UW)) < absent_vectors] = np.nan
        vectors[modality] = vectors_UW
    return vectors

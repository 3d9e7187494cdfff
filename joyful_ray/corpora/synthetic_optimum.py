"""The score of the best possible model on a synthetic corpus: exact inference under the process that generated it.

Shapes: T = utterances of one conversation, U = utterances in total, K = states, W = width, S = speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.synthetic_process import (
    FRESH,
    FRESH_SPREAD,
    LABELS,
    OTHER_PULL,
    OWN_PULL,
    Turns,
    transitions,
)
from joyful_ray.schema import Modality, Task

MOST_CONVERSATIONS = 100


def optimum_notes(
    task: Task,
    turns: Turns,
    states_U: NDArray,
    vectors: Mapping[Modality, NDArray],
    signals: Mapping[Modality, NDArray],
    *,
    first: int,
) -> dict[str, Any]:
    """Notes for the manifest: scores of exact inference on at most 100 conversations, starting with `first`.

    Returns:
        `optimum`: the scores; `optimum_without`: without context (each utterance alone), and without each modality.
    """
    last = min(len(turns.lengths_N), first + MOST_CONVERSATIONS)
    ends = np.cumsum(turns.lengths_N)
    mine = slice(int(ends[first] - turns.lengths_N[first]), int(ends[last - 1]))
    part = Turns(turns.lengths_N[first:last], turns.speaker_NT[first:last], turns.other_NT[first:last])
    seen = {modality: values[mine] for modality, values in vectors.items()}
    truth_U = states_U[mine]
    notes: dict[str, Any] = {"optimum_without": {}}
    alone_U = guess_alone(task, seen, signals, states_U)
    notes["optimum_without"]["context"] = _scores(task, truth_U, alone_U)
    for left_out in ("", *seen):
        left = {modality: values for modality, values in seen.items() if modality != left_out}
        scores = _scores(task, truth_U, guess_in_context(task, part, left, signals))
        if left_out:
            notes["optimum_without"][left_out] = scores
        else:
            notes["optimum"] = {**scores, "split": "test", "conversations": last - first}
    return notes


def guess_in_context(
    task: Task, turns: Turns, vectors: Mapping[Modality, NDArray], signals: Mapping[Modality, NDArray]
) -> NDArray:
    """The most probable state of each utterance (regression: its mean) given the whole conversation."""
    utterances = int(turns.lengths_N.sum())
    both, alone = transitions(task)
    if task == "regression":
        precision_U, weight_U = _evidence(utterances, vectors, signals)
        return _each_conversation(turns, lambda mine, *who: _gaussian(precision_U[mine], weight_U[mine], *who))
    if task == "single-label":
        likelihood_UK = _class_likelihood(utterances, vectors, signals)
        chain = partial(_chain_guess, both_KKK=both, alone_KK=alone, start_K=FRESH)
        return _each_conversation(turns, partial(chain, likelihood_UK))
    guesses = []
    for label, chance in enumerate(0.1 + 0.5 * FRESH):
        start_K = np.array([1 - chance, chance])
        chain = partial(_chain_guess, both_KKK=both[label], alone_KK=alone[label], start_K=start_K)
        likelihood_U2 = _bit_likelihood(label, utterances, vectors, signals)
        guesses.append(_each_conversation(turns, partial(chain, likelihood_U2)))
    return np.stack(guesses, axis=1)


def guess_alone(
    task: Task, vectors: Mapping[Modality, NDArray], signals: Mapping[Modality, NDArray], states_U: NDArray
) -> NDArray:
    """The most probable state of each utterance given this utterance alone; `states_U` gives the prior."""
    utterances = len(next(iter(vectors.values())))
    if task == "regression":
        precision_U, weight_U = _evidence(utterances, vectors, signals)
        return weight_U / (precision_U + 1 / states_U.var())
    if task == "single-label":
        share_K = np.bincount(states_U, minlength=len(LABELS)) / len(states_U)
        return (_class_likelihood(utterances, vectors, signals) * share_K).argmax(1)
    guesses = []
    for label, share in enumerate(states_U.mean(axis=0)):
        likelihood_U2 = _bit_likelihood(label, utterances, vectors, signals)
        guesses.append((likelihood_U2 * [1 - share, share]).argmax(1))
    return np.stack(guesses, axis=1)


def _each_conversation(turns: Turns, infer: Callable[[slice, NDArray, NDArray], NDArray]) -> NDArray:
    parts = []
    start = 0
    for index, length in enumerate(turns.lengths_N):
        mine = slice(start, start + int(length))
        parts.append(infer(mine, turns.speaker_NT[index, :length], turns.other_NT[index, :length]))
        start += int(length)
    return np.concatenate(parts)


def _chain_guess(
    likelihood_UK: NDArray,
    mine: slice,
    who_T: NDArray,
    other_T: NDArray,
    *,
    both_KKK: NDArray,
    alone_KK: NDArray,
    start_K: NDArray,
) -> NDArray:
    return chain_posterior(likelihood_UK[mine], who_T, other_T, both_KKK, alone_KK, start_K).argmax(1)


def chain_posterior(
    likelihood_TK: NDArray,
    who_T: NDArray,
    other_T: NDArray,
    both_KKK: NDArray,
    alone_KK: NDArray,
    start_K: NDArray,
) -> NDArray:
    """P(state at each turn | all vectors), (T, K), by forward-backward over the joint state of all speakers."""
    speakers, states = int(who_T.max()) + 1, len(start_K)
    belief = np.ones(1)
    for _ in range(speakers):
        belief = np.multiply.outer(belief, start_K)
    belief = belief.reshape((states,) * speakers)
    forward = []
    for turn, (who, other) in enumerate(zip(who_T, other_T, strict=True)):
        belief = _advance(belief, who, other, both_KKK, alone_KK) * _along(likelihood_TK[turn], who, speakers)
        belief = belief / belief.sum()
        forward.append(belief)
    future = np.ones_like(belief)
    posterior_TK = np.zeros((len(who_T), states))
    for turn in reversed(range(len(who_T))):
        who, other = who_T[turn], other_T[turn]
        joint = forward[turn] * future
        posterior_TK[turn] = np.moveaxis(joint, who, 0).reshape(states, -1).sum(axis=1)
        future = _retreat(future * _along(likelihood_TK[turn], who, speakers), who, other, both_KKK, alone_KK)
        future = future / future.sum()
    return posterior_TK / posterior_TK.sum(axis=1, keepdims=True)


def _along(values_K: NDArray, axis: int, speakers: int) -> NDArray:
    shape = [1] * speakers
    shape[axis] = len(values_K)
    return values_K.reshape(shape)


def _advance(belief: NDArray, who: int, other: int, both_KKK: NDArray, alone_KK: NDArray) -> NDArray:
    if other < 0:
        return np.moveaxis(np.tensordot(alone_KK, belief, axes=(0, who)), 0, who)
    moved = np.moveaxis(belief, (other, who), (0, -1))
    stepped = moved.reshape(len(alone_KK), -1, len(alone_KK)) @ both_KKK.transpose(1, 0, 2)
    return np.moveaxis(stepped.reshape(moved.shape), (0, -1), (other, who))


def _retreat(future: NDArray, who: int, other: int, both_KKK: NDArray, alone_KK: NDArray) -> NDArray:
    if other < 0:
        return np.moveaxis(np.tensordot(alone_KK, future, axes=(1, who)), 0, who)
    moved = np.moveaxis(future, (other, who), (0, -1))
    stepped = moved.reshape(len(alone_KK), -1, len(alone_KK)) @ both_KKK.transpose(1, 2, 0)
    return np.moveaxis(stepped.reshape(moved.shape), (0, -1), (other, who))


def _gaussian(precision_T: NDArray, weight_T: NDArray, who_T: NDArray, other_T: NDArray) -> NDArray:
    """Posterior mean of each state, (T,). All states are jointly Gaussian, and the first of a speaker is N(0, 1)."""
    speakers, turns = int(who_T.max()) + 1, len(who_T)
    noise = np.eye(speakers + turns)
    last_S = list(range(speakers))
    for turn, (who, other) in enumerate(zip(who_T, other_T, strict=True)):
        row = speakers + turn
        noise[row, last_S[who]] -= OWN_PULL
        if other >= 0:
            noise[row, last_S[other]] -= OTHER_PULL
        noise[row] /= FRESH_SPREAD
        last_S[who] = row
    precision = noise.T @ noise
    precision[np.arange(speakers, speakers + turns), np.arange(speakers, speakers + turns)] += precision_T
    return np.linalg.solve(precision, np.concatenate([np.zeros(speakers), weight_T]))[speakers:]


def _evidence(
    utterances: int, vectors: Mapping[Modality, NDArray], signals: Mapping[Modality, NDArray]
) -> tuple[NDArray, NDArray]:
    """Precision, and precision times value, of the evidence that the vectors of each utterance give."""
    precision_U, weight_U = np.zeros(utterances), np.zeros(utterances)
    for modality, values_UW in vectors.items():
        precision_U += (~np.isnan(values_UW) * signals[modality] ** 2).sum(axis=1)
        weight_U += (np.nan_to_num(values_UW) * signals[modality]).sum(axis=1)
    return precision_U, weight_U


def _class_likelihood(
    utterances: int, vectors: Mapping[Modality, NDArray], signals: Mapping[Modality, NDArray]
) -> NDArray:
    log_UK = np.zeros((utterances, len(LABELS)))
    for modality, values_UW in vectors.items():
        for state, mean_W in enumerate(signals[modality]):
            log_UK[:, state] -= 0.5 * np.nansum((values_UW - mean_W) ** 2, axis=1)
    return np.exp(log_UK - log_UK.max(axis=1, keepdims=True))


def _bit_likelihood(
    label: int, utterances: int, vectors: Mapping[Modality, NDArray], signals: Mapping[Modality, NDArray]
) -> NDArray:
    """Likelihood of a label being off and on, (U, 2). Labels use separate dimensions, so they are independent."""
    log_U2 = np.zeros((utterances, 2))
    for modality, values_UW in vectors.items():
        signal_W = signals[modality][label]
        mine = signal_W != 0
        log_U2[:, 0] -= 0.5 * np.nansum(values_UW[:, mine] ** 2, axis=1)
        log_U2[:, 1] -= 0.5 * np.nansum((values_UW[:, mine] - signal_W[mine]) ** 2, axis=1)
    return np.exp(log_U2 - log_U2.max(axis=1, keepdims=True))


def _scores(task: Task, truth_U: NDArray, guess_U: NDArray) -> dict[str, float]:
    if task == "regression":
        error = float(np.abs(truth_U - guess_U).mean())
        spread = truth_U.std() * guess_U.std()
        correlation = (
            float(np.mean((truth_U - truth_U.mean()) * (guess_U - guess_U.mean())) / spread) if spread else 0.0
        )
        return {"mean_absolute_error": error, "correlation": float(correlation)}
    truth, guess = truth_U, guess_U
    if task == "single-label":
        truth, guess = np.eye(len(LABELS))[truth_U], np.eye(len(LABELS))[guess_U]
    both, support, guessed = (truth * guess).sum(0), truth.sum(0), guess.sum(0)
    f1_K = 2 * both / np.maximum(support + guessed, 1)
    return {
        "accuracy": float((truth_U == guess_U).mean()),
        "weighted_f1": float((f1_K * support).sum() / support.sum()),
        "macro_f1": float(f1_K.mean()),
    }

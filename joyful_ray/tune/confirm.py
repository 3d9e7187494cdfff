"""Confirmation: the best configs and the default over fresh seeds, compared by a paired bootstrap.

Shapes: C = conversations, S = size of a tally's state.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from joyful_ray.records import Candidate
from joyful_ray.tune.dev_counts import DevCounts
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ledger import Drawn
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Settings

DEFAULT = "default"
ERROR_RATE = 0.05
SEED_GAP = 1000
"""Fresh seeds start at this distance above the job's seed, so that no trial had them."""


@dataclass(frozen=True)
class Difference:
    """How much better one config is than another, with a confidence interval."""

    mean: float
    low: float
    high: float


def planned(state: SearchState, goal: Goal, *, top: int, seeds: int, first_seed: int) -> list[Drawn]:
    """The confirmation runs: the default first, then the best configs, each over the same fresh seeds."""
    configs: list[tuple[str, Settings]] = [(DEFAULT, {})]
    configs += [(name, trials[0].settings) for name, trials, _ in state.ranked(goal)[:top]]
    return [
        Drawn(trial=f"confirm-{name}-{seed}", role="confirm", config=name, settings=settings, seed=seed)
        for name, settings in configs
        for seed in range(first_seed + SEED_GAP, first_seed + SEED_GAP + seeds)
    ]


def paired_bootstrap(
    ours: Sequence[DevCounts],
    theirs: Sequence[DevCounts],
    goal: Goal,
    *,
    samples: int,
    error_rate: float,
    seed: int = 0,
) -> Difference:
    """How much better `ours` is than `theirs` on dev: the mean over seeds, and a confidence interval.

    Each sample draws conversations with replacement, the same for both, and pairs of seeds with replacement, one fewer
    than there are, without which so few seeds would seem to vary too little. The interval is the mean plus and minus a
    normal quantile of the samples' deviation, because samples are too few for the tails of a small error rate. It
    covers what another dev split and other seeds would change.

    Args:
        ours, theirs: one entry per seed, in the same order, over the same conversations.
        goal: the score that is compared.
        samples: number of bootstrap samples.
        error_rate: probability that the interval leaves out a difference of the population.
        seed: seed of the bootstrap.
    """
    assert all(mine.conversations == other.conversations for mine, other in zip(ours, theirs, strict=True))
    random = np.random.default_rng(seed)
    conversations = len(ours[0].states_CS)
    differences = []
    for _ in range(samples):
        weights_C = np.bincount(random.integers(conversations, size=conversations), minlength=conversations)
        chosen = random.integers(len(ours), size=max(len(ours) - 1, 1))
        pairs = [_gap(ours[place], theirs[place], weights_C.astype(np.float64), goal) for place in set(chosen.tolist())]
        by_place = dict(zip(set(chosen.tolist()), pairs, strict=True))
        differences.append(statistics.fmean(by_place[place] for place in chosen.tolist()))
    whole_C = np.ones(conversations)
    mean = statistics.fmean(_gap(mine, other, whole_C, goal) for mine, other in zip(ours, theirs, strict=True))
    half = statistics.NormalDist().inv_cdf(1 - error_rate / 2) * statistics.stdev(differences)
    return Difference(mean, mean - half, mean + half)


def joint_error_rate(state: SearchState) -> float:
    """The error rate of one candidate's interval, such that all configs that could have been chosen hold jointly.

    The conversations of dev chose the best of all configs, so their chance is that of all, not of the few that were
    confirmed.
    """
    return ERROR_RATE / max(len({trial.drawn.config for trial in state.searched}), 1)


def _gap(mine: DevCounts, other: DevCounts, weights_C: np.ndarray, goal: Goal) -> float:
    return score_of(mine, goal, weights_C) - score_of(other, goal, weights_C)


def score_of(counts: DevCounts, goal: Goal, weights_C: np.ndarray | None = None) -> float:
    """The score of one model, greater is better; each conversation counts once, or as often as its weight says."""
    if weights_C is None:
        weights_C = np.ones(len(counts.states_CS))
    scores = counts.scores(weights_C)
    return goal.score(scores.values | {"loss": scores.loss})


def candidate(config: str, trials: Sequence[Trial], goal: Goal, difference: Difference | None) -> Candidate:
    """One config's row of the comparison."""
    dev = [goal.sign * trial.score(goal) for trial in trials]
    return Candidate(
        config=config,
        settings=trials[0].settings,
        seeds=[trial.drawn.seed for trial in trials],
        dev=dev,
        mean=statistics.fmean(dev),
        deviation=statistics.stdev(dev) if len(dev) > 1 else 0.0,
        difference=None if difference is None else difference.mean,
        low=None if difference is None else difference.low,
        high=None if difference is None else difference.high,
    )


def verdict(best: Candidate) -> str:
    """One sentence: whether a candidate is better than the default, and by how much."""
    if best.difference is None or best.low is None or best.high is None:
        return "no config was better than the default"
    size = f"{abs(best.difference):.4f} ± {(best.high - best.low) / 2:.4f}"
    if best.low > 0:
        return f"better than the default by {size}"
    if best.high < 0:
        return f"worse than the default by {size}"
    return f"not distinguishable from the default ({best.difference:+.4f} ± {(best.high - best.low) / 2:.4f})"

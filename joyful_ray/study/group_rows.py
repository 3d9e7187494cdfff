"""Compares groups of utterances, such as those of one gender, with all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from joyful_ray.records import StudyGroup, spread
from joyful_ray.study_settings import StudyConfig
from joyful_ray.tune.confirm import ERROR_RATE, paired_bootstrap, score_of
from joyful_ray.tune.dev_counts import EVERYTHING, DevCounts, Group
from joyful_ray.tune.goals import Goal


def group_rows(found: Sequence[Mapping[Group, DevCounts]], goal: Goal, study: StudyConfig) -> list[StudyGroup]:
    """Compare every group with all other utterances.

    Args:
        found: counts of all utterances and of each group, one entry per seed.
        goal: the score.
        study: its settings.

    Returns:
        The groups, kind by kind, largest first. The intervals of a kind hold jointly.
    """
    groups = [group for group in found[0] if group != EVERYTHING]
    comparisons = Counter(kind for kind, _ in groups)
    rows = []
    for kind, name in groups:
        mine = [counts[kind, name] for counts in found]
        others = [_others(counts[EVERYTHING], counts[kind, name]) for counts in found]
        if not _utterances(mine[0]) or not _utterances(others[0]):
            continue
        error_rate = ERROR_RATE / comparisons[kind]
        gap = paired_bootstrap(mine, others, goal, samples=study.bootstrap_samples, error_rate=error_rate)
        low, high = sorted((goal.sign * gap.low, goal.sign * gap.high))
        rows.append(
            StudyGroup(
                kind=kind,
                group=name,
                utterances=_utterances(mine[0]),
                score=spread([goal.sign * score_of(one, goal) for one in mine]),
                gap=goal.sign * gap.mean,
                low=low,
                high=high,
            )
        )
    return sorted(rows, key=lambda row: (study.groups.index(row.kind), -row.utterances, row.group))


def _others(everything: DevCounts, group: DevCounts) -> DevCounts:
    return replace(everything, states_CS=everything.states_CS - group.states_CS)


def _utterances(counts: DevCounts) -> int:
    """Number of labeled utterances."""
    return int(counts.states_CS[:, 0].sum())

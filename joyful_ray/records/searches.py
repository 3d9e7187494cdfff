"""What a search writes when it ends."""

from __future__ import annotations

from typing import Any

from joyful_ray.records.reading import Record
from joyful_ray.records.scores import Scores


class Candidate(Record):
    """A config that was trained again over fresh seeds to confirm it.

    Attributes:
        config: name of the config; `default` is the job's own settings.
        settings: the searched settings and their values.
        seeds: the seeds of the confirmation runs.
        dev: the search metric on dev, one entry per seed, in the order of `seeds`.
        mean, deviation: mean and standard deviation of `dev`.
        difference, low, high: difference to the default and the bounds of its interval; None for the default itself.
    """

    config: str
    settings: dict[str, Any]
    seeds: list[int]
    dev: list[float]
    mean: float
    deviation: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class SearchRecord(Record):
    """`record.json` of a search: written when a session is complete.

    Attributes:
        metric: the dev score that the search optimises.
        trials: number of trials by outcome.
        epochs: number of epochs that all trials trained together, without confirmation.
        confirmation_runs, confirmation_epochs: number of runs over fresh seeds, and of their epochs.
        train_seconds: training time of all trials added up.
        wall_seconds: wall time of the trials over all sessions, without confirmation.
        slots: trials that ran at a time.
        best_trial, best_dev: the trial with the best score on dev, and that score.
        chosen, settings: name and settings of the chosen config.
        chosen_by: how it was chosen.
        candidates: the confirmed configs, the best first and the default last; empty without confirmation.
        level: joint confidence level of the intervals, over all configs that dev could have chosen.
        verdict: one sentence that says whether the chosen config is better than the default.
        dev, test: scores of the best run of the chosen config; `test` is None if the corpus has no test split.
        test_reads: how often the test split was read over all sessions: once per chosen config.
    """

    name: str
    fingerprint: str
    corpus: dict[str, Any]
    metric: str
    trials: dict[str, int]
    epochs: int
    confirmation_runs: int = 0
    confirmation_epochs: int = 0
    train_seconds: float
    wall_seconds: float
    slots: int
    best_trial: str | None
    best_dev: float | None
    chosen: str
    settings: dict[str, Any]
    chosen_by: str
    candidates: list[Candidate] = []
    level: float | None = None
    verdict: str
    dev: dict[str, float]
    test: Scores | None
    test_reads: int
    versions: dict[str, str]
    warnings: list[str] = []
    locations: dict[str, str] = {}

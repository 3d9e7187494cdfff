"""What was run, on what, with what result: JSON, written and read. No torch, no ray."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from joyful_ray.schema import FeatureContract, Modality, Task

VERSIONED = ("joyful-ray", "ray", "torch", "torch-geometric", "pyarrow", "numpy")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scores(_Record):
    """Scores of one split.

    Attributes:
        values: `accuracy`, `weighted_f1`, `macro_f1` (single-label); `weighted_f1` and `accuracy`, means over the
            labels, and `macro_f1` (multi-label);
            `mae`, `correlation`, `accuracy_7`, `accuracy_2`, `f1_2` (regression).
        per_label: by label name its `precision`, `recall`, `f1`, `support`, and for multi-label `weighted_f1`,
            `accuracy`, `threshold`.
        confusion: rows are true labels, columns predictions, in the order of `labels` (single-label).
    """

    task: Task
    utterances: int
    loss: float
    values: dict[str, float]
    labels: list[str] = []
    per_label: dict[str, dict[str, float]] = {}
    confusion: list[list[int]] | None = None

    @property
    def selection(self) -> float:
        """What selects an epoch on dev; greater is better."""
        return -self.values["mae"] if self.task == "regression" else self.values["weighted_f1"]


class EpochMetrics(_Record):
    """One line of `metrics.jsonl`."""

    epoch: int
    losses: dict[str, float]
    conversations: int
    dev: Scores
    seconds: float
    train_seconds: float
    waiting_share: float
    utterances_per_second: float
    learning_rate: float
    gradient_norm: float
    is_best: bool
    diagnostics: dict[str, float] = {}


class RunRecord(_Record):
    """`record.json`: written when a run ends."""

    name: str
    outcome: Literal["finished", "stopped-early"]
    fingerprint: str
    corpus: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    parameters: int
    workers: int
    epochs: int
    selected_epoch: int
    selected_by: str = "dev"
    test_reads: int
    dev: Scores
    test: Scores | None
    seconds: dict[str, float]
    peak_memory_bytes: int
    warnings: list[str] = []
    locations: dict[str, str] = {}


class Candidate(_Record):
    """A config that ran again over fresh seeds.

    Attributes:
        config: its name; `default` is the job's own settings.
        dev: the metric on dev, a seed an entry, in the order of `seeds`.
        difference, low, high: against the default, and its interval; None of the default itself.
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


class SearchRecord(_Record):
    """`record.json` of a search: written when a sitting has done all that was asked for.

    Attributes:
        trials: by outcome how many.
        candidates: as they were confirmed, the best first, the default last; empty without confirming.
        level: of the candidates' intervals, together.
        verdict: whether the chosen config is better than the default, in words.
        test_reads: how often the test split was read over all sittings, once a chosen config.
        slots: trials that ran at a time.
    """

    name: str
    fingerprint: str
    corpus: dict[str, Any]
    metric: str
    trials: dict[str, int]
    epochs: int
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


class BundleCard(_Record):
    """`bundle.json`: all that a trained model needs besides its weights.

    Attributes:
        scaling: per modality `mean` and `deviation`.
        speakers: speaker slots of the relations.
        thresholds: per label (multi-label), tuned on dev.
    """

    bundle_version: int = 1
    config: dict[str, Any]
    fingerprint: str
    task: Task
    labels: list[str]
    modalities: dict[Modality, FeatureContract]
    scaling: dict[Modality, dict[str, list[float]]]
    speakers: int
    thresholds: dict[str, float] = {}
    trained_on: dict[str, Any] = {}


def versions() -> dict[str, str]:
    """Versions of what determines a result."""
    found = {"python": sys.version.split()[0], "platform": platform.machine()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found

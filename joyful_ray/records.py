"""What was run, on what, with what result: JSON, written and read. No torch, no ray."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from joyful_ray.errors import CheckpointError
from joyful_ray.schema import FeatureContract, Modality, Split, Task

VERSIONED = ("joyful-ray", "ray", "torch", "torch-geometric", "pyarrow", "numpy")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Kind = TypeVar("Kind", bound=_Record)


def read_as(kind: type[Kind], text: str, *, place: str) -> Kind:
    """What JSON written by this project holds.

    Args:
        place: file, and line where it has several; for the message.

    Raises:
        CheckpointError: it is damaged, or of another version.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        reason = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise CheckpointError(f"{place} is damaged, or of another version ({reason})") from None


def read_lines_as(kind: type[Kind], text: str, *, place: str) -> list[Kind]:
    """One of a kind a line, as `read_as` reads it; a last line that was cut off is left out."""
    lines = text.split("\n")[:-1]
    return [read_as(kind, line, place=f"{place}:{number}") for number, line in enumerate(lines, start=1) if line]


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


class Interval(_Record):
    """Bounds between which a score lies in 95 % of the resamplings of whole conversations."""

    low: float
    high: float


class GroupScore(_Record):
    """What selects an epoch (weighted F1, or the mean absolute error), over some of the utterances.

    Attributes:
        interval: None where fewer than two conversations have such utterances.
    """

    group: str
    utterances: int
    conversations: int
    score: float
    interval: Interval | None


class Calibration(_Record):
    """Expected calibration error over 15 bins, of the probabilities as they are and at the bundle's temperature."""

    error: float
    interval: Interval | None
    temperature: float | None = None
    error_at_temperature: float | None = None
    interval_at_temperature: Interval | None = None


class ModalityShift(_Record):
    """How far one modality's features lie from those that the model was trained on, in training deviations.

    Attributes:
        present_share: utterances that have a vector.
        mean_shift: root mean square, over the features, of the distance of their means; 0 without a shift.
        largest_mean_shift: the same of the feature that has moved most.
        width_ratio: median over the features of their deviation; 1 without a shift.
        width_low, width_high: 5th and 95th percentile of the same.
        far_share: utterances whose features lie, root mean square, more than two training deviations from the mean.
    """

    present_share: float
    mean_shift: float
    largest_mean_shift: float
    width_ratio: float
    width_low: float
    width_high: float
    far_share: float


class Assessment(Scores):
    """Scores of a bundle on a split of any corpus, with all that says how far to trust them.

    Attributes:
        conversations: with an utterance that is scored.
        intervals: of `values`, by name.
        groups: by speaker, conversation length, position and modality presence.
        shift: by modality that both have; empty where the bundle takes features as they are.
        label_map: names of both sides, where the labels were mapped; then the scores are of the labels that both have.
        raw: the same without the map's mercy: dropped labels of the corpus count, and are always missed.
        left_out: labeled utterances whose label the map drops.
    """

    conversations: int = 0
    intervals: dict[str, Interval] = {}
    calibration: Calibration | None = None
    groups: dict[str, list[GroupScore]] = {}
    shift: dict[Modality, ModalityShift] = {}
    label_map: dict[str, str] | None = None
    raw: Scores | None = None
    left_out: int = 0


class TransferCell(_Record):
    """One cell of a transfer table: a model on a corpus, over the labels that all share.

    Attributes:
        utterances, conversations: that are scored.
        score: weighted F1 over the shared labels, dropped utterances left out.
        raw: weighted F1 over all labels of the corpus; those that the maps drop are always missed.
        repeating: of the conversations, those that repeat a line of training; None without texts.
        score_unseen: the score over the other conversations.
    """

    trained_on: list[str]
    tested_on: str
    bundle: str
    utterances: int
    conversations: int
    score: float
    interval: Interval | None
    raw: float
    calibration_error: float | None
    repeating: int | None = None
    score_unseen: float | None = None
    interval_unseen: Interval | None = None


class TransferRecord(_Record):
    """`transfer.json`: a transfer table."""

    name: str
    fingerprint: str
    seed: int
    labels: list[str]
    corpora: dict[str, dict[str, str]]
    cells: list[TransferCell]
    versions: dict[str, str]


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
        reads_texts: whether it reads the words of `texts` beside the vectors.
        thresholds: per label (multi-label), tuned on dev.
        temperature: by which scores are divided before they become probabilities, fitted on dev; None where it was not.
    """

    bundle_version: int = 1
    config: dict[str, Any]
    fingerprint: str
    task: Task
    labels: list[str]
    modalities: dict[Modality, FeatureContract]
    scaling: dict[Modality, dict[str, list[float]]]
    speakers: int
    reads_texts: bool = False
    thresholds: dict[str, float] = {}
    temperature: float | None = None
    trained_on: dict[str, Any] = {}


class PredictionCard(_Record):
    """`_card.json`: written when the last shard's predictions are, with all that says where they come from.

    Attributes:
        bundle: `uri`, `hash` and `fingerprint` of the model.
        corpus: `uri`, `name` and `hash` of what was read.
        splits: conversations and utterances of each.
        columns: names and Arrow types of every file.
        temperature: by which scores were divided before they became probabilities; 1 leaves them as they are.
        thresholds: per label (multi-label), the probability from which on it is predicted.
        kept_shards: shards that an earlier command had finished.
    """

    bundle: dict[str, str]
    corpus: dict[str, str]
    splits: dict[Split, dict[str, int]]
    columns: dict[str, str]
    has_embedding: bool
    temperature: float
    thresholds: dict[str, float] = {}
    shards: int
    kept_shards: int
    workers: int
    seconds: float
    utterances_per_second: float
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Versions of what determines a result."""
    found = {"python": sys.version.split()[0], "platform": platform.machine()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found

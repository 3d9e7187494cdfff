"""What a training run writes: one line of metrics per epoch, and a record at the end."""

from __future__ import annotations

from typing import Any, Literal

from joyful_ray.records.reading import Record
from joyful_ray.records.scores import Scores


class RankTimes(Record):
    """What the steps of an epoch cost one rank by itself, without waiting for the others.

    Attributes:
        rank: from 0 to the number of workers - 1.
        host: name of its machine.
        forward_seconds: mean time of its forward passes in a step; on a GPU, that of the GPU.
        waiting_seconds: mean time that it waits for data in a step.
        utterances: that it has trained on.
    """

    rank: int
    host: str
    forward_seconds: float
    waiting_seconds: float
    utterances: int


class EpochMetrics(Record):
    """One line of `metrics.jsonl`.

    Attributes:
        epoch: counted from 0, because this file is for programs; everything that people read counts epochs from 1.
        losses: mean of each term of the objective over the epoch; `total` is their weighted sum.
        conversations: training conversations seen in the epoch, over all workers.
        seen: sum of a hash of each of their ids and of the epoch, modulo 2^48: two runs that have trained on the same
            conversations, each once, have the same number; 0 in files of earlier versions.
        dev: scores on dev after the epoch.
        seconds: wall time of the epoch, evaluation on dev included.
        train_seconds: wall time of the training steps alone.
        waiting_share: share of `train_seconds` that the first worker waited for data, from 0 to 1.
        utterances_per_second: training throughput over all workers.
        learning_rate: learning rate of the last step.
        gradient_norm: mean norm of the gradient per step, before clipping.
        is_best: whether this epoch has the best dev score so far.
        max_epochs: largest number of epochs that the run may have; 0 in files of earlier versions.
        diagnostics: named measurements of `train.diagnostics`; empty if they are off.
        ranks: times of every rank, of the steps that this command has trained; empty in files of earlier versions.
        warnings: what this epoch has shown for the first time, such as a slow rank.
    """

    epoch: int
    losses: dict[str, float]
    conversations: int
    seen: int = 0
    dev: Scores
    seconds: float
    train_seconds: float
    waiting_share: float
    utterances_per_second: float
    learning_rate: float
    gradient_norm: float
    is_best: bool
    max_epochs: int = 0
    diagnostics: dict[str, float] = {}
    ranks: list[RankTimes] = []
    warnings: list[str] = []


class StepReport(Record):
    """What `joyful debug` finds in a step whose loss or gradient was not finite.

    Attributes:
        place: epoch and step.
        losses: mean of each term over the step; in JSON, one that is not finite is null.
        not_finite: terms that are not finite; empty if only the gradient is not, or if the step is finite here.
        first_part: the first part of the model whose output is not finite; None if all outputs are finite.
        first_part_input: the largest absolute value that this part was given; infinite also for NaN.
        parameters: names of the parameters whose gradient is not finite.
        conversations: ids of all conversations of the step.
        alone: those whose loss is not finite also without the others.
        largest_weight: the parameter with the largest absolute value, and that value.
        largest_feature: modality and conversation of the feature with the largest absolute value, after scaling.
    """

    place: str
    losses: dict[str, float]
    not_finite: list[str]
    first_part: str | None
    first_part_input: float | None
    parameters: list[str]
    conversations: list[str]
    alone: list[str]
    largest_weight: tuple[str, float] | None
    largest_feature: tuple[str, float] | None

    @property
    def is_finite(self) -> bool:
        """Whether the step is finite here: then the failure came from what only the run had, such as its hardware."""
        return not self.not_finite and not self.parameters


class RunRecord(Record):
    """`record.json` of a run: written when the run ends.

    Attributes:
        outcome: `finished` after all epochs, `stopped-early` if dev stopped improving.
        fingerprint: hash of the settings that determine the result.
        corpus: `name`, `uri` and `hash` of the corpus, and `dev_cut_conversations`: how many training conversations
            served as dev.
        config: the complete settings of the run.
        versions: versions of Python and of the packages that determine the result.
        components: sha256 of the source file of each component of the user, by import path.
        parameters: number of parameters of the model.
        workers: Ray Train workers; 0 means that the run used no Ray.
        epochs: number of epochs that were trained.
        selected_epoch: the epoch whose weights were kept. Counted from 0, as in `metrics.jsonl` and in the names of the
            checkpoint folders, because this file is for programs; everything that people read counts epochs from 1.
        selected_by: the split that selected the epoch.
        refit_epochs: number of epochs trained once more, on train and dev together, whose weights are kept and tested;
            `dev` is that of the weights before. 0 without `train.refit`.
        resumes: how often the run was continued after an interruption.
        repeated_steps: number of steps that were trained again because of that; those that are known, because a run
            notes every few seconds how far it is.
        test_reads: how often the test split was read.
        dev: dev scores of the selected epoch.
        test: test scores of the selected epoch; None if the corpus has no test split.
        seconds: wall time of `setup`, `fit`, `selection` and `total`.
        peak_memory_bytes: the largest resident memory of any worker.
        warnings: signs of a failed training, each with advice.
        locations: URIs of the `bundle` and of the `tensorboard` folder.
    """

    name: str
    outcome: Literal["finished", "stopped-early"]
    fingerprint: str
    corpus: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    components: dict[str, str] = {}
    parameters: int
    workers: int
    epochs: int
    selected_epoch: int
    refit_epochs: int = 0
    resumes: int = 0
    repeated_steps: int = 0
    selected_by: str = "dev"
    test_reads: int
    dev: Scores
    test: Scores | None
    seconds: dict[str, float]
    peak_memory_bytes: int
    warnings: list[str] = []
    locations: dict[str, str] = {}

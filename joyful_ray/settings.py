"""The sections of a job: every setting with its range and its default.

`model_settings.py`, `graph_settings.py`, `search_settings.py` and `transfer_settings.py` have the sections of those
names; `config.py` reads them all, and `compatibility.py` checks that they go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from joyful_ray.schema import Modality
from joyful_ray.sections import Section, TermConfig


def _or_a_range(schema: dict[str, Any]) -> None:
    """In the JSON schema, let `workers` also be `{min: …, max: …}`, so that editors accept what is accepted."""
    number = {name: schema.pop(name) for name in ("type", "minimum")}
    least = {"type": "integer", "minimum": 1}
    both = {"type": "object", "properties": {"min": least, "max": least}, "required": ["min", "max"]}
    schema["anyOf"] = [number, both | {"additionalProperties": False}]


class DataConfig(Section):
    """How a corpus reaches the workers."""

    ingest: Literal["auto", "resident", "streaming"] = "auto"
    """`resident`: read the corpus once into the memory, or Ray's object store, of every machine. `streaming`: read
    it from storage in every epoch. `auto`: resident if it fills less than 0.3 of the smallest of these, otherwise
    streaming; a run that continues stays with what it began with."""
    modalities: list[Modality] | None = None
    """Modalities that the model uses; null means all that the corpus has."""
    normalise: Literal["none", "train", "speaker", "both"] = "train"
    """How features are centred and scaled: with the mean and standard deviation of `train`; with those of each speaker
    within the conversation (`speaker`); `both`, side by side; or not at all."""
    speaker_order: list[str] = []
    """Names of speakers that have the first numbers, in this order, in every conversation; others follow by first
    appearance. `graph.relations: speaker-pairs` and the slots of speakers go by these numbers."""
    word_ngrams: int = Field(0, ge=0, le=5)
    """Length in words of the longest n-gram that the model reads from `texts`, in addition to the text vectors; 0 reads
    no texts."""
    word_buckets: int = Field(16384, ge=1)
    """Number of hash buckets for n-grams; n-grams in the same bucket share one embedding."""
    dev_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    """Share of the `train` conversations that become `dev` if the corpus has no `dev` split."""
    folds: int | None = Field(None, ge=2)
    """Divide the conversations of `train` and `dev` into so many parts for cross-validation, and take one of them as
    `dev`, the others as `train`; null keeps the splits of the corpus. `study.folds` trains on each."""
    fold: int = Field(0, ge=0)
    """The part that is `dev`, from 0, if `folds` is set."""
    streaming_buffer_conversations: int = Field(1024, ge=1)
    """Number of conversations that the workers of a streaming run hold and shuffle at a time, together."""

    @field_validator("normalise", mode="before")
    @classmethod
    def _was_a_switch(cls, value: object) -> object:
        """Bundles and jobs of earlier versions have true or false."""
        return {True: "train", False: "none"}[value] if isinstance(value, bool) else value

    @field_validator("modalities")
    @classmethod
    def _not_empty(cls, value: list[Modality] | None) -> list[Modality] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("name each modality once, and at least one")
        return value


class ObjectiveConfig(Section):
    """The terms of the joint loss, and their weights."""

    fusion_weight: float = Field(0.06, ge=0.0)
    """Weight of each fusion term: smoothing and the two reconstructions (alpha in the paper); 0 switches them off."""
    contrast_weight: float = Field(0.3, ge=0.0)
    """Weight of the contrastive term (beta in the paper); 0 switches it off."""
    smoothing: bool = True
    """Use the smoothing term, which keeps an utterance's contextual vector close to the topic so far (`dual-branch`
    only)."""
    global_reconstruction: bool = True
    """Use the reconstruction term of the global branch."""
    specific_reconstruction: bool = True
    """Use the reconstruction term of the specific branch."""
    reconstruction_scope: Literal["all", "last-conversation"] = "all"
    """`all`: mean over all utterances. `last-conversation`: sum over the last conversation of each micro-batch, as in
    the released code."""
    detach_targets: bool = False
    """Let no gradient flow through what the reconstruction terms reconstruct."""
    contrast_pairs: Literal["views", "original"] = "views"
    """`views`: contrast the first view with the second. `original`: contrast the unaugmented graph with each view, as
    in the released code."""
    inter_view: bool = True
    """Use other utterances of the other view as negatives."""
    intra_view: bool = True
    """Use other utterances of the same view as negatives."""
    self_negative: bool = False
    """Count an utterance itself among the negatives of its own view, as the released code and the paper's formula do;
    the paper's text leaves it out."""
    joint_denominator: bool = False
    """Compute one InfoNCE with the negatives of both views in its denominator, as in the released code, instead of two
    separate terms."""
    temperature: float = Field(1.0, gt=0.0)
    """Temperature of the contrast: cosine similarities are divided by it."""
    negatives: Literal["conversation", "micro-batch"] = "conversation"
    """Where negatives come from: the same conversation, or the whole micro-batch."""
    alignment_weight: float = Field(0.0, ge=0.0)
    """Weight of a term that pulls the modalities of an utterance together in the basis that they share, and pushes
    other utterances apart, so that one modality finds the other (`joyful retrieve`); 0 switches it off
    (`dual-branch` only)."""
    alignment_temperature: float = Field(0.1, gt=0.0)
    """Temperature of the alignment term."""
    alignment_negatives: Literal["conversation", "micro-batch"] = "micro-batch"
    """Where negatives of the alignment term come from: the same conversation, or the whole micro-batch."""
    class_weighting: float = Field(0.0, ge=0.0, le=1.0)
    """Exponent of the class weights, which are (1 / frequency) to this power; 0 gives equal weights, 1 balances fully
    (single-label only)."""
    focal_gamma: float = Field(0.0, ge=0.0)
    """Exponent of the focal loss; 0 is plain cross-entropy (single-label only)."""
    multi_label_reduction: Literal["mean", "sum"] = "mean"
    """How the losses of a multi-label step are combined: their mean over utterances and labels, or their sum, as in the
    released code."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of each target that is spread evenly over all labels (single-label only)."""
    ordinal_weight: float = Field(0.0, ge=0.0)
    """Weight of a loss on ordered bins: for each border in `ordinal_thresholds`, the binary cross-entropy of lying
    above it (regression only); 0 switches it off."""
    ordinal_thresholds: list[float] = Field([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], min_length=1)
    """Borders between the bins, ascending; the default has the seven bins of sentiment from -3 to 3."""
    ordinal_scale: float = Field(0.5, gt=0.0)
    """Width of the transition at a border, in units of the label."""
    correlation_weight: float = Field(0.0, ge=0.0)
    """Weight of 1 minus the concordance correlation coefficient of each micro-batch (regression only); 0 switches it
    off."""
    density_weighting: float = Field(0.0, ge=0.0, le=1.0)
    """Exponent of the weights of labels by the density of training labels near them (label distribution smoothing,
    regression only); 0 gives equal weights, 1 balances fully."""
    density_bandwidth: float = Field(0.5, gt=0.0)
    """Standard deviation of the Gaussian that smooths the histogram of the labels, in units of the label."""
    consistency: float = Field(0.0, ge=0.0)
    """Weight of the divergence between the predictions of two passes with different dropout (R-Drop); 0 makes one
    pass."""
    extra_terms: dict[str, TermConfig] = {}
    """Terms of your own, by a name of your choice: each with `kind` (an import path), `weight` and `options`."""

    @field_validator("ordinal_thresholds")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if any(not low < high for low, high in pairwise(value)):
            raise ValueError("name each border once, in ascending order")
        return value


class TrainConfig(Section):
    """How the model is trained: duration, optimizer, precision and checkpoints."""

    epochs: int = Field(50, ge=1)
    """Largest number of epochs."""
    patience: int = Field(10, ge=1)
    """Number of epochs without a better dev score after which the run stops."""
    min_steps: int = Field(0, ge=0)
    """Smallest number of optimizer steps in all: where `epochs` have fewer, because the corpus is small, a run has more
    epochs, and `patience`, `warmup_epochs` and `fusion_epochs` grow in the same proportion. A job that names `epochs`
    and not this one has exactly these epochs."""
    batch_conversations: int = Field(32, ge=1)
    """Number of conversations in one optimizer step, over all workers; two or more for each worker keep all busy."""
    micro_batches: int = Field(2, ge=1)
    """Number of fixed parts of a step, if a setting lets an utterance depend on other conversations, such as
    `objective.negatives: micro-batch`, batch normalisation, or a part of your own; at most this many workers then have
    work. Without such a setting each worker takes its share of the conversations, and this does nothing."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    """Adam, or AdamW with decoupled weight decay."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """Learning rate after the warmup."""
    weight_decay: float = Field(1e-2, ge=0.0)
    """Weight decay of the optimizer."""
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    """`constant`, `cosine` (down to zero over `epochs`) or `plateau` (a tenth each time the dev loss has not fallen for
    more than 8 epochs)."""
    warmup_epochs: float = Field(1.0, ge=0.0)
    """Epochs in which the learning rate rises linearly from zero; fractions are allowed."""
    gradient_clip: float | None = Field(1.0, gt=0.0)
    """Largest norm of the whole gradient; null means no clipping."""
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay per step of the exponential moving average (EMA) of the weights, which is evaluated and kept in place of
    the weights; 0 means no EMA."""
    stages: Literal["joint", "two-phase"] = "joint"
    """`joint`: train everything at once. `two-phase`: train only the fusion for `fusion_epochs`, then freeze it and
    train the rest."""
    fusion_target: Literal["inputs", "labels", "terms"] = "inputs"
    """What the first stage of `two-phase` trains the fusion on: `inputs` rebuilds the features by a decoder, `labels`
    classifies by a linear layer, both dropped afterwards; `terms` are the fusion's own, whose minimum is a constant."""
    refit: bool = False
    """After an epoch is selected on dev, train a new model for as many epochs on train and dev together, and keep and
    test that one."""
    fusion_epochs: int = Field(5, ge=1)
    """Epochs of the first stage of `two-phase`."""
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    """Arithmetic: `fp32`; `bf16` (autocast) in the forward pass; or `fp64`, with weights in fp64, to compare runs whose
    sums are rounded in another order. Such a bundle predicts in fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of a run without Ray (`cluster.workers: 0`); `auto` is the GPU if there is one. With Ray,
    `cluster.gpus_per_worker` decides."""
    evaluation_utterances: int = Field(512, ge=1)
    """Approximate number of utterances in an evaluation batch."""
    checkpoint_every_steps: int | None = Field(None, ge=1)
    """Also write a checkpoint after so many steps, in mid-epoch; null writes one at the end of each epoch only. A run
    that is killed repeats at most so many steps, and those that it trained while a checkpoint was being written."""
    checkpoint_every_minutes: float | None = Field(None, gt=0.0)
    """Also write a checkpoint in mid-epoch when the last one is so many minutes old."""
    keep_checkpoints: int = Field(1, ge=1)
    """Number of latest checkpoints kept in addition to the selected one."""
    diagnostics: bool = True
    """Log each epoch's gradient norms and cosines by term, over-smoothing, and alignment and uniformity of the
    views."""


class ClusterConfig(Section):
    """Resources that a run requests from Ray."""

    workers: int = Field(2, ge=0, json_schema_extra=_or_a_range)
    """Number of Ray Train workers; 0 trains in the current process without Ray. `{min: 2, max: 8}` is short for
    `workers: 8` and `min_workers: 2`."""
    min_workers: int | None = Field(None, ge=1)
    """Smallest number of workers with which a run starts or goes on where nodes are missing or lost; it takes more, up
    to `workers`, when there is room. The result does not change. Null needs all of them."""
    cpus_per_worker: float = Field(1.0, gt=0.0)
    """CPU cores per worker; without Ray, cores of the process."""
    gpus_per_worker: float = Field(0.0, ge=0.0)
    """GPUs per worker: 0 trains on CPUs, 1 on a GPU each. Only `joyful predict` shares a GPU by a fraction."""
    utterances_per_pass: int | None = Field(None, ge=1)
    """Largest number of utterances that a worker sends through the model at once, to save memory; a larger share of a
    step goes in several passes, with the same result. Null takes the whole share at once."""
    max_failures: int = Field(2, ge=-1)
    """How often a run restarts after losing a worker or a node before it gives up; -1 means without limit."""
    collective_timeout_s: float = Field(120.0, gt=0.0)
    """Seconds that a worker waits for the others in a collective operation before it fails."""
    start_timeout_s: float = Field(1800.0, gt=0.0)
    """Seconds that a run waits for its workers, for example while a cluster grows, before it gives up. Meanwhile it
    says what it waits for."""
    max_hours: float | None = Field(None, gt=0.0)
    """Hours after which a command stops: it starts no epoch that would end later, judged by the longest epoch so far.
    The same command continues the run; null means no limit."""
    address: str | None = None
    """Address of the Ray cluster to join; null joins the one in RAY_ADDRESS, as in a submitted job, or else starts a
    local one."""

    @model_validator(mode="before")
    @classmethod
    def _range_of_workers(cls, values: Any) -> Any:
        """Take `workers: {min: …, max: …}` apart."""
        if not isinstance(values, Mapping) or not isinstance(values.get("workers"), Mapping):
            return values
        given = values["workers"]
        if set(given) != {"min", "max"}:
            raise ValueError("workers is a number, or {min: …, max: …}")
        return {**values, "workers": given["max"], "min_workers": given["min"]}

    @model_validator(mode="after")
    def _range_is_ordered(self) -> ClusterConfig:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than workers, {self.workers}")
        return self

    @property
    def least_workers(self) -> int:
        """Number of workers without which a run does not start."""
        return self.workers if self.min_workers is None else self.min_workers

    @property
    def worker_range(self) -> int | tuple[int, int]:
        """Number of workers as Ray Train takes it: one number, or the smallest and the largest."""
        return self.workers if self.min_workers is None else (self.min_workers, self.workers)

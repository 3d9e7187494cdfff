"""The `search` section of a job: which settings are searched, how, and how long; `tune/space.py` checks the paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from joyful_ray.components import ComponentPath, is_component, resolved_options
from joyful_ray.errors import ConfigError
from joyful_ray.sections import Section

KINDS = ("uniform", "log", "int", "choice", "same_as")
RANGE_KEYS = (*KINDS, "step", "when")


class RangeConfig(Section):
    """The values that a search may give one setting: exactly one of `uniform`, `log`, `int`, `choice` and `same_as`."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    uniform: tuple[float, float] | None = None
    """Smallest and largest value; all values between are equally likely."""
    log: tuple[float, float] | None = None
    """Smallest and largest value, both above 0; all orders of magnitude between are equally likely."""
    whole: tuple[int, int] | None = Field(None, alias="int")
    """Smallest and largest integer, both included."""
    choice: list[Any] | None = Field(None, min_length=1)
    """The possible values."""
    same_as: str | None = None
    """Path of another searched setting whose value this one takes."""
    step: float | None = Field(None, gt=0.0)
    """Distance between neighbouring values of `uniform` and `int`; null means any value (`uniform`) or every integer
    (`int`). `grid` needs it for `uniform`."""
    when: dict[str, Any] | None = None
    """Values of other searched settings for which this one is drawn, each one value or a list; otherwise it keeps the
    job's value. Null means always."""

    @property
    def kind(self) -> str:
        """Which of the kinds this is."""
        return next(name for name in KINDS if self._given(name) is not None)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value of a range of numbers."""
        found = self.uniform or self.log or self.whole
        assert found is not None
        return found

    @property
    def is_number(self) -> bool:
        """Whether it draws a number between two others."""
        return self.kind in ("uniform", "log", "int")

    @model_validator(mode="after")
    def _holds_something(self) -> RangeConfig:
        given = [name for name in KINDS if self._given(name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}" + (f", not {', '.join(given)}" if given else ""))
        if self.is_number:
            low, high = self.bounds
            if low >= high:
                raise ValueError(f"the range from {low:g} to {high:g} is empty; give the smaller number first")
            if self.kind == "log" and low <= 0:
                raise ValueError(f"a log range must begin above 0, not at {low:g}")
        if self.step is not None and self.kind not in ("uniform", "int"):
            raise ValueError(f"step belongs to uniform and int, not to {self.kind}")
        if self.step is not None and self.kind == "int" and self.step != int(self.step):
            raise ValueError("the step of an int range is a whole number")
        if self.step is not None and self.step > self.bounds[1] - self.bounds[0]:
            raise ValueError(f"the step {self.step:g} is longer than the range")
        return self

    def _given(self, name: str) -> Any:
        return getattr(self, "whole" if name == "int" else name)


def _range_or_constant(value: Any) -> str:
    return "range" if isinstance(value, Mapping | RangeConfig) else "constant"


SpaceEntry = Annotated[
    Annotated[RangeConfig, Tag("range")] | Annotated[Any, Tag("constant")], Discriminator(_range_or_constant)
]


class RepeatConfig(Section):
    """How often each sampled config is trained."""

    seeds: int = Field(1, ge=1)
    """Trials per config, each with a different seed; configs are compared by their mean."""


class ConfirmConfig(Section):
    """Confirmation: the best configs and the job's own settings are trained again over fresh seeds."""

    top: int = Field(3, ge=1)
    """Number of best configs that are trained again."""
    seeds: int = Field(5, ge=2)
    """Number of fresh seeds per config, and for the default."""
    bootstrap_samples: int = Field(2000, ge=200)
    """Samples of the paired bootstrap over conversations and seeds."""


class SearchConfig(Section):
    """A search: which settings vary, how they are sampled, when trials stop, and what they may cost."""

    space: dict[str, SpaceEntry] = Field(min_length=1)
    """Maps the path of each searched setting to its range, or to one fixed value."""
    metric: str | list[str] | None = None
    """Dev score to optimise, at the epoch that the trial selects; null means the score that selects epochs. A list,
    such as [weighted_f1, seconds], needs `algorithm: optuna`; its first entry decides early stopping and the winner."""
    algorithm: Literal["random", "grid", "optuna"] = "random"
    """`random`: independent draws. `grid`: every combination once. `optuna`: TPE, which learns from earlier trials."""
    scheduler: Literal["asha", "median", "hyperband", "pbt", "none"] | ComponentPath = "asha"
    """How bad trials are stopped early. `pbt` stops none; the worst continue from copies of the best. `none` trains
    every trial to its end. `my_package.module:Class`: a scheduler of your own."""
    scheduler_options: dict[str, Any] = {}
    """Settings of a scheduler of your own, if `scheduler` is an import path; the class itself defines them."""
    max_trials: int = Field(24, ge=1)
    """Number of trials in the search, without the confirmation runs."""
    max_concurrent: int | None = Field(None, ge=1)
    """Trials that run at the same time; null means as many as fit the free resources of the cluster, which is always
    the upper limit."""
    time_budget_s: float | None = Field(None, gt=0.0)
    """Wall time in seconds of all sessions together, without confirmation; null means no limit."""
    cpus_per_trial: float = Field(1.0, gt=0.0)
    """CPU cores per trial, over all its workers."""
    gpus_per_trial: float = Field(0.0, ge=0.0)
    """GPUs per trial, over all its workers; a fraction lets several trials share a GPU."""
    workers_per_trial: int = Field(1, ge=1)
    """Workers per trial: 1 runs it as a function in one process, more as a Ray Train run that shares out its CPUs and
    GPUs."""
    trial_time_limit_s: float = Field(86_400.0, gt=0.0)
    """Seconds after which a trial is stopped and recorded as failed."""
    repeat: RepeatConfig = RepeatConfig()
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the draws; the trials' own seeds start at the job's `seed`."""
    grace_epochs: int = Field(2, ge=1)
    """Epochs that every trial gets before it can be stopped (`asha`, `median`)."""
    reduction_factor: float = Field(3.0, gt=1.0)
    """One in this many trials continues at each rung (`asha`, `hyperband`)."""
    min_trials: int = Field(3, ge=1)
    """Number of trials to compare with before `median` stops one."""
    perturb_epochs: int = Field(2, ge=1)
    """Epochs between two changes of a trial's settings (`pbt`)."""
    keep_best: int = Field(3, ge=1)
    """Number of best trials whose models are kept."""
    storage_limit_bytes: int = Field(20 * 2**30, ge=1)
    """Largest storage in bytes that models and checkpoints may take at a time; a search that would need more is
    refused."""
    confirm: ConfirmConfig | None = ConfirmConfig()
    """How the best configs are confirmed over fresh seeds; null takes the best trial unconfirmed."""

    @property
    def metrics(self) -> list[str]:
        """The metrics named; empty where the task decides."""
        return [] if self.metric is None else [self.metric] if isinstance(self.metric, str) else self.metric

    @model_validator(mode="before")
    @classmethod
    def _resolve_options(cls, values: Any) -> Any:
        scheduler = values.get("scheduler") if isinstance(values, Mapping) else None
        options = values.get("scheduler_options", {}) if isinstance(values, Mapping) else {}
        if not isinstance(scheduler, str) or not isinstance(options, Mapping):
            return values
        if not is_component(scheduler):
            if options:
                raise ValueError(f"scheduler_options belong to a scheduler of your own, not to {scheduler}")
            return values
        try:
            return {**values, "scheduler_options": resolved_options(scheduler, "scheduler", options)}
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _fits_together(self) -> SearchConfig:
        if isinstance(self.metric, list) and (not self.metric or len(set(self.metric)) != len(self.metric)):
            raise ValueError("search.metric: name each metric once, and at least one")
        if len(self.metrics) > 1 and self.algorithm != "optuna":
            raise ValueError(f"search.metric names {len(self.metrics)}; several need search.algorithm: optuna")
        if self.scheduler == "pbt" and self.algorithm != "random":
            raise ValueError("search.scheduler: pbt draws its population at once; use search.algorithm: random")
        if self.scheduler == "pbt" and self.repeat.seeds > 1:
            raise ValueError("search.scheduler: pbt changes settings as it goes; it knows no search.repeat")
        if self.scheduler == "pbt" and self.workers_per_trial > 1:
            raise ValueError("search.scheduler: pbt needs search.workers_per_trial: 1")
        if self.scheduler == "hyperband" and self.workers_per_trial > 1:
            raise ValueError("search.scheduler: hyperband pauses trials, which needs search.workers_per_trial: 1")
        if all(isinstance(entry, RangeConfig) is False for entry in self.space.values()):
            raise ValueError("search.space has only constants; give one setting a range")
        return self

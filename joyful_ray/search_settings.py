"""The `search` section of a job: which settings are searched, how, and how long; `tune/space.py` checks the paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from joyful_ray.settings import Section

KINDS = ("uniform", "log", "int", "choice", "same_as")
RANGE_KEYS = (*KINDS, "step", "when")


class RangeConfig(Section):
    """What a search may give one setting: exactly one of `uniform`, `log`, `int`, `choice` and `same_as`."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    uniform: tuple[float, float] | None = None
    """Least and greatest value, all equally likely."""
    log: tuple[float, float] | None = None
    """Least and greatest value, above 0; all magnitudes equally likely."""
    whole: tuple[int, int] | None = Field(None, alias="int")
    """Least and greatest whole number, both drawn."""
    choice: list[Any] | None = Field(None, min_length=1)
    """The values themselves."""
    same_as: str | None = None
    """Path of another setting of the space, whose value this one takes."""
    step: float | None = Field(None, gt=0.0)
    """Distance of neighbouring values of `uniform` and `int`; `grid` needs it for `uniform`."""
    when: dict[str, Any] | None = None
    """Drawn only where other settings of the space have these values (one, or one of a list); else the job's own."""

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
    """How often each drawn config is tried."""

    seeds: int = Field(1, ge=1)
    """Trials of each config, each with another seed; configs are compared by their mean."""


class ConfirmConfig(Section):
    """Whether the winner is real: the best configs again, beside the job's own."""

    top: int = Field(3, ge=1)
    """Configs that run again."""
    seeds: int = Field(5, ge=2)
    """Fresh seeds of each, and of the default."""
    bootstrap_samples: int = Field(2000, ge=200)
    """Draws of the paired bootstrap over conversations and seeds."""


class SearchConfig(Section):
    """A search: what is varied, by which algorithm, stopped how, at what cost."""

    space: dict[str, SpaceEntry] = Field(min_length=1)
    """By the path of a setting its range, or one value."""
    metric: str | list[str] | None = None
    """Dev score that is searched for, at the epoch that the trial selects; null is the one that selects epochs.
    Several, such as [weighted_f1, seconds], are for `optuna`; the first decides about stopping and the winner."""
    algorithm: Literal["random", "grid", "optuna"] = "random"
    """`optuna`: TPE, which learns from the trials before; `grid`: every combination once."""
    scheduler: Literal["asha", "median", "hyperband", "pbt", "none"] = "asha"
    """What stops bad trials early. `pbt`: none is stopped; the worst go on from copies of the best."""
    max_trials: int = Field(24, ge=1)
    max_concurrent: int | None = Field(None, ge=1)
    """Trials at a time; null is as many as the cluster's free resources bear, which is the most in any case."""
    time_budget_s: float | None = Field(None, gt=0.0)
    """Wall seconds of all sittings together, without confirming."""
    cpus_per_trial: float = Field(1.0, gt=0.0)
    gpus_per_trial: float = Field(0.0, ge=0.0)
    """Parts of a GPU let several trials share it."""
    workers_per_trial: int = Field(1, ge=1)
    """1: a trial is a function in one process; more: a Ray Train run of its own, with the CPUs and GPUs shared out."""
    trial_time_limit_s: float = Field(86_400.0, gt=0.0)
    """Seconds after which a trial that hangs is ended and recorded as failed."""
    repeat: RepeatConfig = RepeatConfig()
    seed: int = Field(0, ge=0, lt=2**32)
    """Decides what is drawn; the trials' own seeds begin at the job's."""
    grace_epochs: int = Field(2, ge=1)
    """Epochs that every trial gets (asha, median)."""
    reduction_factor: float = Field(3.0, gt=1.0)
    """One in this many trials goes on at each rung (asha, hyperband)."""
    min_trials: int = Field(3, ge=1)
    """Trials to compare with before the median stops one."""
    perturb_epochs: int = Field(2, ge=1)
    """Epochs between two changes of a trial's settings (pbt)."""
    keep_best: int = Field(3, ge=1)
    """Trials of the whole search whose model is kept."""
    storage_limit_bytes: int = Field(20 * 2**30, ge=1)
    """The search is refused where models and checkpoints would take more than this at a time."""
    confirm: ConfirmConfig | None = ConfirmConfig()
    """Null takes the best trial as it is."""

    @property
    def metrics(self) -> list[str]:
        """The metrics named; empty where the task decides."""
        return [] if self.metric is None else [self.metric] if isinstance(self.metric, str) else self.metric

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
            raise ValueError("search.space holds only constants; give one setting a range")
        return self

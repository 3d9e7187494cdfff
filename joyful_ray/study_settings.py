"""The `study` section of a job: named variants of its settings, compared over corpora and seeds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from joyful_ray.schema import Modality, Task
from joyful_ray.sections import Section

VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class SyntheticCorpus(Section):
    """A corpus that the study makes for itself, as `joyful synth` does."""

    conversations: int = Field(ge=3)
    """Number of conversations: 80 % train, 10 % dev, 10 % test."""
    seed: int = Field(0, ge=0)
    """Seed of the conversations."""
    task: Task = "single-label"
    """`single-label`, `multi-label` or `regression`."""


class StudyConfig(Section):
    """A question: variants of a job, trained on each corpus with each seed and compared with one of them."""

    question: str = ""
    """What the study asks; shown above its table."""
    variants: dict[VariantName, dict[str, Any]] = {}
    """By name, the settings of each variant by their path, such as `{objective.contrast_weight: 0}`; `{}` changes
    nothing."""
    grid: dict[str, list[Any]] = {}
    """Values by path: every combination is another variant, named by its values."""
    reference: VariantName
    """The variant that the others are compared with."""
    corpora: dict[VariantName, str | SyntheticCorpus] = {}
    """By name, the path or s3:// URI of each corpus, or a synthetic one; empty takes the corpus of the job."""
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    """Seeds of each variant; more can be added to a finished study."""
    folds: int | None = Field(None, ge=2)
    """Compare on held-out parts of `train` and `dev` instead of on test, by cross-validation with so many parts: each
    variant and seed is trained once per part, and test is never read. For choosing settings."""
    remove: list[Modality] = []
    """Modalities that are also removed, one at a time, when a trained variant is scored."""
    measures: list[str] = []
    """What the table shows beside the score: other scores of the compared split (`score/correlation`), and losses
    (`loss/contrast`) and diagnostics (`spread/fused`; a first part such as `distance` stands for all) of the selected
    epoch."""
    groups: list[str] = []
    """Also compare groups of utterances with all others: `speaker`, or an attribute that the corpora have of their
    speakers, such as gender. Of each, the twelve largest groups with at least 20 utterances in 5 conversations."""
    axis: str = ""
    """What the variants whose names are numbers vary, if the report shall draw a curve over them."""
    bootstrap_samples: int = Field(1000, ge=100)
    """Number of samples behind each interval."""

    @field_validator("seeds", "groups")
    @classmethod
    def _each_once(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("name each one once")
        return value

    @model_validator(mode="after")
    def _reference_is_known(self) -> StudyConfig:
        if not self.variants and not self.grid:
            raise ValueError("study needs variants, a grid, or both")
        if any(not values for values in self.grid.values()):
            raise ValueError("each setting of study.grid needs at least one value")
        if self.folds is not None and (self.remove or self.groups):
            raise ValueError("study.folds compares on parts of train and dev; remove and groups need test")
        return self

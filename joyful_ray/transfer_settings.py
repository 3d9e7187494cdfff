"""The `transfer` section of a job: which corpora a transfer table trains on and tests on."""

from __future__ import annotations

from pydantic import Field, model_validator

from joyful_ray.sections import Section


class TransferCorpus(Section):
    """One corpus of a transfer table, with the names of its labels in the table."""

    corpus: str
    """Path or s3:// URI of the corpus."""
    label_map: str
    """Path or s3:// URI of a label map to the names that all corpora share."""


class TransferConfig(Section):
    """A transfer table: one row per training corpus, one column per test corpus."""

    corpora: dict[str, TransferCorpus] = Field(min_length=1)
    """The corpora, each under the name that the table uses for it."""
    train_on: list[list[str]] = Field(min_length=1)
    """One row of the table per entry: one corpus, trained with its own labels, or several, merged with the shared
    labels."""
    test_on: list[str] = Field(min_length=1)
    """One column of the table per entry: the name of a corpus."""

    @model_validator(mode="after")
    def _names_are_known(self) -> TransferConfig:
        for name in [*self.test_on, *(name for row in self.train_on for name in row)]:
            if name not in self.corpora:
                raise ValueError(f"{name} is not in transfer.corpora, which has {', '.join(self.corpora)}")
        if not all(self.train_on) or any(len(set(row)) < len(row) for row in self.train_on):
            raise ValueError("each row of transfer.train_on must name at least one corpus, and each only once")
        return self

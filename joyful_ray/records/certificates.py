"""What `joyful certify` writes: what was done to a run, and how far its answer is from that of an undisturbed one."""

from __future__ import annotations

from joyful_ray.records.reading import Record


class DisturbedRun(Record):
    """One run that was disturbed, beside one that was not.

    Attributes:
        name: of the trial, such as `resident` or `streaming-other-workers`.
        workers: numbers of workers that it had, one after the other.
        ingest: how it read the corpus.
        disturbances: what was done to it, in order.
        resumes: how often it was continued.
        repeated_steps: steps that it is known to have trained again.
        most_repeated_steps: most that it may have trained again, by the interval of its checkpoints.
        loss_difference: largest relative difference of a term of an epoch, or of its loss on dev.
        weight_difference: largest difference of a kept weight, relative to the largest weight of its tensor.
        is_exact: whether losses and weights are the same bit for bit.
        has_seen_the_same: whether each epoch trained on the same conversations, each once.
        problems: what is not as it must be; empty if the run passes.
    """

    name: str
    workers: list[int]
    ingest: str
    disturbances: list[str]
    resumes: int
    repeated_steps: int
    most_repeated_steps: int
    loss_difference: float
    weight_difference: float
    is_exact: bool
    has_seen_the_same: bool
    problems: list[str]


class Certificate(Record):
    """`certificate.json`.

    Attributes:
        fingerprint: of the settings that were certified.
        corpus: its hash.
        seed: of the disturbances and of their moments.
        versions: of Python and of the packages that determine the result.
        runs: one for each trial.
    """

    fingerprint: str
    corpus: str
    seed: int
    versions: dict[str, str]
    runs: list[DisturbedRun]

    @property
    def problems(self) -> list[str]:
        """What any run did not pass."""
        return [f"{run.name}: {problem}" for run in self.runs for problem in run.problems]

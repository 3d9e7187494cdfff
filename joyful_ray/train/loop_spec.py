"""What the training loop of a rank is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from joyful_ray.config import JobConfig
from joyful_ray.data.loader import BatchLoader
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.schema import Split
from joyful_ray.settings import TrainConfig
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.schedule import lengthened


@dataclass(frozen=True)
class RunSpec:
    """Everything that a rank needs to train one run.

    Attributes:
        job: the settings.
        corpus_info: what is known of the corpus.
        sources: by split, a function that makes its loader when called; `test` is called once, at the end.
        directory: where the run is written.
        both: makes the loader of train and dev together, for `train.refit`.
        workers: Ray Train workers, as the user set them; 0 is without Ray.
        warnings: what the record says besides what training shows, such as idle workers.
        started: Unix time in seconds at which the command started.
        ask: asks the cluster whether a machine of the run is about to be taken away, on all ranks together; None if it
            cannot say.
        is_trial: whether the run is a trial of a search. It reports an epoch once its checkpoint is written, from which
            another trial may continue, and does not keep a step that is not finite.
    """

    job: JobConfig
    corpus_info: CorpusInfo
    sources: Mapping[Split, Callable[[], BatchLoader]]
    directory: RunDirectory
    workers: int
    started: float
    both: Callable[[], BatchLoader] | None = None
    warnings: list[str] = field(default_factory=list)
    ask: Callable[[], bool] | None = None
    is_trial: bool = False

    @property
    def train(self) -> TrainConfig:
        """The `train` section, as long as `train.min_steps` makes it for this corpus."""
        return lengthened(self.job.train, conversations=self.corpus_info.conversations)

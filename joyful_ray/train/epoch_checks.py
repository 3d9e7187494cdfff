"""What may end a run between two epochs: a request to stop, the time, or a number that is not finite."""

from __future__ import annotations

import math
import time

import torch

from joyful_ray.errors import TrainingError
from joyful_ray.records import Scores
from joyful_ray.termination import Stopped
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.saving import Saving
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import EpochNumbers
from joyful_ray.wording import counted


def check_stop(process_group: ProcessGroup, progress: Progress, saving: Saving) -> None:
    """Stop between two epochs, where the run has been saved, if any rank wants it."""
    wanted = torch.tensor(float(saving.shall_stop), device=process_group.device)
    if process_group.all_reduce(wanted) > 0 and progress.partial is None and progress.next_epoch:
        saving.wait()
        raise Stopped(f"the end of epoch {progress.next_epoch}")


def check_time(
    spec: RunSpec, process_group: ProcessGroup, progress: Progress, saving: Saving, *, longest_s: float
) -> None:
    """Stop before an epoch that would end after `cluster.max_hours`; the first rank's clock decides for all ranks."""
    limit = spec.job.cluster.max_hours
    if limit is None:
        return
    left_s = spec.started + 3600 * limit - time.time()
    is_over = torch.tensor(float(process_group.is_first and left_s < longest_s), device=process_group.device)
    if process_group.all_reduce(is_over) > 0:
        saving.wait()
        done = progress.next_epoch
        raise TrainingError(
            f"stopped after {done} of {counted(spec.train.epochs, 'epoch')}: another would end after "
            f"cluster.max_hours ({limit:g}); "
            + ("the same command continues the run" if done else "raise it; nothing was trained")
        )


def check_finite(numbers: EpochNumbers, dev: Scores, *, number: int) -> None:
    """Stop the run if an epoch has no valid score; all ranks have the same numbers, so they stop together.

    Args:
        numbers, dev: results of the epoch.
        number: of the epoch, counted from 1, for the message.
    """
    if not dev.utterances:
        raise TrainingError(f"epoch {number}: no utterance of dev is labeled; raise data.dev_fraction, or label some")
    values = numbers.losses | {"dev loss": dev.loss, "dev score": dev.selection}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        verb = "is" if len(bad) == 1 else "are"
        raise TrainingError(
            f"epoch {number}: {', '.join(bad)} {verb} not finite; look for extreme features or labels in train and "
            "dev, or try a smaller train.learning_rate"
        )

"""Training once more on train and dev together, for as many epochs as dev has selected."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from joyful_ray.train.failed_step import keeping_failed_step
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import Trainer


def refit(spec: RunSpec, process_group: ProcessGroup, *, epochs: int) -> tuple[Trainer, dict[str, Tensor]]:
    """Train a new model on train and dev, from the same first weights and with the same learning rates by epoch.

    A run that is killed here trains this part again, and comes to the same weights.

    Args:
        spec: the run; its `both` makes the loader of the two splits.
        process_group: the ranks that train together.
        epochs: number of epochs up to the selected one.

    Returns:
        The trainer, and the weights that are evaluated and kept.
    """
    assert spec.both is not None, "launch gives it where train.refit is on"
    trainer, source = Trainer(spec.job, spec.corpus_info, process_group), spec.both()
    progress = Progress()
    for epoch in range(epochs):
        progress = replace(progress, next_epoch=epoch)
        with keeping_failed_step(spec, process_group, trainer, epoch=epoch):
            trainer.train_epoch(source, progress)
    weights = {name: value.detach().cpu().clone() for name, value in trainer.evaluated.state_dict().items()}
    return trainer, weights

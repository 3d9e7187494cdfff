"""Scores of a split: every conversation once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from joyful_ray.data.batch import Batch
from joyful_ray.objective.joint import JointObjective
from joyful_ray.records import Scores
from joyful_ray.schema import Task
from joyful_ray.train.context import World
from joyful_ray.train.scores import Tally


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    task: Task,
    labels: list[str],
    world: World,
    precision: str = "fp32",
    thresholds: Mapping[str, float] | None = None,
) -> Scores:
    """Run this rank's batches, and add what was counted over all ranks.

    Args:
        thresholds: per label (multi-label); None tunes them on what is evaluated.
    """
    was_training = model.training
    model.eval()
    tally = Tally(task, labels)
    for batch in batches:
        batch = batch.to(world.device)
        with torch.autocast(world.device.type, torch.bfloat16, enabled=precision == "bf16"):
            scores_NK = model(batch).scores_NK
        loss = JointObjective.plain_loss(scores_NK, batch, task)
        tally.saw(scores_NK, batch.labels, batch.labeled_N, float(loss.sum()))
    tally.state = world.add(tally.state.to(world.device)).cpu()
    model.train(was_training)
    return tally.scores(thresholds)

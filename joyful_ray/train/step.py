"""One optimizer update over one global batch, the same whatever the number of ranks.

Shapes: none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Batch
from joyful_ray.data.source import Work
from joyful_ray.errors import TrainingError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.train.context import World


@dataclass(frozen=True)
class Trainee:
    """What a step trains, and with what.

    Attributes:
        model: as `World.distribute` gave it.
        blank: what a rank without work runs, at weight zero, because DDP waits for every rank.
        parameters: those that are trained.
        draws_views: whether training sees augmented views, to contrast or to classify them.
    """

    model: nn.Module
    objective: JointObjective
    optimizer: torch.optim.Optimizer
    world: World
    blank: Batch
    parameters: tuple[nn.Parameter, ...]
    draws_views: bool = True
    gradient_clip: float | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class StepResult:
    """Sums and counts of each term, over this rank alone, and the norm of the whole gradient.

    Attributes:
        counts: over all ranks.
    """

    sums: dict[str, Tensor]
    counts: dict[str, Tensor]
    gradient_norm: float


def train_step(trainee: Trainee, work: Work, *, place: str) -> StepResult:
    """Run this rank's micro-batches, exchange gradients once, and update.

    Args:
        work: this rank's micro-batches of the step; may be empty.
        place: where this step stands, for messages.

    Raises:
        TrainingError: on every rank, where the loss or the gradient is not finite.
    """
    objective, world = trainee.objective, trainee.world
    batches = [batch.to(world.device) for _, batch in work]
    counts = _global_counts(trainee, batches)
    trainee.optimizer.zero_grad(set_to_none=True)
    sums = {name: torch.zeros((), device=world.device) for name in objective.weights}
    for index, (micro, _) in enumerate(work):
        torch.manual_seed(micro.seed)
        generator = torch.Generator(world.device).manual_seed(micro.seed) if trainee.draws_views else None
        with world.hold_gradients(trainee.model, until_last=index + 1 < len(work)):
            with torch.autocast(world.device.type, torch.bfloat16, enabled=trainee.precision == "bf16"):
                output = trainee.model(batches[index], generator)
            parts = objective.sums(output, batches[index])
            (objective.total(parts, counts) * world.size).backward()
        for name, value in parts.items():
            sums[name] += value.detach()
    if not work:
        _idle(trainee)
    norm = _clip(trainee)
    if not torch.isfinite(norm):
        _stop(trainee, sums, counts, place)
    trainee.optimizer.step()
    return StepResult(sums, counts, float(norm))


def _global_counts(trainee: Trainee, batches: list[Batch]) -> dict[str, Tensor]:
    names = list(trainee.objective.weights)
    totals = torch.zeros(len(names), dtype=torch.float64, device=trainee.world.device)
    for batch in batches:
        counted = trainee.objective.counts(batch)
        totals += torch.stack([counted[name].double() for name in names])
    totals = trainee.world.add(totals).float()
    return dict(zip(names, totals, strict=True))


def _idle(trainee: Trainee) -> None:
    generator = torch.Generator(trainee.world.device).manual_seed(0) if trainee.draws_views else None
    blank = trainee.blank.to(trainee.world.device)
    parts = trainee.objective.sums(trainee.model(blank, generator), blank)
    (torch.stack(list(parts.values())).sum() * 0.0).backward()


def _clip(trainee: Trainee) -> Tensor:
    limit = trainee.gradient_clip if trainee.gradient_clip is not None else float("inf")
    return nn.utils.clip_grad_norm_(trainee.parameters, limit, foreach=True)


def _stop(trainee: Trainee, sums: dict[str, Tensor], counts: dict[str, Tensor], place: str) -> None:
    names = list(sums)
    totals = trainee.world.add(torch.stack([sums[name].double() for name in names]))
    bad = [name for name, value in zip(names, totals, strict=True) if not torch.isfinite(value / counts[name])]
    cause = f"loss of {', '.join(bad)} is" if bad else "gradient is"
    raise TrainingError(f"{place}: the {cause} not finite; try a smaller train.learning_rate or train.gradient_clip")

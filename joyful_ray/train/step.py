"""One optimizer step over one global batch, with the same result for any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Batch
from joyful_ray.data.loader import Work
from joyful_ray.errors import TrainingError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.train.process_group import ProcessGroup


@dataclass(frozen=True)
class TrainState:
    """Everything that a training step needs and updates.

    Attributes:
        model: as returned by `ProcessGroup.distribute`.
        objective: terms and weights of the loss.
        optimizer: updates `parameters`.
        process_group: the ranks that train together.
        blank: batch that a rank without work runs with weight zero, because DDP waits for every rank.
        parameters: the trainable parameters.
        draws_views: whether training uses augmented views, to contrast or to classify them.
        gradient_clip: largest norm of the gradient; None does not clip.
        precision: `fp32` or `bf16`.
    """

    model: nn.Module
    objective: JointObjective
    optimizer: torch.optim.Optimizer
    process_group: ProcessGroup
    blank: Batch
    parameters: tuple[nn.Parameter, ...]
    draws_views: bool = True
    gradient_clip: float | None = None
    precision: str = "fp32"


class Wishes(NamedTuple):
    """What ranks want after a step; what one wants, all do.

    Attributes:
        saves: a checkpoint.
        stops: the end of the run, for now.
        asks: to ask the cluster together whether a machine is about to go.
    """

    saves: bool = False
    stops: bool = False
    asks: bool = False


NO_WISHES = Wishes()


@dataclass(frozen=True)
class StepResult:
    """The losses and the gradient norm of one step.

    Attributes:
        sums: sum of each term over this rank's utterances.
        counts: count of each term over all ranks.
        wishes: what the ranks want after this step.
        gradient_norm: norm of the whole gradient before clipping.
    """

    sums: dict[str, Tensor]
    counts: dict[str, Tensor]
    gradient_norm: float
    wishes: Wishes


def train_step(state: TrainState, work: Work, *, place: str, wishes: Wishes = NO_WISHES) -> StepResult:
    """Run this rank's micro-batches, synchronise gradients once, and update the parameters.

    Args:
        state: model, objective and optimizer.
        work: this rank's micro-batches of the step; may be empty.
        place: epoch and step, for error messages.
        wishes: what this rank wants after this step.

    Raises:
        TrainingError: on every rank, if the loss or the gradient is not finite.
    """
    objective, process_group = state.objective, state.process_group
    batches = [batch.to(process_group.device) for _, batch in work]
    counts, wishes = _global_counts(state, batches, wishes)
    state.optimizer.zero_grad(set_to_none=True)
    sums = {name: torch.zeros((), device=process_group.device) for name in objective.weights}
    for index, (micro, _) in enumerate(work):
        torch.manual_seed(micro.seed)  # for parts of the user's own
        with process_group.no_sync(state.model, is_last=index + 1 == len(work)):
            with torch.autocast(process_group.device.type, torch.bfloat16, enabled=state.precision == "bf16"):
                output = state.model(batches[index], with_views=state.draws_views)
            parts = objective.sums(output, batches[index])
            (objective.total(parts, counts) * process_group.size).backward()
        for name, value in parts.items():
            sums[name] += value.detach()
    if not work:
        _run_blank(state)
    norm = _clip(state)
    if not torch.isfinite(norm):
        _raise_not_finite(state, sums, counts, place)
    state.optimizer.step()
    return StepResult(sums, counts, float(norm), wishes)


def _global_counts(state: TrainState, batches: list[Batch], wishes: Wishes) -> tuple[dict[str, Tensor], Wishes]:
    """The count of each term, and the wishes, over all ranks, in one collective operation."""
    names, device = list(state.objective.weights), state.process_group.device
    totals = torch.zeros(len(names) + len(wishes), dtype=torch.float64, device=device)
    for batch in batches:
        counted = state.objective.counts(batch)
        totals[: len(names)] += torch.stack([counted[name].double() for name in names])
    totals[len(names) :] = torch.tensor(wishes, dtype=torch.float64, device=device)
    totals = state.process_group.all_reduce(totals).float()
    counts = dict(zip(names, totals[: len(names)], strict=True))
    return counts, Wishes(*(total > 0 for total in totals[len(names) :].tolist()))


def _run_blank(state: TrainState) -> None:
    blank = state.blank.to(state.process_group.device)
    parts = state.objective.sums(state.model(blank, with_views=state.draws_views), blank)
    (torch.stack(list(parts.values())).sum() * 0.0).backward()


def _clip(state: TrainState) -> Tensor:
    limit = state.gradient_clip if state.gradient_clip is not None else float("inf")
    return nn.utils.clip_grad_norm_(state.parameters, limit, foreach=True)


def _raise_not_finite(state: TrainState, sums: dict[str, Tensor], counts: dict[str, Tensor], place: str) -> None:
    names = list(sums)
    totals = state.process_group.all_reduce(torch.stack([sums[name].double() for name in names]))
    bad = [name for name, value in zip(names, totals, strict=True) if not torch.isfinite(value / counts[name])]
    cause = f"loss of {', '.join(bad)} is" if bad else "gradient is"
    raise TrainingError(f"{place}: the {cause} not finite; try a smaller train.learning_rate or train.gradient_clip")

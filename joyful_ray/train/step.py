"""One optimizer step over one global batch, with the same result for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Batch
from joyful_ray.data.loader import Work
from joyful_ray.errors import TrainingError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.rank_times import Stopwatch
from joyful_ray.wording import listed


class NotFiniteError(TrainingError):
    """The loss or the gradient of a step is not finite; every rank raises it.

    Args:
        place: epoch and step.
        terms: the terms of the loss that are not finite; if there are none, the gradient is.
        work: the micro-batches of this rank.
        conversations: ids of those of this rank's micro-batches in which a term is not finite, or of all of them.
    """

    def __init__(self, place: str, terms: Sequence[str], work: Work, conversations: Sequence[str]) -> None:
        self.cause = f"loss of {', '.join(terms)} is" if terms else "gradient is"
        super().__init__(self.message(place, ()))
        self.place, self.terms, self.work, self.conversations = place, tuple(terms), work, tuple(conversations)

    def message(self, place: str, conversations: Sequence[str], more: str = "") -> str:
        """The error in one line, for some conversations, with another piece of advice."""
        among = f" (in a batch of {listed(conversations, most=3)})" if conversations else ""
        advice = f"try a smaller train.learning_rate or train.gradient_clip{more}"
        return f"{place}: the {self.cause} not finite{among}; {advice}"


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
        precision: `fp32`, `bf16` or `fp64`.
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
        forward_s: seconds of this rank's forward passes, in which it does not wait for others.
    """

    sums: dict[str, Tensor]
    counts: dict[str, Tensor]
    gradient_norm: float
    wishes: Wishes
    forward_s: float


def train_step(state: TrainState, work: Work, *, place: str, wishes: Wishes = NO_WISHES) -> StepResult:
    """Run this rank's micro-batches, synchronise gradients once, and update the parameters.

    Args:
        state: model, objective and optimizer.
        work: this rank's micro-batches of the step; may be empty.
        place: epoch and step, for error messages.
        wishes: what this rank wants after this step.

    Raises:
        NotFiniteError: on every rank, if the loss or the gradient is not finite.
    """
    objective, process_group = state.objective, state.process_group
    batches = [batch.to(process_group.device) for _, batch in work]
    counts, wishes = _global_counts(state, batches, wishes)
    state.optimizer.zero_grad(set_to_none=True)
    sums = {name: torch.zeros((), device=process_group.device) for name in objective.weights}
    parts_of: list[dict[str, Tensor]] = []
    stopwatch = Stopwatch(process_group.device)
    for index, (micro, _) in enumerate(work):
        torch.manual_seed(micro.seed)  # for parts of the user's own
        with process_group.no_sync(state.model, is_last=index + 1 == len(work)):
            with stopwatch.measuring():
                with torch.autocast(process_group.device.type, torch.bfloat16, enabled=state.precision == "bf16"):
                    output = state.model(batches[index], with_views=state.draws_views)
                parts = objective.sums(output, batches[index])
            (objective.total(parts, counts) * process_group.size).backward()
        parts_of.append({name: value.detach() for name, value in parts.items()})
        for name, value in parts_of[-1].items():
            sums[name] += value
    if not work:
        _run_blank(state)
    norm = _clip(state)
    if not torch.isfinite(norm):
        raise _not_finite(state, work, parts_of, sums, place)
    state.optimizer.step()
    return StepResult(sums, counts, float(norm), wishes, stopwatch.seconds())


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


def _not_finite(
    state: TrainState, work: Work, parts_of: list[dict[str, Tensor]], sums: dict[str, Tensor], place: str
) -> NotFiniteError:
    names = list(sums)
    totals = state.process_group.all_reduce(torch.stack([sums[name].double() for name in names]))
    bad = [name for name, value in zip(names, totals, strict=True) if not torch.isfinite(value)]
    conversations = [
        name
        for (_, batch), parts in zip(work, parts_of, strict=True)
        if not bad or not all(torch.isfinite(value) for value in parts.values())
        for name in batch.conversation_ids
    ]
    return NotFiniteError(place, bad, work, conversations)

"""Makes a failed step again in one process, and looks where the first number that is not finite comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from joyful_ray.data.batch import Batch
from joyful_ray.records import StepReport
from joyful_ray.train.checkpoint import load_weights
from joyful_ray.train.failed_step import FailedStep
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.step import TrainState
from joyful_ray.train.trainer import Trainer


def replay(step: FailedStep, *, source: str) -> StepReport:
    """Run the forward and backward passes of a step once more, on the CPU; draws are those of the run.

    Args:
        step: what a run has left.
        source: where it was read, for error messages.

    Raises:
        CheckpointError: the weights do not fit the model that the settings describe.
    """
    trainer = Trainer(step.job, step.corpus_info, ProcessGroup())
    load_weights(trainer.model, step.weights, source=source)
    state = trainer.state_of(step.stage)
    objective = state.objective
    trainer.model.train()
    batches = [batch for _, batch in step.batches]
    counted = [objective.counts(batch) for batch in batches]
    counts = {name: torch.stack([found[name] for found in counted]).sum() for name in objective.weights}
    sums = {name: torch.zeros(()) for name in objective.weights}
    with _first_not_finite(trainer.model) as first:
        for seed, batch in step.batches:
            torch.manual_seed(seed)
            parts = _parts(state, batch)
            objective.total(parts, counts).backward()
            for name, value in parts.items():
                sums[name] = sums[name] + value.detach()
    losses = {name: float(value / counts[name].clamp(min=1e-9)) for name, value in sums.items()}
    gradients = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not bool(torch.isfinite(gradient).all())]
    return StepReport(
        place=step.place,
        losses=losses,
        not_finite=[name for name, value in sums.items() if not bool(torch.isfinite(value))],
        first_part=first.get("name"),
        first_part_input=first.get("input"),
        parameters=bad,
        conversations=[name for batch in batches for name in batch.conversation_ids],
        alone=_alone(state, step),
        largest_weight=_largest(dict(trainer.model.named_parameters())),
        largest_feature=_largest_feature(batches),
    )


def _parts(state: TrainState, batch: Batch) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=state.precision == "bf16"):
        output = state.model(batch, with_views=state.draws_views)
    return state.objective.sums(output, batch)


@torch.no_grad()
def _alone(state: TrainState, step: FailedStep) -> list[str]:
    """The conversations that have a term that is not finite also where nothing else is in the batch."""
    found = []
    for seed, batch in step.batches:
        for place, name in enumerate(batch.conversation_ids):
            torch.manual_seed(seed)
            parts = _parts(state, batch.alone(place))
            if not all(bool(torch.isfinite(value)) for value in parts.values()):
                found.append(name)
    return found


@contextmanager
def _first_not_finite(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Watch a forward pass.

    Yields:
        Filled with `name`, the first part of the model with an output that is not finite, and `input`, the largest
        absolute value that it was given.
    """
    names = {part: name for name, part in model.named_modules()}
    found: dict[str, Any] = {}

    def look(part: nn.Module, given: Any, output: Any) -> None:
        if not found and part in names and any(not bool(torch.isfinite(values).all()) for values in _floats(output)):
            inputs = [
                float(values.detach().nan_to_num(torch.inf).abs().max()) for values in _floats(given) if values.numel()
            ]
            found.update(name=names[part] or "the model", input=max(inputs, default=None))

    handle = register_module_forward_hook(look)
    try:
        yield found
    finally:
        handle.remove()


def _floats(value: Any) -> Iterator[Tensor]:
    """Every tensor of numbers in what a part was given or has returned, as far as plain containers go."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _floats(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _floats(inner)


def _largest(tensors: Mapping[str, Tensor]) -> tuple[str, float] | None:
    sizes = {name: float(values.detach().abs().max()) for name, values in tensors.items() if values.numel()}
    if not sizes:
        return None
    name = max(sizes, key=lambda name: math.inf if math.isnan(sizes[name]) else sizes[name])
    return name, sizes[name]


def _largest_feature(batches: list[Batch]) -> tuple[str, float] | None:
    """The feature of the largest absolute value, as `<modality> of <conversation>`."""
    ids = [(batch, name) for batch in batches for name in batch.features]
    found = []
    for batch, modality in ids:
        values_ND = batch.features[modality].nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf).abs()
        if values_ND.numel():
            row, _ = divmod(int(values_ND.argmax()), values_ND.shape[1])
            conversation = batch.conversation_ids[int(batch.layout.conversation_N[row])]
            found.append((f"{modality} of {conversation}", float(values_ND[row].max())))
    return max(found, key=lambda each: each[1], default=None)

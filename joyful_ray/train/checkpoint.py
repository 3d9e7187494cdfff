"""Checkpoints as safetensors and JSON, each complete only once `progress.json` is there."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import Location
from joyful_ray.train.schedule import Progress

MODEL, AVERAGE, OPTIMIZER, PROGRESS = (
    "model.safetensors",
    "average.safetensors",
    "optimizer.safetensors",
    "progress.json",
)


def write_tensors(location: Location, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as one safetensors file."""
    location.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(location: Location) -> dict[str, Tensor]:
    """Read one safetensors file.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return load(location.read_bytes())
    except SafetensorError as error:
        raise CheckpointError(f"{location.uri} is damaged ({error})") from None


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Put weights into a model.

    Raises:
        CheckpointError: the first weight that does not fit, with expected and found.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            where = "does not hold" if name not in tensors else "holds, but the model has no,"
            raise CheckpointError(f"{source} {where} {name}; it belongs to another configuration")
        if own[name].shape != tensors[name].shape:
            found, expected = tuple(tensors[name].shape), tuple(own[name].shape)
            raise CheckpointError(f"{source}: {name} has shape {found}, expected {expected}; the widths differ")
    model.load_state_dict(dict(tensors))


def save_checkpoint(
    location: Location,
    *,
    model: nn.Module,
    average: Mapping[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write a checkpoint; one that was there is replaced."""
    write_tensors(location.join(MODEL), model.state_dict())
    if average is not None:
        write_tensors(location.join(AVERAGE), average)
    state = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    write_tensors(location.join(OPTIMIZER), state)
    location.join(PROGRESS).write_text(json.dumps(_finite(dataclasses.asdict(progress)), indent=1))


def load_optimizer(optimizer: torch.optim.Optimizer, location: Location) -> None:
    """Put a checkpoint's state into an optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in read_tensors(location.join(OPTIMIZER)).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def read_progress(location: Location) -> Progress:
    """Progress of a checkpoint.

    Raises:
        CheckpointError: it is damaged.
    """
    limits: dict[str, Any] = {"best_score": -math.inf, "plateau_best": math.inf}
    try:
        values: dict[str, Any] = json.loads(location.join(PROGRESS).read_text())
        return Progress(**{name: limits[name] if value is None else value for name, value in values.items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        raise CheckpointError(f"{location.join(PROGRESS).uri} is damaged") from None


def latest_checkpoint(checkpoints: Location) -> Location | None:
    """The last complete checkpoint of a run."""
    for name in sorted((name for name in checkpoints.list() if name.isdigit()), key=int, reverse=True):
        if checkpoints.join(name, PROGRESS).exists():
            return checkpoints.join(name)
    return None


def prune_checkpoints(checkpoints: Location, *, keep: set[int]) -> None:
    """Remove the checkpoints of all other epochs; the marker goes first, so that none is half there."""
    for name in checkpoints.list():
        if name.isdigit() and int(name) not in keep:
            place = checkpoints.join(name)
            if place.join(PROGRESS).exists():
                place.join(PROGRESS).remove()
            place.remove()


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}

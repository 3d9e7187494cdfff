"""Checkpoints as safetensors and JSON; a checkpoint is complete once its `progress.json` exists."""

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

MODEL, EMA, OPTIMIZER, PROGRESS = (
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
        CheckpointError: the file is damaged.
    """
    try:
        return load(location.read_bytes())
    except SafetensorError as error:
        raise CheckpointError(f"{location.uri} is damaged ({error})") from None


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights into a model.

    Args:
        model: the model to load into.
        tensors: weights by parameter name.
        source: where the weights come from, for the error message.

    Raises:
        CheckpointError: a weight does not fit; the message names the first, with what was expected and found.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            problem = f"has no {name}" if name not in tensors else f"has {name}, but the model does not"
            raise CheckpointError(f"{source} {problem}; it belongs to another configuration")
        if own[name].shape != tensors[name].shape:
            found, expected = tuple(tensors[name].shape), tuple(own[name].shape)
            raise CheckpointError(f"{source}: {name} has shape {found}, expected {expected}; the widths differ")
    model.load_state_dict(dict(tensors))


def save_checkpoint(
    location: Location,
    *,
    model: nn.Module,
    ema_weights: Mapping[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write a checkpoint, replacing an existing one.

    Args:
        location: folder of the checkpoint.
        model: its weights are saved.
        ema_weights: the exponential moving average of the weights; None if the run has none.
        optimizer: its state is saved.
        progress: saved last, which marks the checkpoint as complete.
    """
    write_tensors(location.join(MODEL), model.state_dict())
    if ema_weights is not None:
        write_tensors(location.join(EMA), ema_weights)
    state = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    write_tensors(location.join(OPTIMIZER), state)
    location.join(PROGRESS).write_text(json.dumps(_finite(dataclasses.asdict(progress)), indent=1))


def load_optimizer(optimizer: torch.optim.Optimizer, location: Location) -> None:
    """Load a checkpoint's state into an optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in read_tensors(location.join(OPTIMIZER)).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def read_progress(location: Location) -> Progress:
    """Read the progress of a checkpoint.

    Raises:
        CheckpointError: the file is damaged.
    """
    limits: dict[str, Any] = {"best_score": -math.inf, "plateau_best": math.inf}
    try:
        values: dict[str, Any] = json.loads(location.join(PROGRESS).read_text())
        return Progress(**{name: limits[name] if value is None else value for name, value in values.items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        raise CheckpointError(f"{location.join(PROGRESS).uri} is damaged") from None


def latest_checkpoint(checkpoints: Location) -> Location | None:
    """The latest complete checkpoint of a run; None if there is none."""
    for name in sorted((name for name in checkpoints.list() if name.isdigit()), key=int, reverse=True):
        if checkpoints.join(name, PROGRESS).exists():
            return checkpoints.join(name)
    return None


def prune_checkpoints(checkpoints: Location, *, keep: set[int]) -> None:
    """Remove the checkpoints of all other epochs.

    `progress.json` is removed first, so that a half-removed checkpoint does not count as complete.

    Args:
        checkpoints: folder of all checkpoints.
        keep: epochs, counted from 0, whose checkpoints stay.
    """
    for name in checkpoints.list():
        if name.isdigit() and int(name) not in keep:
            place = checkpoints.join(name)
            if place.join(PROGRESS).exists():
                place.join(PROGRESS).remove()
            place.remove()


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}

"""Checkpoints as safetensors and JSON; a checkpoint is complete once its `progress.json` exists.

`progress.json` has the sha256 of every other file, so that a changed bit is found before anything continues from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import Location
from joyful_ray.train.schedule import PartialEpoch, Progress

MODEL, EMA, OPTIMIZER, PROGRESS = (
    "model.safetensors",
    "average.safetensors",
    "optimizer.safetensors",
    "progress.json",
)


CHECKSUMS = "sha256"


@dataclasses.dataclass(frozen=True)
class CheckpointContent:
    """The files of a checkpoint in memory, so that one rank reads them for all.

    Attributes:
        uri: where they were read.
        files: their bytes by name.
    """

    uri: str
    files: Mapping[str, bytes]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file.

        Raises:
            CheckpointError: there is no such file, or it is damaged.
        """
        if name not in self.files:
            raise CheckpointError(f"{self.uri} has no {name}")
        return _tensors_of(self.files[name], f"{self.uri}/{name}")

    def progress(self) -> Progress:
        """How far the run was.

        Raises:
            CheckpointError: the file is damaged.
        """
        limits: dict[str, Any] = {"best_score": -math.inf, "plateau_best": math.inf, "partial": None}
        values, _ = self._described()
        try:
            found = {name: limits[name] if value is None else value for name, value in values.items()}
            partial = found.pop("partial", None)
            if partial is not None:
                partial.pop("workers", None)  # of an earlier version, in which the order of streaming depended on them
            return Progress(**found, partial=None if partial is None else PartialEpoch(**partial))
        except (TypeError, KeyError):
            raise CheckpointError(f"{self.uri}/{PROGRESS} is damaged") from None

    def check(self, names: Sequence[str]) -> None:
        """Compare files with their sha256; a checkpoint of an earlier version has none.

        Raises:
            CheckpointError: a file is damaged or missing.
        """
        self.progress()
        values, expected = self._described()
        found = {name: hashlib.sha256(self.files[name]).hexdigest() for name in names if name in self.files}
        found[PROGRESS] = _sum_of(values)
        for name in [name for name in (*names, PROGRESS) if name in expected]:
            if name not in found:
                raise CheckpointError(f"{self.uri} has no {name}")
            if found[name] != expected[name]:
                raise CheckpointError(f"{self.uri}/{name} is damaged (its sha256 differs from that in {PROGRESS})")

    def _described(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of `progress.json`, and the sha256 of each file."""
        try:
            values = json.loads(self.files[PROGRESS])
            return values, values.pop(CHECKSUMS, {})
        except (KeyError, ValueError, TypeError, AttributeError):
            raise CheckpointError(f"{self.uri}/{PROGRESS} is damaged") from None


def _sum_of(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_checkpoint(location: Location, names: Sequence[str] = (MODEL, EMA, OPTIMIZER)) -> CheckpointContent:
    """Read files of a checkpoint, and compare them with their sha256.

    Args:
        location: folder of the checkpoint.
        names: the files to read besides `progress.json`; those that it does not have are left out.

    Raises:
        CheckpointError: a file is damaged.
    """
    present = set(location.list())
    files = {name: location.join(name).read_bytes() for name in (*names, PROGRESS) if name in present}
    content = CheckpointContent(location.uri, files)
    content.check(names)
    return content


def write_tensors(location: Location, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as one safetensors file, and return the sha256 of the file."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    location.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(location: Location, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read one safetensors file.

    Args:
        location: the file.
        sha256: what its sha256 must be; None is not known.

    Raises:
        CheckpointError: the file is damaged.
    """
    content = location.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"{location.uri} is damaged (its sha256 differs from what was written)")
    return _tensors_of(content, location.uri)


def _tensors_of(content: bytes, source: str) -> dict[str, Tensor]:
    try:
        return load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{source} is damaged ({error})") from None


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


Snapshot = dict[str, dict[str, Tensor]]
"""By file of a checkpoint, its tensors."""


def snapshot(
    model: nn.Module,
    ema_weights: Mapping[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    *,
    is_copy: bool = False,
) -> Snapshot:
    """What a checkpoint has of a training state.

    Args:
        model: its weights are saved.
        ema_weights: the exponential moving average of the weights; None if the run has none.
        optimizer: its state is saved.
        is_copy: copy the tensors to the CPU, so that training can go on while they are written.
    """
    files: dict[str, Mapping[str, Tensor]] = {MODEL: model.state_dict()}
    if ema_weights is not None:
        files[EMA] = ema_weights
    files[OPTIMIZER] = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return {
        file: {name: tensor.detach().to("cpu", copy=True) if is_copy else tensor for name, tensor in tensors.items()}
        for file, tensors in files.items()
    }


def write_checkpoint(location: Location, tensors: Snapshot, progress: Progress) -> None:
    """Write a checkpoint, replacing an existing one; `progress.json` comes last, which marks it as complete."""
    sums = {name: write_tensors(location.join(name), content) for name, content in tensors.items()}
    described = _finite(dataclasses.asdict(progress))
    sums[PROGRESS] = _sum_of(described)
    location.join(PROGRESS).write_text(json.dumps(described | {CHECKSUMS: sums}, indent=1))


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the state that a checkpoint has under `OPTIMIZER` into an optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def read_progress(location: Location) -> Progress:
    """Read the progress of a checkpoint.

    Raises:
        CheckpointError: the file is damaged.
    """
    return read_checkpoint(location, ()).progress()


def complete_checkpoints(checkpoints: Location) -> Iterator[Location]:
    """The complete checkpoints of a run, the latest first; each is looked at when it is its turn."""
    names = {name: place for name in checkpoints.list() if (place := _place(name)) is not None}
    for name in sorted(names, key=lambda name: names[name], reverse=True):
        if checkpoints.join(name, PROGRESS).exists():
            yield checkpoints.join(name)


def latest_checkpoint(checkpoints: Location) -> Location | None:
    """The latest complete checkpoint of a run; None if there is none."""
    return next(complete_checkpoints(checkpoints), None)


def newest_intact(checkpoints: Location) -> CheckpointContent | None:
    """Read the latest checkpoint, or the one before it if it is damaged; None if the run has none.

    A warning names the damaged one and the one that is used.

    Args:
        checkpoints: folder of all checkpoints.

    Raises:
        CheckpointError: all of them are damaged; the message is about the latest.
    """
    first: CheckpointError | None = None
    for place in complete_checkpoints(checkpoints):
        try:
            content = read_checkpoint(place)
        except CheckpointError as error:
            first = first or error
            continue
        if first is not None:
            warnings.warn(f"{first}; continuing from {place.uri}", stacklevel=2)
        return content
    if first is not None:
        raise CheckpointError(f"{first}; no earlier checkpoint is left: remove {checkpoints.uri} to start again")
    return None


def prune_checkpoints(checkpoints: Location, *, keep: set[int] | None, partial: str | None = None) -> None:
    """Remove all other checkpoints.

    `progress.json` is removed first, so that a half-removed checkpoint does not count as complete.

    Args:
        checkpoints: folder of all checkpoints.
        keep: epochs, counted from 0, whose checkpoints stay; None keeps those of all epochs.
        partial: name of the checkpoint of mid-epoch that stays.
    """
    for name in checkpoints.list():
        is_partial = _place(name) is not None and not name.isdigit()
        is_old = name.isdigit() and keep is not None and int(name) not in keep
        if is_old or (is_partial and name != partial):
            place = checkpoints.join(name)
            if place.join(PROGRESS).exists():
                place.join(PROGRESS).remove()
            place.remove()


def _place(name: str) -> tuple[int, int] | None:
    """Epochs and further steps before a checkpoint, by the name of its folder; None if it is no checkpoint."""
    epoch, _, step = name.partition("-")
    if not epoch.isdigit() or (step and not step.isdigit()):
        return None
    return (int(epoch), int(step)) if step else (int(epoch) + 1, 0)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }

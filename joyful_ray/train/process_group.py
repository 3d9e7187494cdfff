"""The process group of a run: this rank, the number of ranks, and the collective operations between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from joyful_ray.errors import ConfigError


@dataclass(frozen=True)
class ProcessGroup:
    """One rank of a run; with size 1, no collective operation communicates.

    Attributes:
        rank: from 0 to `size` - 1.
        size: number of ranks.
        device: device of this rank.
        report: called by every rank once per epoch, with the epoch's numbers.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Callable[[Mapping[str, float]], None] = lambda numbers: None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files that are written once."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def all_gather(self, value: object) -> list[object]:
        """The values of all ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[object] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank has reached this point."""
        self.all_gather(None)

    def distribute(self, model: nn.Module) -> nn.Module:
        """The model, wrapped in `DistributedDataParallel` if there are several ranks."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)

    def no_sync(self, model: nn.Module, *, is_last: bool) -> AbstractContextManager:
        """Accumulate gradients locally; only the last backward pass of a step synchronises them."""
        if not is_last and isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()


def pick_device(name: str) -> torch.device:
    """The device of a name; `auto` is the GPU if there is one.

    Raises:
        ConfigError: `cuda` was requested, but torch finds no GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device cuda was requested, but torch finds no GPU on this machine; use cpu or auto, or run joyful doctor"
        )
    return torch.device(name)


def use_cores(count: float, device: torch.device) -> None:
    """Let torch use this many CPU cores; more threads than free cores only wait for each other."""
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(count)))

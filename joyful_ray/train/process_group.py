"""What the loop knows of the world: its rank, how many there are, and how to add over them."""

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
    """A rank among others.

    Attributes:
        report: called once an epoch by every rank, with the epoch's numbers.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Callable[[Mapping[str, float]], None] = lambda numbers: None

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, value: object) -> list[object]:
        """The value of every rank, on every rank."""
        if self.size == 1:
            return [value]
        values: list[object] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def wait_for_all(self) -> None:
        """Go on when every rank has come so far."""
        self.gather(None)

    def distribute(self, model: nn.Module) -> nn.Module:
        """The model, wrapped for DDP where there are several ranks."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)

    def hold_gradients(self, model: nn.Module, *, until_last: bool) -> AbstractContextManager:
        """Add gradients up on this rank alone; the last backward pass of a step exchanges them."""
        if until_last and isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ConfigError: `cuda` where torch sees no GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda is asked for, but torch sees no GPU here; use cpu or auto, or see joyful doctor")
    return torch.device(name)


def use_cores(count: float, device: torch.device) -> None:
    """Let torch use this many cores of the CPU; more threads than free cores only wait for each other."""
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(count)))

"""The process group of a run: this rank, the number of ranks, and the collective operations between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from joyful_ray.errors import ConfigError, UserError
from joyful_ray.train.checkpoint import CheckpointContent


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

    def from_first(self, read: Callable[[], CheckpointContent | None]) -> CheckpointContent | None:
        """What `read` returns on the first rank, on every rank: files are read once, and no rank sees other ones.

        Raises:
            UserError: `read` raised it on the first rank; every rank raises it.
        """
        if self.size == 1:
            return read()
        content, error = None, None
        if self.is_first:
            try:
                content = read()
            except UserError as raised:
                error = raised
        sizes = None if content is None else {name: len(data) for name, data in content.files.items()}
        head: list[Any] = [error, None if content is None else content.uri, sizes]
        distributed.broadcast_object_list(head, src=0, device=self.device)
        error, uri, sizes = head
        if error is not None:
            raise error
        if sizes is None:
            return None
        own = {} if content is None else content.files
        files = {name: self._broadcast(size, own.get(name)) for name, size in sizes.items()}
        return CheckpointContent(uri, files)

    def _broadcast(self, size: int, data: bytes | None) -> bytes:
        """The bytes of the first rank, on every rank."""
        buffer = torch.empty(size, dtype=torch.uint8)
        if data:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        buffer = buffer.to(self.device)
        if size:
            distributed.broadcast(buffer, src=0)
        return data if data is not None else buffer.cpu().numpy().tobytes()

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

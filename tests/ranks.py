"""Runs a function on several real gloo processes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from joyful_ray.train.process_group import ProcessGroup
from tests.s3_server import free_port

COLLECTIVE_TIMEOUT = timedelta(seconds=60)


def on_ranks(function: Callable[..., Any], size: int, folder: Path, *arguments: Any) -> list[Any]:
    """What `function(process_group, *arguments)` returned on each rank; it is imported by name in the processes."""
    # A server that has imported torch once forks each rank; importing in every rank would take ten seconds each.
    multiprocessing.set_forkserver_preload(["joyful_ray.train.trainer", "joyful_ray.train.evaluate"])
    multiprocessing.start_processes(
        _on_rank, args=(size, free_port(), folder, function, arguments), nprocs=size, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _on_rank(
    rank: int, size: int, port: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT)
    torch.save(function(ProcessGroup(rank=rank, size=size), *arguments), folder / f"{rank}.pt")
    distributed.destroy_process_group()

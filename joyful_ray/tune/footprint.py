"""Resources of a search, before it starts: how many trials fit at a time, and bytes on storage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from joyful_ray.config import JobConfig
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.errors import ConfigError
from joyful_ray.search_settings import SearchConfig
from joyful_ray.train.build import build_model
from joyful_ray.tune.space import PROBES, Space, job_with
from joyful_ray.wording import counted

CONTROLLER_CPUS = 0.01
"""What a trial asks for if its workers have the cores; Ray does not accept zero."""
UNKNOWN_GROWTH = 8
"""Trials at a time on a cluster that is empty and grows, but does not say how far; Ray orders nodes for so many."""
NUMBER_BYTES = 4
OPTIMIZER_COPIES = 2
InfoOf = Callable[[JobConfig], CorpusInfo]


@dataclass(frozen=True)
class Footprint:
    """The resources of a search.

    Attributes:
        slots: trials at a time.
        parameters: parameters of the largest sampled model.
        storage_bytes: largest size of models and checkpoints at a time.
    """

    slots: int
    parameters: int
    storage_bytes: int


def concurrent_trials(search: SearchConfig, capacity: Mapping[str, float], *, may_grow: bool = False) -> int:
    """How many trials fit at a time into what the cluster has, or may grow to.

    What others use now does not count: a trial that finds no room waits in Ray's queue.

    Args:
        search: what a trial asks for, and `max_concurrent`.
        capacity: largest amount of each resource, as far as known.
        may_grow: whether the cluster may get more than that.

    Raises:
        ConfigError: not even one fits, and the cluster does not grow.
    """
    nested = CONTROLLER_CPUS if search.workers_per_trial > 1 else 0.0
    fits = [math.floor(capacity.get("CPU", 0.0) / (search.cpus_per_trial + nested) + 1e-6)]
    if search.gpus_per_trial:
        fits.append(math.floor(capacity.get("GPU", 0.0) / search.gpus_per_trial + 1e-6))
    if min(fits) < 1 and may_grow:
        return search.max_concurrent or UNKNOWN_GROWTH
    if min(fits) < 1:
        asked = f"{search.cpus_per_trial:g} CPUs and {search.gpus_per_trial:g} GPUs"
        found = f"{capacity.get('CPU', 0.0):g} CPUs and {capacity.get('GPU', 0.0):g} GPUs"
        raise ConfigError(
            f"a trial asks for {asked}, but there are {found}; see search.cpus_per_trial and search.gpus_per_trial"
        )
    return min([*fits, *([search.max_concurrent] if search.max_concurrent else [])])


def check_places(search: SearchConfig, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Check that the workers of a trial have a place, each on one node of a cluster that does not grow.

    The trial itself takes a little of a node; whichever that is, the workers must have room beside it, or they would
    wait for ever.

    Args:
        search: what a trial asks for.
        nodes: what `ray.nodes()` returns.

    Raises:
        ConfigError: they have none, though all nodes together have as much.
    """
    workers = search.workers_per_trial
    cpus, gpus = search.cpus_per_trial / workers, search.gpus_per_trial / workers
    nested = CONTROLLER_CPUS if workers > 1 else 0.0

    def places(node: Mapping[str, float], taken: float = 0.0) -> int:
        found = [math.floor((node.get("CPU", 0.0) - taken) / cpus + 1e-6)]
        return min(found + ([math.floor(node.get("GPU", 0.0) / gpus + 1e-6)] if gpus else []))

    alive = [node["Resources"] for node in nodes if node["Alive"]]
    whole = sum(places(node) for node in alive)
    # Ray places the trial itself where there is room for it.
    lost = max((places(node) - places(node, nested) for node in alive if node.get("CPU", 0.0) >= nested), default=0)
    if whole - lost < workers:
        each = f"{cpus:g} CPUs and {gpus:g} GPUs"
        raise ConfigError(
            f"a trial needs {counted(workers, 'worker')} with {each} each; the nodes of the cluster have room for "
            f"{whole - lost}; see search.workers_per_trial and search.cpus_per_trial"
        )


def estimate_footprint(space: Space, info_of: InfoOf, *, slots: int, trials: int) -> Footprint:
    """Estimate the largest size on storage at a time.

    Args:
        space: the settings that the search varies.
        info_of: gives the information about the corpus as a job prepares it.
        slots: trials at a time.
        trials: trials of the search.

    Raises:
        ConfigError: it is more than `search.storage_limit_bytes`.
    """
    search = space.search
    jobs = [space.job] + [space.job_of(settings) for settings in _looked_at(space)]
    parameters, checkpoint_bytes = 0, 0
    for job in jobs:
        count = sum(parameter.numel() for parameter in _weightless(job, info_of(job)).parameters())
        copies = 1 + OPTIMIZER_COPIES + (1 if job.train.ema_decay else 0)
        parameters, checkpoint_bytes = max(parameters, count), max(checkpoint_bytes, copies * count * NUMBER_BYTES)
    pausing = search.scheduler in ("hyperband", "pbt")
    at_work = max(trials, slots) if pausing else slots
    # The selected checkpoint, the latest ones, and the one that is being written.
    each = (search.perturb_epochs + 2 if search.scheduler == "pbt" else 1) + 2
    models = search.keep_best + search.repeat.seeds
    if search.confirm is not None:
        models += (search.confirm.top + 1) * search.confirm.seeds
    size = Footprint(slots, parameters, at_work * each * checkpoint_bytes + models * parameters * NUMBER_BYTES)
    if size.storage_bytes > search.storage_limit_bytes:
        raise ConfigError(
            f"models and checkpoints may take {size.storage_bytes:,} bytes at a time, more than "
            f"search.storage_limit_bytes {search.storage_limit_bytes:,}; raise it, or lower search.keep_best or "
            "search.max_concurrent"
        )
    return size


def check_exploit(space: Space, info_of: InfoOf) -> None:
    """Check that pbt changes no setting that decides the shape of weights, because trials exchange weights.

    Args:
        space: the settings that the search varies.
        info_of: as for `estimate_footprint`.

    Raises:
        ConfigError: it does; the message names the setting.
    """
    expected = _shapes(job_with(space.job, space.constants), info_of)
    for path, entry in space.ranges.items():
        if entry.when is not None:
            raise ConfigError(f"search.space.{path}: pbt changes settings during training, and does not support when")
        for value in entry.choice or entry.bounds:
            if _shapes(job_with(space.job, space.complete({path: value})), info_of) != expected:
                raise ConfigError(
                    f"search.space.{path} changes the shape of weights, which trials exchange in pbt; "
                    "give it one value, or search.scheduler: asha"
                )


def _looked_at(space: Space) -> list[dict]:
    if space.search.algorithm == "grid":
        return space.grid()[:PROBES]
    return [space.draw(index) for index in range(PROBES)]


def _weightless(job: JobConfig, corpus_info: CorpusInfo) -> nn.Module:
    """The model without memory for its weights."""
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = build_model(job, corpus_info)
    torch.set_rng_state(state)
    return model


def _shapes(job: JobConfig, info_of: InfoOf) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in _weightless(job, info_of(job)).state_dict().items()}

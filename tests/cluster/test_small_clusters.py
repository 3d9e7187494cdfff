"""No combination of nodes, cores, workers and trials waits for ever: each ends, or is refused or given up in a line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster.test_three_nodes import SMALL_STORE, on_nodes
from tests.tiny_corpus import COUNTS, write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
STARTS_S, GIVES_UP_S = 120, 25
"""Seconds in which what fits has to start, and after which what does not fit is given up."""
SEEDS = (0, 12, 21, 25, 27, 34)


class Combination(NamedTuple):
    """A small cluster, and what is asked of it."""

    head_cores: int
    nodes: tuple[int, ...]
    ingest: str
    workers: int
    cpus_each: int
    trials_at_a_time: int
    """0 is a run instead of a search."""

    @property
    def fits(self) -> bool:
        """Whether all workers of a run, or of one trial, have a place; a trial of several takes a little itself."""
        nodes = (self.head_cores, *self.nodes)
        places = sum(cores // self.cpus_each for cores in nodes)
        if self.trials_at_a_time and self.workers > 1:
            places -= any(cores and cores % self.cpus_each == 0 for cores in nodes)
        return places >= self.workers


def drawn(seed: int) -> Combination:
    """A combination, most of them without a core to spare, or with too few."""
    draw = random.Random(seed)
    nodes = tuple(draw.choice([1, 1, 2]) for _ in range(draw.randint(1, 2)))
    head = draw.choice([0, 0, 1])
    most = sum(nodes) + head
    workers = draw.choice([most, most, max(most - 1, 1), most + 1])
    is_search = draw.random() < 0.5
    return Combination(
        head,
        nodes,
        draw.choice(["streaming", "streaming", "resident"]),
        draw.choice([1, min(workers, 2)]) if is_search else workers,
        draw.choice([1, 1, 1, 2]),
        draw.choice([1, most, most + 2]) if is_search else 0,
    )


def test_combinations_cover_what_can_hang() -> None:
    """The seeds below have streaming without a core to spare, several trials, and what does not fit."""
    found = [drawn(seed) for seed in SEEDS]
    assert any(one.ingest == "streaming" and one.trials_at_a_time > 1 for one in found)
    assert any(one.ingest == "streaming" and not one.trials_at_a_time and one.fits for one in found)
    assert any(not one.fits for one in found)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_cluster_ends_what_it_is_asked(tmp_path: Path, seed: int) -> None:
    found = drawn(seed)
    cluster: dict[str, Any] = {"start_timeout_s": STARTS_S if found.fits else GIVES_UP_S, "max_failures": 0}
    job: dict[str, Any] = {
        "corpus": write_tiny(tmp_path / "corpus"),
        "storage": str(tmp_path / "runs"),
        "train": {"epochs": 2, "micro_batches": 4},
        "data": {"ingest": found.ingest},
    }
    if found.trials_at_a_time:
        job["search"] = {
            "space": {"train.learning_rate": {"log": [1e-4, 1e-2]}},
            "max_trials": 3,
            "max_concurrent": found.trials_at_a_time,
            "workers_per_trial": found.workers,
            "cpus_per_trial": found.workers * found.cpus_each,
            "scheduler": "none",
            "confirm": None,
        }
    else:
        cluster |= {"workers": found.workers, "cpus_per_worker": found.cpus_each}
    options = {"object_store_memory": SMALL_STORE}
    answer = on_nodes(
        {
            "do": "try",
            "head": {"num_cpus": found.head_cores, **options},
            "nodes": [{"num_cpus": cores, **options} for cores in found.nodes],
            "job": job | {"cluster": cluster},
        },
        timeout_s=400,
    )
    if not found.fits:
        assert answer["error"], found
    elif found.trials_at_a_time:
        assert answer == answer | {"error": None, "trials": {"finished": 3}}, found
    else:
        assert answer == answer | {"error": None, "epochs": 2, "conversations": [COUNTS["train"]] * 2}, found

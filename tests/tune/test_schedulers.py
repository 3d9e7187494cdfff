"""What a new scheduler knows of earlier trials, what optuna learns, and how much a search may take."""

from __future__ import annotations

from typing import Any

import pytest

from joyful_ray.config import resolve
from joyful_ray.errors import ConfigError
from joyful_ray.tune.footprint import check_exploit, check_places, concurrent_trials, estimate_footprint
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.importance import importance
from joyful_ray.tune.ledger import AnyEvent, Drawn, Ended, Epoch
from joyful_ray.tune.samplers import build_sampler
from joyful_ray.tune.schedulers import NoOthers, ReplayingScheduler, replay_trials, scheduler_of
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Settings, Space
from tests.corpus_shapes import MELD_HERE

F1 = Goal("weighted_f1", 1)
CONTROLLER: Any = NoOthers()
RATE = {"train.learning_rate": {"log": [1e-4, 1e-1]}, "objective.contrast_weight": {"uniform": [0.0, 1.0]}}


def space_of(space: dict[str, Any] = RATE, **search: Any) -> Space:
    return Space.of(resolve({"search": {"space": space, "grace_epochs": 1, **search}}))


def study_of(curves: dict[str, list[float]], settings: dict[str, Settings] | None = None) -> SearchState:
    events: list[AnyEvent] = []
    for place, (name, scores) in enumerate(curves.items()):
        known = (settings or {}).get(name, {})
        events.append(Drawn(trial=name, number=place, config=name, settings=known, seed=0))
        for epoch, score in enumerate(scores):
            dev = {"weighted_f1": score, "loss": 1.0}
            is_best = score >= max(scores[: epoch + 1])
            events.append(Epoch(trial=name, epoch=epoch, dev=dev, train_loss=1.0, seconds=1.0, is_best=is_best))
        events.append(Ended(trial=name, outcome="finished", reason=""))
    return SearchState.of(events)


class Running:
    """What schedulers see of one of Ray's trials."""

    def __init__(self, name: str) -> None:
        self.trial_id = name

    def __str__(self) -> str:
        return self.trial_id


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_a_new_scheduler_stops_trials_that_are_worse_than_earlier_ones(scheduler: str) -> None:
    known = study_of({name: [score, score, score] for name, score in zip("abcd", (0.4, 0.5, 0.6, 0.7), strict=True)})
    decisions = {}
    for is_taught in (False, True):
        found = scheduler_of(space_of(scheduler=scheduler, min_trials=2), epochs=9)
        if is_taught:
            replay_trials(found, known.trials.values(), F1)
        trial: Any = Running("new")
        found.on_trial_add(CONTROLLER, trial)
        decisions[is_taught] = found.on_trial_result(CONTROLLER, trial, {"epochs": 3, "score": 0.3})
    assert decisions == {False: "CONTINUE", True: "STOP"}


def test_an_epoch_in_the_ledger_is_not_judged_again() -> None:
    known = study_of({"good": [0.5, 0.5], "bad": [0.1, 0.1]})
    found = scheduler_of(space_of(scheduler="asha"), epochs=9)
    replay_trials(found, [known.trials["good"]], F1)
    patient, trial = ReplayingScheduler(found, known), Running("bad")
    patient.on_trial_add(CONTROLLER, trial)
    told = {"epochs": 1, "score": 0.1, "numbers/epoch": 0, "numbers/seconds": 1.0}
    assert patient.on_trial_result(CONTROLLER, trial, told) == "CONTINUE"
    fresh = {"epochs": 3, "score": 0.1, "numbers/epoch": 2, "numbers/seconds": 1.0}
    replay_trials(found, [study_of({"better": [0.6] * 4}).trials["better"]], F1)
    assert patient.on_trial_result(CONTROLLER, trial, fresh) == "STOP"


def test_optuna_learns_from_the_trials_in_the_ledger() -> None:
    space = space_of(algorithm="optuna", seed=3)
    random = [space.draw(index) for index in range(40)]
    curves = {f"{place:02d}": [1.0 - abs(draw["objective.contrast_weight"] - 0.8)] for place, draw in enumerate(random)}
    known = study_of(curves, {f"{place:02d}": draw for place, draw in enumerate(random)})
    groups: list[list[Trial]] = [[trial] for trial in known.trials.values()]
    sampler = build_sampler(space, [F1], groups)
    found = [sampler.sample(number) for number in range(10)]
    assert all(config is not None and 0.0 <= config["objective.contrast_weight"] <= 1.0 for config in found)
    near = sum(abs(config["objective.contrast_weight"] - 0.8) < 0.2 for config in found if config is not None)
    assert near >= 7, "at random it would be four of ten"
    shares = importance(known, dict(space.ranges), F1)
    assert next(iter(shares)) == "objective.contrast_weight"
    assert shares["objective.contrast_weight"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)


def test_optuna_receives_several_goals() -> None:
    space = space_of(algorithm="optuna", metric=["weighted_f1", "seconds"])
    sampler = build_sampler(space, [F1, Goal("seconds", -1)], [])
    config = sampler.sample(0)
    assert config is not None
    state = study_of({"0000": [0.5]}, {"0000": config})
    sampler.observe([state.trials["0000"]])
    assert sampler.sample(1) is not None


def test_what_a_cluster_may_have_decides_how_many_trials_run_at_a_time() -> None:
    search = space_of(cpus_per_trial=1.5, gpus_per_trial=0.25, max_concurrent=5).search
    assert concurrent_trials(search, {"CPU": 16.0, "GPU": 1.0}) == 4
    assert concurrent_trials(search, {"CPU": 16.0, "GPU": 2.0}) == 5
    assert concurrent_trials(search, {"CPU": 3.0, "GPU": 2.0}) == 2
    with pytest.raises(ConfigError, match=r"a trial asks for 1.5 CPUs and 0.25 GPUs, but there are 1 CPUs and 0 GPUs"):
        concurrent_trials(search, {"CPU": 1.0})
    assert concurrent_trials(search, {}, may_grow=True) == 5, "an empty cluster that grows has room for all of them"
    assert concurrent_trials(space_of().search, {}, may_grow=True) == 8
    nested = space_of(cpus_per_trial=2, workers_per_trial=2).search
    assert concurrent_trials(nested, {"CPU": 4.0}) == 1, "the trial itself needs a little beside its workers"


@pytest.mark.parametrize(
    ("cores", "trial", "room"),
    [
        ([2, 2], {"cpus_per_trial": 2}, None),
        ([1, 1], {"cpus_per_trial": 2}, 0),
        ([1, 1, 2], {"cpus_per_trial": 4, "workers_per_trial": 2}, 0),
        ([2, 2], {"cpus_per_trial": 4, "workers_per_trial": 2}, 1),
        ([2, 2, 2], {"cpus_per_trial": 4, "workers_per_trial": 2}, None),
        ([3, 2], {"cpus_per_trial": 4, "workers_per_trial": 2}, 1),
        ([3, 3], {"cpus_per_trial": 4, "workers_per_trial": 2}, None),
        ([8], {"cpus_per_trial": 1, "gpus_per_trial": 1}, 0),
    ],
)
def test_each_worker_of_a_trial_needs_a_place_on_one_node(
    cores: list[int], trial: dict[str, Any], room: int | None
) -> None:
    """Beside the trial itself, which takes a little of any node."""
    nodes = [{"Alive": True, "Resources": {"CPU": float(count)}} for count in cores]
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})
    search = space_of(**trial).search
    if room is None:
        check_places(search, nodes)
    else:
        with pytest.raises(ConfigError, match=rf"the nodes of the cluster have room for {room};"):
            check_places(search, nodes)


def test_storage_is_predicted_and_bounded() -> None:
    size = estimate_footprint(space_of(keep_best=2, confirm=None), lambda _: MELD_HERE, slots=2, trials=10)
    assert 3 * 4 * size.parameters < size.storage_bytes
    with pytest.raises(ConfigError, match=r"more than search.storage_limit_bytes 1,000"):
        estimate_footprint(space_of(storage_limit_bytes=1000), lambda _: MELD_HERE, slots=2, trials=10)


def test_pbt_refuses_settings_that_change_the_shape_of_weights() -> None:
    check_exploit(space_of(scheduler="pbt"), lambda _: MELD_HERE)
    with pytest.raises(ConfigError, match=r"model.context.width changes the shape of weights"):
        check_exploit(space_of({"model.context.width": {"choice": [64, 128]}}, scheduler="pbt"), lambda _: MELD_HERE)

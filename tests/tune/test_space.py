from __future__ import annotations

from typing import Any

import pytest

from joyful_ray.config import JobConfig, load_job, resolve, to_yaml
from joyful_ray.errors import ConfigError
from joyful_ray.train.launch import train
from joyful_ray.tune.goals import goals_of
from joyful_ray.tune.space import Space, job_with

WINDOW = {"graph.window_past": {"int": [1, 12]}}


def job_of(space: dict[str, Any], **search: Any) -> JobConfig:
    return resolve({"search": {"space": space, **search}})


def space_of(space: dict[str, Any], **search: Any) -> Space:
    return Space.of(job_of(space, **search))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"graph.window_pst": {"int": [1, 3]}}, "unknown setting graph.window_pst; did you mean graph.window_past?"),
        ({"graph.window_past": {"uniform": [1, 12]}}, "should be a valid integer"),
        ({"graph.window_past": {"int": [-1, 3]}}, "graph.window_past is -1"),
        ({"augment.first_view.edge_ratio": {"uniform": [0, 1.0]}}, "edge_ratio is 1.0: input should be less than 1"),
        ({"augment.first_view.edge_mode": {"choice": ["perturb", "rewired"]}}, "edge_mode is 'rewired'"),
        ({"objective.contrast_weight": 2, "graph.window_past": {"choice": [1, "many"]}}, "window_past is 'many'"),
        ({"seed": {"int": [1, 3]}}, "seed cannot be searched, because search.repeat"),
        ({"train.device": {"choice": ["cpu", "cuda"]}}, "search.gpus_per_trial determines it"),
        ({"cluster.workers": {"int": [1, 3]}}, "cluster.workers cannot be searched"),
        ({**WINDOW, "graph.window_future": {"same_as": "graph.window_pas"}}, "did you mean graph.window_past?"),
        ({**WINDOW, "graph.window_future": {"int": [1, 2], "when": {"graph.windo": 1}}}, "names graph.windo"),
        ({**WINDOW, "graph.window_future": {"int": [1, 2], "when": {"graph.window_past": 99}}}, "is never 99"),
        ({"data.dev_fraction": {"uniform": [0.1, 0.2]}}, "compared on one dev split"),
    ],
)
def test_a_wrong_path_or_range_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space_of(space)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"space": {"graph.window_past": {"int": [12, 1]}}}, "the range from 12 to 1 is empty"),
        ({"space": {"graph.window_past": {"int": [3, 3]}}}, "is empty"),
        ({"space": {"train.learning_rate": {"log": [0, 1]}}}, "must begin above 0"),
        ({"space": {"graph.window_past": {"itn": [1, 12]}}}, "unknown range itn; did you mean int?"),
        ({"space": {"graph.window_past": {"int": [1, 2], "choice": [1]}}}, "exactly one of"),
        ({"space": {"graph.window_past": {"choice": []}}}, "at least 1 item"),
        ({"space": {}}, "at least 1 item"),
        ({"space": {"graph.window_past": 3}}, "has only constants"),
        ({"space": WINDOW, "max_trial": 3}, "did you mean search.max_trials?"),
        ({"space": WINDOW, "max_trials": 0}, "search.max_trials is 0"),
        ({"space": WINDOW, "time_budget_s": 0}, "search.time_budget_s is 0"),
        ({"space": WINDOW, "scheduler": "ahsa"}, "search.scheduler is 'ahsa'"),
        ({"space": WINDOW, "metric": ["weighted_f1", "seconds"]}, "need search.algorithm: optuna"),
    ],
)
def test_settings_of_a_search_that_contradict_each_other_are_refused_at_load(
    search: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"search": search})
    assert message in str(caught.value)


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    search = job_of(WINDOW, metric="weigthed_f1").search
    assert search is not None
    with pytest.raises(ConfigError, match="single-label has no weigthed_f1; did you mean weighted_f1"):
        goals_of(search, "single-label")
    with pytest.raises(ConfigError, match="did you mean accuracy_"):
        goals_of(job_of(WINDOW, metric="accuracy").search, "regression")  # type: ignore[arg-type]
    assert [(goal.name, goal.sign) for goal in goals_of(job_of(WINDOW).search, "regression")] == [("mae", -1)]  # type: ignore[arg-type]


def test_a_sample_is_a_function_of_its_number_and_within_its_range() -> None:
    space = space_of(
        {
            **WINDOW,
            "graph.window_future": {"same_as": "graph.window_past"},
            "objective.contrast_weight": {"log": [0.01, 1.0]},
            "augment.first_view.edge_ratio": {"uniform": [0.0, 0.5], "step": 0.1},
            "augment.first_view.edge_mode": {"choice": ["perturb", "rewire"]},
            "train.epochs": 7,
        }
    )
    draws = [space.draw(index) for index in range(200)]
    assert draws[:20] == [space.draw(index) for index in range(20)]
    assert {draw["graph.window_past"] for draw in draws} == set(range(1, 13))
    assert all(draw["graph.window_future"] == draw["graph.window_past"] for draw in draws)
    assert all(0.01 <= draw["objective.contrast_weight"] <= 1.0 for draw in draws)
    below = sum(draw["objective.contrast_weight"] < 0.1 for draw in draws)
    assert 70 <= below <= 130, "each power of ten is as likely"
    assert {draw["augment.first_view.edge_ratio"] for draw in draws} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert {draw["train.epochs"] for draw in draws} == {7}
    job = space.job_of(draws[0], seed=5)
    assert (job.seed, job.train.epochs, job.search) == (5, 7, None)
    assert job.graph.window_past == job.graph.window_future == draws[0]["graph.window_past"]


def test_a_setting_whose_condition_does_not_hold_keeps_the_value_of_the_job() -> None:
    kind, weight = "model.fusion.kind", "objective.fusion_weight"
    space = space_of(
        {
            weight: {"uniform": [0.5, 0.9], "when": {kind: ["dual-branch"]}},
            kind: {"choice": ["dual-branch", "concatenation"]},
        }
    )
    draws = [space.draw(index) for index in range(20)]
    assert {draw[kind] for draw in draws} == {"dual-branch", "concatenation"}
    assert all((weight in draw) == (draw[kind] == "dual-branch") for draw in draws)


def test_sampled_settings_that_contradict_each_other_are_sampled_again() -> None:
    space = space_of(
        {
            "model.fusion.global_branch": {"choice": [True, False]},
            "model.fusion.specific_branch": {"choice": [True, False]},
        }
    )
    found = {tuple(space.draw(index).values()) for index in range(40)}
    assert found == {(True, True), (True, False), (False, True)}
    grid = space_of({path: space.ranges[path].model_dump() for path in space.ranges}, algorithm="grid").grid()
    assert [tuple(config.values()) for config in grid] == [(True, True), (True, False), (False, True)]


def test_a_grid_is_every_combination_once() -> None:
    space = space_of(
        {"graph.window_past": {"int": [1, 5], "step": 2}, "objective.temperature": {"choice": [0.5, 1.0]}},
        algorithm="grid",
    )
    assert [tuple(config.values()) for config in space.grid()] == [(w, t) for w in (1, 3, 5) for t in (0.5, 1.0)]
    with pytest.raises(ConfigError, match="grid cannot try every value of log; give a choice"):
        space_of({"objective.temperature": {"log": [0.1, 1.0]}}, algorithm="grid")


def test_trials_of_another_space_count_if_they_are_in_this_one() -> None:
    space = space_of({**WINDOW, "objective.temperature": {"choice": [0.5, 1.0]}})
    default = load_job().objective.temperature
    known = space.known_values({"graph.window_past": 3, "train.learning_rate": 0.5})
    assert known == ({"graph.window_past": 3, "objective.temperature": str(default)} if default in (0.5, 1.0) else None)
    assert space.known_values({"graph.window_past": 13, "objective.temperature": 0.5}) is None


def test_a_search_does_not_change_a_runs_fingerprint_and_survives_its_yaml() -> None:
    job = job_of(WINDOW)
    assert job.fingerprint == load_job().fingerprint
    import yaml

    assert resolve(yaml.safe_load(to_yaml(job))) == job
    assert job_with(job, {"search": None}) == load_job()


def test_training_a_search_job_is_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match=r"is a search: run it with joyful search, or .* --set search=null"):
        train(job_of(WINDOW))
    with pytest.raises(ConfigError, match="has no section search"):
        Space.of(load_job())

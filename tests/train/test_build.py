from __future__ import annotations

from typing import Any

import pytest
import torch

from joyful_ray.data.encode import Encoding
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.model_settings import FusionConfig
from joyful_ray.schema import Task
from joyful_ray.train.build import build_model, build_objective, build_optimizer, fusion_terms
from tests.tiny_corpus import LABELS, WIDTHS, small_job


def corpus_info(task: Task = "single-label") -> CorpusInfo:
    labels = () if task == "regression" else tuple(LABELS)
    return CorpusInfo(Encoding(task, labels, WIDTHS, {}), {}, {}, label_counts=(50, 30, 20), speakers=2)


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build_model(small_job(seed=seed), corpus_info()).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("task", "scores"), [("single-label", 3), ("multi-label", 3), ("regression", 1)])
def test_the_model_has_one_score_per_label_and_one_for_regression(task: Task, scores: int) -> None:
    assert build_model(small_job(), corpus_info(task)).classifier.scores.out_features == scores


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {"global", "smoothing", "specific"}),
        ({"global_branch": False}, {"specific"}),
        ({"specific_branch": False}, {"global", "smoothing"}),
        ({"kind": "auto-fusion"}, {"global", "specific"}),
        ({"kind": "concatenation"}, set()),
    ],
)
def test_only_terms_that_the_fusion_supports_are_in_the_objective(settings: dict[str, Any], terms: set[str]) -> None:
    assert fusion_terms(FusionConfig(**settings)) == terms
    objective = build_objective(small_job({"model": {"fusion": settings}}), corpus_info())
    assert set(objective.weights) == {"classification", "contrast"} | terms


def test_class_weights_come_from_the_counts_of_the_training_split() -> None:
    objective = build_objective(small_job({"objective": {"class_weighting": 1.0}}), corpus_info())
    counts = torch.tensor([50.0, 30.0, 20.0])
    torch.testing.assert_close(objective.weight_K * counts, (counts.sum() / 3).expand(3))


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_has_the_settings_of_the_job(name: str, kind: type[torch.optim.Optimizer]) -> None:
    job = small_job({"train": {"optimizer": name, "learning_rate": 0.5, "weight_decay": 0.25}})
    optimizer = build_optimizer(job, [torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.5, 0.25)

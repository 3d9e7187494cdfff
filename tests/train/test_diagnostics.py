from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from joyful_ray.config import JobConfig
from joyful_ray.data.batch import Batch
from joyful_ray.graph.edges import Graph, windowed_graph
from joyful_ray.model.joyful import Joyful
from joyful_ray.objective.joint import JointObjective
from joyful_ray.train.diagnostics import (
    alignment,
    diagnose,
    dirichlet_energy,
    mean_average_distance,
    uniformity,
    warnings_from,
)
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from tests.batches import WIDTHS, layout_of, quick, random_batch
from tests.tiny_corpus import small_job

TERMS = ["classification", "global", "specific", "smoothing", "contrast"]
HEALTHY = {"uniformity": -1.5, "distance/1": 0.4, "share/text": 0.7, "share/audio": 0.3}


def joined(*edges: tuple[int, int], nodes: int) -> Graph:
    source, target = (torch.tensor(ends) for ends in zip(*edges, strict=True))
    return Graph(source, target, torch.zeros_like(source), 1, layout_of(nodes))


def model_and_objective(*overrides: dict[str, Any], task: str = "single-label") -> tuple[Joyful, JointObjective]:
    job = small_job(*overrides)
    torch.manual_seed(0)
    net = Joyful(job.model, job.graph, job.augment, widths=WIDTHS, classes=1 if task == "regression" else 3)
    return net, JointObjective(job.objective, task=task, weight_K=[1.0] * 3)


def gradient_of(net: Joyful, objective: JointObjective, batch: Batch, term: str, *, seed: int) -> Tensor:
    """The gradient of one weighted term with respect to fusion and context, from a separate forward pass."""
    torch.manual_seed(seed)
    output = net(batch, with_views=True)
    loss = objective.weights[term] * objective.sums(output, batch)[term] / objective.counts(batch)[term]
    shared = [*net.fusion.parameters(), *net.context.parameters()]
    found = torch.autograd.grad(loss, shared, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, shared, strict=True)]
    return torch.cat([part.flatten() for part in parts])


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 2), st.integers(0, 3))
def test_distance_and_energy_equal_loops_over_edges(lengths: list[int], past: int, seed: int) -> None:
    batch = random_batch(*lengths)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=past, future=1)
    x_NE = torch.randn(batch.utterances, 4, generator=torch.Generator().manual_seed(seed))
    distances, energies = [], []
    for source, target in zip(graph.source_E.tolist(), graph.target_E.tolist(), strict=True):
        one, other = x_NE[source].tolist(), x_NE[target].tolist()
        energies.append(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
        if source != target:
            dot = sum(a * b for a, b in zip(one, other, strict=True))
            distances.append(1 - dot / math.hypot(*one) / math.hypot(*other))
    norm = sum(math.hypot(*row) ** 2 for row in x_NE.tolist()) / len(x_NE)
    expected = sum(distances) / len(distances) if distances else 0.0
    assert float(mean_average_distance(x_NE, graph)) == pytest.approx(expected, abs=1e-5)
    assert float(dirichlet_energy(x_NE, graph)) == pytest.approx(sum(energies) / len(energies) / norm, abs=1e-5)


def test_orthogonal_neighbours_are_at_distance_one() -> None:
    graph = joined((0, 0), (0, 1), (1, 0), (1, 1), nodes=2)
    assert float(mean_average_distance(torch.eye(2), graph)) == 1.0
    assert float(dirichlet_energy(torch.eye(2), graph)) == 1.0


def test_equal_neighbours_have_neither_distance_nor_energy() -> None:
    graph = joined((0, 0), (0, 1), (1, 0), nodes=2)
    assert float(mean_average_distance(torch.ones(2, 3), graph)) == pytest.approx(0.0, abs=1e-6)
    assert float(dirichlet_energy(torch.ones(2, 3), graph)) == 0.0


def test_without_neighbours_the_distance_is_zero() -> None:
    assert float(mean_average_distance(torch.randn(2, 3), joined((0, 0), (1, 1), nodes=2))) == 0.0


def test_alignment_is_zero_for_parallel_views_and_two_for_orthogonal_ones() -> None:
    view_NE = torch.randn(7, 4)
    assert float(alignment(view_NE, 3.0 * view_NE)) == pytest.approx(0.0, abs=1e-6)
    assert float(alignment(torch.eye(2), torch.eye(2).flip(0))) == 2.0


def test_uniformity_is_zero_for_collapsed_points_and_minus_eight_for_opposite_ones() -> None:
    assert float(uniformity(torch.ones(9, 4))) == 0.0
    assert float(uniformity(torch.randn(1, 4))) == 0.0
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-8.0)


def test_uniformity_equals_a_loop_over_pairs() -> None:
    points = torch.nn.functional.normalize(torch.randn(6, 3), dim=1)
    pairs = [float((a - b).square().sum()) for a, b in itertools.combinations(points, 2)]
    expected = math.log(sum(math.exp(-2 * distance) for distance in pairs) / len(pairs))
    assert float(uniformity(points)) == pytest.approx(expected, abs=1e-5)


def test_diagnostics_cover_every_term_pair_layer_and_modality() -> None:
    net, objective = model_and_objective({"model": {"encoder": {"layers": 2}}})
    found = diagnose(net, objective, random_batch(5, 1, 7, absent_vectors=0.2), seed=3)
    assert set(found) == {
        *(f"gradient/{term}" for term in TERMS),
        *(f"cosine/{one}/{other}" for one, other in itertools.combinations(TERMS, 2)),
        *(f"{what}/{layer}" for what in ("distance", "energy") for layer in (1, 2)),
        *("alignment", "uniformity", "spread/fused", "spread/contextual"),
        *(f"share/{name}" for name in WIDTHS),
    }
    assert all(math.isfinite(value) for value in found.values())
    assert all(abs(value) <= 1 + 1e-5 for name, value in found.items() if name.startswith("cosine/"))


def test_gradients_and_cosines_equal_those_of_each_term_alone() -> None:
    net, objective = model_and_objective()
    batch = random_batch(5, 1, 7, absent_vectors=0.2)
    found = diagnose(net, objective, batch, seed=3)
    alone = {term: gradient_of(net, objective, batch, term, seed=3) for term in TERMS}
    for term, gradient in alone.items():
        assert found[f"gradient/{term}"] == pytest.approx(float(gradient.norm()), rel=1e-4)
    cosines = {name.removeprefix("cosine/"): value for name, value in found.items() if name.startswith("cosine/")}
    assert len(cosines) == 10
    for pair, value in cosines.items():
        one, other = (alone[term] for term in pair.split("/"))
        assert value == pytest.approx(float(one @ other / one.norm() / other.norm()), abs=1e-4)


def test_weights_gradients_and_running_statistics_do_not_change() -> None:
    net, objective = model_and_objective({"model": {"encoder": {"normalisation": "batch"}, "modality_dropout": 0.2}})
    net.train()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert any("running_mean" in name for name in before)
    batch = random_batch(5, 1, 7, absent_vectors=0.2)
    features = {name: values.clone() for name, values in batch.features.items()}
    diagnose(net, objective, batch, seed=3)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all((parameter.grad == 0.5).all() for parameter in net.parameters())
    assert all(part.training for part in net.modules())
    for name, values in batch.features.items():
        assert not values.requires_grad
        torch.testing.assert_close(values, features[name], equal_nan=True)


def test_a_norm_in_evaluation_mode_stays_in_it() -> None:
    net, objective = model_and_objective({"model": {"encoder": {"normalisation": "batch"}}})
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm1d)]
    for part in norms:
        part.eval()
    diagnose(net, objective, random_batch(5), seed=0)
    assert norms
    assert not any(part.training for part in norms)


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_the_shares_of_the_modalities_sum_to_one(task: str) -> None:
    net, objective = model_and_objective(task=task)
    batch = random_batch(5, 4, task=task, absent_vectors=0.2, absent_cells=0.1, unlabeled=0.2)
    found = diagnose(net, objective, batch, seed=0)
    shares = [found[f"share/{name}"] for name in WIDTHS]
    assert sum(shares) == pytest.approx(1.0)
    assert all(0 < share < 1 for share in shares)


def test_a_modality_that_the_model_does_not_read_has_no_share() -> None:
    net, objective = model_and_objective({"model": {"fusion": {"global_branch": False}}})
    assert net.fusion.specific is not None
    with torch.no_grad():
        net.fusion.specific.maps["audio"].weight.zero_()
    found = diagnose(net, objective, random_batch(5, 4), seed=0)
    assert found["share/audio"] == 0.0
    assert [warning for warning in warnings_from(found) if warning.startswith("audio contributes almost nothing")]


def test_without_labels_there_are_no_modality_shares() -> None:
    net, objective = model_and_objective()
    found = diagnose(net, objective, random_batch(5, 4, unlabeled=1.0), seed=0)
    assert not [name for name in found if name.startswith("share/")]


@pytest.mark.parametrize(
    ("settings", "lengths"), [({}, (1, 1)), ({"graph": {"window_past": 0, "window_future": 0}}, (5, 4))]
)
def test_without_neighbours_there_are_no_over_smoothing_numbers(
    settings: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    net, objective = model_and_objective(settings)
    found = diagnose(net, objective, random_batch(*lengths), seed=0)
    assert not [name for name in found if name.startswith(("distance/", "energy/"))]
    assert not [warning for warning in warnings_from(found) if "smoothed" in warning]


def test_only_terms_that_are_on_are_diagnosed() -> None:
    net, objective = model_and_objective({"objective": {"contrast_weight": 0.0, "smoothing": False}})
    found = diagnose(net, objective, random_batch(5, 4), seed=0)
    assert {name for name in found if name.startswith("gradient/")} == {
        "gradient/classification",
        "gradient/global",
        "gradient/specific",
    }
    assert not {"alignment", "uniformity"} & set(found)


def test_if_only_views_are_encoded_there_are_no_layer_numbers() -> None:
    net, objective = model_and_objective({"augment": {"classify": "views"}})
    found = diagnose(net, objective, random_batch(5, 4), seed=0)
    assert not [name for name in found if name.startswith("distance/")]
    assert "alignment" in found


def test_a_frozen_fusion_and_no_context_have_no_gradients_to_compare() -> None:
    net, objective = model_and_objective({"model": {"context": {"kind": "identity"}}})
    net.fusion.requires_grad_(False)
    found = diagnose(net, objective.only(["classification", "contrast"]), random_batch(5, 4), seed=0)
    assert not [name for name in found if name.startswith(("gradient/", "cosine/"))]
    assert sum(found[f"share/{name}"] for name in WIDTHS) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"encoder": {"normalisation": "batch"}, "modality_dropout": 0.2}},
        {"train": {"stages": "two-phase", "fusion_target": "terms", "fusion_epochs": 1}},
    ],
    ids=["batch norm", "two phases"],
)
def test_diagnostics_do_not_change_what_is_learned(
    tiny: Callable[..., str], tmp_path: Path, settings: dict[str, Any]
) -> None:
    runs = []
    for is_on in (True, False):
        job = _job(tiny(), tmp_path / str(is_on), settings, is_on=is_on)
        train(job)
        runs.append(RunDirectory.of(job).metrics())
    assert len(runs[0]) == 2
    for diagnosed, plain in zip(*runs, strict=True):
        assert diagnosed.diagnostics
        assert not plain.diagnostics
        assert (diagnosed.losses, diagnosed.dev) == (plain.losses, plain.dev)
        assert diagnosed.gradient_norm == plain.gradient_norm


def _job(corpus: str, storage: Path, settings: dict[str, Any], *, is_on: bool) -> JobConfig:
    return small_job(
        {"corpus": corpus, "storage": str(storage)}, settings, {"train": {"epochs": 2, "diagnostics": is_on}}
    )


def test_two_phase_training_diagnoses_each_phase_with_its_terms(tiny: Callable[..., str], tmp_path: Path) -> None:
    job = _job(
        tiny(), tmp_path, {"train": {"stages": "two-phase", "fusion_target": "terms", "fusion_epochs": 1}}, is_on=True
    )
    train(job)
    first, second = (line.diagnostics for line in RunDirectory.of(job).metrics())
    assert {name for name in first if name.startswith("gradient/")} == {
        "gradient/smoothing",
        "gradient/global",
        "gradient/specific",
    }
    assert {name for name in second if name.startswith("gradient/")} == {"gradient/classification", "gradient/contrast"}


@pytest.mark.parametrize(
    ("ill", "expected"),
    [
        ({}, []),
        ({"uniformity": -0.01}, ["views' embeddings have collapsed"]),
        ({"distance/1": 0.01}, ["made all utterances alike"]),
        ({"distance/1": 0.01, "distance/2": 0.3}, []),
        ({"distance/2": 0.01}, ["made all utterances alike"]),
        (
            {"spread/fused": 0.01, "spread/contextual": 0.04},
            ["the fused vectors have", "the vectors of the contextual branch have"],
        ),
        ({"spread/fused": 0.2}, []),
        ({"share/audio": 0.001}, ["audio contributes almost nothing (0.1% of the sensitivity)"]),
        (
            {"uniformity": 0.0, "distance/1": 0.0, "share/text": 0.0, "share/audio": 0.0},
            ["collapsed", "utterances alike", "text contributes", "audio contributes"],
        ),
    ],
)
def test_every_sign_of_failure_has_its_warning(ill: dict[str, float], expected: list[str]) -> None:
    warnings = warnings_from(HEALTHY | ill)
    assert len(warnings) == len(expected)
    assert all(part in warning for part, warning in zip(expected, warnings, strict=True))


def test_without_diagnostics_there_are_no_warnings() -> None:
    assert warnings_from({}) == []

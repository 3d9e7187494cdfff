from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from joyful_ray.data.batch import Batch, Layout
from joyful_ray.model.interfaces import Fused
from joyful_ray.model.joyful import Output
from joyful_ray.objective import joint as joint_module
from joyful_ray.objective import terms
from joyful_ray.objective.joint import JointObjective, class_weights
from joyful_ray.schema import Task
from joyful_ray.settings import ObjectiveConfig
from tests.batches import layout_of, pick, quick, random_batch, spans

TASKS: list[Task] = ["single-label", "multi-label", "regression"]
CLASSES = 3


def output_for(batch: Batch, task: Task = "single-label", seed: int = 0) -> Output:
    """A random model output for a batch."""
    draw = torch.Generator().manual_seed(seed)
    count = batch.utterances

    def random(width: int) -> Tensor:
        return torch.randn(count, width, generator=draw)

    fused = Fused(
        random(4), {"global": (random(5), random(5)), "specific": (random(6), random(6))}, random(5), random(5)
    )
    scores_NK, views, layers = (
        random(1 if task == "regression" else CLASSES),
        (random(4), random(4)),
        [random(4), random(4)],
    )
    return Output(scores_NK, fused, views, layers, layers[-1])


def part_of(output: Output, rows: slice) -> Output:
    fused = output.fused
    return Output(
        output.scores_NK[rows],
        Fused(
            fused.nodes_ND[rows],
            {name: (a[rows], b[rows]) for name, (a, b) in fused.reconstructions.items()},
            fused.topic_NG[rows],
            fused.contextual_NG[rows],
        ),
        tuple(view[rows] for view in output.views),
        [layer[rows] for layer in output.layers],
    )


def objective(
    task: Task = "single-label", weights: tuple[float, ...] = (1.0,) * CLASSES, **settings: Any
) -> JointObjective:
    return JointObjective(ObjectiveConfig(**settings), task=task, weight_K=weights)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("negatives", ["conversation", "micro-batch"])
def test_every_term_is_its_function_divided_by_its_count(task: Task, negatives: str) -> None:
    batch = random_batch(4, 1, 3, task=task, unlabeled=0.3)
    output = output_for(batch, task)
    made = objective(task, temperature=0.5, negatives=negatives)
    sums, counts = made.sums(output, batch), made.counts(batch)
    fused = output.fused
    labeled = float(batch.labeled_N.sum())
    assert (counts["classification"], counts["smoothing"], counts["contrast"]) == (labeled, 8 - 3, 8)
    assert (counts["global"], counts["specific"]) == (8, 8)
    assert set(sums) == {"classification", "smoothing", "global", "specific", "contrast"}
    torch.testing.assert_close(
        sums["classification"], JointObjective.plain_loss(output.scores_NK, batch.labels, task).sum()
    )
    torch.testing.assert_close(sums["global"], terms.reconstruction(*fused.reconstructions["global"]).sum())
    torch.testing.assert_close(
        sums["smoothing"], terms.smoothing(fused.contextual_NG, fused.topic_NG, batch.layout).sum()
    )
    groups = batch.layout if negatives == "conversation" else layout_of(8)
    contrast = [
        term(*output.views, groups, temperature=0.5) for term in (terms.inter_view_contrast, terms.intra_view_contrast)
    ]
    torch.testing.assert_close(sums["contrast"], 0.5 * torch.stack(contrast).sum())
    expected = (
        sums["classification"] / labeled
        + 0.06 * (sums["smoothing"] / 5 + sums["global"] / 8 + sums["specific"] / 8)
        + 0.3 * sums["contrast"] / 8
    )
    torch.testing.assert_close(made.total(sums, counts), expected)


@pytest.mark.parametrize("task", TASKS)
@quick
@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5), cut=st.integers(1, 4), seed=st.integers(0, 3))
def test_sums_over_micro_batches_divided_once_equal_the_whole_batch(
    task: Task, lengths: list[int], cut: int, seed: int
) -> None:
    cut = min(cut, len(lengths) - 1)
    batch = random_batch(*lengths, task=task, unlabeled=0.3, seed=seed)
    output = output_for(batch, task, seed)
    border = spans(batch.layout)[cut].start
    parts = [
        (part_of(output, slice(0, border)), pick(batch, *range(cut))),
        (part_of(output, slice(border, None)), pick(batch, *range(cut, len(lengths)))),
    ]
    made = objective(task, (0.5, 1.0, 2.0))
    counts = [made.counts(part) for _, part in parts]
    added = {name: counts[0][name] + counts[1][name] for name in made.weights}
    total = sum(made.total(made.sums(output, part), added) for output, part in parts)
    torch.testing.assert_close(total, made.total(made.sums(output, batch), made.counts(batch)), rtol=1e-5, atol=1e-6)


def test_a_batch_without_labels_has_no_classification_loss() -> None:
    batch = random_batch(3, 2, unlabeled=1.0)
    made = objective()
    sums, counts = made.sums(output_for(batch), batch), made.counts(batch)
    assert sums["classification"] == counts["classification"] == 0
    assert torch.isfinite(made.total(sums, counts))


def test_classification_with_class_weights_equals_torchs_weighted_mean() -> None:
    batch = random_batch(5, 3)
    output = output_for(batch)
    made = objective(weights=(0.2, 1.0, 5.0), fusion_weight=0.0, contrast_weight=0.0)
    expected = torch.nn.functional.cross_entropy(output.scores_NK, batch.labels, torch.tensor([0.2, 1.0, 5.0]))
    torch.testing.assert_close(made.total(made.sums(output, batch), made.counts(batch)), expected)


@pytest.mark.parametrize("negatives", ["conversation", "micro-batch"])
@pytest.mark.parametrize("joint", [True, False])
def test_long_conversations_are_compared_apart_from_short_ones(
    joint: bool, negatives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, sizes = random_batch(9, 1, 4, 2, 8, 1), []
    output = output_for(batch)
    made = objective(negatives=negatives, joint_denominator=joint)
    together = made.sums(output, batch)["contrast"]
    monkeypatch.setattr(joint_module, "MANY_NUMBERS", 0)
    groups = Layout.groups

    def noted(layout: Layout, *, most_padding: float) -> list[tuple[Tensor, Layout]]:
        found = groups(layout, most_padding=most_padding)
        sizes.append(sorted(part.lengths_C.tolist() for _, part in found))
        return found

    monkeypatch.setattr(Layout, "groups", noted)
    torch.testing.assert_close(made.sums(output, batch)["contrast"], together)
    assert sizes == [[[1, 1], [2], [4], [9, 8]] if negatives == "conversation" else [[25]]]


def test_contrast_against_the_original_is_the_released_sum_of_two_nt_xents() -> None:
    batch = random_batch(4, 3)
    output = output_for(batch)
    made = objective(
        contrast_pairs="original", joint_denominator=True, negatives="micro-batch", temperature=0.2, fusion_weight=0.0
    )
    expected = sum(terms.nt_xent(output.layers[-1], view, layout_of(7), temperature=0.2).sum() for view in output.views)
    torch.testing.assert_close(made.sums(output, batch)["contrast"], expected)


def test_reconstruction_of_the_last_conversation_is_a_sum_as_in_the_released_code() -> None:
    batch = random_batch(4, 1, 3)
    output = output_for(batch)
    made = objective(reconstruction_scope="last-conversation", smoothing=False)
    loss = terms.reconstruction(*output.fused.reconstructions["global"])
    torch.testing.assert_close(made.sums(output, batch)["global"], loss[5:].sum())
    assert made.counts(batch)["global"] == 1


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"fusion_weight": 0.0}, {"classification", "contrast"}),
        ({"contrast_weight": 0.0}, {"classification", "smoothing", "global", "specific"}),
        ({"smoothing": False}, {"classification", "contrast", "global", "specific"}),
        ({"global_reconstruction": False}, {"classification", "contrast", "smoothing", "specific"}),
        ({"specific_reconstruction": False}, {"classification", "contrast", "smoothing", "global"}),
        ({"inter_view": False, "intra_view": False}, {"classification", "smoothing", "global", "specific"}),
        ({"inter_view": False}, {"classification", "contrast", "smoothing", "global", "specific"}),
    ],
)
def test_every_term_can_be_switched_off(settings: dict[str, Any], left: set[str]) -> None:
    batch = random_batch(3, 2)
    made = objective(**settings)
    assert set(made.weights) == set(made.sums(output_for(batch), batch)) == left
    assert made.needs_views == ("contrast" in left)


def test_a_part_of_the_objective_has_only_the_chosen_terms() -> None:
    batch = random_batch(3, 2)
    made = objective()
    assert set(made.only(["global", "smoothing"]).sums(output_for(batch), batch)) == {"global", "smoothing"}
    assert "contrast" in made.weights


def test_class_weights_balance_fully_at_power_one() -> None:
    # 100 utterances in classes of 50, 30 and 20: each class then weighs a third of the whole
    weights = class_weights([50, 30, 20], 1.0)
    assert [count * weight for count, weight in zip([50, 30, 20], weights, strict=True)] == pytest.approx([100 / 3] * 3)


@pytest.mark.parametrize("power", [0.0, 0.3, 0.5, 1.0])
def test_class_weights_have_a_mean_of_one_over_utterances(power: float) -> None:
    counts = [4710, 1205, 268, 0, 1743]
    weights = class_weights(counts, power)
    mean = sum(count * weight for count, weight in zip(counts, weights, strict=True)) / sum(counts)
    assert mean == pytest.approx(1.0)
    assert weights[3] == 1.0
    assert weights[2] / weights[0] == pytest.approx((4710 / 268) ** power)


def test_class_weights_without_utterances_are_one() -> None:
    assert class_weights([0, 0], 1.0) == [1.0, 1.0]

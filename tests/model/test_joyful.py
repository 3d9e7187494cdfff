from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from joyful_ray.config import merge, resolve
from joyful_ray.data.batch import Batch
from joyful_ray.graph_settings import AugmentConfig, GraphConfig, ViewConfig
from joyful_ray.model.joyful import Joyful, Output
from joyful_ray.model_settings import ModelConfig
from joyful_ray.schema import Modality
from tests.batches import WIDTHS, pick, random_batch, redrawn, spans
from tests.tiny_corpus import SMALL

SUBSETS: list[tuple[Modality, ...]] = [("text",), ("audio", "vision"), ("text", "audio", "vision")]
FUSIONS: dict[str, dict[str, Any]] = {
    "dual-branch": {},
    "global branch alone": {"specific_branch": False},
    "specific branch alone": {"global_branch": False},
    "cosine": {"similarity": "cosine"},
    "concatenation": {"kind": "concatenation"},
    "auto-fusion": {"kind": "auto-fusion", "bottleneck": 6},
}
CONTEXTS = ["transformer", "gru", "none", "identity"]
ENCODERS = ["relational-transformer", "gcn", "relational-attention", "none"]
CLASSES = 3


def model(
    *,
    modalities: tuple[Modality, ...] = SUBSETS[-1],
    augment: AugmentConfig | None = None,
    graph: GraphConfig | None = None,
    speakers: int = 2,
    **settings: Any,
) -> Joyful:
    torch.manual_seed(0)
    return Joyful(
        ModelConfig.model_validate(merge(SMALL["model"], settings)),
        graph or GraphConfig(window_past=3, window_future=2),
        augment or AugmentConfig(),
        widths={name: WIDTHS[name] for name in modalities},
        classes=CLASSES,
        speakers=speakers,
    )


def parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def total(output: Output) -> torch.Tensor:
    """A number that depends on everything in the output."""
    parts = [output.scores_NK.square().sum()]
    parts += [(rebuilt - target).square().sum() for rebuilt, target in output.fused.reconstructions.values()]
    parts += [(view[1:] * view[:-1]).sum() + view.square().sum() for view in output.views or ()]
    return torch.stack(parts).sum()


def assert_gradients_reach_everything(net: Joyful, batch: Batch) -> None:
    total(net(batch, with_views=True)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_runs_and_learns_with_any_modalities(fusion: str, modalities: tuple[Modality, ...]) -> None:
    net = model(modalities=modalities, fusion=FUSIONS[fusion])
    assert net(random_batch(1), with_views=True).scores_NK.shape == (1, CLASSES)
    assert_gradients_reach_everything(net, random_batch(5, 1, 7, absent_vectors=0.3))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_context_and_encoder_runs_and_learns(context: str, encoder: str) -> None:
    net = model(context={"kind": context}, encoder={"kind": encoder})
    assert net(random_batch(1), with_views=True).scores_NK.shape == (1, CLASSES)
    assert_gradients_reach_everything(net, random_batch(5, 1, 7, absent_vectors=0.3))


@pytest.mark.parametrize("normalisation", ["none", "layer", "batch"])
@pytest.mark.parametrize("encoder", ENCODERS[:3])
def test_every_norm_depth_and_residual_runs_and_learns(encoder: str, normalisation: str) -> None:
    net = model(encoder={"kind": encoder, "layers": 3, "normalisation": normalisation, "residual": True})
    output = net(random_batch(4, 2, 5))
    assert len(output.layers) == 3
    assert_gradients_reach_everything(net, random_batch(5, 1, 7, absent_vectors=0.3))


@pytest.mark.parametrize("encoder", ENCODERS[:3])
def test_a_step_of_one_utterance_trains_with_batch_norm(encoder: str) -> None:
    net = model(encoder={"kind": encoder, "layers": 2, "normalisation": "batch"})
    norms = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    net(random_batch(4, 3))
    before = [norm.running_mean.clone() for norm in norms]
    batch = random_batch(1)
    scores_NK = net(batch).scores_NK
    assert torch.isfinite(scores_NK).all()
    scores_NK.sum().backward()
    assert norms
    for norm, mean in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.running_mean, mean, msg="one utterance has no statistics to learn from")


@pytest.mark.parametrize("encoder", ENCODERS[:3])
def test_pyg_operators_give_the_scores_of_the_fast_ones(encoder: str) -> None:
    fast, oracle = (model(encoder={"kind": encoder, "layers": 2, "operators": kind}).eval() for kind in ("fast", "pyg"))
    oracle.load_state_dict(fast.state_dict())
    batch = random_batch(6, 1, 4)
    torch.testing.assert_close(fast(batch).scores_NK, oracle(batch).scores_NK)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_predictions_of_a_conversation_do_not_depend_on_its_batch(context: str, encoder: str) -> None:
    net = model(context={"kind": context}, encoder={"kind": encoder}).eval()
    batch = random_batch(6, 1, 4, absent_cells=0.1)
    together = net(batch).scores_NK
    for place, span in enumerate(spans(batch.layout)):
        torch.testing.assert_close(together[span], net(pick(batch, place)).scores_NK, rtol=1e-4, atol=1e-5)


def test_without_the_padding_mask_they_depend_on_it_as_in_the_released_code() -> None:
    net = model(context={"padding_mask": False}).eval()
    batch = random_batch(6, 1, 4)
    together = net(batch).scores_NK
    torch.testing.assert_close(together[:6], net(pick(batch, 0)).scores_NK)  # the longest has no padding
    assert not torch.allclose(together[7:], net(pick(batch, 2)).scores_NK)


@pytest.mark.parametrize("relations", ["same-other", "speaker-pairs"])
@pytest.mark.parametrize("speakers", [1, 2, 9])
def test_any_number_of_speakers(relations: str, speakers: int) -> None:
    graph = GraphConfig(window_past=None, window_future=0, relations=relations)
    net = model(graph=graph, speakers=speakers)
    scores = net(random_batch(12, 3, speakers=speakers + 1), with_views=True).scores_NK
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("absent", [{"absent_vectors": 0.5}, {"absent_cells": 0.5}, {"absent_vectors": 1.0}])
def test_missing_values_never_become_nan(absent: dict[str, float]) -> None:
    net = model()
    output = net(random_batch(5, 1, 4, **absent), with_views=True)
    total(output).backward()
    assert torch.isfinite(output.scores_NK).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


def test_a_whole_modality_that_is_missing_still_gives_scores() -> None:
    batch = random_batch(4)
    gone = replace(batch, features={**batch.features, "vision": torch.full((4, WIDTHS["vision"]), torch.nan)})
    net = model().eval()
    assert torch.isfinite(net(gone).scores_NK).all()
    assert not torch.equal(net(gone).scores_NK, net(batch).scores_NK)


def test_evaluation_makes_no_views_and_training_two() -> None:
    net = model()
    batch = random_batch(5, 2)
    assert net(batch).views is None
    first, second = net(batch, with_views=True).views
    assert first.shape == second.shape == (7, 8)
    assert not torch.equal(first, second)


def test_views_with_zero_ratios_equal_the_graph() -> None:
    plain = ViewConfig()
    net = model(augment=AugmentConfig(first_view=plain, second_view=plain)).eval()
    output = net(random_batch(5, 2), with_views=True)
    for view in output.views:
        torch.testing.assert_close(view, output.layers[-1])


def test_the_keys_decide_the_views() -> None:
    net = model().eval()
    batch = random_batch(9, 8)
    one, same, other = (net(redrawn(batch, seed), with_views=True).views[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_classifying_unaugmented_views_is_classifying_twice_the_graph() -> None:
    augment = AugmentConfig(first_view=ViewConfig(), second_view=ViewConfig(), classify="views")
    net = model(augment=augment).eval()
    batch = random_batch(5, 2)
    torch.testing.assert_close(net(batch, with_views=True).scores_NK, net(batch).scores_NK)


@pytest.mark.parametrize("shared", [True, False])
def test_rewired_views_run_and_learn(shared: bool) -> None:
    view = ViewConfig(feature_ratio=0.25, feature_mask="element", edge_ratio=0.1, edge_mode="rewire")
    net = model(augment=AugmentConfig(first_view=view, second_view=view, shared_edge_noise=shared))
    assert_gradients_reach_everything(net, random_batch(9, 1, 7, absent_vectors=0.3))


def test_shared_edge_noise_reaches_the_classified_graph_only_in_training() -> None:
    view = ViewConfig(edge_ratio=0.5, edge_mode="rewire")
    shared, clean = (
        model(augment=AugmentConfig(first_view=view, second_view=view, shared_edge_noise=noise)).eval()
        for noise in (True, False)
    )
    batch = random_batch(9, 7)
    assert torch.equal(shared(batch).scores_NK, clean(batch).scores_NK)
    assert torch.equal(clean(batch, with_views=True).scores_NK, clean(batch).scores_NK)
    assert not torch.allclose(shared(batch, with_views=True).scores_NK, clean(batch).scores_NK)


def test_the_classifier_may_skip_the_graph() -> None:
    net = model(classifier={"skip_graph": True})
    assert net.classifier.hidden.in_features == 16 + 8
    assert_gradients_reach_everything(net, random_batch(5, 3, absent_vectors=0.3))


def test_unused_layers_count_as_parameters_and_do_not_train() -> None:
    plain, extra = model(), model(unused_layers=True)
    unused = list(extra.unused_layers.parameters())
    assert parameters(extra) - parameters(plain) == sum(parameter.numel() for parameter in unused)
    assert not any(parameter.requires_grad for parameter in unused)


def test_the_released_preset_has_the_parameters_of_the_authors_checkpoint() -> None:
    # METHOD.md, R9; 114,688 and 162,711 of them are in unused layers
    job = resolve({"model": {"preset": "released"}})
    with torch.device("meta"):
        net = Joyful(
            job.model,
            job.graph,
            job.augment,
            widths={"audio": 100, "text": 768, "vision": 512},
            classes=4,
            speakers=2,
        )
    assert parameters(net) == 42_878_143
    assert sum(parameter.numel() for parameter in net.unused_layers.parameters()) == 114_688 + 162_711
    assert parameters(net.fusion) == 8_605_752
    assert parameters(net.context) == 33_816_676 - 114_688


@pytest.mark.parametrize("context", [{"kind": "gru", "layers": 2, "speakers": "party-state"}, {"kind": "transformer"}])
def test_nothing_is_drawn_in_evaluation(context: dict[str, Any]) -> None:
    net = model(context=context | {"dropout": 0.5}, modality_dropout=0.5, feature_dropout=0.5).eval()
    batch = replace(random_batch(5, 2), keys_C=None)
    before = torch.get_rng_state()
    net(batch)
    assert torch.equal(torch.get_rng_state(), before)

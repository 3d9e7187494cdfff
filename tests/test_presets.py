"""Each preset is the model that METHOD.md describes, and every component of it is a setting that does something."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from joyful_ray.config import PRESETS, JobConfig, load_job, merge
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import CorpusInfo, prepare_here
from joyful_ray.model.interfaces import Fused
from joyful_ray.model.joyful import Joyful, Output
from joyful_ray.objective.joint import JointObjective
from joyful_ray.schema import Modality
from joyful_ray.train.build import build_model, build_objective
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import Trainer
from tests.batches import pick, random_batch, spans
from tests.corpus_shapes import (
    IEMOCAP_4WAY,
    IEMOCAP_WIDTHS,
    MELD_PAPER,
    MOSEI,
    corpus_info_of,
    parameters,
    weightless_model,
)
from tests.tiny_corpus import SMALL, write_tiny

FUSION_TERMS = {"smoothing", "global", "specific"}
ALL = {"classification", "contrast", *FUSION_TERMS}
NARROW: dict[str, dict[str, Any]] = {
    # Every setting is written out, so that a change of the default preset does not affect the switches.
    "settings": merge(
        JobConfig().model_dump(mode="json", exclude={"corpus", "task", "name", "storage", "seed"}),
        # A narrow window, so that pairs without an edge remain in the short conversations.
        merge(SMALL, {"graph": {"window_past": 1, "window_future": 1}}),
    ),
    "joyful": SMALL,
    "paper": {
        "model": {"fusion": {"global_feedforward": 16, "specific_width": 8, "basis_vectors": 4}},
        "graph": {"window_past": 2, "window_future": 2},
    },
    "released": {
        "model": {
            "fusion": {"specific_width": 8, "bottleneck": 8},
            "context": {"width": 8, "layers": 1, "heads": 2, "feedforward": 16},
            "encoder": {"width": 8, "heads": 2},
        },
        "graph": {"window_past": 2, "window_future": 2},
    },
}
SMALL_SHAPE = corpus_info_of({"text": 6, "audio": 4, "vision": 5}, labels=3, speakers=2)


def narrow(preset: str, *switches: str) -> JobConfig:
    named = [f"model.preset={preset}"] if preset in PRESETS else []
    return load_job(None, [*_as_switches(NARROW[preset]), *named, *switches])


def _as_switches(tree: dict[str, Any]) -> list[str]:
    return [f"{section}={yaml.safe_dump(settings, default_flow_style=True)}" for section, settings in tree.items()]


def released_model(corpus_info: CorpusInfo = IEMOCAP_4WAY) -> Joyful:
    return weightless_model(load_job(None, ["model.preset=released"]), corpus_info)


# --- released: the authors' code, unchanged


def test_released_has_the_parameters_of_the_authors_checkpoint() -> None:
    assert parameters(released_model()) == 42_878_143


def test_released_has_its_parameters_in_the_same_parts_as_the_authors() -> None:
    net = released_model()
    idle = net.unused_layers
    context_idle = [idle["positions"], idle["position_norm"]]
    classifier_idle = [idle["attention"], idle["seven_emotions"], idle["single"]]
    assert parameters(*context_idle) == 110 * 1024 + 2 * 1024 == 114_688
    assert parameters(*classifier_idle) == 162_711
    counts = {
        "AutoFusion": parameters(net.fusion),
        "SeqContext": parameters(net.context, *context_idle),
        "RGCN": parameters(net.encoder.convolutions),
        "TransformerConv": parameters(net.encoder.transformer),
        "BatchNorm": parameters(net.encoder.norm),
        "Classifier": parameters(net.classifier, *classifier_idle),
    }
    assert counts == {
        "AutoFusion": 8_605_752,
        "SeqContext": 33_816_676,
        "RGCN": 90_100,
        "TransformerConv": 161_600,
        "BatchNorm": 800,
        "Classifier": 203_215,
    }
    assert sum(counts.values()) == parameters(net)


def test_layers_that_the_authors_never_use_are_not_trained_and_change_no_score() -> None:
    with_idle, without = (
        build_model(narrow("released", f"model.unused_layers={is_on}"), SMALL_SHAPE).eval()
        for is_on in ("true", "false")
    )
    assert not any(parameter.requires_grad for parameter in with_idle.unused_layers.parameters())
    assert all(parameter.requires_grad for parameter in without.parameters())
    without.load_state_dict({name: w for name, w in with_idle.state_dict().items() if "unused_layers" not in name})
    batch = random_batch(5, 3)
    assert torch.equal(with_idle(batch).scores_NK, without(batch).scores_NK)


@pytest.mark.parametrize(("speakers", "count"), [(2, 8), (1, 2), (9, 162)])
def test_released_has_two_relations_for_each_ordered_pair_of_speakers(speakers: int, count: int) -> None:
    net = released_model(corpus_info_of(IEMOCAP_WIDTHS, labels=4, speakers=speakers))
    assert net.encoder.convolutions[0].weight.shape == (count, 100, 100)


@pytest.mark.parametrize("corpus_info", [MELD_PAPER, MOSEI], ids=["MELD", "MOSEI"])
@pytest.mark.parametrize("modalities", [("text",), ("audio", "vision"), ("text", "audio", "vision")], ids="+".join)
def test_released_takes_corpora_and_modalities_that_the_authors_code_cannot(
    corpus_info: CorpusInfo, modalities: tuple[Modality, ...]
) -> None:
    widths = {name: corpus_info.encoding.widths[name] for name in modalities}
    labels, task = len(corpus_info.encoding.labels), corpus_info.encoding.task
    net = released_model(corpus_info_of(widths, labels=labels, speakers=corpus_info.speakers, task=task))
    assert net.fusion.whole.narrow.in_features == sum(widths.values())
    assert (net.fusion.width, net.context.width, net.encoder.width) == (1024, 100, 400)
    assert net.encoder.convolutions[0].weight.shape[0] == 2 * corpus_info.speakers**2


def slow_nt_xent(
    one_NE: Tensor,
    other_NE: Tensor,
    temperature: float,
    *,
    inter: bool = True,
    intra: bool = True,
    self_negative: bool = True,
) -> float:
    """METHOD.md, R5: both directions, mean over all utterances of the batch."""

    def similarity(a: Tensor, b: Tensor) -> float:
        return math.exp(float(a @ b / a.norm() / b.norm()) / temperature)

    total, count = 0.0, len(one_NE)
    for u, v in ((one_NE, other_NE), (other_NE, one_NE)):
        for i in range(count):
            positive = similarity(u[i], v[i])
            below = sum(similarity(u[i], v[j]) for j in range(count) if inter or j == i)
            below += sum(similarity(u[i], u[j]) for j in range(count) if (self_negative or j != i) and intra)
            total -= math.log(positive / below)
    return total / 2 / count


@pytest.mark.parametrize(
    "switches",
    [{}, {"intra_view": False}, {"inter_view": False}, {"self_negative": False}],
    ids=["both negatives", "inter alone", "intra alone", "without itself"],
)
def test_the_released_contrast_is_nt_xent_of_the_original_and_each_view_over_the_micro_batch(
    switches: dict[str, bool],
) -> None:
    job = narrow("released", *(f"objective.{name}={str(is_on).lower()}" for name, is_on in switches.items()))
    net, objective = build_model(job, SMALL_SHAPE).eval(), build_objective(job, SMALL_SHAPE)
    batch = random_batch(5, 1, 3)
    with torch.no_grad():
        output = net(batch, with_views=True)
        loss = objective.sums(output, batch)["contrast"] / objective.counts(batch)["contrast"]
    assert output.views is not None
    names = {"inter_view": "inter", "intra_view": "intra", "self_negative": "self_negative"}
    options = {names[name]: is_on for name, is_on in switches.items()}
    expected = sum(slow_nt_xent(output.layers[-1], view, 0.2, **options) for view in output.views)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert objective.weights["contrast"] == 0.2


def test_the_released_views_differ_from_the_original_only_by_their_feature_mask() -> None:
    net = build_model(narrow("released"), SMALL_SHAPE).eval()
    batch = random_batch(30, 20)
    whole, first, second = net.graphs.views(batch)
    for name in ("source_E", "target_E", "relation_E"):
        assert torch.equal(getattr(whole, name), getattr(first, name))
        assert torch.equal(getattr(whole, name), getattr(second, name))
    with torch.no_grad():
        nodes = net.context(net.fusion(net.missing_embeddings(batch), batch.layout).nodes_ND, batch.layout)
        output = net(batch, with_views=True)
        torch.testing.assert_close(output.layers[-1], net.encoder.embed(nodes, whole)[-1])
        torch.testing.assert_close(net(batch).layers[-1], net.encoder.embed(nodes, net.graphs.whole(batch))[-1])


def test_the_released_reconstruction_is_summed_only_over_the_last_conversation() -> None:
    job = narrow("released")
    net, objective = build_model(job, SMALL_SHAPE), build_objective(job, SMALL_SHAPE)
    batch = random_batch(4, 2, 3)
    assert set(objective.weights) == {"classification", "contrast", "global", "specific"}
    assert objective.weights["global"] == objective.weights["specific"] == 0.05
    output = net(batch, with_views=True)
    sums, counts = objective.sums(output, batch), objective.counts(batch)
    last = spans(batch.layout)[-1]
    for name, (rebuilt, target) in output.fused.reconstructions.items():
        expected = sum(torch.nn.functional.mse_loss(rebuilt[row], target[row]) for row in range(last.start, last.stop))
        torch.testing.assert_close(sums[name] / counts[name], expected)
    alone = pick(batch, 2)
    torch.testing.assert_close(sums["global"], objective.sums(net(alone, with_views=True), alone)["global"])


def test_released_starts_its_transformer_layers_as_copies_like_torch_does() -> None:
    layers = build_model(narrow("released", "model.context.layers=3"), SMALL_SHAPE).context.transformer.layers
    first = layers[0].state_dict()
    assert all(torch.equal(first[name], value) for layer in layers for name, value in layer.state_dict().items())
    oracle = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2), 3).layers
    assert torch.equal(oracle[0].linear1.weight, oracle[2].linear1.weight)


def test_released_sums_the_losses_of_several_labels_over_labels_and_utterances_like_torch_does() -> None:
    job = load_job(None, ["model.preset=released"])
    batch = random_batch(5, 2, task="multi-label", unlabeled=0.2)
    output = build_model(narrow("released"), SMALL_SHAPE)(random_batch(5, 2)).scores_NK
    objective = JointObjective(job.objective, task="multi-label").only(["classification"])
    fused = Fused(output, {})
    sums = objective.sums(Output(output, fused, None, []), batch)
    found = objective.total(sums, objective.counts(batch))
    known = batch.labeled_N
    expected = torch.nn.BCEWithLogitsLoss(reduction="sum")(output[known], batch.labels[known])
    torch.testing.assert_close(found, expected)


def test_released_uses_the_authors_optimizer() -> None:
    train = load_job(None, ["model.preset=released"]).train
    assert (train.optimizer, train.learning_rate, train.weight_decay, train.schedule) == ("adam", 3e-5, 1e-8, "plateau")
    assert (train.batch_conversations, train.micro_batches, train.gradient_clip) == (32, 1, None)


# --- paper: the method as described


def test_the_papers_widths_are_those_of_its_table_8() -> None:
    net = weightless_model(load_job(None, ["model.preset=paper"]), IEMOCAP_4WAY)
    assert net.fusion.contextual.width == 512 + 100 + 768 == 1380
    assert {name: part.out_features for name, part in net.fusion.contextual.maps.items()} == IEMOCAP_WIDTHS
    assert net.fusion.specific.width == 3 * 460 == 1380
    assert net.fusion.specific.basis_QS.shape == (32, 460)
    assert [layer.heads for layer in net.fusion.contextual.context.layers] == [10, 10]
    assert net.fusion.width == net.context.width == net.encoder.width == 2760
    (convolution,) = net.encoder.convolutions
    # AGG concatenated with the node, 5520 wide, mapped to 2760: two halves of one map
    assert [part.weight.shape for part in (convolution.lin_l, convolution.lin_r)] == [(2760, 2760)] * 2
    assert (net.classifier.hidden.in_features, net.classifier.hidden.out_features) == (2760, 100)


def test_the_papers_settings_are_those_of_its_text() -> None:
    job = load_job(None, ["model.preset=paper"])
    first, second = job.augment.first_view, job.augment.second_view
    assert (first.feature_ratio, first.edge_ratio, first.proximity_ratio) == (0.2, 0.2, 0.0)
    assert (second.feature_ratio, second.edge_ratio, second.proximity_ratio) == (0.2, 0.0, 0.2)
    assert (first.feature_mask, second.proximity_threshold, job.augment.classify) == ("dimension", 0.5, "views")
    objective = job.objective
    assert (objective.fusion_weight, objective.contrast_weight, objective.temperature) == (0.06, 0.3, 1.0)
    assert (job.train.optimizer, job.train.learning_rate) == ("adam", 3e-5)
    assert set(build_objective(job, IEMOCAP_4WAY).weights) == ALL


def test_the_paper_classifies_the_sum_of_both_views_and_twice_the_graph_when_it_evaluates() -> None:
    net = build_model(narrow("paper"), SMALL_SHAPE).eval()
    batch = random_batch(6, 3)
    with torch.no_grad():
        output = net(batch, with_views=True)
        assert output.views is not None
        torch.testing.assert_close(output.scores_NK, net.classifier(output.views[0] + output.views[1], batch.layout))
        clean = net(batch)
        torch.testing.assert_close(clean.scores_NK, net.classifier(2 * clean.layers[-1], batch.layout))


# --- every component is a switch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny(tmp_path_factory.mktemp("switches"), counts={"train": 6, "dev": 2, "test": 1})


@pytest.fixture(scope="module")
def first_epoch(corpus: str) -> Callable[[JobConfig], tuple[dict[str, float], dict[str, tuple[int, ...]], float]]:
    """Losses of one epoch of one step, the model's weights by name and shape, and the sum of the trained weights."""

    def run(job: JobConfig) -> tuple[dict[str, float], dict[str, tuple[int, ...]], float]:
        trainer, source = learner_of(job, corpus)
        before = {name: value.clone() for name, value in trainer.model.named_parameters()}
        numbers = trainer.train_epoch(source, Progress())
        assert all(math.isfinite(loss) for loss in numbers.losses.values())
        assert any(not torch.equal(before[name], value) for name, value in trainer.model.named_parameters())
        trainer.model.eval()
        for batch in source.once(rank=0, world_size=1):
            assert torch.isfinite(trainer.model(batch).scores_NK).all()
        trained = sum(float(value.detach().double().sum()) for value in trainer.model.parameters())
        return numbers.losses, {name: tuple(value.shape) for name, value in before.items()}, trained

    return run


def learner_of(job: JobConfig, corpus: str) -> tuple[Trainer, ResidentLoader]:
    corpus_info, stores = prepare_here(open_corpus(corpus), job)
    return Trainer(job, corpus_info, ProcessGroup()), ResidentLoader.of(job, stores["train"])


ONE_STEP = ("train.batch_conversations=6", "train.diagnostics=false", "train.device=cpu")
NO_FUSION_TERMS = {"classification", "contrast"}
SWITCHES: dict[str, dict[str, set[str]]] = {
    "joyful": {
        "model.fusion.global_branch=false": ALL - {"global", "smoothing"},
        "model.fusion.specific_branch=false": ALL - {"specific"},
        "model.fusion.kind=concatenation": NO_FUSION_TERMS,
        "objective.fusion_weight=0": NO_FUSION_TERMS,
        "objective.contrast_weight=0": ALL - {"contrast"},
        "model.context.kind=none": ALL,
        "model.encoder.kind=none": ALL,
        "data.modalities=[text]": ALL,
    },
    "settings": {
        "model.fusion.global_branch=false": ALL - {"global", "smoothing"},
        "model.fusion.specific_branch=false": ALL - {"specific"},
        "model.fusion.kind=concatenation": NO_FUSION_TERMS,
        "model.fusion.kind=auto-fusion": ALL - {"smoothing"},
        "model.fusion.similarity=cosine": ALL,
        "model.fusion.basis_vectors=8": ALL,
        "model.fusion.topic_rate=1.0": ALL,
        "model.fusion.global_layers=2": ALL,
        "objective.smoothing=false": ALL - {"smoothing"},
        "objective.global_reconstruction=false": ALL - {"global"},
        "objective.specific_reconstruction=false": ALL - {"specific"},
        "objective.fusion_weight=0": NO_FUSION_TERMS,
        "objective.fusion_weight=1": ALL,
        "objective.reconstruction_scope=last-conversation": ALL,
        "model.context.kind=gru": ALL,
        "model.context.kind=none": ALL,
        "model.context.kind=identity": ALL,
        "model.context.layers=2": ALL,
        "model.context.padding_mask=false": ALL,
        "model.encoder.kind=gcn": ALL,
        "model.encoder.kind=relational-attention": ALL,
        "model.encoder.kind=none": ALL,
        "model.encoder.layers=3": ALL,
        "model.encoder.normalisation=batch": ALL,
        "model.classifier.skip_graph=true": ALL,
        "model.missing_embeddings=zero": ALL,
        "model.modality_dropout=0.5": ALL,
        "model.feature_dropout=0.5": ALL,
        "augment.first_view.feature_ratio=0": ALL,
        "augment.first_view.feature_mask=element": ALL,
        "augment.first_view.edge_ratio=0": ALL,
        "augment.first_view.edge_ratio=0.6": ALL,
        "augment.second_view.edge_mode=rewire": ALL,
        "augment.second_view.proximity_ratio=0.3": ALL,
        "augment.shared_edge_noise=true": ALL,
        "augment.classify=views": ALL,
        "objective.contrast_weight=0": ALL - {"contrast"},
        "objective.contrast_weight=1": ALL,
        "objective.inter_view=false": ALL,
        "objective.intra_view=false": ALL,
        "objective.self_negative=true": ALL,
        "objective={inter_view: false, intra_view: false}": ALL - {"contrast"},
        "objective.joint_denominator=true": ALL,
        "objective.contrast_pairs=original": ALL,
        "objective.temperature=0.2": ALL,
        "objective.negatives=micro-batch": ALL,
        "objective.class_weighting=1.0": ALL,
        "objective.focal_gamma=2.0": ALL,
        "objective.label_smoothing=0.1": ALL,
        "objective.consistency=0.5": ALL | {"consistency"},
        "objective.detach_targets=true": ALL,
        "objective.alignment_weight=0.5": ALL | {"alignment"},
        "model.causal=true": ALL,
        "model.projection=16": ALL,
        "model.context.speakers=flag": ALL,
        "model.context.speakers=party-state": ALL,
        "train={stages: two-phase, fusion_epochs: 1}": {"pretraining"},
        "train={stages: two-phase, fusion_epochs: 1, fusion_target: labels}": {"pretraining"},
        "graph.window_past=null": ALL,
        "graph.window_past=0": ALL,
        "graph.window_future=null": ALL,
        "graph.window_future=0": ALL,
        "graph={window_past: 0, window_future: 0}": ALL,
        "graph={window_past: null, window_future: null}": ALL,
        "graph.relations=speaker-pairs": ALL,
        "data.modalities=[text]": ALL,
        "data.modalities=[audio]": ALL,
        "data.normalise=none": ALL,
        "data.normalise=speaker": ALL,
        "data.normalise=both": ALL,
        "data.folds=3": ALL,
        "data={folds: 3, fold: 2}": ALL,
    },
    "paper": {
        "model.fusion.global_branch=false": ALL - {"global", "smoothing"},
        "model.fusion.specific_branch=false": ALL - {"specific"},
        "model.context.kind=transformer": ALL,
        "model.encoder.kind=none": ALL,
        "model.encoder.layers=4": ALL,
        "augment.classify=graph": ALL,
        "augment.first_view.edge_ratio=0": ALL,
        "augment.second_view.proximity_ratio=0": ALL,
        "augment.second_view.proximity_threshold=0": ALL,
        "augment.first_view.proximity_ratio=0.2": ALL,
        "objective.contrast_weight=0": ALL - {"contrast"},
        "objective.temperature=0.2": ALL,
        "objective.negatives=micro-batch": ALL,
    },
    "released": {
        "model.fusion.global_branch=false": ALL - {"smoothing", "global"},
        "model.fusion.specific_branch=false": ALL - {"smoothing", "specific"},
        "model.fusion={kind: dual-branch, global_feedforward: 16}": ALL - {"smoothing"},
        "model.fusion.kind=concatenation": NO_FUSION_TERMS,
        "model.missing_embeddings=learned": ALL - {"smoothing"},
        "model.unused_layers=false": ALL - {"smoothing"},
        "model.context.padding_mask=true": ALL - {"smoothing"},
        "data.speaker_order=[nobody, speaker 1]": ALL - {"smoothing"},
        "model.context.kind=none": ALL - {"smoothing"},
        "model.encoder.normalisation=none": ALL - {"smoothing"},
        "model.encoder.layers=2": ALL - {"smoothing"},
        "graph.relations=same-other": ALL - {"smoothing"},
        "augment.shared_edge_noise=false": ALL - {"smoothing"},
        "augment.first_view.edge_ratio=0.5": ALL - {"smoothing"},
        "augment.second_view.feature_ratio=0": ALL - {"smoothing"},
        "objective.reconstruction_scope=all": ALL - {"smoothing"},
        "objective.contrast_pairs=views": ALL - {"smoothing"},
        "objective.joint_denominator=false": ALL - {"smoothing"},
        "objective.inter_view=false": ALL - {"smoothing"},
        "objective.intra_view=false": ALL - {"smoothing"},
        "objective.self_negative=false": ALL - {"smoothing"},
        "objective={inter_view: false, intra_view: false}": ALL - {"smoothing", "contrast"},
        "objective.contrast_weight=0": ALL - {"smoothing", "contrast"},
        "objective.negatives=conversation": ALL - {"smoothing"},
        "objective.temperature=1": ALL - {"smoothing"},
    },
}


@pytest.mark.parametrize(
    ("preset", "switch", "terms"),
    [(preset, switch, terms) for preset, those in SWITCHES.items() for switch, terms in those.items()],
)
def test_every_switch_trains_has_an_effect_and_keeps_its_terms(
    preset: str, switch: str, terms: set[str], first_epoch: Callable[[JobConfig], Any]
) -> None:
    changed = first_epoch(narrow(preset, *ONE_STEP, switch))
    assert set(changed[0]) == terms | {"total"}
    assert changed != _plain(preset, first_epoch), "the switch does nothing"


_PLAIN: dict[str, Any] = {}


def _plain(preset: str, first_epoch: Callable[[JobConfig], Any]) -> Any:
    if preset not in _PLAIN:
        _PLAIN[preset] = first_epoch(narrow(preset, *ONE_STEP))
    return _PLAIN[preset]


@pytest.mark.parametrize("switch", ["objective.alignment_temperature=1", "objective.alignment_negatives=conversation"])
def test_every_switch_of_the_alignment_has_an_effect(switch: str, first_epoch: Callable[[JobConfig], Any]) -> None:
    aligned = (*ONE_STEP, "objective.alignment_weight=0.5")
    assert first_epoch(narrow("joyful", *aligned, switch)) != first_epoch(narrow("joyful", *aligned))


@pytest.mark.parametrize("preset", ["joyful", "paper", "released"])
def test_two_phases_train_the_fusion_and_then_all_but_the_fusion(preset: str, corpus: str) -> None:
    job = narrow(
        preset,
        *ONE_STEP,
        "train.stages=two-phase",
        "train.fusion_target=terms",
        "train.fusion_epochs=1",
        "train.epochs=2",
    )
    trainer, source = learner_of(job, corpus)
    on = set(JointObjective(job.objective, task="single-label").weights)
    fusion = {
        name for name, _ in trainer.model.named_parameters() if name.startswith(("fusion.", "missing_embeddings."))
    }
    for epoch, is_fusion in enumerate((True, False)):
        before = {name: value.clone() for name, value in trainer.model.named_parameters()}
        losses = trainer.train_epoch(source, Progress(next_epoch=epoch)).losses
        changed = {n for n, value in trainer.model.named_parameters() if not torch.equal(before[n], value)}
        assert changed
        assert changed <= fusion if is_fusion else not changed & fusion
        assert set(losses) == {"total"} | (on & FUSION_TERMS if is_fusion else on - FUSION_TERMS)

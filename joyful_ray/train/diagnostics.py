"""Diagnostics of training on the first micro-batch of an epoch, at the cost of a few extra backward passes.

Shapes: N = utterances of the micro-batch, E = embedding width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.data.batch import Batch
from joyful_ray.graph.edges import Graph
from joyful_ray.model.joyful import Joyful, Output
from joyful_ray.model.precision import at_least_fp32
from joyful_ray.objective.joint import CLASSIFICATION, JointObjective
from joyful_ray.schema import Modality

COLLAPSED_UNIFORMITY = -0.05
SMOOTHED_DISTANCE = 0.02
COLLAPSED_SPREAD = 0.05
UNUSED_SHARE = 0.02
MAX_PAIRED_POINTS = 512


def diagnose(model: Joyful, objective: JointObjective, batch: Batch, *, seed: int) -> dict[str, float]:
    """Measure one micro-batch; weights, gradients and running statistics do not change.

    Args:
        model: the model in training mode.
        objective: its terms are measured one by one.
        batch: the micro-batch, on the model's device.
        seed: for parts of the user's own that draw from torch.

    Returns:
        `gradient/<term>`: norm of the weighted term's gradient with respect to fusion and context.
        `cosine/<term>/<term>`: cosine between two of these gradients.
        `distance/<layer>` and `energy/<layer>`: over-smoothing, if any two utterances are neighbours.
        `alignment` and `uniformity`: of the two views, if there are views.
        `spread/fused` and `spread/contextual`: how far the vectors of fusion, and of its contextual branch, lie apart.
        `share/<modality>`: share of the classification's sensitivity, if any utterance is labeled.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm1d) and part.training]
    for part in norms:
        part.eval()
    torch.manual_seed(seed)
    inputs = {name: values.detach().clone().requires_grad_() for name, values in batch.features.items()}
    tracked = replace(batch, features=inputs)
    output = model(tracked, with_views=objective.needs_views)
    sums = objective.sums(output, tracked)
    counts = objective.counts(tracked)
    found = _gradient_numbers(model, {n: objective.weights[n] * s / counts[n].clamp(min=1e-9) for n, s in sums.items()})
    if CLASSIFICATION in sums:
        found |= _modality_shares(sums[CLASSIFICATION], inputs)
    with torch.no_grad():
        found |= _over_smoothing(output.layers, model.graphs.whole(batch))
        found |= _view_numbers(output)
        found["spread/fused"] = float(spread(output.fused.nodes_ND))
        if output.fused.contextual_NG is not None:
            found["spread/contextual"] = float(spread(output.fused.contextual_NG))
    for part in norms:
        part.train()
    return found


def warnings_from(diagnostics: Mapping[str, float]) -> list[str]:
    """Warnings about failures that the selected epoch's diagnostics show."""
    warnings = []
    if diagnostics.get("uniformity", -1.0) > COLLAPSED_UNIFORMITY:
        warnings.append("the views' embeddings have collapsed to one point; try a smaller objective.contrast_weight")
    last = [value for name, value in diagnostics.items() if name.startswith("distance/")][-1:]
    if last and last[0] < SMOOTHED_DISTANCE:
        warnings.append("the graph encoder has made all utterances alike; try fewer layers or a smaller window")
    for name, what in (("fused", "fused vectors"), ("contextual", "vectors of the contextual branch")):
        if diagnostics.get(f"spread/{name}", 1.0) < COLLAPSED_SPREAD:
            warnings.append(
                f"the {what} have collapsed to nearly one point; try objective.detach_targets=true, a smaller "
                "objective.fusion_weight, or train.fusion_target=inputs in two-phase training"
            )
    for name, share in diagnostics.items():
        if name.startswith("share/") and share < UNUSED_SHARE:
            warnings.append(
                f"{name.removeprefix('share/')} contributes almost nothing ({share:.1%} of the sensitivity)"
            )
    return warnings


def mean_average_distance(x_NE: Tensor, graph: Graph) -> Tensor:
    """Mean cosine distance between the two ends of an edge, without self-loops; 0 if neighbours point the same way.

    Source: Chen et al., AAAI 2020 (MAD over neighbours).
    """
    is_pair = graph.source_E != graph.target_E
    if not bool(is_pair.any()):
        return x_NE.new_zeros(())
    ends = (x_NE.index_select(0, graph.source_E[is_pair]), x_NE.index_select(0, graph.target_E[is_pair]))
    return (1.0 - F.cosine_similarity(*ends, dim=1)).mean()


def dirichlet_energy(x_NE: Tensor, graph: Graph) -> Tensor:
    """Mean squared difference across an edge, divided by the mean squared norm; 0 if neighbours are equal.

    Source: Cai and Wang, 2020.
    """
    across = x_NE.index_select(0, graph.source_E) - x_NE.index_select(0, graph.target_E)
    return across.square().sum(dim=1).mean() / x_NE.square().sum(dim=1).mean().clamp(min=1e-12)


def spread(x_ND: Tensor) -> Tensor:
    """Root mean square distance from the mean vector, divided by the root mean square length; 0 if all are equal."""
    x_ND = at_least_fp32(x_ND)
    about_mean = (x_ND - x_ND.mean(dim=0)).square().mean()
    return (about_mean / x_ND.square().mean().clamp(min=1e-12)).sqrt()


def alignment(first_NE: Tensor, second_NE: Tensor) -> Tensor:
    """Mean squared distance of two views on the unit sphere; 0 if they agree (Wang and Isola, ICML 2020)."""
    return (F.normalize(first_NE, dim=1) - F.normalize(second_NE, dim=1)).square().sum(dim=1).mean()


def uniformity(x_NE: Tensor) -> Tensor:
    """Log of the mean Gaussian potential of pairs; 0 if all points coincide (Wang and Isola, ICML 2020)."""
    points = F.normalize(x_NE[:: -(-len(x_NE) // MAX_PAIRED_POINTS)], dim=1)
    return torch.pdist(points).square().mul(-2.0).exp().mean().log() if len(points) > 1 else points.new_zeros(())


def _gradient_numbers(model: Joyful, losses: Mapping[str, Tensor]) -> dict[str, float]:
    shared = [p for part in (model.fusion, model.context) for p in part.parameters() if p.requires_grad]
    flat = {
        name: _flatten(torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True), shared)
        for name, loss in losses.items()
        if loss.requires_grad and shared
    }
    found = {f"gradient/{name}": float(gradient.norm()) for name, gradient in flat.items()}
    for (left, one), (right, other) in itertools.combinations(flat.items(), 2):
        found[f"cosine/{left}/{right}"] = float(F.cosine_similarity(one, other, dim=0))
    return found


def _flatten(gradients: Iterable[Tensor | None], like: Iterable[Tensor]) -> Tensor:
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for gradient, parameter in zip(gradients, like, strict=True)
        ]
    )


def _modality_shares(loss: Tensor, inputs: Mapping[Modality, Tensor]) -> dict[str, float]:
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    weight = {
        name: 0.0 if gradient is None else float((gradient * torch.nan_to_num(values.detach())).abs().nansum())
        for (name, values), gradient in zip(inputs.items(), gradients, strict=True)
    }
    total = sum(weight.values())
    return {f"share/{name}": value / total for name, value in weight.items()} if total else {}


def _over_smoothing(layers: Iterable[Tensor], graph: Graph) -> dict[str, float]:
    found: dict[str, float] = {}
    if not bool((graph.source_E != graph.target_E).any()):
        return found
    for place, layer in enumerate(layers, start=1):
        found[f"distance/{place}"] = float(mean_average_distance(layer, graph))
        found[f"energy/{place}"] = float(dirichlet_energy(layer, graph))
    return found


def _view_numbers(output: Output) -> dict[str, float]:
    if output.views is None:
        return {}
    first, second = output.views
    return {"alignment": float(alignment(first, second)), "uniformity": float(uniformity(torch.cat([first, second])))}

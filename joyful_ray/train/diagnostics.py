"""What an epoch's first micro-batch shows of the method's health, at the price of a few extra backward passes.

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
from joyful_ray.objective.joint import CLASSIFICATION, JointObjective
from joyful_ray.schema import Modality

COLLAPSED_UNIFORMITY = -0.05
SMOOTHED_DISTANCE = 0.02
IDLE_SHARE = 0.02
SAMPLE = 512


def diagnose(model: Joyful, objective: JointObjective, batch: Batch, *, seed: int) -> dict[str, float]:
    """Look at one micro-batch; weights, gradients and running statistics stay as they are.

    Returns:
        `gradient/<term>`: norm of the weighted term's gradient on fusion and context; `cosine/<term>/<term>`: of the
        angle between two of them;
        `distance/<layer>` and `energy/<layer>`: over-smoothing, where any two utterances are neighbours; `alignment`,
        `uniformity`: of the views; `share/<modality>`: of the classification's sensitivity, where any is labeled.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm1d) and part.training]
    for part in norms:
        part.eval()
    torch.manual_seed(seed)
    generator = torch.Generator(batch.speakers_N.device).manual_seed(seed) if objective.needs_views else None
    inputs = {name: values.detach().clone().requires_grad_() for name, values in batch.features.items()}
    seen = replace(batch, features=inputs)
    output = model(seen, generator)
    sums = objective.sums(output, seen)
    counts = objective.counts(seen)
    found = _gradients(model, {n: objective.weights[n] * s / counts[n].clamp(min=1e-9) for n, s in sums.items()})
    if CLASSIFICATION in sums:
        found |= _shares(sums[CLASSIFICATION], inputs)
    with torch.no_grad():
        found |= _smoothing(output.layers, model.graphs.whole(batch))
        found |= _views(output)
    for part in norms:
        part.train()
    return found


def warnings_from(diagnostics: Mapping[str, float]) -> list[str]:
    """Failure signatures in the selected epoch's diagnostics."""
    warnings = []
    if diagnostics.get("uniformity", -1.0) > COLLAPSED_UNIFORMITY:
        warnings.append("the views' embeddings have collapsed to one point; try a smaller objective.contrast_weight")
    last = [value for name, value in diagnostics.items() if name.startswith("distance/")][-1:]
    if last and last[0] < SMOOTHED_DISTANCE:
        warnings.append("the graph encoder has smoothed all utterances to one; try fewer layers or a smaller window")
    for name, share in diagnostics.items():
        if name.startswith("share/") and share < IDLE_SHARE:
            warnings.append(f"{name.removeprefix('share/')} adds almost nothing ({share:.1%} of the sensitivity)")
    return warnings


def mean_average_distance(x_NE: Tensor, graph: Graph) -> Tensor:
    """Mean cosine distance between the ends of an edge, self-loops left out; 0 where neighbours look alike.

    Source: Chen et al., AAAI 2020 (MAD over neighbours).
    """
    apart = graph.source_E != graph.target_E
    if not bool(apart.any()):
        return x_NE.new_zeros(())
    ends = (x_NE.index_select(0, graph.source_E[apart]), x_NE.index_select(0, graph.target_E[apart]))
    return (1.0 - F.cosine_similarity(*ends, dim=1)).mean()


def dirichlet_energy(x_NE: Tensor, graph: Graph) -> Tensor:
    """Mean squared difference across an edge, over the mean squared norm; 0 where neighbours are equal.

    Source: Cai and Wang, 2020.
    """
    across = x_NE.index_select(0, graph.source_E) - x_NE.index_select(0, graph.target_E)
    return across.square().sum(dim=1).mean() / x_NE.square().sum(dim=1).mean().clamp(min=1e-12)


def alignment(first_NE: Tensor, second_NE: Tensor) -> Tensor:
    """Mean squared distance of two views on the unit sphere; 0 where they agree (Wang and Isola, ICML 2020)."""
    return (F.normalize(first_NE, dim=1) - F.normalize(second_NE, dim=1)).square().sum(dim=1).mean()


def uniformity(x_NE: Tensor) -> Tensor:
    """Log of the mean Gaussian potential of pairs; 0 where all are one point (Wang and Isola, ICML 2020)."""
    points = F.normalize(x_NE[:: -(-len(x_NE) // SAMPLE)], dim=1)
    return torch.pdist(points).square().mul(-2.0).exp().mean().log() if len(points) > 1 else points.new_zeros(())


def _gradients(model: Joyful, losses: Mapping[str, Tensor]) -> dict[str, float]:
    shared = [p for part in (model.fusion, model.context) for p in part.parameters() if p.requires_grad]
    flat = {
        name: _flat(torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True), shared)
        for name, loss in losses.items()
        if loss.requires_grad and shared
    }
    found = {f"gradient/{name}": float(gradient.norm()) for name, gradient in flat.items()}
    for (left, one), (right, other) in itertools.combinations(flat.items(), 2):
        found[f"cosine/{left}/{right}"] = float(F.cosine_similarity(one, other, dim=0))
    return found


def _flat(gradients: Iterable[Tensor | None], like: Iterable[Tensor]) -> Tensor:
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for gradient, parameter in zip(gradients, like, strict=True)
        ]
    )


def _shares(loss: Tensor, inputs: Mapping[Modality, Tensor]) -> dict[str, float]:
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    weight = {
        name: 0.0 if gradient is None else float((gradient * torch.nan_to_num(values.detach())).abs().nansum())
        for (name, values), gradient in zip(inputs.items(), gradients, strict=True)
    }
    total = sum(weight.values())
    return {f"share/{name}": value / total for name, value in weight.items()} if total else {}


def _smoothing(layers: Iterable[Tensor], graph: Graph) -> dict[str, float]:
    found: dict[str, float] = {}
    if not bool((graph.source_E != graph.target_E).any()):
        return found
    for place, layer in enumerate(layers, start=1):
        found[f"distance/{place}"] = float(mean_average_distance(layer, graph))
        found[f"energy/{place}"] = float(dirichlet_energy(layer, graph))
    return found


def _views(output: Output) -> dict[str, float]:
    if output.views is None:
        return {}
    first, second = output.views
    return {"alignment": float(alignment(first, second)), "uniformity": float(uniformity(torch.cat([first, second])))}

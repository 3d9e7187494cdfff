"""Fusion of the modalities' vectors into one vector per utterance.

Shapes: N = utterances, C = conversations, L = longest conversation, W = width of a modality, G = width of the
    contextual branch, M = modalities, S = specific width, Q = basis vectors, D = fused width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.components import build_component, is_component
from joyful_ray.data.batch import Layout
from joyful_ray.model.interfaces import Fused
from joyful_ray.model.memory import PartMemory
from joyful_ray.model.precision import at_least_fp32
from joyful_ray.model.released import AutoFusion
from joyful_ray.model.transformer import ConversationTransformer
from joyful_ray.model_settings import FusionConfig
from joyful_ray.schema import Modality

TOPIC_CHUNK = 256


class ContextualBranch(nn.Module):
    """The global branch (B1): one tanh layer per modality, then a transformer over the conversation.

    Shapes: input per modality (N, W), output (N, G).

    Source: JOYFUL, section 3.3; METHOD.md, choices 3 to 5.
    """

    width: int

    def __init__(self, widths: Mapping[Modality, int], config: FusionConfig, *, causal: bool = False) -> None:
        super().__init__()
        inner = {name: config.global_width or width for name, width in widths.items()}
        self.maps = nn.ModuleDict({name: nn.Linear(width, inner[name]) for name, width in widths.items()})
        self.width = sum(inner.values())
        self.topic_rate = config.topic_rate
        self.context = ConversationTransformer(
            self.width,
            layers=config.global_layers,
            heads=config.global_heads,
            feedforward=config.global_feedforward,
            dropout=config.dropout,
            causal=causal,
        )

    def forward(self, features: Mapping[str, Tensor], layout: Layout) -> tuple[Tensor, Tensor]:
        """The contextual vectors, and the vectors before the transformer."""
        single_NG = self._mapped(features)
        return self.context(single_NG, layout), single_NG

    def step(self, features: Mapping[str, Tensor], memory: PartMemory) -> Tensor:
        """The contextual vector of the next utterance, (1, G), if the branch is causal."""
        return self.context.step(self._mapped(features), memory)

    def _mapped(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([torch.tanh(self.maps[name](features[name])) for name in self.maps], dim=1)


class SpecificBranch(nn.Module):
    """The specific branch (B2): each modality expressed in one trainable basis that all modalities share.

    Shapes: input per modality (N, W), output (N, M * S).

    Source: JOYFUL, section 3.3; METHOD.md, choices 3, 6 and 7.
    """

    width: int

    def __init__(self, widths: Mapping[Modality, int], config: FusionConfig) -> None:
        super().__init__()
        size, self.names = config.specific_width, list(widths)
        self.maps = nn.ModuleDict({name: nn.Linear(width, size) for name, width in widths.items()})
        self.projections = nn.ModuleDict({name: nn.Linear(size, size, bias=False) for name in widths})
        self.basis_QS = nn.Parameter(torch.empty(config.basis_vectors, size))
        self.basis_projection = nn.Linear(size, size, bias=False)
        self.cosine = config.similarity == "cosine"
        self.width = size * len(widths)
        nn.init.normal_(self.basis_QS)

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The vectors rebuilt from the basis, and the original vectors."""
        basis_QS = self.basis_projection(self.basis_QS)
        keys_QS = F.normalize(basis_QS, dim=1) if self.cosine else basis_QS / basis_QS.shape[1] ** 0.5
        single, rebuilt = [], []
        for name in self.maps:
            vectors_NS = torch.tanh(self.maps[name](features[name]))
            queries_NS = self.projections[name](vectors_NS)
            if self.cosine:
                queries_NS = F.normalize(queries_NS, dim=1)
            rebuilt.append(torch.softmax(queries_NS @ keys_QS.T, dim=1) @ basis_QS)
            single.append(vectors_NS)
        return torch.cat(rebuilt, dim=1), torch.cat(single, dim=1)

    def by_modality(self, rebuilt: Tensor) -> dict[Modality, Tensor]:
        """The part of each modality in the rebuilt vectors, (N, S) each."""
        return dict(zip(self.names, rebuilt.split(self.width // len(self.names), dim=1), strict=True))


class DualBranchFusion(nn.Module):
    """The paper's fusion: a contextual and a specific branch, either of which can be switched off.

    Shapes: output nodes (N, D), D = G + M * S.

    Source: JOYFUL, section 3.3.
    """

    width: int

    def __init__(self, widths: Mapping[Modality, int], config: FusionConfig, *, causal: bool = False) -> None:
        super().__init__()
        self.contextual = ContextualBranch(widths, config, causal=causal) if config.global_branch else None
        self.specific = SpecificBranch(widths, config) if config.specific_branch else None
        self.width = sum(branch.width for branch in (self.contextual, self.specific) if branch is not None)

    def forward(self, features: Mapping[str, Tensor], layout: Layout) -> Fused:
        """Fuse the modalities of every utterance."""
        nodes, reconstructions = [], {}
        topic_NG = contextual_NG = None
        shared: dict[Modality, Tensor] = {}
        if self.contextual is not None:
            contextual_NG, single_NG = self.contextual(features, layout)
            nodes.append(contextual_NG)
            reconstructions["global"] = (contextual_NG, single_NG)
            topic_NG = topic_vectors(contextual_NG, layout, rate=self.contextual.topic_rate)
        if self.specific is not None:
            rebuilt, single = self.specific(features)
            nodes.append(rebuilt)
            reconstructions["specific"] = (rebuilt, single)
            shared = self.specific.by_modality(rebuilt)
        return Fused(torch.cat(nodes, dim=1), reconstructions, topic_NG, contextual_NG, shared)

    def step(self, features: Mapping[str, Tensor], memory: PartMemory) -> Tensor:
        """The fused vector of the next utterance, (1, D), if the fusion is causal."""
        nodes = [] if self.contextual is None else [self.contextual.step(features, memory)]
        return torch.cat(nodes if self.specific is None else [*nodes, self.specific(features)[0]], dim=1)


class Concatenation(nn.Module):
    """No fusion model: the modalities are concatenated.

    Shapes: output nodes (N, sum of W).
    """

    width: int

    def __init__(self, widths: Mapping[Modality, int]) -> None:
        super().__init__()
        self.width = sum(widths.values())

    def forward(self, features: Mapping[str, Tensor], layout: Layout) -> Fused:
        """Concatenate."""
        return Fused(torch.cat(list(features.values()), dim=1), {})

    def step(self, features: Mapping[str, Tensor], memory: PartMemory) -> Tensor:
        """The fused vector of the next utterance, (1, D)."""
        return torch.cat(list(features.values()), dim=1)


@torch.no_grad()
def topic_vectors(contextual_NG: Tensor, layout: Layout, *, rate: float) -> Tensor:
    """The topic before each utterance: the mean of the earlier ones, weighted by e^(rate * position).

    The topic of the first utterance is zero. The paper sums e^(rate * i) times each vector, which overflows; this
    divides that sum by the sum of the weights. No gradient flows through it.

    Source: JOYFUL, section 3.3; METHOD.md, choice 5.
    """
    padded_CLG = layout.pad(at_least_fp32(contextual_NG))
    topics = torch.zeros_like(padded_CLG)
    carried_CG = padded_CLG[:, 0] * 0.0
    carried_weight = 0.0
    decay = torch.tensor(-rate, device=padded_CLG.device).exp()
    for start in range(0, layout.longest, TOPIC_CHUNK):
        chunk_CLG = padded_CLG[:, start : start + TOPIC_CHUNK]
        places = torch.arange(chunk_CLG.shape[1], device=chunk_CLG.device)
        age = (places[:, None] - 1 - places[None, :]).to(chunk_CLG.dtype)
        weights = torch.where(age >= 0, torch.exp(-rate * age), 0.0)
        old = decay ** places.to(chunk_CLG.dtype)
        with torch.autocast(chunk_CLG.device.type, enabled=False):
            total = weights @ chunk_CLG + old[:, None] * carried_CG[:, None, :]
        weight = weights.sum(dim=1) + old * carried_weight
        topics[:, start : start + TOPIC_CHUNK] = total / weight.clamp(min=1e-30)[:, None]
        carried_CG = total[:, -1] * decay + chunk_CLG[:, -1]
        carried_weight = float(weight[-1] * decay + 1.0)
    return layout.unpad(topics).to(contextual_NG.dtype)


BuiltInFusion = DualBranchFusion | AutoFusion | Concatenation
"""A fusion of the user has the same interface."""


def build_fusion(widths: Mapping[Modality, int], config: FusionConfig, *, causal: bool = False) -> BuiltInFusion:
    """Build the fusion that the config names.

    Args:
        widths: width of each modality.
        config: the `model.fusion` section.
        causal: let no utterance see a later one; a fusion of the user says that it does so by `is_causal`.

    Raises:
        ConfigError: it is the user's own, and cannot be built.
    """
    if is_component(config.kind):
        return build_component(config.kind, "fusion", config.options, widths)
    if config.kind == "dual-branch":
        return DualBranchFusion(widths, config, causal=causal)
    return AutoFusion(widths, config) if config.kind == "auto-fusion" else Concatenation(widths)

"""The joint objective: its terms, their weights, and the counts by which the sums over all ranks are divided.

Shapes: N = utterances of the micro-batch, K = labels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from joyful_ray.components import build_component
from joyful_ray.data.batch import Batch, Layout
from joyful_ray.model.joyful import Output
from joyful_ray.model.pretraining import LABELS
from joyful_ray.objective import terms
from joyful_ray.objective.alignment import aligned, alignment
from joyful_ray.objective.regression import LabelWeights, discordance, ordinal
from joyful_ray.schema import Task
from joyful_ray.settings import ObjectiveConfig

CLASSIFICATION, CONTRAST, CONSISTENCY, PRETRAINING = "classification", "contrast", "consistency", "pretraining"
ALIGNMENT, ORDINAL, CORRELATION = "alignment", "ordinal", "correlation"
MANY_NUMBERS, SQUARE_PADDING = 1 << 20, 1.3
FUSION_TERMS = ("smoothing", "global", "specific")


def class_weights(counts: Sequence[int], power: float) -> list[float]:
    """(1 / frequency) to a power, scaled to a mean of 1 over training utterances; absent classes get weight 1."""
    total, present = sum(counts), [count for count in counts if count]
    raw = [(total / count) ** power if count else 1.0 for count in counts]
    mean = sum(weight * count for weight, count in zip(raw, counts, strict=True)) / total if present else 1.0
    return [weight / mean if count else 1.0 for weight, count in zip(raw, counts, strict=True)]


class JointObjective(nn.Module):
    """Computes the sum of every term over a micro-batch, and the matching counts.

    Args:
        config: the `objective` section of the job.
        task: decides the classification term.
        weight_K: class weights (single-label); empty for none.
        label_weights: weights of the labels by how rare they are (regression); None for none.
        has_pretraining: whether a first stage trains the fusion on something besides its own terms.

    Source: JOYFUL, section 3.5.
    """

    weight_K: Tensor

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        task: Task,
        weight_K: Sequence[float] = (),
        label_weights: LabelWeights | None = None,
        has_pretraining: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.task, self.label_weights = config, task, label_weights
        self.register_buffer("weight_K", torch.tensor(list(weight_K) or [1.0]), persistent=False)
        self.weights = {CLASSIFICATION: 1.0}
        if config.fusion_weight:
            switches = (config.smoothing, config.global_reconstruction, config.specific_reconstruction)
            self.weights |= {n: config.fusion_weight for n, on in zip(FUSION_TERMS, switches, strict=True) if on}
        if config.contrast_weight and (config.inter_view or config.intra_view):
            self.weights[CONTRAST] = config.contrast_weight
        if config.alignment_weight:
            self.weights[ALIGNMENT] = config.alignment_weight
        if task == "regression":
            wanted = {ORDINAL: config.ordinal_weight, CORRELATION: config.correlation_weight}
            self.weights |= {name: weight for name, weight in wanted.items() if weight}
        if has_pretraining:
            self.weights[PRETRAINING] = 1.0
        if config.consistency:
            self.weights[CONSISTENCY] = config.consistency
        self.extra: dict[str, Any] = {
            name: build_component(term.kind, "term", term.options) for name, term in config.extra_terms.items()
        }
        self.weights |= {name: term.weight for name, term in config.extra_terms.items() if term.weight}

    def only(self, names: Sequence[str]) -> JointObjective:
        """The same objective with only some of its terms."""
        chosen = copy.copy(self)
        chosen.weights = {name: weight for name, weight in self.weights.items() if name in names}
        return chosen

    @property
    def needs_views(self) -> bool:
        """Whether any term compares views."""
        return CONTRAST in self.weights

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The divisor of each term's sum; known before the forward pass, so that it can be summed over ranks first."""
        labeled = batch.labeled_N
        if self.task == "single-label":
            classified = (self.weight_K[batch.labels.clamp(min=0)] * labeled).sum()
        elif self.task == "multi-label" and self.config.multi_label_reduction == "sum":
            classified = torch.ones((), device=labeled.device)
        elif self.label_weights is not None:
            classified = self.label_weights(batch.labels).sum()
        else:
            classified = labeled.sum()
        utterances = torch.tensor(float(batch.utterances), device=classified.device)
        later = utterances - len(batch.lengths_C)
        counts = {
            PRETRAINING: utterances,
            CLASSIFICATION: classified,
            ORDINAL: labeled.sum(),
            CORRELATION: labeled.sum(),
            "smoothing": later,
            CONTRAST: utterances,
            CONSISTENCY: utterances,
        }
        if ALIGNMENT in self.weights:
            counts[ALIGNMENT] = aligned(batch)
        counts |= {name: self._counted(term, batch).sum() for name, term in self.extra.items()}
        if self.config.reconstruction_scope == "last-conversation":
            return counts | {"global": torch.ones_like(utterances), "specific": torch.ones_like(utterances)}
        return counts | {"global": utterances, "specific": utterances}

    def sums(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The sum of each term over this batch."""
        sums = {}
        if CLASSIFICATION in self.weights:
            sums[CLASSIFICATION] = self._classification(output, batch).sum()
        sums |= self._regression(output, batch)
        sums |= self._fusion(output, batch)
        if CONTRAST in self.weights and output.views is not None:
            sums[CONTRAST] = self._contrast(output, output.views, batch)
        if ALIGNMENT in self.weights:
            sums[ALIGNMENT] = alignment(
                output.fused.shared,
                batch,
                temperature=self.config.alignment_temperature,
                in_batch=self.config.alignment_negatives == "micro-batch",
            )
        if PRETRAINING in self.weights and output.pretraining is not None:
            sums[PRETRAINING] = self._pretraining(output.pretraining, batch).sum()
        if CONSISTENCY in self.weights and output.second_scores_NK is not None:
            sums[CONSISTENCY] = terms.divergence(output.scores_NK, output.second_scores_NK, self.task).sum()
        for name, term in self.extra.items():
            if name in self.weights:
                sums[name] = (term.losses(output, batch) * self._counted(term, batch)).sum()
        return sums

    def total(self, sums: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms, each divided by its count over all ranks."""
        return sum((self.weights[n] * s / counts[n].clamp(min=1e-9) for n, s in sums.items()), torch.zeros(()))

    @staticmethod
    def plain_loss(scores_NK: Tensor, labels: Tensor, task: Task) -> Tensor:
        """The loss of each utterance without class weights or label smoothing, as evaluation reports it: (N,)."""
        if task == "single-label":
            return terms.cross_entropy(scores_NK, labels, scores_NK.new_ones(scores_NK.shape[1]))
        if task == "multi-label":
            return terms.binary_cross_entropy(scores_NK, labels)
        return terms.absolute_error(scores_NK, labels)

    @staticmethod
    def _counted(term: Any, batch: Batch) -> Tensor:
        """The utterances that a term of the user counts, (N,); all if it has no method `counted`."""
        if hasattr(term, "counted"):
            return term.counted(batch).float()
        return torch.ones(batch.utterances, device=batch.labeled_N.device)

    def _classification(self, output: Output, batch: Batch) -> Tensor:
        """The loss of each utterance, (N,); the mean of both passes if there are two."""
        loss_N = self._classified(output.scores_NK, batch)
        if output.second_scores_NK is None:
            return loss_N
        return (loss_N + self._classified(output.second_scores_NK, batch)) / 2

    def _classified(self, scores_NK: Tensor, batch: Batch) -> Tensor:
        if self.task == "single-label":
            return terms.cross_entropy(
                scores_NK,
                batch.labels,
                self.weight_K,
                focal_gamma=self.config.focal_gamma,
                label_smoothing=self.config.label_smoothing,
            )
        loss_N = self.plain_loss(scores_NK, batch.labels, self.task)
        if self.label_weights is not None:
            return loss_N * self.label_weights(batch.labels)
        is_sum = self.task == "multi-label" and self.config.multi_label_reduction == "sum"
        return loss_N * scores_NK.shape[1] if is_sum else loss_N

    def _regression(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The sums of the terms for numbers; the mean of both passes if there are two."""
        config = self.config
        sums: dict[str, Tensor] = {}
        if not {ORDINAL, CORRELATION} & set(self.weights):
            return sums
        passes = [scores.squeeze(1) for scores in (output.scores_NK, output.second_scores_NK) if scores is not None]
        if ORDINAL in self.weights:
            scale, borders = config.ordinal_scale, config.ordinal_thresholds
            found = [ordinal(scores_N, batch.labels, borders, scale=scale).sum() for scores_N in passes]
            sums[ORDINAL] = torch.stack(found).mean()
        if CORRELATION in self.weights:
            found = [discordance(scores_N, batch.labels) for scores_N in passes]
            sums[CORRELATION] = torch.stack(found).mean() * batch.labeled_N.sum()
        return sums

    def _pretraining(self, told: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The loss of what the fused vectors tell, (N,)."""
        if LABELS in told:
            return self._classified(told[LABELS], batch)
        losses = [terms.rebuilt(told[name], values) for name, values in batch.features.items()]
        return torch.stack(losses).mean(dim=0)

    def _fusion(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        fused, sums = output.fused, {}
        last = self.config.reconstruction_scope == "last-conversation"
        for name, (rebuilt, target) in fused.reconstructions.items():
            if name in self.weights:
                loss_N = terms.reconstruction(rebuilt, target.detach() if self.config.detach_targets else target)
                sums[name] = loss_N[-int(batch.lengths_C[-1]) :].sum() if last else loss_N.sum()
        if "smoothing" in self.weights and fused.contextual_NG is not None and fused.topic_NG is not None:
            sums["smoothing"] = terms.smoothing(fused.contextual_NG, fused.topic_NG, batch.layout).sum()
        return sums

    def _contrast(self, output: Output, views: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        config = self.config
        in_batch = config.negatives == "micro-batch"
        layout = Layout.of(batch.lengths_C.sum()[None]) if in_batch else batch.layout
        pairs = [views]
        if config.contrast_pairs == "original":
            assert output.original_NE is not None, "JobConfig refuses it where only views are encoded"
            pairs = [(output.original_NE, view) for view in views]
        # Square matrices of similarities: nothing of a long conversation is padded to, if it pays.
        squares = len(layout.lengths_C) * layout.longest**2
        groups = layout.groups(most_padding=SQUARE_PADDING if squares > MANY_NUMBERS else math.inf)
        parts = [
            self._contrast_of(anchor[rows_N], other[rows_N], part) for rows_N, part in groups for anchor, other in pairs
        ]
        return torch.stack(parts).sum()

    def _contrast_of(self, anchor: Tensor, other: Tensor, layout: Layout) -> Tensor:
        config, temperature = self.config, self.config.temperature
        if config.joint_denominator:
            return terms.nt_xent(
                anchor,
                other,
                layout,
                temperature=temperature,
                inter=config.inter_view,
                intra=config.intra_view,
                self_negative=config.self_negative,
            ).sum()
        total = anchor.new_zeros(())
        if config.inter_view:
            total = total + 0.5 * terms.inter_view_contrast(anchor, other, layout, temperature=temperature).sum()
        if config.intra_view:
            intra_N = terms.intra_view_contrast(
                anchor, other, layout, temperature=temperature, self_negative=config.self_negative
            )
            total = total + 0.5 * intra_N.sum()
        return total

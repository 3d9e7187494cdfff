"""Which settings let an utterance depend on other conversations, so that a step has to be cut into fixed micro-batches.

Without any of them a conversation is the unit of work: a rank packs all of its conversations of a step into one pass.
"""

from __future__ import annotations

from joyful_ray.config import JobConfig
from joyful_ray.data.plan import StepRules


def beyond_conversations(job: JobConfig) -> list[str]:
    """The settings under which a score, a random draw or a loss depends on the other conversations of a micro-batch."""
    model, augment, objective = job.model, job.augment, job.objective
    rewires = [
        f"augment.{name}.edge_mode: rewire"
        for name, view in (("first_view", augment.first_view), ("second_view", augment.second_view))
        if view.edge_ratio and (view.edge_mode == "rewire" or augment.shared_edge_noise)
    ]
    contrasts = objective.contrast_weight > 0 and (objective.inter_view or objective.intra_view)
    looks_further = {
        "model.encoder.normalisation: batch": model.encoder.normalisation == "batch",
        "model.context.padding_mask: false": model.attends_to_padding,
        "objective.negatives: micro-batch": contrasts and objective.negatives == "micro-batch",
        "objective.alignment_negatives: micro-batch": objective.alignment_weight > 0
        and objective.alignment_negatives == "micro-batch",
        "objective.reconstruction_scope: last-conversation": objective.fusion_weight > 0
        and objective.reconstruction_scope == "last-conversation",
        "objective.correlation_weight": objective.correlation_weight > 0,
        "objective.multi_label_reduction: sum": objective.multi_label_reduction == "sum",
    }
    own = [f"{path}: {kind}" for path, kind in job.components.items()]
    return [*rewires, *(name for name, is_so in looks_further.items() if is_so), *own]


def step_rules(job: JobConfig) -> StepRules:
    """How the steps of a job are cut."""
    train = job.train
    if beyond_conversations(job):
        return StepRules(train.batch_conversations, micro_batches=train.micro_batches)
    return StepRules(train.batch_conversations, pass_utterances=job.cluster.utterances_per_pass)

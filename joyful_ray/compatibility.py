"""Which settings of a job cannot go together; `JobConfig` checks them when a job is made."""

from __future__ import annotations

from joyful_ray.components import is_component, load_component
from joyful_ray.graph_settings import AugmentConfig
from joyful_ray.model_settings import ModelConfig
from joyful_ray.settings import DataConfig, ObjectiveConfig, TrainConfig


def check_compatible(
    *, data: DataConfig, model: ModelConfig, augment: AugmentConfig, objective: ObjectiveConfig, train: TrainConfig
) -> None:
    """Refuse sections of a job that cannot go together.

    Raises:
        ValueError: with the settings and what to do.
    """
    fusion = model.fusion
    if data.folds is None and data.fold:
        raise ValueError("data.fold needs data.folds, the number of parts")
    if data.folds is not None and data.fold >= data.folds:
        raise ValueError(f"data.fold counts from 0 to {data.folds - 1}, because data.folds is {data.folds}")
    if data.folds is not None and train.refit:
        raise ValueError("train.refit would train on the part that data.folds holds out; switch one of them off")
    if fusion.kind != "concatenation" and not (fusion.global_branch or fusion.specific_branch):
        raise ValueError("model.fusion needs global_branch or specific_branch, or kind: concatenation")
    if objective.contrast_pairs == "original" and augment.classify == "views":
        raise ValueError("objective.contrast_pairs: original needs augment.classify: graph")
    has_shared_space = is_component(fusion.kind) or (fusion.kind == "dual-branch" and fusion.specific_branch)
    if objective.alignment_weight and not has_shared_space:
        raise ValueError(
            "objective.alignment_weight needs a basis that modalities share: model.fusion.kind: dual-branch with "
            "specific_branch: true"
        )
    if train.stages == "two-phase" and not is_component(fusion.kind):
        _check_fusion_trains_alone(model, objective, train)
    if train.refit and train.schedule == "plateau":
        raise ValueError("train.refit has no dev loss to follow; use another train.schedule than plateau")
    if model.causal:
        _check_nothing_sees_the_future(data, model)


def _check_fusion_trains_alone(model: ModelConfig, objective: ObjectiveConfig, train: TrainConfig) -> None:
    fusion = model.fusion
    if train.fusion_epochs >= train.epochs:
        raise ValueError("train.epochs must be greater than train.fusion_epochs in two-phase training")
    if fusion.kind == "concatenation":
        raise ValueError("two-phase training needs a fusion to train, and model.fusion.kind is concatenation")
    if train.fusion_target != "terms":
        return
    if not objective.fusion_weight:
        raise ValueError("train.fusion_target: terms needs an objective.fusion_weight above 0")
    has_smoothing = objective.smoothing and fusion.kind != "auto-fusion"
    if fusion.global_branch and not (objective.global_reconstruction or has_smoothing):
        raise ValueError("train.fusion_target: terms needs objective.global_reconstruction for the global branch")
    if fusion.specific_branch and not objective.specific_reconstruction:
        raise ValueError("train.fusion_target: terms needs objective.specific_reconstruction for the specific branch")


def _check_nothing_sees_the_future(data: DataConfig, model: ModelConfig) -> None:
    if data.normalise in ("speaker", "both"):
        raise ValueError(
            f"data.normalise: {data.normalise} looks at a speaker's later utterances, which model.causal forbids; "
            "use train or none"
        )
    for name in ("fusion", "context", "encoder"):
        kind = getattr(model, name).kind
        if is_component(kind) and not getattr(load_component(kind, name), "is_causal", False):
            raise ValueError(
                f"model.causal needs a model.{name} that sees no later utterance; if {kind} is one, say so with "
                "is_causal = True in its class"
            )

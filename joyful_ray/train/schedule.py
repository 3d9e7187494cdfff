"""Learning rates and early stopping as pure functions, so that a resumed run decides like an uninterrupted one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from joyful_ray.settings import TrainConfig

PLATEAU_PATIENCE, PLATEAU_FACTOR, PLATEAU_THRESHOLD = 8, 0.1, 1e-4


@dataclass(frozen=True)
class PartialEpoch:
    """What an epoch has come to after some of its steps, over all ranks.

    Attributes:
        step: number of steps.
        sums, counts: of each term of the objective.
        conversations: number of conversations trained on.
        seen: sum of their keys; see `EpochMetrics.seen`.
        seconds, waited: wall time so far, and how much of it the first rank waited for data.
        gradient_norm: sum of the norms.
        diagnostics: those of the epoch's first step.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    conversations: int = 0
    seen: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    gradient_norm: float = 0.0
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """The progress of a run: everything that resuming needs besides weights and optimizer.

    Attributes:
        next_epoch: the epoch to train next, counted from 0; also the number of epochs trained.
        best_epoch: epoch with the best dev score, counted from 0; -1 before the first score.
        best_score: best dev score so far; greater is better.
        stale_epochs: epochs since the best one.
        plateau_best, plateau_stale: lowest dev loss so far, and epochs since then.
        plateau_factor: factor of the learning rate under `plateau`.
        partial: what the next epoch has come to, if the run was saved in the middle of it.
        resumes: how often the run was continued.
        repeated_steps: number of steps that were trained again because of that, as far as known.
    """

    next_epoch: int = 0
    best_epoch: int = -1
    best_score: float = -math.inf
    stale_epochs: int = 0
    plateau_best: float = math.inf
    plateau_stale: int = 0
    plateau_factor: float = 1.0
    partial: PartialEpoch | None = None
    resumes: int = 0
    repeated_steps: int = 0

    def steps(self, steps_per_epoch: int) -> int:
        """Number of steps trained."""
        return self.next_epoch * steps_per_epoch + (self.partial.step if self.partial is not None else 0)

    def after(self, *, score: float, dev_loss: float, counts: bool = True) -> Progress:
        """The progress after one more epoch.

        Args:
            score: dev score of the epoch; greater is better.
            dev_loss: dev loss of the epoch.
            counts: False for an epoch that trained only the fusion, whose dev score says nothing.
        """
        if not counts:
            return replace(self, next_epoch=self.next_epoch + 1, partial=None)
        is_best = score > self.best_score
        improved = dev_loss < self.plateau_best * (1.0 - PLATEAU_THRESHOLD)
        stale = 0 if improved else self.plateau_stale + 1
        falls = stale > PLATEAU_PATIENCE
        return replace(
            self,
            next_epoch=self.next_epoch + 1,
            partial=None,
            best_epoch=self.next_epoch if is_best else self.best_epoch,
            best_score=score if is_best else self.best_score,
            stale_epochs=0 if is_best else self.stale_epochs + 1,
            plateau_best=dev_loss if improved else self.plateau_best,
            plateau_stale=0 if falls else stale,
            plateau_factor=self.plateau_factor * PLATEAU_FACTOR if falls else self.plateau_factor,
        )

    def is_done(self, train: TrainConfig) -> bool:
        """Whether the run ends now."""
        return self.next_epoch >= train.epochs or self.stale_epochs >= train.patience


def lengthened(train: TrainConfig, *, conversations: int) -> TrainConfig:
    """The settings of a corpus of this size: as many epochs as `min_steps` needs, and all that is counted in epochs.

    Args:
        train: the settings of the job.
        conversations: number of training conversations.
    """
    steps = train.epochs * -(-conversations // train.batch_conversations)
    if steps >= train.min_steps:
        return train
    factor = train.min_steps / steps
    return train.model_copy(
        update={
            "epochs": math.ceil(train.epochs * factor),
            "patience": math.ceil(train.patience * factor),
            "fusion_epochs": math.ceil(train.fusion_epochs * factor),
            "warmup_epochs": train.warmup_epochs * factor,
        }
    )


def learning_rate(train: TrainConfig, *, step: int, steps_per_epoch: int, plateau_factor: float = 1.0) -> float:
    """Learning rate of a step; steps are counted from 0 over the whole run."""
    warmup = train.warmup_epochs * steps_per_epoch
    rate = train.learning_rate * min(1.0, (step + 1) / warmup) if warmup else train.learning_rate
    if train.schedule == "plateau":
        return rate * plateau_factor
    if train.schedule == "cosine" and step >= warmup:
        share = (step - warmup) / max(train.epochs * steps_per_epoch - warmup, 1.0)
        return rate * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
    return rate

"""The trainable state of one rank: model, EMA weights, objective and optimizer."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from joyful_ray.config import JobConfig
from joyful_ray.data.loader import BatchLoader, Work, blank_batch
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.objective.joint import ALIGNMENT, FUSION_TERMS, PRETRAINING, JointObjective
from joyful_ray.records import RankTimes
from joyful_ray.termination import Stopped
from joyful_ray.train import checkpoint
from joyful_ray.train.allocator import return_large_blocks
from joyful_ray.train.build import build_model, build_objective, build_optimizer
from joyful_ray.train.checkpoint import CheckpointContent, Snapshot
from joyful_ray.train.diagnostics import diagnose
from joyful_ray.train.epoch_tally import EpochTally
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.saving import Saving
from joyful_ray.train.schedule import PartialEpoch, Progress, learning_rate, lengthened
from joyful_ray.train.step import NO_WISHES, TrainState, train_step


@dataclass(frozen=True)
class EpochNumbers:
    """The results of one epoch of training.

    Attributes:
        losses: mean of each term over all ranks; `total` is their weighted sum.
        conversations: number of conversations trained on, over all ranks.
        seen: sum of their keys; see `EpochMetrics.seen`.
        train_seconds: wall time of the epoch.
        waiting_share: share of that time in which this rank waited for data.
        learning_rate: learning rate of the last step.
        gradient_norm: mean norm of the gradient per step, before clipping.
        diagnostics: named measurements; empty if they are off, and on all ranks but the first.
        ranks: what the steps have cost each rank.
    """

    losses: dict[str, float]
    conversations: int
    seen: int
    train_seconds: float
    waiting_share: float
    learning_rate: float
    gradient_norm: float
    diagnostics: dict[str, float]
    ranks: list[RankTimes]


class Trainer:
    """Trains one rank: one call per epoch, with checkpoints in between.

    Args:
        job: the settings.
        corpus_info: what is known of the corpus.
        process_group: the ranks that train together.
    """

    def __init__(self, job: JobConfig, corpus_info: CorpusInfo, process_group: ProcessGroup) -> None:
        if process_group.device.type == "cpu":
            return_large_blocks()
        self.job, self.process_group = job, process_group
        self.config = lengthened(job.train, conversations=corpus_info.conversations)
        self.model = build_model(job, corpus_info).to(process_group.device)
        self.ema_model = copy.deepcopy(self.model).eval() if job.train.ema_decay else None
        self.optimizer = build_optimizer(job, [p for p in self.model.parameters() if p.requires_grad])
        self._objective = build_objective(job, corpus_info).to(process_group.device)
        self._blank = blank_batch(corpus_info.encoding)
        self._always_frozen = [p for p in self.model.parameters() if not p.requires_grad]
        self._stage: str | None = None
        self._state: TrainState | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and kept: the EMA of the weights if there is one, else the model itself."""
        return self.ema_model or self.model

    def stage_of(self, epoch: int) -> str:
        """The stage of an epoch (counted from 0): `fusion`, then `rest`, in two-phase training; otherwise `joint`."""
        if self.job.train.stages == "joint":
            return "joint"
        return "fusion" if epoch < self.config.fusion_epochs else "rest"

    def train_epoch(self, loader: BatchLoader, progress: Progress, saving: Saving | None = None) -> EpochNumbers:
        """Train one pass over the training split, or the rest of it if the run was saved in the middle.

        Raises:
            Stopped: the run was asked to stop; it has been saved.
        """
        epoch, config, group = progress.next_epoch, self.config, self.process_group
        state = self.state_of(self.stage_of(epoch))
        self.model.train()
        steps, names = loader.steps(world_size=group.size), list(state.objective.weights)
        before = progress.partial or PartialEpoch()
        tally, rate = EpochTally(names, group, before), 0.0
        work = loader.epoch(epoch, rank=group.rank, world_size=group.size, start=before.step)
        for index in range(before.step, steps):
            asked = time.perf_counter()
            mine = next(work)
            tally.waited += time.perf_counter() - asked
            rate = learning_rate(
                config,
                step=epoch * steps + index,
                steps_per_epoch=steps,
                plateau_factor=progress.plateau_factor,
            )
            for parameters in self.optimizer.param_groups:
                parameters["lr"] = rate
            if index == 0 and config.diagnostics and group.is_first:
                tally.diagnostics = self._diagnostics(loader, epoch, mine, state.objective)
            wishes = NO_WISHES if saving is None else saving.wishes(epoch * steps + index)
            result = train_step(state, mine, place=f"epoch {epoch + 1}, step {index + 1}", wishes=wishes)
            self._update_ema(epoch * steps + index)
            tally.add(mine, result)
            if saving is None or index + 1 == steps:
                continue
            is_noticed = result.wishes.asks and saving.is_noticed()
            if result.wishes.saves or is_noticed:
                so_far = replace(progress, partial=tally.so_far(step=index + 1))
                if group.is_first:
                    saving.write(self.snapshot(is_copy=True), so_far, step=so_far.steps(steps))
                if result.wishes.stops:
                    saving.wait()
                    raise Stopped(f"epoch {epoch + 1}, step {index + 1} of {steps}")
        whole = tally.so_far(step=steps)
        losses = {name: whole.sums[name] / max(whole.counts[name], 1e-9) for name in names}
        losses["total"] = sum(state.objective.weights[name] * losses[name] for name in names)
        return EpochNumbers(
            losses=losses,
            conversations=whole.conversations,
            seen=whole.seen,
            train_seconds=whole.seconds,
            waiting_share=whole.waited / max(whole.seconds, 1e-9),
            learning_rate=rate,
            gradient_norm=whole.gradient_norm / steps,
            diagnostics=whole.diagnostics,
            ranks=tally.ranks(),
        )

    def _diagnostics(self, loader: BatchLoader, epoch: int, mine: Work, objective: JointObjective) -> dict[str, float]:
        """Measurements of the first step, of what one rank alone would have of it, however many there are."""
        if self.process_group.size > 1:
            mine = next(loader.epoch(epoch, rank=0, world_size=1))
        if not mine:
            return {}
        micro, batch = mine[0]
        return diagnose(self.model, objective, batch.to(self.process_group.device), seed=micro.seed)

    def snapshot(self, *, is_copy: bool = False) -> Snapshot:
        """What a checkpoint has of this state; a copy stays as it is while training goes on."""
        ema_weights = self.ema_model.state_dict() if self.ema_model is not None else None
        return checkpoint.snapshot(self.model, ema_weights, self.optimizer, is_copy=is_copy)

    def load(self, content: CheckpointContent) -> Progress:
        """Load a checkpoint, and return its progress.

        Raises:
            CheckpointError: the checkpoint is damaged, incomplete, or belongs to another configuration.
        """
        checkpoint.load_weights(self.model, content.tensors(checkpoint.MODEL), source=content.uri)
        if self.ema_model is not None:
            self.load_selected(content)
        checkpoint.load_optimizer(self.optimizer, content.tensors(checkpoint.OPTIMIZER))
        return content.progress()

    @property
    def selected_file(self) -> str:
        """The file of a checkpoint that has the weights that are evaluated."""
        return checkpoint.EMA if self.ema_model is not None else checkpoint.MODEL

    def load_selected(self, content: CheckpointContent) -> dict[str, Tensor]:
        """Load the weights of a checkpoint that were evaluated into `evaluated`, and return them."""
        weights = content.tensors(self.selected_file)
        checkpoint.load_weights(self.evaluated, weights, source=content.uri)
        return weights

    def state_of(self, stage: str) -> TrainState:
        """What a step of a stage needs; only what the stage trains has gradients."""
        if self._state is None or stage != self._stage:
            fusion = {id(p) for part in self._first_stage_parts() for p in part.parameters()}
            frozen = {id(p) for p in self._always_frozen}
            for parameter in self.model.parameters():
                in_stage = stage == "joint" or (id(parameter) in fusion) == (stage == "fusion")
                parameter.requires_grad_(in_stage and id(parameter) not in frozen)
            self._stage = stage
            objective, augment = self._objective_of(stage), self.job.augment
            self._state = TrainState(
                model=self.process_group.distribute(self.model),
                objective=objective,
                optimizer=self.optimizer,
                process_group=self.process_group,
                blank=self._blank,
                parameters=tuple(p for p in self.model.parameters() if p.requires_grad),
                draws_views=objective.needs_views or augment.classify == "views" or augment.shared_edge_noise,
                gradient_clip=self.job.train.gradient_clip,
                precision=self.job.train.precision,
            )
        return self._state

    def _objective_of(self, stage: str) -> JointObjective:
        if stage == "joint":
            return self._objective
        first = (*(FUSION_TERMS if self.model.pretraining is None else (PRETRAINING,)), ALIGNMENT)
        later = [name for name in self._objective.weights if name not in (*FUSION_TERMS, PRETRAINING, ALIGNMENT)]
        return self._objective.only(first if stage == "fusion" else later)

    def _first_stage_parts(self) -> list[nn.Module]:
        """What the first stage of two-phase training trains, and the second does not."""
        model, target = self.model, self.job.train.fusion_target
        parts: list[nn.Module | None] = [model.missing_embeddings, model.fusion, model.pretraining]
        return [part for part in (*parts, model.ngrams if target == "labels" else None) if part is not None]

    @torch.no_grad()
    def _update_ema(self, step: int) -> None:
        if self.ema_model is None:
            return
        decay = min(self.job.train.ema_decay, (1.0 + step) / (10.0 + step))
        averaged: list[Tensor] = list(self.ema_model.parameters())
        current: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averaged, current, 1.0 - decay)
        for averaged_buffer, buffer in zip(self.ema_model.buffers(), self.model.buffers(), strict=True):
            averaged_buffer.copy_(buffer)

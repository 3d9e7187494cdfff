"""Prints what a run needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.submit.cost_estimate import CostEstimate


def show_cost_estimate(screen: Screen, estimate: CostEstimate) -> None:
    """Print one line per figure, then the warnings."""
    resources = estimate.resources
    machine = ", ".join(
        [counted(resources.nodes, "node"), counted(resources.cpus, "CPU"), counted(resources.gpus, "GPU")]
    )
    total = f"{duration(3600 * estimate.hours)} ± {estimate.error:.0%}, including {estimate.setup_s:.0f} s to start"
    conversations = counted(estimate.conversations, "conversation")
    screen.say(f"{estimate.name} on {estimate.corpus}", style="bold")
    rows = [
        ["workers", f"{estimate.workers}" if estimate.workers else "none: one process without Ray"],
        ["runs on", f"{resources.where}: {machine}"],
        ["parameters", f"{estimate.parameters:,}"],
        ["model per worker", f"{_bytes(estimate.model_bytes)} for weights, gradients and optimizer state"],
        ["memory per worker", f"{_bytes(estimate.worker_bytes)} at its peak in the dry run"],
        ["corpus in memory", f"{_bytes(estimate.corpus_bytes)} per node"],
        ["storage", f"{_bytes(estimate.storage_bytes)} for checkpoints and the bundle"],
        ["steps per epoch", f"{estimate.steps_per_epoch:,} of {estimate.step_s:.3f} s, for {conversations}"],
        ["time per epoch", duration(estimate.epoch_s)],
        [f"all {counted(estimate.epochs, 'epoch')}" if estimate.epochs != 1 else "the epoch", total],
        ["at the earliest", f"{duration(3600 * estimate.earliest_hours)}, if no epoch after the first is better"],
        ["GPU hours", f"{estimate.gpu_hours:.2f}"],
    ]
    if estimate.cost is not None:
        rows.append(["cost", f"{estimate.cost:,.2f} ± {estimate.error:.0%}"])
    rows.append(["measured", estimate.measured])
    width = max(len(row[0]) for row in rows)
    for name, value in rows:
        screen.say(f"{name:<{width}}  {value}")
    for warning in estimate.warnings:
        screen.say(f"warning: {warning}", style="yellow")


def duration(seconds: float) -> str:
    """Return `2 h 05 min`, `3 min 20 s` or `4.2 s`."""
    if seconds >= 3600:
        return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60):02d} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.1f} s"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"

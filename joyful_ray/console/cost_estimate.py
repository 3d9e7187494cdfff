"""What a run would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.submit.cost_estimate import CostEstimate


def show_plan(screen: Screen, plan: CostEstimate) -> None:
    """The plan, a line a figure, then what to beware of."""
    there = plan.resources
    step = f"{plan.steps_an_epoch:,} of {plan.step_s:.3f} s, over {plan.conversations:,} conversations"
    whole = f"{duration(3600 * plan.hours)} ± {plan.error:.0%}, of which start {plan.setup_s:.0f} s"
    screen.say(f"{plan.name} on {plan.corpus}", style="bold")
    rows = [
        ["workers", f"{plan.workers}" if plan.workers else "none, one process without Ray"],
        ["to run on", f"{there.where}: {there.nodes} nodes, {there.cpus:g} CPUs, {there.gpus:g} GPUs"],
        ["parameters", f"{plan.parameters:,}"],
        ["model in a worker", f"{_bytes(plan.model_bytes)}: weights, gradients, optimizer"],
        ["a worker's memory", f"{_bytes(plan.worker_bytes)} at its peak, in the rehearsal"],
        ["corpus in memory", f"{_bytes(plan.corpus_bytes)} a node"],
        ["on storage", f"{_bytes(plan.storage_bytes)}: checkpoints and bundle"],
        ["steps an epoch", step],
        ["an epoch", duration(plan.epoch_s)],
        [f"all {plan.epochs} epochs", whole],
        ["at the earliest", f"{duration(3600 * plan.earliest_hours)}, if no epoch after the first is better"],
        ["GPU-hours", f"{plan.gpu_hours:.2f}"],
    ]
    if plan.money is not None:
        rows.append(["money", f"{plan.money:,.2f} ± {plan.error:.0%}"])
    rows.append(["measured", plan.measured])
    width = max(len(row[0]) for row in rows)
    for name, value in rows:
        screen.say(f"{name:<{width}}  {value}")
    for warning in plan.warnings:
        screen.say(f"warning: {warning}", style="yellow")


def duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s` or `4.2 s`."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.1f} s"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"

"""Shows a certificate."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.records import Certificate


def show_certificate(screen: Screen, certificate: Certificate, place: str) -> None:
    """Print what was done to each run, how far its answer is from the undisturbed one, and what did not pass."""
    header = ["trial", "disturbances", "resumed", "steps repeated", "loss differs by", "weights differ by"]
    rows = [
        [
            run.name,
            f"{len(run.disturbances):,}",
            f"{run.resumes:,}",
            f"{run.repeated_steps:,}/{run.most_repeated_steps:,}",
            f"{run.loss_difference:.1e}" if run.loss_difference else "0",
            f"{run.weight_difference:.1e}" if run.weight_difference else "0",
        ]
        for run in certificate.runs
    ]
    screen.table(header, rows)
    screen.say()
    for run in certificate.runs:
        done = ", ".join(f"{count} {kind}" for kind, count in Counter(run.disturbances).items())
        seen = "the same" if run.has_seen_the_same else "other"
        screen.say(f"{run.name}: {done}; every epoch trained on {seen} conversations")
    for problem in certificate.problems:
        screen.say(f"not passed: {problem}", style="red")
    if not certificate.problems:
        screen.say(f"all {counted(len(certificate.runs), 'trial')} passed", style="green")
    screen.say(f"certificate  {place}")

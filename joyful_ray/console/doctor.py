"""What the doctor found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.doctor import DoctorReport

STATUS_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_doctor_report(screen: Screen, report: DoctorReport) -> None:
    """What the doctor found: a line a check, and under it what to do."""
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        screen.say(f"{check.status:<4}  {check.name:<{width}}  {check.found}", style=STATUS_STYLES[check.status])
        if check.advice:
            screen.say(f"{'':<{width + 8}}{check.advice}")
    screen.say("fit to train" if report.is_healthy else "not fit to train; mend what fails", style="bold")

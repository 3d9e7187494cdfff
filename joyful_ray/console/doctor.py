"""Prints the report of `joyful doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.doctor import DoctorReport

STATUS_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_doctor_report(screen: Screen, report: DoctorReport) -> None:
    """Print one line per check and, if there is advice, a second line that says what to do."""
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        screen.say(f"{check.status:<4}  {check.name:<{width}}  {check.found}", style=STATUS_STYLES[check.status])
        if check.advice:
            screen.say(f"{'':<{width + 8}}{check.advice}")
    failed = sum(check.status == "fail" for check in report.checks)
    if failed:
        them = "it" if failed == 1 else "them"
        screen.say(f"{counted(failed, 'check')} failed; fix {them} before you train", style="bold")
    else:
        screen.say("this machine is ready to train", style="bold")

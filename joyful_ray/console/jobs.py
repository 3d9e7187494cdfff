"""Prints the jobs of a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.cost_estimate import duration
from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.submit.jobs import JobEntry

STATUS_STYLES = {"SUCCEEDED": "green", "FAILED": "bold red", "STOPPED": "yellow"}
MAX_COMMAND_CHARACTERS = 78
MAX_ID_CHARACTERS = 38
"""A longer id gets a line to itself, so that lines fit 80 columns."""


def show_jobs(screen: Screen, entries: Sequence[JobEntry]) -> None:
    """Print two lines per job: its id, status, start and run time, and its command."""
    if not entries:
        screen.say("no jobs")
        return
    width = max([len("job"), *(len(entry.job) for entry in entries if len(entry.job) <= MAX_ID_CHARACTERS)])
    screen.say(f"{'job':<{width}}  {'status':<9}  {'started':<16}  run time", style="bold")
    for entry in entries:
        style = STATUS_STYLES.get(entry.status)
        values = f"{entry.status:<9}  {_started(entry):<16}  {_run_time(entry)}".rstrip()
        if len(entry.job) <= MAX_ID_CHARACTERS:
            screen.say(f"{entry.job:<{width}}  {values}", style=style)
        else:
            screen.say(entry.job, style=style)
            screen.say(f"{'':<{width}}  {values}", style=style)
        screen.say(f"  {_shortened(entry.command)}")


def show_job(screen: Screen, entry: JobEntry) -> None:
    """Print one job and, if it failed, the reason."""
    screen.say(f"{entry.job}: {entry.status}", style=STATUS_STYLES.get(entry.status))
    if entry.error:
        screen.say(f"error     {entry.error}")
    screen.say(f"run       {entry.run or '-'}")
    screen.say(f"command   {entry.command}")
    screen.say(f"started   {_started(entry)}")
    screen.say(f"run time  {_run_time(entry) or '-'}")


def _started(entry: JobEntry) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.started)) if entry.started else "not yet"


def _run_time(entry: JobEntry) -> str:
    return duration(entry.seconds) if entry.seconds is not None else ""


def _shortened(command: str) -> str:
    return command if len(command) <= MAX_COMMAND_CHARACTERS else command[: MAX_COMMAND_CHARACTERS - 1] + "…"

"""Jobs of a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.submit.jobs import JobCard

STATUS_STYLES = {"SUCCEEDED": "green", "FAILED": "bold red", "STOPPED": "yellow"}
LONGEST_COMMAND = 60


def show_jobs(screen: Screen, cards: Sequence[JobCard]) -> None:
    """A line a job."""
    if not cards:
        screen.say("no jobs")
        return
    rows = [
        [card.job, card.run, card.status, _started(card), _shortened(card.command), _seconds(card)] for card in cards
    ]
    styles = [STATUS_STYLES.get(card.status) for card in cards]
    screen.table(["job", "run", "status", "started", "command", "s"], rows, left=5, styles=styles)


def show_job(screen: Screen, card: JobCard) -> None:
    """One job, and why it failed."""
    screen.say(f"{card.job}: {card.status}", style=STATUS_STYLES.get(card.status))
    if card.error:
        screen.say(f"error    {card.error}")
    screen.say(f"run      {card.run or '-'}")
    screen.say(f"command  {card.command}")
    screen.say(f"started  {_started(card)}, {_seconds(card)} s")


def _started(card: JobCard) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(card.started)) if card.started else "not yet"


def _seconds(card: JobCard) -> str:
    return f"{card.seconds:,.0f}" if card.seconds is not None else "0"


def _shortened(command: str) -> str:
    return command if len(command) <= LONGEST_COMMAND else command[: LONGEST_COMMAND - 1] + "…"

"""How much is done and how much time is left, without a terminal and on one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from joyful_ray.console.counting import CountDisplay
from joyful_ray.console.screen import Screen
from tests.narrow_screen import lines_of, narrow_screen


class Clock:
    """Replaces `perf_counter`: the time is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("joyful_ray.console.counting.perf_counter", clock)
    return clock


def test_lines_count_what_is_done_and_say_how_much_time_is_left(clock: Clock) -> None:
    screen = narrow_screen()
    display = CountDisplay(screen, "predicted", "shard")
    for clock.now, done in ((10.0, 3), (20.0, 4), (40.0, 6)):  # two shards are of an earlier command
        display.update(done, 6)
    assert lines_of(screen) == [
        "predicted 3 of 6 shards, 0:30 left",
        "predicted 4 of 6 shards, 0:20 left",
        "predicted 6 of 6 shards",
    ]


def test_an_unknown_total_is_left_out(clock: Clock) -> None:
    screen = narrow_screen()
    display = CountDisplay(screen, "imported", "utterance")
    clock.now = 6.0
    display.update(1200, None)
    assert lines_of(screen) == ["imported 1,200 utterances"]


def test_short_work_prints_nothing_and_hours_print_few_lines(clock: Clock) -> None:
    screen = narrow_screen()
    display = CountDisplay(screen, "read", "shard")
    for done in range(100):
        display.update(done, 100)
    assert not lines_of(screen)
    for clock.now in range(36_000):
        display.update(50, 100)
    assert 20 < len(lines_of(screen)) < 200


def test_a_terminal_shows_a_bar_and_no_lines() -> None:
    screen = Screen()
    screen.console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with CountDisplay(screen, "merged", "conversation") as display:
        display.update(30, 120)
        display._bar.refresh()
    assert isinstance(screen.console.file, io.StringIO)
    assert "merged conversations" in screen.console.file.getvalue()
    assert "30/120" in screen.console.file.getvalue()

"""What a search shows while it runs and when it is done, on a screen of 80 columns."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from joyful_ray.console.screen import Screen
from joyful_ray.console.search_progress import SearchDisplay
from joyful_ray.console.searches import show_search
from joyful_ray.records import Candidate, SearchRecord
from joyful_ray.search_settings import SearchConfig
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ledger import AnyEvent, Drawn, Ended, Epoch, Opened, Started
from joyful_ray.tune.search_state import SearchState
from tests.narrow_screen import assert_fits, narrow_screen

PATHS = ["objective.contrast_weight", "augment.first_view.edge_mode", "augment.second_view.edge_mode", "seed_mode"]
SETTINGS = dict(zip(PATHS, [0.12345, "perturb", "rewire", "fixed"], strict=True))
SEARCH = SearchConfig.model_validate({"space": {PATHS[0]: {"log": [0.01, 1.0]}}, "max_trials": 3})
GOAL = Goal("weighted_f1", 1)


def begun(name: str, *, role: str = "search", epochs: int = 2) -> list[AnyEvent]:
    drawn = Drawn.model_validate(
        {"trial": name, "number": 0, "config": name, "settings": SETTINGS, "seed": 0, "role": role}
    )
    lines = [
        Epoch(
            trial=name, epoch=n, dev={"weighted_f1": 0.54321, "loss": 1.0}, train_loss=1.0, seconds=31.0, is_best=True
        )
        for n in range(epochs)
    ]
    return [drawn, Started(trial=name, session=0), *lines]


def state_of(*events: AnyEvent) -> SearchState:
    return SearchState.of([Opened(session=0, fingerprint="f", corpus="abc", search={}, goals=["weighted_f1"]), *events])


def live_lines(display: SearchDisplay) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(display._picture())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def record_of(**changes: object) -> SearchRecord:
    values = {
        "name": "meld-search",
        "fingerprint": "f",
        "corpus": {},
        "metric": "weighted_f1",
        "trials": {"finished": 2, "stopped": 1},
        "epochs": 63,
        "confirmation_runs": 15,
        "confirmation_epochs": 180,
        "train_seconds": 90.0,
        "wall_seconds": 3753.0,
        "slots": 2,
        "best_trial": "0001",
        "best_dev": 0.6,
        "chosen": "0001",
        "settings": SETTINGS,
        "chosen_by": "dev, over fresh seeds",
        "verdict": "better than the default: +0.0123 (95 % interval +0.0012 to +0.0234)",
        "dev": {},
        "test": None,
        "test_reads": 1,
        "versions": {},
    }
    return SearchRecord.model_validate(values | changes)


def test_the_live_table_fits_and_cuts_settings_but_no_number() -> None:
    screen = Screen()
    with SearchDisplay(screen, SEARCH, GOAL, epochs=16) as display:
        display.state(state_of(*begun("0000"), *begun("0001", epochs=0)))
        lines = live_lines(display)
    assert max(map(len, lines)) <= 80
    first = next(line for line in lines if line.startswith("0000"))
    assert first.split()[:4] == ["0000", "2/16", "0.5432", "1:02"]
    assert first.rstrip().endswith("…")
    second = next(line for line in lines if line.startswith("0001"))
    assert second.split()[1] == "0/16", "epochs that are done, so that the first one shows as 1"
    assert "contrast_weight=0.1235, augment.first_view" in first, "short names, except where two are equal"


def test_progress_counts_trials_with_their_time_left() -> None:
    screen = narrow_screen()
    with SearchDisplay(screen, SEARCH, GOAL, epochs=16) as display:
        display.state(state_of(*begun("0000")))
        display.state(state_of(*begun("0000"), Ended(trial="0000", outcome="finished", reason="")))
        assert "1 finished, of 3 trials, 0:00 left" in "\n".join(live_lines(display))
    (line,) = assert_fits(screen)
    expected = r"0000   finished  weighted F1 0.5432  2 epochs  1/3 done  0:00 left  best"
    assert re.fullmatch(expected, line)


def test_confirmation_runs_are_counted_apart_from_trials() -> None:
    ended = [*begun("0000"), Ended(trial="0000", outcome="finished", reason="")]
    screen = narrow_screen()
    with SearchDisplay(screen, SEARCH, GOAL, epochs=16) as display:
        display.state(state_of(*ended))
        first, second = begun("confirm-0000-7", role="confirm"), begun("confirm-0000-8", role="confirm")
        display.state(state_of(*ended, *first, *second))
        assert "2 running, of 2 confirmation runs" in "\n".join(live_lines(display))
        done = Ended(trial="confirm-0000-7", outcome="finished", reason="")
        display.state(state_of(*ended, *first, *second, done))
    lines = assert_fits(screen)
    assert lines[0] == "continues with 1 trial that ended before"
    assert "1/2 done" in lines[-1]


def test_a_time_budget_limits_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = [0.0]
    monkeypatch.setattr("joyful_ray.console.search_progress.time.monotonic", lambda: clock_s[0])
    ended = [*begun("0000"), Ended(trial="0000", outcome="finished", reason="")]
    for budget_s, expected in ((None, "3:20"), (30.0, "0:30")):
        clock_s[0] = 0.0
        search = SEARCH.model_copy(update={"time_budget_s": budget_s})
        screen = narrow_screen()
        with SearchDisplay(screen, search, GOAL, epochs=16) as display:
            display.state(state_of(*begun("0000")))
            clock_s[0] = 100.0
            state = state_of(*ended)
            state.spent_s = 0.0
            display.state(state)
        assert f"{expected} left" in assert_fits(screen)[-1]


def test_the_confirmation_fits_and_lists_settings_below() -> None:
    candidates = [
        Candidate(
            config=name, settings=SETTINGS, seeds=[1, 2, 3, 4, 5], dev=[0.5] * 5, mean=0.5, deviation=0.01, **difference
        )
        for name, difference in (
            ("0001", {"difference": 0.0123, "low": 0.0012, "high": 0.0234}),
            ("0007", {"difference": 0.0123, "low": 0.0012, "high": 0.0234}),
            ("0011", {"difference": 0.0123, "low": 0.0012, "high": 0.0234}),
            ("default", {}),
        )
    ]
    screen = narrow_screen()
    show_search(screen, record_of(candidates=candidates))
    lines = assert_fits(screen)
    row = next(line for line in lines if line.startswith("0001"))
    assert row.split() == ["0001", "0.5000", "±", "0.0100", "+0.0123", "+0.0012", "to", "+0.0234"]
    weights = next(line for line in lines if line.startswith("objective.contrast_weight"))
    assert weights.split()[1:] == ["0.1235"] * 4


def test_the_summary_counts_trials_and_confirmation_runs_with_their_epochs() -> None:
    screen = narrow_screen()
    show_search(screen, record_of())
    lines = assert_fits(screen)
    assert "  3 trials (2 finished, 1 stopped): 63 epochs in 1:02:33, 2 at a time" in lines
    assert "  15 confirmation runs: 180 epochs" in lines
    assert "  test was read once" in lines
    one = narrow_screen()
    show_search(one, record_of(trials={"finished": 1}, epochs=1, confirmation_runs=0, test_reads=0))
    assert "  1 trial (1 finished): 1 epoch in 1:02:33, 2 at a time" in assert_fits(one)
    assert "  test was not read" in assert_fits(one)
    assert "confirmation" not in "\n".join(assert_fits(one))

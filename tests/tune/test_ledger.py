from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import aiobotocore.client
import pytest

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import Location, open_location
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune import ledger as ledger_module
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ledger import AnyEvent, Changed, Drawn, Ended, Epoch, Extended, Ledger, Opened, Started
from joyful_ray.tune.search_state import SearchState
from joyful_ray.tune.searcher import Pruner
from tests.s3_server import make_bucket, s3_server

F1, SECONDS = Goal("weighted_f1", 1), Goal("seconds", -1)


def drawn(name: str, *, config: str | None = None, at: float = 0.0, **more: object) -> Drawn:
    return Drawn(trial=name, config=config or name, settings={"a": name}, seed=0, number=0, at=at, **more)  # type: ignore[arg-type]


def epoch(name: str, number: int, score: float, *, is_best: bool = True, at: float = 0.0) -> Epoch:
    dev = {"weighted_f1": score, "loss": 1.0}
    return Epoch(trial=name, epoch=number, dev=dev, train_loss=1.0, seconds=2.0, is_best=is_best, at=at)


def opened(session: int, at: float) -> Opened:
    return Opened(session=session, fingerprint="f", corpus="c", search={}, goals=["weighted_f1"], at=at)


EVENTS: list[AnyEvent] = [
    opened(0, 100.0),
    drawn("0000", at=101.0),
    Started(trial="0000", session=0, at=103.0),
    epoch("0000", 0, 0.25, at=105.0),
    epoch("0000", 1, 0.125, is_best=False, at=107.0),
    opened(1, 1000.0),
    Started(trial="0000", session=1, at=1001.0),
    epoch("0000", 1, 0.5, at=1004.0),
    Ended(trial="0000", outcome="finished", reason="all 2 epochs", at=1004.0),
    Extended(trials=3, at=1004.0),
]


def test_events_are_read_in_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    ledger = Ledger(open_location(tmp_path))
    assert not ledger.exists()
    assert ledger.events() == []
    for event in EVENTS:
        ledger.add(event)
    assert ledger.exists()
    assert Ledger(open_location(tmp_path)).events() == EVENTS


def test_an_incomplete_line_is_skipped_and_does_not_damage_the_next(tmp_path: Path) -> None:
    ledger = Ledger(open_location(tmp_path))
    ledger.add(*EVENTS)
    place = tmp_path / "ledger.jsonl"
    place.write_text(place.read_text()[:-30])
    assert ledger.events() == EVENTS[:-1]
    ledger.repair()
    ledger.add(EVENTS[-1])
    assert ledger.events() == EVENTS


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    ledger = Ledger(open_location(tmp_path))
    ledger.add(*EVENTS)
    place = tmp_path / "ledger.jsonl"
    place.write_text(place.read_text().replace('"kind":"ended"', '"kind":"endde"'))
    with pytest.raises(CheckpointError, match=r"ledger.jsonl:9 is not an event of this version"):
        ledger.events()


def test_the_state_of_a_trial_follows_from_its_events() -> None:
    state = SearchState.of(EVENTS)
    trial = state.trials["0000"]
    assert [line.dev["weighted_f1"] for line in trial.epochs] == [0.25, 0.5], "an epoch that was made again counts once"
    assert (trial.starts, trial.outcome, trial.reason) == (2, "finished", "all 2 epochs")
    assert trial.score(F1) == 0.5
    assert trial.score(SECONDS) == -4.0
    assert trial.curve(F1) == [(1, 0.25), (2, 0.5)]
    assert state.added == 3
    assert state.spent_s == pytest.approx((107.0 - 101.0) + (1004.0 - 1000.0)), "the pause between sittings is free"


def test_configs_rank_by_the_mean_of_their_seeds_and_finished_ones_first() -> None:
    rows: list[AnyEvent] = []
    for name, config, score, outcome in [
        ("a0", "a", 0.75, "finished"),
        ("a1", "a", 0.25, "finished"),
        ("b0", "b", 0.625, "finished"),
        ("c0", "c", 0.875, "stopped"),
        ("d0", "d", 0.9375, "failed"),
        ("e0", "e", 0.96875, None),
    ]:
        rows += [drawn(name, config=config), epoch(name, 0, score)]
        rows += [Ended(trial=name, outcome=outcome, reason="")] if outcome else []  # type: ignore[arg-type]
    state = SearchState.of(rows)
    assert [(name, score) for name, _, score in state.ranked(F1)] == [("b", 0.625), ("a", 0.5), ("c", 0.875)]
    assert state.keepers(F1, 1) == {"a0", "b0", "e0"}, "the best trial, the best config, and what still runs"


def test_a_copied_trial_has_the_history_of_its_source() -> None:
    rows: list[AnyEvent] = [drawn("a"), drawn("b"), epoch("a", 0, 0.5), epoch("a", 1, 0.75), epoch("b", 0, 0.125)]
    rows += [Changed(trial="b", epoch=0, source="a", settings={"a": "new"}), epoch("b", 1, 0.25, is_best=False)]
    target = SearchState.of(rows).trials["b"]
    assert [(line.trial, line.dev["weighted_f1"]) for line in target.epochs] == [("b", 0.5), ("b", 0.25)]
    assert target.settings == {"a": "new"}
    assert target.score(F1) == 0.5


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as endpoint:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint),
        ):
            monkeypatch.setenv(name, value)
        yield make_bucket(endpoint, "searches").split("?")[0]


@pytest.mark.s3
def test_in_a_bucket_an_event_is_an_object_and_nothing_is_rewritten(bucket: str) -> None:
    home = open_location(f"{bucket}/search")
    ledger = Ledger(home)
    ledger.add(*EVENTS[:3])
    before = {name: home.join("ledger", name).read_text() for name in home.join("ledger").list()}
    ledger.add(*EVENTS[3:])
    assert ledger.events() == EVENTS
    assert len(home.join("ledger").list()) == len(EVENTS)
    assert all(home.join("ledger", name).read_text() == text for name, text in before.items())


class Requests:
    """Counts what is asked of a bucket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        whole = aiobotocore.client.AioBaseClient._make_api_call

        async def counted(client: object, operation: str, arguments: object) -> object:
            self.count += 1
            return await whole(client, operation, arguments)

        monkeypatch.setattr(aiobotocore.client.AioBaseClient, "_make_api_call", counted)

    def of(self, work: Callable[[], object]) -> int:
        """How many requests this work makes."""
        before = self.count
        work()
        return self.count - before


@pytest.mark.s3
def test_in_a_bucket_events_are_packed_and_a_ledger_is_opened_with_few_requests(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "EVENTS_OF_A_PACK", 20)
    requests = Requests(monkeypatch)
    home = open_location(f"{bucket}/packed")
    ledger, rows = Ledger(home), [drawn(f"{number:04d}", at=float(number)) for number in range(130)]
    costs = [requests.of(lambda row=row: ledger.add(row)) for row in rows]
    assert sum(costs[:65]) == pytest.approx(sum(costs[65:]), abs=8), "the cost of an event does not grow"
    assert sum(costs) < 4 * len(rows), "written, read once for a pack, removed, and a little"
    assert len(home.join("ledger").list()) <= 20
    again = Ledger(home)
    found: list[AnyEvent] = []
    few = ledger_module.EVENTS_OF_A_PACK + 5  # the later events, the pack, and the listing
    assert requests.of(lambda: found.extend(again.events())) <= few
    assert found == rows
    again.repair()
    again.add(*EVENTS)
    assert Ledger(home).events() == [*rows, *EVENTS]


@pytest.mark.s3
@pytest.mark.parametrize("left", ["everything", "half"])
def test_a_crash_while_events_are_packed_loses_and_repeats_nothing(
    bucket: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "EVENTS_OF_A_PACK", 10)
    home = open_location(f"{bucket}/crash-{left}")
    ledger, rows = Ledger(home), [drawn(f"{number:04d}", at=float(number)) for number in range(15)]
    whole = Location.remove_children

    def ended(place: Location, names: list[str]) -> None:
        if left == "half":
            whole(place, names[: len(names) // 2])
        raise KeyboardInterrupt

    ledger.add(*rows[:9])
    monkeypatch.setattr(Location, "remove_children", ended)
    with pytest.raises(KeyboardInterrupt):
        ledger.add(rows[9])
    monkeypatch.setattr(Location, "remove_children", whole)
    again = Ledger(home)
    assert again.events() == rows[:10]
    again.repair()
    again.add(*rows[10:])
    assert Ledger(home).events() == rows


def test_many_trials_cost_no_more_requests_each_than_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Location, "remove", lambda place: asked.append(place.uri))
    home = open_location(tmp_path)
    context = SimpleNamespace(
        goal=F1,
        search=SimpleNamespace(keep_best=2, scheduler="asha"),
        directory=lambda trial: RunDirectory(home.join("trials", trial)),
    )
    pruner, state = Pruner(context), SearchState.of([opened(0, 0.0)])  # type: ignore[arg-type]
    counts = []
    for number in range(120):
        name = f"{number:04d}"
        for event in (drawn(name), epoch(name, 0, number % 7 / 8), Ended(trial=name, outcome="finished", reason="")):
            state.apply(event)
        pruner.prune(state)
        counts.append(len(asked))
    assert counts[-1] <= 2 * 120, "each trial's checkpoints and model are removed once"
    assert counts[-1] - counts[59] == pytest.approx(counts[59], abs=6)
    assert len(set(asked)) == len(asked)
    best = {name for name in (f"{number:04d}" for number in range(120)) if f"{name}/bundle" not in "".join(asked)}
    assert best == state.keepers(F1, 2)

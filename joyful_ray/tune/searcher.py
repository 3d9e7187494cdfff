"""Ray Tune's searcher and callback: they hand out trials, and are the only writers of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from joyful_ray.storage import Location
from joyful_ray.tune.ledger import AnyEvent, Changed, Drawn, Ended, Epoch, Ledger, Restarted, Started
from joyful_ray.tune.reporting import Result, dev_of
from joyful_ray.tune.samplers import Sampler
from joyful_ray.tune.search_context import SearchContext
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.wording import counted

Watch = Callable[[SearchState], None]


class LedgerWriter:
    """Writes events to the ledger, and keeps the state that follows from them."""

    def __init__(self, ledger: Ledger, *, watch: Watch | None = None) -> None:
        ledger.repair()
        self.ledger, self.state = ledger, SearchState.of(ledger.events())
        self._watches = [] if watch is None else [watch]

    def listen(self, watch: Watch) -> None:
        """Call a function with the state after each later write."""
        self._watches.append(watch)

    def write(self, *events: AnyEvent) -> None:
        """Write events to the ledger, and update the state."""
        self.ledger.add(*events)
        for event in events:
            self.state.apply(event)
        for watch in self._watches:
            watch(self.state)


class LedgerSearcher(Searcher):
    """Hands out the unfinished trials of the ledger, then new ones.

    Args:
        writer: records new trials.
        unfinished: trials that have not ended.
        new: samples the next trial and returns its event; None if there are no more.
    """

    def __init__(self, writer: LedgerWriter, unfinished: Sequence[Trial], new: Callable[[], Drawn | None]) -> None:
        super().__init__()
        self._writer, self._waiting, self._new = writer, list(unfinished), new

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial, or `Searcher.FINISHED`."""
        if self._waiting:
            trial = self._waiting.pop(0)
            return config_of(trial.drawn, trial.settings)
        drawn = self._new()
        if drawn is None:
            return Searcher.FINISHED
        self._writer.write(drawn)
        return config_of(drawn, drawn.settings)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: `LedgerCallback` writes to the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its parts into its own state, which is never read: the ledger is the truth.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write the empty file that Ray expects; the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        """Nothing: the goals are not Ray's."""
        return True


class LedgerCallback(tune.Callback):
    """Writes the reports of Ray Tune to the ledger, and removes checkpoints and models that are no longer needed.

    Args:
        observe: called with the trials of a config once all of them have ended.
    """

    def __init__(
        self, writer: LedgerWriter, context: SearchContext, *, session: int, observe: Callable[[Sequence[Trial]], None]
    ) -> None:
        self._writer, self._context, self._session, self._observe = writer, context, session, observe
        self._pruner = Pruner(context)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial started or continued."""
        self._writer.write(Started(trial=name_of(trial), session=self._session))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: Result, **info: Any) -> None:
        """A trial finished an epoch."""
        self._epoch(name_of(trial), result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial finished, or the scheduler stopped it."""
        name, last = name_of(trial), trial.last_result or {}
        known = self._writer.state.trials[name]
        if "failure" in last:
            self._end(name, "failed", str(last["failure"]))
        elif "ending" in last:
            self._end(name, "finished", str(last["ending"]))
        else:
            self._end(name, "stopped", f"{self._context.search.scheduler} after {counted(len(known.epochs), 'epoch')}")

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The process of a trial was lost, and the trial restarts."""
        self._writer.write(Restarted(trial=name_of(trial), reason=_reason(trial)))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed and does not restart."""
        name = name_of(trial)
        self._end(name, "failed", self._context.directory(name).read_failure() or _reason(trial))

    def _epoch(self, name: str, result: Result) -> None:
        numbers = result.get("numbers")
        if numbers is None:
            return
        events: list[AnyEvent] = []
        changed = result.get("changed")
        state = self._writer.state
        if changed and not any(_is_same(change, changed) for change in state.trials[name].sources):
            events.append(Changed(trial=name, **changed))
        number, seconds = int(numbers["epoch"]), float(numbers["seconds"])
        known = any(line.epoch == number and line.seconds == seconds for line in state.trials[name].epochs)
        if events or not known:
            events.append(
                Epoch(
                    trial=name,
                    epoch=number,
                    dev=dev_of(numbers),
                    train_loss=numbers["loss"],
                    seconds=seconds,
                    is_best=bool(numbers["is_best"]),
                )
            )
        if events:
            self._writer.write(*events)

    def _end(self, name: str, outcome: Any, reason: str) -> None:
        self._writer.write(Ended(trial=name, outcome=outcome, reason=reason))
        state = self._writer.state
        config = state.trials[name].drawn.config
        group = [trial for trial in state.searched if trial.drawn.config == config]
        if all(trial.outcome for trial in group):
            self._observe(group)
        self._pruner.prune(self._writer.state)


class Pruner:
    """Removes the checkpoints of ended trials, and all models except those of the best trials, each once.

    Storage is asked once for each place, so that many trials cost no more requests each than few.

    Args:
        context: what all trials share.
    """

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._removed: set[str] = set()

    def prune(self, state: SearchState) -> None:
        """Remove what is no longer needed."""
        context = self._context
        keep = state.keepers(context.goal, context.search.keep_best)
        # As long as a trial runs, pbt may continue it from the checkpoint of another one.
        is_source = context.search.scheduler == "pbt" and any(each.outcome is None for each in state.own)
        for trial in state.trials.values():
            if trial.outcome is not None and trial.drawn.origin is None:
                directory = context.directory(trial.name)
                if not is_source:
                    self._remove(directory.checkpoints)
                if trial.name not in keep:
                    self._remove(directory.bundle)

    def _remove(self, place: Location) -> None:
        if place.uri not in self._removed:
            self._removed.add(place.uri)
            place.remove()


def name_of(trial: Any) -> str:
    """The name of a Ray Tune trial in the ledger."""
    return str(trial.custom_trial_name)


def new_trials(
    writer: LedgerWriter, sampler: Sampler, *, wanted: int, seeds: int, first_seed: int
) -> Callable[[], Drawn | None]:
    """A function that samples the next trial, and returns None once `wanted` trials exist."""

    def new() -> Drawn | None:
        numbers = [trial.drawn.number for trial in writer.state.own if trial.drawn.number is not None]
        number = max(numbers, default=-1) + 1
        if len(numbers) >= wanted:
            return None
        config, repeat = divmod(number, seeds)
        name = f"{config:04d}"
        earlier = next((t for t in writer.state.own if t.drawn.config == name), None)
        settings = dict(earlier.drawn.settings) if earlier is not None else sampler.sample(config)
        if settings is None:
            return None
        trial = name if seeds == 1 else f"{name}-{repeat}"
        return Drawn(trial=trial, number=number, config=name, settings=settings, seed=first_seed + repeat)

    return new


def config_of(drawn: Drawn, settings: dict[str, Any]) -> dict[str, Any]:
    """The config that Ray Tune passes to a trial."""
    return {"trial": drawn.trial, "settings": settings, "seed": drawn.seed, "counts": drawn.role == "confirm"}


def _is_same(change: Changed, told: dict[str, Any]) -> bool:
    return change.epoch == told["epoch"] and change.source == told["source"] and change.settings == told["settings"]


def _reason(trial: Any) -> str:
    error = trial.get_error()
    if error is None:
        return "its process was lost"
    cause: BaseException = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else 'no message'}"[:300]

"""Callbacks for searches: what other programs, such as experiment trackers, learn of a search while it runs.

Like those of a run, they are called in the driver process, never on workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from joyful_ray.train.callbacks import CallbackList

if TYPE_CHECKING:
    from joyful_ray.config import JobConfig
    from joyful_ray.records import SearchRecord
    from joyful_ray.tune.search_state import SearchState, Trial


@dataclass(frozen=True)
class SearchInfo:
    """The search that a callback receives events of.

    Attributes:
        name: name of the search.
        job: its resolved settings, with the section `search`.
        uri: folder of the search.
        is_resumed: whether it continues an earlier search.
    """

    name: str
    job: JobConfig
    uri: str
    is_resumed: bool = False


class SearchCallback:
    """Base class of callbacks for searches. Override the events that you need; the others do nothing.

    Errors are handled as for `Callback`: the search continues to its end, and the command then fails with an error that
    names the callback. A resumed search reports only the trials that end in this session, and merged trials are not
    reported.

    Example:
        class PrintTrials(joyful_ray.SearchCallback):
            def on_trial_end(self, search, trial):
                print(trial.name, trial.outcome, trial.settings, trial.values())

        joyful_ray.search("jobs/meld-search.yaml", callbacks=[PrintTrials()])
    """

    def on_search_begin(self, search: SearchInfo) -> None:
        """The first trial is about to start; all checks have passed.

        Args:
            search: name, settings and folder of the search.
        """

    def on_trial_end(self, search: SearchInfo, trial: Trial) -> None:
        """A trial ended. Trials that confirm the best configs are reported too.

        Args:
            search: name, settings and folder of the search.
            trial: `name`, `settings`, `outcome` (finished, stopped or failed), `reason`, `epochs`, and `values()`, the
                dev scores of its selected epoch. `trial.drawn` has `seed`, and `role` (search or confirm).
        """

    def on_search_end(self, search: SearchInfo, record: SearchRecord) -> None:
        """The search is finished: its record is written.

        Args:
            search: name, settings and folder of the search.
            record: the chosen settings, their scores and everything else that `record.json` of a search holds.
        """

    def on_exception(self, search: SearchInfo, error: BaseException) -> None:
        """The search stopped with an error or was interrupted. `on_search_end` is not called.

        Args:
            search: name, settings and folder of the search.
            error: what stopped it; KeyboardInterrupt after Ctrl-C.
        """


class TrialEvents:
    """Sends `on_trial_end` for each trial that ends after this object is made.

    Args:
        callbacks: receive the event.
        state: the state of the search so far.
    """

    def __init__(self, callbacks: CallbackList, state: SearchState) -> None:
        self._callbacks = callbacks
        self._ended = {trial.name for trial in state.trials.values() if trial.outcome is not None}

    def update(self, state: SearchState) -> None:
        """Compare the state with what was sent before."""
        if not self._callbacks:
            return
        for trial in list(state.trials.values()):
            if trial.outcome is not None and trial.name not in self._ended:
                self._ended.add(trial.name)
                self._callbacks.send("on_trial_end", trial)

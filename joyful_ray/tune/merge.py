"""Merges searches: the ended trials of another search enter this ledger, under names that show their origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.config import JobConfig, differences
from joyful_ray.errors import CheckpointError
from joyful_ray.storage import open_location
from joyful_ray.tune.ledger import AnyEvent, Drawn, Ended
from joyful_ray.tune.search_directory import MAY_DIFFER, SearchDirectory
from joyful_ray.tune.search_state import SearchState

if TYPE_CHECKING:
    from joyful_ray.tune.searcher import LedgerWriter


def merge_search(uri: str, job: JobConfig, corpus_hash: str, writer: LedgerWriter) -> int:
    """Add the ended trials of another search; trials that were added before are skipped.

    Args:
        uri: folder of the other search.
        job: job of this search.
        corpus_hash: hash of this search's corpus.
        writer: writes the ledger of this search.

    Returns:
        Number of new trials.

    Raises:
        CheckpointError: it is not a search, or has another job or corpus.
    """
    other = SearchDirectory(open_location(uri))
    changed = [line for line in differences(job, other.config()) if not line.startswith(MAY_DIFFER)]
    if changed:
        raise CheckpointError(f"search {uri} has other settings ({'; '.join(changed)}); its trials cannot be compared")
    state = SearchState.of(other.ledger.events())
    if state.sessions and state.sessions[-1].corpus != corpus_hash:
        raise CheckpointError(f"search {uri} uses another corpus; its trials cannot be compared")
    added = 0
    for trial in state.searched:
        origin = trial.drawn.origin or other.location.uri
        name = trial.name if trial.drawn.origin else f"{other.location.name}.{trial.name}"
        config = trial.drawn.config if trial.drawn.origin else f"{other.location.name}.{trial.drawn.config}"
        if trial.outcome is None or name in writer.state.trials or origin == writer.ledger.home.uri:
            continue
        drawn = Drawn(trial=name, config=config, settings=trial.settings, seed=trial.drawn.seed, origin=origin)
        epochs = [line.model_copy(update={"trial": name, "at": drawn.at}) for line in trial.epochs]
        events: list[AnyEvent] = [drawn, *epochs, Ended(trial=name, outcome=trial.outcome, reason=trial.reason)]
        writer.write(*events)
        added += 1
    return added

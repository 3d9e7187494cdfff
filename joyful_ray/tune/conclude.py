"""Concludes a search: chooses a config on dev, compares it with the default, and scores it on test once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joyful_ray.corpora.shards import Corpus
from joyful_ray.records import Candidate, Scores, SearchRecord, versions
from joyful_ray.storage import Location
from joyful_ray.tune.confirm import DEFAULT, ERROR_RATE, candidate, joint_error_rate, paired_bootstrap, verdict
from joyful_ray.tune.dev_counts import read_dev_counts
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ledger import Tested
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Space
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.tune.searcher import LedgerWriter

NOT_CONFIRMED = "not compared with the default over fresh seeds (search.confirm is null)"


def conclude(
    space: Space,
    corpus: Corpus,
    goal: Goal,
    home: SearchDirectory,
    writer: LedgerWriter,
    *,
    slots: int,
    wall_seconds: float,
) -> SearchRecord:
    """Choose a config on dev, score it on test once, and write the record and the best config."""
    state = writer.state
    choice = _choose(space, goal, home, state)
    best_run = max(choice.trials, key=lambda trial: trial.score(goal))
    warnings = [choice.warning] if choice.warning else []
    test = _test(corpus, home, writer, best_run, warnings)
    best = state.best(goal)
    left = [trial for trial in state.own if trial.outcome is None]
    if left:
        warnings.append(f"search.time_budget_s stopped {counted(len(left), 'trial')}; raise it to continue")
    record = SearchRecord(
        name=home.location.name,
        fingerprint=space.job.fingerprint,
        corpus={"name": corpus.manifest.name, "uri": corpus.location.uri, "hash": corpus.hash},
        metric=goal.name,
        trials=dict(Counter(trial.outcome or "cut off" for trial in state.searched)),
        epochs=sum(len(trial.epochs) for trial in state.own),
        confirmation_runs=sum(trial.outcome is not None for trial in state.confirming),
        confirmation_epochs=sum(len(trial.epochs) for trial in state.confirming),
        train_seconds=sum(trial.seconds for trial in state.own),
        wall_seconds=state.spent_s,
        slots=slots,
        best_trial=None if best is None else best.name,
        best_dev=None if best is None else goal.sign * best.score(goal),
        chosen=choice.config,
        settings=choice.settings,
        chosen_by=choice.chosen_by,
        candidates=choice.candidates,
        level=1 - ERROR_RATE if choice.candidates else None,
        verdict=choice.verdict,
        dev=best_run.values() or {},
        test=test,
        test_reads=len(state.tests),
        versions=versions(),
        warnings=warnings,
        locations={
            "best config": _write_best(space, goal, home, choice, best_run),
            "trials": home.location.join("trials").uri,
            **_bundle_of(home, best_run),
        },
    )
    home.write_record(record)
    return record


@dataclass(frozen=True)
class _Choice:
    """The chosen config: its trials, and how it was chosen."""

    config: str
    trials: list[Trial]
    settings: dict[str, Any]
    verdict: str
    chosen_by: str
    candidates: list[Candidate]
    warning: str = ""


def _choose(space: Space, goal: Goal, home: SearchDirectory, state: SearchState) -> _Choice:
    """The best confirmed config; the best trial if nothing was confirmed."""
    confirms = space.search.confirm is not None
    candidates = _candidates(space, goal, home, state) if confirms else []
    if not candidates:
        config, trials, _ = state.ranked(goal)[0]
        warning = "no config could be confirmed; the ledger says why its runs failed" if confirms else ""
        return _Choice(config, trials, trials[0].settings, NOT_CONFIRMED, "dev", [], warning)
    # The default wins a tie, because it is the simpler answer.
    chosen = max(candidates, key=lambda row: (goal.sign * row.mean, row.config == DEFAULT))
    trials = [t for t in state.confirming if t.drawn.config == chosen.config and t.outcome == "finished"]
    return _Choice(chosen.config, trials, chosen.settings, verdict(chosen), "dev, over fresh seeds", candidates)


def _write_best(space: Space, goal: Goal, home: SearchDirectory, choice: _Choice, run: Trial) -> str:
    """Write the chosen settings as a job, under a name that differs from the search's; returns where it is."""
    name = home.location.name
    job = space.job_of(choice.settings).model_copy(update={"name": f"{name}-best"})
    comment = f"chosen by search {name}: {goal.name} {goal.sign * run.score(goal):.4f} on dev; {choice.verdict}"
    return home.write_best(job, comment).uri


def _candidates(space: Space, goal: Goal, home: SearchDirectory, state: SearchState) -> list[Candidate]:
    """Configs whose runs all finished, compared with the default if its runs finished too; the best first."""
    confirm = space.search.confirm
    assert confirm is not None
    names = [DEFAULT, *(name for name, _, _ in state.ranked(goal)[: confirm.top])]
    runs: dict[str, list[Trial]] = {}
    for name in names:
        trials = sorted((t for t in state.confirming if t.drawn.config == name), key=lambda t: t.drawn.seed)
        trials = trials[: confirm.seeds]
        if trials and all(trial.outcome == "finished" for trial in trials):
            runs[name] = trials
    counts = {name: [read_dev_counts(_run(home, trial)) for trial in trials] for name, trials in runs.items()}
    rows = []
    for name, trials in runs.items():
        difference = None
        if name != DEFAULT and DEFAULT in runs:
            difference = paired_bootstrap(
                counts[name],
                counts[DEFAULT],
                goal,
                samples=confirm.bootstrap_samples,
                error_rate=joint_error_rate(state),
            )
        rows.append(candidate(name, trials, goal, difference))
    return sorted(rows, key=lambda row: (row.config == DEFAULT, -goal.sign * row.mean))


def _test(
    corpus: Corpus, home: SearchDirectory, writer: LedgerWriter, run: Trial, warnings: list[str]
) -> Scores | None:
    """Test scores of the chosen run. A later session that chooses the same run does not read test again."""
    known = next((tested.scores for tested in writer.state.tests if tested.trial == run.name), None)
    if known is not None or "test" not in corpus.splits():
        return known
    bundle = _run(home, run).bundle
    if not bundle.exists():
        where = f"it belongs to {run.drawn.origin}" if run.drawn.origin else "no trial finished"
        warnings.append(f"test was not read, because trial {run.name} has no model here ({where})")
        return None
    from joyful_ray.train.evaluate import evaluate_bundle

    scores = evaluate_bundle(bundle.uri, corpus.location.uri, split="test", device="cpu")
    writer.write(Tested(trial=run.name, scores=scores))
    if len(writer.state.tests) > 1:
        warnings.append(f"test was read {len(writer.state.tests)} times, each time for another chosen config")
    return scores


def _bundle_of(home: SearchDirectory, run: Trial) -> dict[str, str]:
    bundle: Location = _run(home, run).bundle
    return {"bundle": bundle.uri} if bundle.exists() else {}


def _run(home: SearchDirectory, trial: Trial) -> Any:
    from joyful_ray.train.run_directory import RunDirectory

    return RunDirectory(home.location.join("trials", trial.name))

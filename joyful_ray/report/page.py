"""Runs and searches as one HTML page that needs no network: pictures, tables and the best config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

import jinja2
import plotly.graph_objects as go
import plotly.offline

from joyful_ray.report import run_charts, search_charts, tables
from joyful_ray.report.charts import piece
from joyful_ray.report.read_runs import Run, Search
from joyful_ray.report.tables import TextTable


@dataclass
class Card:
    """One picture, table or text with its title.

    Attributes:
        pictures: one, or several small ones.
        is_wide: the picture needs width, and scrolls where there is none.
        opens, closes: a row of cards that stand side by side where the window is wide enough.
    """

    title: str
    words: str = ""
    pictures: Sequence[str] = ()
    is_wide: bool = False
    table: TextTable | None = None
    text: str = ""
    opens: bool = False
    closes: bool = False


@dataclass
class Part:
    """One search, or all runs together."""

    title: str
    note: str = ""
    verdict: str = ""
    facts: Sequence[tuple[str, str]] = ()
    cards: list[Card] = field(default_factory=list)


def page(runs: Sequence[Run], searches: Sequence[Search]) -> str:
    """The page as text."""
    parts = [search_part(search) for search in searches] + ([runs_part(runs)] if runs else [])
    names = [search.name for search in searches] + [run.name for run in runs]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files("joyful_ray.report").joinpath("page.html").read_text())
    title = f"joyful_ray: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}"
    subtitle = "Dev selects epochs, configs and the winner; test is read once, for what was selected."
    return template.render(title=title, subtitle=subtitle, sections=parts, plotly=plotly.offline.get_plotlyjs())


def search_part(search: Search) -> Part:
    """One search: what it found, whether that is real, and what mattered."""
    record, confirm = search.record, search.record.candidates if search.record else []
    part = Part(
        f"Search {search.name}",
        note=_how(search),
        verdict=_verdict(search),
        facts=tables.facts(search),
    )
    add = part.cards.append
    if not any(trial.outcome in ("finished", "stopped") and trial.selected for trial in search.state.searched):
        return part
    if confirm:
        words = "The same seeds for each; the interval is of a paired bootstrap over conversations and seeds."
        add(_picture("Is the winner real?", search_charts.confirmation(search, confirm), words))
        part.cards[-1].table = tables.confirmed(search, confirm)
    add(_picture("Trials", search_charts.history(search), "Each at the epoch that it selected on dev."))
    add(_picture("Learning curves", search_charts.curves(search), "A cross marks where a trial was stopped early."))
    part.cards[-2].opens = part.cards[-1].closes = True
    if search.importance:
        words = "What sets the best quarter of the trials apart from all (PED-ANOVA)."
        add(_picture("What mattered", search_charts.importances(search), words))
    is_whole = all(trial.outcome == "finished" for trial in search_charts.judged(search))
    which = "Finished trials" if is_whole else "Rings were stopped early and count with what they had reached"
    words = f"{which}; the band holds nine in ten resampled means."
    add(Card("The score along each setting", words, [piece(each) for each in search_charts.sensitivity(search)]))
    words = "A line a trial, the best the brightest. Drag along an axis to keep only some, drag its name to move it."
    add(_picture("All settings together", search_charts.parallel(search), words))
    part.cards[-1].is_wide = True
    if len(search.goals) > 1:
        add(_picture("What a better score costs", search_charts.front(search)))
    add(Card("Best trials", table=tables.best_trials(search)))
    if record is not None and record.test is not None and record.test.per_label:
        add(Card("The chosen config on test", table=tables.label_scores(record.test, "")))
        if record.test.confusion is not None:
            part.cards[-1].opens = True
            add(_picture("Confusion on test", run_charts.confusion(record.test)))
            part.cards[-1].closes = True
    wrong = tables.failures(search)
    if wrong.rows:
        add(Card(wrong.title, table=wrong))
    if search.best_yaml:
        add(Card("Best config", "Save it and run: joyful train best.yaml", text=search.best_yaml))
    return part


def runs_part(runs: Sequence[Run]) -> Part:
    """All runs: their scores side by side, curves and confusion."""
    part = Part("Runs")
    part.cards.append(Card("Scores", table=tables.run_scores(runs)))
    begun = [run for run in runs if run.epochs]
    if begun:
        part.cards.append(_picture("Dev score", run_charts.dev_curves(begun), "A ring marks the selected epoch."))
        part.cards.append(_picture("Loss", run_charts.loss_curves(begun)))
        part.cards[-2].opens = part.cards[-1].closes = True
    for run in runs:
        scores = None if run.record is None else run.record.test or run.record.dev
        if scores is None or run.record is None or not scores.per_label:
            continue
        split = "test" if run.record.test is not None else "dev"
        part.cards.append(Card(f"{run.name}: labels on {split}", table=tables.label_scores(scores, "")))
        if scores.confusion is not None:
            part.cards[-1].opens = True
            part.cards.append(_picture(f"{run.name}: confusion on {split}", run_charts.confusion(scores)))
            part.cards[-1].closes = True
    return part


def _picture(title: str, figure: go.Figure, words: str = "") -> Card:
    return Card(title, words, [piece(figure)])


def _how(search: Search) -> str:
    how = search.job.search
    assert how is not None
    stops = "no early stopping" if how.scheduler == "none" else f"early stopping by {how.scheduler}"
    length = f"up to {search.job.train.epochs} epochs a trial"
    return f"{len(search.ranges)} settings on {search.job.corpus}: {how.algorithm}, {stops}, {length}"


def _verdict(search: Search) -> str:
    if search.record is None:
        return "This search is not done; the same command continues it."
    settings = ", ".join(f"{path} = {tables.word(value)}" for path, value in search.record.settings.items())
    return f"Chosen by {search.record.chosen_by}: {search.record.chosen}, {search.record.verdict}. {settings}"

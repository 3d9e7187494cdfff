"""Runs and searches as one HTML page that needs no network: charts, tables and the best config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

import jinja2
import plotly.graph_objects as go
import plotly.offline

from joyful_ray.records import StudyRecord
from joyful_ray.report import run_charts, search_charts, tables
from joyful_ray.report.charts import piece
from joyful_ray.report.comparison import compare, score_table, settings_table
from joyful_ray.report.read_runs import Run, Search
from joyful_ray.report.studies import curve_chart, group_tables, scores_chart, variant_table
from joyful_ray.report.tables import TextTable
from joyful_ray.wording import counted


@dataclass
class Card:
    """One chart, table or text with its title.

    Attributes:
        pictures: one chart, or several small ones.
        is_wide: whether the chart needs width, and scrolls in a narrow window.
        opens, closes: begin and end of a row of cards that are side by side in a wide window.
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


def page(runs: Sequence[Run], searches: Sequence[Search], studies: Sequence[StudyRecord] = ()) -> str:
    """The page as HTML."""
    parts = [study_part(study) for study in studies] + [search_part(search) for search in searches]
    parts += [runs_part(runs)] if runs else []
    names = [study.name for study in studies] + [search.name for search in searches] + [run.name for run in runs]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files("joyful_ray.report").joinpath("page.html").read_text())
    title = f"joyful_ray: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}"
    subtitle = "Dev selects epochs and configs. Test is read once, for the selected one."
    return template.render(title=title, subtitle=subtitle, sections=parts, plotly=plotly.offline.get_plotlyjs())


def study_part(study: StudyRecord) -> Part:
    """One study: for each corpus a table, its scores, over numbers a curve, and tables of groups."""
    part = Part(f"Study {study.name}", note=study.question)
    for corpus in study.corpora:
        table = variant_table(study, corpus)
        part.cards.append(Card(table.title, " ".join(table.notes), table=table))
        words = "Grey: one seed. The bar is one standard deviation over seeds; green is the reference."
        part.cards.append(_picture(f"Scores on {corpus}", scores_chart(study, corpus), words))
        curve = curve_chart(study, corpus)
        if curve is not None:
            part.cards.append(_picture(f"{study.axis} on {corpus}", curve))
        part.cards.extend(Card(groups.title, "", table=groups) for groups in group_tables(study, corpus))
    return part


def search_part(search: Search) -> Part:
    """One search: its result, whether it is confirmed, and the importance of settings."""
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
        words = (
            "All configs have the same seeds. The intervals come from a paired bootstrap over conversations and seeds."
        )
        add(_picture("Confirmation over fresh seeds", search_charts.confirmation(search, confirm), words))
        part.cards[-1].table = tables.confirmed(search.goal.name, confirm)
    add(_picture("Trials", search_charts.history(search), "Each trial at the epoch that it selected on dev."))
    add(_picture("Learning curves", search_charts.curves(search), "A cross marks where a trial was stopped early."))
    part.cards[-2].opens = part.cards[-1].closes = True
    if search.importance:
        words = "How the best quarter of the trials differs from all of them (PED-ANOVA)."
        add(_picture("Importance of settings", search_charts.importances(search), words))
    is_whole = all(trial.outcome == "finished" for trial in search_charts.judged(search))
    which = (
        "Finished trials" if is_whole else "Rings mark trials that were stopped early; they count with their last score"
    )
    words = f"{which}; the band contains 90 % of the resampled means."
    add(Card("Score by setting", words, [piece(each) for each in search_charts.sensitivity(search)]))
    words = "One line per trial, the best the brightest. Drag along an axis to select trials; drag a name to move it."
    add(_picture("All settings together", search_charts.parallel(search), words))
    part.cards[-1].is_wide = True
    if len(search.goals) > 1:
        add(_picture("Score against training time", search_charts.front(search)))
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
    """All runs: their scores side by side, the settings that differ, curves and confusion."""
    part = Part("Runs")
    for comparison in compare(runs):
        table = score_table(comparison)
        part.cards.append(Card(table.title, table=table))
    differing = settings_table(runs)
    if differing.rows:
        part.cards.append(Card(differing.title, table=differing))
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
    length = f"up to {counted(search.job.train.epochs, 'epoch')} per trial"
    return f"{len(search.ranges)} settings on {search.job.corpus}: {how.algorithm}, {stops}, {length}"


def _verdict(search: Search) -> str:
    if search.record is None:
        return "This search is not finished; the same command continues it."
    settings = ", ".join(f"{path} = {tables.word(value)}" for path, value in search.record.settings.items())
    return f"Chosen by {search.record.chosen_by}: {search.record.chosen}, {search.record.verdict}. {settings}"

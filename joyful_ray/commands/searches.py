"""Commands that search, and that report on searches and runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from joyful_ray.commands.options import Callbacks, Job, Json, Settings, TakeOver


def search(
    job: Job,
    settings: Settings = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the search. A search that was interrupted continues under the same name.", show_default=False
        ),
    ] = None,
    add_trials: Annotated[
        int, typer.Option("--add-trials", min=0, metavar="N", help="Add N trials to a finished search.")
    ] = 0,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            "--merge", metavar="SEARCH", help="Folder of another search, whose trials are taken over; may be repeated."
        ),
    ] = None,
    callback: Callbacks = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """Search for the best settings on Ray Tune.

    Bad trials stop early, the best configs are confirmed over fresh seeds, and test is read once, for the chosen one.
    """
    from joyful_ray.config import load_job
    from joyful_ray.console.screen import Screen
    from joyful_ray.console.search_progress import SearchDisplay
    from joyful_ray.console.searches import show_search
    from joyful_ray.train.callbacks import load_callback
    from joyful_ray.tune.callbacks import SearchCallback
    from joyful_ray.tune.search import search as launch
    from joyful_ray.tune.search_setup import setup

    screen = Screen(as_json=as_json)
    resolved = load_job(job, settings or [])
    callbacks = [load_callback(path, SearchCallback) for path in callback or []]
    known = setup(resolved, name=name)
    with SearchDisplay(screen, known.search, known.goal, epochs=resolved.train.epochs) as display:
        record = launch(
            resolved,
            name=name,
            add_trials=add_trials,
            merge=merge or [],
            watch=display.state,
            stage=display.stage,
            callbacks=callbacks,
            take_over=take_over,
        )
    show_search(screen, record)
    screen.result(record)


def report(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…", help="Folders of runs, searches and studies, or folders above them: paths or s3:// URIs."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.html", help="File of the page. Default: report.html in the first folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs, searches and studies: tables on the terminal, charts on one HTML page that needs no network."""
    from joyful_ray.console.reports import show_report
    from joyful_ray.console.screen import Screen
    from joyful_ray.report.page import page
    from joyful_ray.report.read_runs import read_all, read_studies
    from joyful_ray.storage import open_location

    screen = Screen(as_json=as_json)
    (runs, searches), studies = read_all(places), read_studies(places)
    target = open_location(out) if out else open_location(places[0]).join("report.html")
    target.write_text(page(runs, searches, studies))
    show_report(screen, runs, searches, studies)
    screen.say(f"\nthe page is at {target.uri}; open it in a browser")
    records: dict[str, Any] = {each.name: each.record and each.record.model_dump(mode="json") for each in searches}
    records |= {each.name: each.model_dump(mode="json") for each in studies}
    records |= {each.name: each.record and each.record.model_dump(mode="json") for each in runs}
    screen.result({"report": target.uri, "records": records})

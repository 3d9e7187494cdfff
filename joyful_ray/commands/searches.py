"""Commands that search, and that report on searches and runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from joyful_ray.commands.options import Job, Json, Settings


def search(
    job: Job,
    settings: Settings = None,
    name: Annotated[
        str | None, typer.Option(help="The search's name; continues it if interrupted.", show_default=False)
    ] = None,
    add_trials: Annotated[
        int, typer.Option("--add-trials", min=0, metavar="N", help="Add trials to a search that is finished.")
    ] = 0,
    merge: Annotated[
        list[str] | None,
        typer.Option("--merge", metavar="SEARCH", help="Another search's directory, whose trials count as known."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Search settings on Ray Tune: bad trials stop early, dev selects, the winner is confirmed, test is read once."""
    from joyful_ray.config import load_job
    from joyful_ray.console.screen import Screen
    from joyful_ray.console.searches import SearchDisplay, show_search
    from joyful_ray.tune.search import search as launch
    from joyful_ray.tune.search_setup import setup

    screen = Screen(as_json=as_json)
    resolved = load_job(job, settings or [])
    known = setup(resolved, name=name)
    with SearchDisplay(screen, known.search, known.goal, trials=known.search.max_trials + add_trials) as display:
        record = launch(
            resolved, name=name, add_trials=add_trials, merge=merge or [], watch=display.state, stage=display.stage
        )
    show_search(screen, record)
    screen.result(record)


def report(
    places: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Directories of runs and searches: paths or s3:// URIs.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.html", help="Where the page goes; beside the first otherwise."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tables and pictures of runs and searches: on the terminal, and as one HTML page that needs no network."""
    from joyful_ray.console.reports import show_report
    from joyful_ray.console.screen import Screen
    from joyful_ray.report.page import page
    from joyful_ray.report.read_runs import read_all
    from joyful_ray.storage import open_location

    screen = Screen(as_json=as_json)
    runs, searches = read_all(places)
    target = open_location(out) if out else open_location(places[0]).join("report.html")
    target.write_text(page(runs, searches))
    show_report(screen, runs, searches)
    screen.say(f"\nthe page is at {target.uri}; open it in a browser")
    records: dict[str, Any] = {each.name: each.record and each.record.model_dump(mode="json") for each in searches}
    records |= {each.name: each.record and each.record.model_dump(mode="json") for each in runs}
    screen.result({"report": target.uri, "records": records})

"""Commands that search, and that report on searches and runs."""

from __future__ import annotations

from typing import Annotated

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
    from joyful_ray.tune.search import plan
    from joyful_ray.tune.search import search as launch

    screen = Screen(as_json=as_json)
    resolved = load_job(job, settings or [])
    known = plan(resolved, name=name)
    with SearchDisplay(screen, known.search, known.goal, trials=known.search.max_trials + add_trials) as display:
        record = launch(
            resolved, name=name, add_trials=add_trials, merge=merge or [], watch=display.study, stage=display.stage
        )
    show_search(screen, record)
    screen.result(record)

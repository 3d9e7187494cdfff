"""The command that compares variants of a job."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from joyful_ray.commands.options import Json, Settings, Workers, parse_seeds
from joyful_ray.errors import TrainingError
from joyful_ray.wording import counted

StudyJob = Annotated[
    Path,
    typer.Argument(metavar="STUDY.yaml", help="Study, such as jobs/studies/contrast.yaml.", show_default=False),
]
StudyName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the study and of its folder.", show_default=False)
]
StudySeeds = Annotated[
    str | None, typer.Option(metavar="SEEDS", help="Seeds in place of study.seeds: 0 1 2, or 0-4.", show_default=False)
]
StudyParallel = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum number of runs at a time. If left out: 1 on Ray or on a GPU, and with --workers 0 as many as "
        "this machine has cores for.",
        show_default=False,
    ),
]
Picture = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Also draw the result, as .svg, .png or .pdf.", show_default=False),
]


def form_of(picture: str) -> str:
    """The end of a file's name."""
    return picture.rpartition(".")[2].lower()


def study(
    job: StudyJob,
    settings: Settings = None,
    workers: Workers = None,
    name: StudyName = None,
    seeds: StudySeeds = None,
    parallel: StudyParallel = None,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Compare named variants of a job over corpora and seeds, with intervals.

    The same command continues a study, and adds seeds and variants. Test is read after all runs have ended, once
    for each, and once more for each modality that the study removes.
    """
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.console.studies import show_study
    from joyful_ray.report.page import page
    from joyful_ray.report.pictures import check_picture, study_picture
    from joyful_ray.storage import open_location
    from joyful_ray.study.plan import plan_study
    from joyful_ray.study.study import record_location, run_study

    screen = Screen(as_json=as_json)
    if picture is not None:
        check_picture(form_of(picture))
    overrides = [*(settings or []), *([f"cluster.workers={workers}"] if workers is not None else [])]
    plan = plan_study(job, overrides, name=name, seeds=None if seeds is None else parse_seeds(seeds))
    numbers = itertools.count(1)
    with CountDisplay(screen, "trained", "run") as display:
        record = run_study(
            plan,
            parallel=parallel,
            ended=lambda run: display.update(next(numbers), len(plan.runs)),
            stage=screen.say,
        )
    target = plan.location.join("report.html")
    target.write_text(page([], [], [record]))
    locations = {"record": record_location(plan).uri, "page": target.uri}
    if picture is not None:
        drawn = open_location(picture)
        drawn.write_bytes(study_picture(record, form=form_of(picture)))
        locations["picture"] = drawn.uri
    show_study(screen, record, locations)
    screen.result(record)
    if record.failures:
        raise TrainingError(f"{len(record.failures)} of {counted(len(plan.runs), 'run')} did not finish")

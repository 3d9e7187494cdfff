"""Commands about settings and about this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from joyful_ray.commands.options import Json, Settings


def config(
    job: Annotated[
        Path | None, typer.Argument(metavar="[JOB.yaml]", help="The experiment; the defaults without one.")
    ] = None,
    settings: Settings = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of job files, for editors.")] = False,
    as_json: Json = False,
) -> None:
    """Print a job with every setting written out."""
    from joyful_ray.config import JobConfig, load_job, to_yaml
    from joyful_ray.console.screen import Screen, json_line

    if schema:
        print(json_line(JobConfig.model_json_schema()))
        return
    resolved = load_job(job, settings or [])
    if resolved.search is not None:
        from joyful_ray.tune.space import Space

        Space.of(resolved)
    if as_json:
        Screen(as_json=True).result(resolved)
    else:
        print(f"# fingerprint: {resolved.fingerprint}\n{to_yaml(resolved)}", end="")


def doctor(
    storage: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Also write, read and remove a small object there.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not start Ray to see whether it does.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine, Ray, storage and versions, and say what to fix."""
    from joyful_ray.console.doctor import show_doctor_report
    from joyful_ray.console.screen import Screen
    from joyful_ray.doctor import run_checks

    screen = Screen(as_json=as_json)
    report = run_checks(storage=storage, quick=quick)
    show_doctor_report(screen, report)
    screen.result(report)
    raise typer.Exit(0 if report.is_healthy else 1)

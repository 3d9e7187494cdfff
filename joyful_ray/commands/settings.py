"""Commands about settings and about this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from joyful_ray.commands.options import Json, Settings


def config(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB.yaml | PATTERN]",
            help="The job file; without it, the defaults. With --list, which settings to show.",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list",
            help="Explain settings: type, range, default, meaning. PATTERN is a part of a path, or has *.",
        ),
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --list: print Markdown.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of job files, for editors.")] = False,
    as_json: Json = False,
) -> None:
    """Print a job with every setting written out, or explain the settings."""
    from joyful_ray.config import JobConfig, load_job, to_yaml
    from joyful_ray.console.screen import Screen, json_line

    if schema:
        print(json_line(JobConfig.model_json_schema()))
        return
    if list_:
        _list_settings(job, markdown=markdown, as_json=as_json)
        return
    resolved = load_job(job, settings or [])
    if resolved.search is not None:
        from joyful_ray.tune.space import Space

        Space.of(resolved)
    if as_json:
        Screen(as_json=True).result(resolved)
    else:
        print(f"# fingerprint: {resolved.fingerprint}\n{to_yaml(resolved)}", end="")


def _list_settings(pattern: str | None, *, markdown: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from joyful_ray.console.screen import Screen
    from joyful_ray.console.settings import show_settings
    from joyful_ray.setting_reference import all_settings, as_markdown, find_settings

    entries = all_settings() if pattern is None else find_settings(pattern)
    if markdown:
        print(as_markdown(entries), end="")
        return
    screen = Screen(as_json=as_json)
    show_settings(screen, entries)
    screen.result({"settings": [asdict(entry) for entry in entries]})


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

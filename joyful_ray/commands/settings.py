"""Commands about settings and about this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from joyful_ray.commands.options import Json, Settings


def config(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB.yaml|PATTERN",
            help="Job file; the defaults if left out. With --list: a part of the paths to show, or a pattern with *.",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list",
            help="List settings with type, range, default under each preset, and meaning.",
        ),
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --list: print jobs/SETTINGS.md.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of job files, which editors understand.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a job with every setting written out, or list all settings with their meaning."""
    from joyful_ray.config import JobConfig, load_job, to_yaml
    from joyful_ray.console.screen import Screen, json_line

    if markdown and not list_:
        raise typer.BadParameter("--markdown needs --list")
    if (list_ or schema) and settings:
        raise typer.BadParameter("--set belongs to a job, not to --list or --schema")
    if schema and (list_ or job is not None):
        raise typer.BadParameter("--schema takes neither a job nor --list")
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
        typer.Option(
            metavar="URI",
            help="Also check a path or s3:// URI: write, read and remove a small file there.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the check that starts Ray.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine, Ray, versions and storage, and say what to fix."""
    from joyful_ray.console.doctor import show_doctor_report
    from joyful_ray.console.screen import Screen
    from joyful_ray.doctor import run_checks

    screen = Screen(as_json=as_json)
    report = run_checks(storage=storage, quick=quick)
    show_doctor_report(screen, report)
    screen.result(report)
    raise typer.Exit(0 if report.is_healthy else 1)

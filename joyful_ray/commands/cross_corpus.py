"""Commands for several corpora: merge and transfer."""

from __future__ import annotations

from typing import Annotated

import typer

from joyful_ray.commands.options import Job, Json, Out, Overwrite, Settings


def merge(
    corpora: Annotated[list[str], typer.Argument(metavar="URI…", help="Two or more corpora: paths or s3:// URIs.")],
    out: Out,
    label_map: Annotated[
        list[str] | None,
        typer.Option(
            "--label-map",
            metavar="FILE",
            help="Label map for the corpora that have the labels in its `from`; may be repeated. See jobs/label-maps.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the merged corpus.", show_default=False)] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Merge several corpora into one, with labels that all of them share."""
    from joyful_ray.console.corpora import show_manifest
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.merge import merge_corpora

    screen = Screen(as_json=as_json)
    with CountDisplay(screen, "merged", "conversation") as display:
        manifest = merge_corpora(
            corpora, out, label_maps=label_map or [], name=name, overwrite=overwrite, watch=display.update
        )
    show_manifest(screen, manifest, out)
    screen.result(manifest)


def transfer(
    job: Job,
    settings: Settings = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Ray workers; 0 trains in this process without Ray.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on each corpus of a job, score on all, and print a table with one row per training corpus."""
    from joyful_ray.config import load_job
    from joyful_ray.console.progress import TrainingDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.console.transfer import show_transfer

    screen = Screen(as_json=as_json)
    overrides = [*(settings or []), *([f"cluster.workers={workers}"] if workers is not None else [])]
    resolved = load_job(job, overrides)
    from joyful_ray.assess.transfer import transfer as compare

    with TrainingDisplay(screen, epochs=resolved.train.epochs) as display:
        record = compare(resolved, stage=display.stage, watch=display.epoch)
    show_transfer(screen, record)
    screen.result(record)

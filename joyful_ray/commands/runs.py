"""Commands that train and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from joyful_ray.commands.options import (
    Bundles,
    Callbacks,
    Device,
    Job,
    Json,
    MaxHours,
    Parallel,
    RunName,
    Seeds,
    Settings,
    TakeOver,
    Workers,
    one_of,
    parse_seeds,
)
from joyful_ray.errors import TrainingError
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.config import JobConfig
    from joyful_ray.console.screen import Screen
    from joyful_ray.train.callbacks import Callback

DEVICES: tuple[Literal["auto", "cpu", "cuda"], ...] = ("auto", "cpu", "cuda")


def demo(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the corpus and the run.")] = Path(
        "joyful-demo"
    ),
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of Ray workers; 0 trains in this process, without Ray.")
    ] = 2,
    as_json: Json = False,
) -> None:
    """Make a small synthetic corpus, train on it, evaluate the model, and show what to try next."""
    from joyful_ray.console.progress import TrainingDisplay
    from joyful_ray.console.runs import show_demo
    from joyful_ray.console.screen import Screen
    from joyful_ray.demo import demo_job, run_demo

    screen = Screen(as_json=as_json)
    job = demo_job(folder, workers=workers)
    with TrainingDisplay(screen, epochs=job.train.epochs) as display:
        result = run_demo(job, stage=display.stage, watch=display.epoch)
    show_demo(screen, result)
    screen.result(result)


def train(
    job: Job,
    settings: Settings = None,
    workers: Workers = None,
    name: RunName = None,
    max_hours: MaxHours = None,
    seeds: Seeds = None,
    parallel: Parallel = None,
    callback: Callbacks = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """Train one run, or one per seed. Dev selects the epoch, and test is read once per run.

    The same command continues an unfinished run, and refuses one with other settings.
    """
    from joyful_ray.config import load_job
    from joyful_ray.console.progress import TrainingDisplay
    from joyful_ray.console.runs import show_run
    from joyful_ray.console.screen import Screen
    from joyful_ray.train.callbacks import load_callback
    from joyful_ray.train.launch import train as launch

    screen = Screen(as_json=as_json)
    overrides = [*(settings or []), *([f"cluster.workers={workers}"] if workers is not None else [])]
    overrides += [f"cluster.max_hours={max_hours}"] if max_hours is not None else []
    resolved = load_job(job, overrides)
    if seeds is None and parallel is not None:
        raise typer.BadParameter("--parallel needs --seeds")
    if seeds is not None and take_over:
        raise typer.BadParameter("--take-over takes one run; name it with --name, without --seeds")
    callbacks = [load_callback(path) for path in callback or []]
    if seeds is not None:
        _train_seeds(screen, resolved, parse_seeds(seeds), name=name, parallel=parallel, callbacks=callbacks)
        return
    with TrainingDisplay(screen, epochs=resolved.train.epochs) as display:
        display.stage(f"training {name or resolved.name} on {resolved.corpus}")
        record = launch(
            resolved, name=name, watch=display.epoch, callbacks=callbacks, take_over=take_over, stage=display.stage
        )
    show_run(screen, record)
    screen.result(record)


def _train_seeds(
    screen: Screen,
    job: JobConfig,
    seeds: list[int],
    *,
    name: str | None,
    parallel: int | None,
    callbacks: list[Callback],
) -> None:
    from joyful_ray.console.progress import TrainingDisplay
    from joyful_ray.console.seeds import show_seeds
    from joyful_ray.train.seeds import record_location, train_seeds

    with TrainingDisplay(screen, epochs=job.train.epochs, seeds=seeds) as display:
        record = train_seeds(
            job,
            seeds,
            name=name,
            parallel=parallel,
            watch=display.epoch_of_seed,
            ended=display.seed_ended,
            stage=display.stage,
            callbacks=callbacks,
        )
    show_seeds(screen, record, record_location(job, record.name).uri)
    screen.result(record)
    if record.failures:
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in record.failures.items())
        raise TrainingError(f"{len(record.failures)} of {counted(len(seeds), 'seed')} did not finish; {reasons}")


def debug(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="failed-step.safetensors, as a run has left it in its folder.")
    ],
    as_json: Json = False,
) -> None:
    """Make a step that was not finite again, in this process, and show where the first bad number comes from."""
    from joyful_ray.console.runs import show_failed_step
    from joyful_ray.console.screen import Screen
    from joyful_ray.storage import open_location
    from joyful_ray.train.failed_step import read_failed_step
    from joyful_ray.train.replay import replay

    screen = Screen(as_json=as_json)
    report = replay(read_failed_step(open_location(file)), source=file)
    show_failed_step(screen, report)
    screen.result(report)


def evaluate(
    bundle: Bundles,
    corpus: Annotated[
        str, typer.Option("--corpus", metavar="URI", help="Path or s3:// URI of the corpus to score it on.")
    ],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Split to score: train, dev or test.")] = "test",
    label_map: Annotated[
        str | None,
        typer.Option(
            "--label-map",
            metavar="FILE",
            help="File that maps the model's labels to those of the corpus; see jobs/label-maps.",
            show_default=False,
        ),
    ] = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="Also show scores by speaker, length, position and modality, and how far the features have shifted.",
        ),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a trained model on a split of any corpus, also on one from another domain with other labels."""
    from joyful_ray.console.assessments import show_assessment
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.schema import SPLITS

    screen = Screen(as_json=as_json)
    chosen_split, chosen_device = one_of(SPLITS, split, "--split"), one_of(DEVICES, device, "--device")
    from joyful_ray.assess.assessment import assess_bundle

    with CountDisplay(screen, "scored", "utterance") as display:
        assessment = assess_bundle(
            bundle, corpus, split=chosen_split, label_map=label_map, device=chosen_device, watch=display.update
        )
    show_assessment(screen, assessment, split=split, details=details)
    screen.result(assessment)

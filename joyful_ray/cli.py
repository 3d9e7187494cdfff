"""`joyful`: verbs, their options, and how a command ends. What a verb does stands elsewhere, imported when needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from joyful_ray import __version__
from joyful_ray.errors import TrainingError, UserError

app = typer.Typer(
    name="joyful",
    help="Emotions in conversations from text, audio and vision: train and score JOYFUL on a laptop or a Ray cluster.",
    epilog="Start with `joyful demo`. Exit status: 0 done, 1 failed while working, 2 the input is wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = TypeVar("Name", bound=str)
STOPPED = "stopped; the same command continues a run"
DEVICES: tuple[Literal["auto", "cpu", "cuda"], ...] = ("auto", "cpu", "cuda")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; words go to stderr.")]
Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The experiment.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one setting; may be repeated.", show_default=False),
]
Out = Annotated[str, typer.Option("--out", metavar="URI", help="Where the corpus goes: a path or s3:// URI.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a corpus that is already there.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = app(args=given, prog_name="joyful", standalone_mode=False) or 0
        # Typer makes this status, and no word, of Ctrl-C.
        return _ends(given, STOPPED, kind="interrupt", status=130) if status == 130 else status
    except typer.TyperException as error:  # an unknown verb or option, a value that is missing or of another kind
        return _ends(given, error.format_message(), kind="usage", status=2, more=_help_of(error))
    except UserError as error:
        return _ends(given, str(error), kind=type(error).__name__, status=2)
    except TrainingError as error:
        return _ends(given, str(error), kind=type(error).__name__, status=1)
    except (KeyboardInterrupt, typer.Abort):
        return _ends(given, STOPPED, kind="interrupt", status=130)


def _ends(given: list[str], message: str, *, kind: str, status: int, more: str = "") -> int:
    line = " ".join(message.split()) or kind
    print(f"joyful: {line}{more}", file=sys.stderr)
    if "--json" in given:
        from joyful_ray.console import json_line

        print(json_line({"error": line, "kind": kind, "status": status}), flush=True)
    return status


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" See: {context.command_path} --help" if context is not None else ""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"joyful-ray {__version__}")
        raise typer.Exit


@app.callback()
def _joyful(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where corpus and run go.")] = Path(
        "joyful-demo"
    ),
    workers: Annotated[int, typer.Option(min=0, help="Ray workers; 0 trains without Ray.")] = 2,
    as_json: Json = False,
) -> None:
    """Make a small corpus, train on local Ray with two workers, evaluate, and say where to look."""
    from joyful_ray.console import Screen, TrainingDisplay, show_demo
    from joyful_ray.demo import demo_job, run_demo

    screen = Screen(as_json=as_json)
    job = demo_job(folder, workers=workers)
    with TrainingDisplay(screen, epochs=job.train.epochs) as display:
        result = run_demo(job, stage=display.stage, watch=display.epoch)
    show_demo(screen, result)
    screen.result(result)


@app.command()
def synth(
    out: Out,
    conversations: Annotated[int, typer.Option(min=3, help="Conversations of all splits together.")],
    seed: Annotated[int, typer.Option(min=0, help="Decides the conversations.")] = 0,
    structure_seed: Annotated[
        int, typer.Option(min=0, help="Decides what the vectors look like: one number, one domain.")
    ] = 0,
    task: Annotated[str, typer.Option(help="single-label, multi-label or regression.")] = "single-label",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a corpus with a planted structure that the model can learn."""
    from joyful_ray.console import Screen, show_manifest
    from joyful_ray.corpora.synthetic import synthesize
    from joyful_ray.schema import TASKS

    screen = Screen(as_json=as_json)
    manifest = synthesize(
        out,
        conversations=conversations,
        seed=seed,
        structure_seed=structure_seed,
        task=_one_of(TASKS, task, "--task"),
        overwrite=overwrite,
    )
    show_manifest(screen, manifest, out)
    screen.result(manifest)


@app.command(name="import")
def import_(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="meld, jsonl, …; a wrong one names the right ones.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The data set's own files: a path or s3:// URI.")],
    out: Out,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="A setting of this format; may be repeated.", show_default=False
        ),
    ] = None,
    max_bad: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of bad conversations to set aside instead of refusing.")
    ] = 0.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn a published data set's own files into a corpus."""
    from joyful_ray.console import Screen, show_manifest
    from joyful_ray.corpora.importers import import_corpus

    screen = Screen(as_json=as_json)
    manifest = import_corpus(format, source, out, options=_pairs(option), max_bad=max_bad, overwrite=overwrite)
    show_manifest(screen, manifest, out)
    screen.result(manifest)


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"--option takes KEY=VALUE, not {text!r}")
        pairs[key] = value
    return pairs


@app.command()
def inspect(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A corpus: a path or s3:// URI.")],
    as_json: Json = False,
) -> None:
    """Show a corpus: its counts, labels, modalities, features, and what to beware of."""
    from joyful_ray.console import Screen, show_corpus
    from joyful_ray.corpora.audit import inspect_corpus
    from joyful_ray.corpora.shards import open_corpus

    screen = Screen(as_json=as_json)
    card = inspect_corpus(open_corpus(uri))
    show_corpus(screen, card)
    screen.result(card)


@app.command()
def train(
    job: Job,
    settings: Settings = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Ray workers; 0 trains in this process without Ray.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run's name; continues it if unfinished.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train one run: selected on dev, scored on test once."""
    from joyful_ray.config import load_job
    from joyful_ray.console import Screen, TrainingDisplay, show_run
    from joyful_ray.train.launch import train as launch

    screen = Screen(as_json=as_json)
    overrides = [*(settings or []), *([f"cluster.workers={workers}"] if workers is not None else [])]
    resolved = load_job(job, overrides)
    with TrainingDisplay(screen, epochs=resolved.train.epochs) as display:
        display.stage(f"training {name or resolved.name} on {resolved.corpus}")
        record = launch(resolved, name=name, watch=display.epoch)
    show_run(screen, record)
    screen.result(record)


@app.command()
def evaluate(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A trained model: <run>/bundle, a path or s3:// URI.")
    ],
    corpus: Annotated[str, typer.Option("--corpus", metavar="URI", help="The corpus to score it on.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Score a trained model on a split of any corpus."""
    from joyful_ray.console import Screen, show_scores
    from joyful_ray.schema import SPLITS

    screen = Screen(as_json=as_json)
    chosen_split, chosen_device = _one_of(SPLITS, split, "--split"), _one_of(DEVICES, device, "--device")
    from joyful_ray.train.evaluate import evaluate_bundle

    scores = evaluate_bundle(bundle, corpus, split=chosen_split, device=chosen_device)
    show_scores(screen, {split: scores})
    screen.result(scores)


def _one_of(known: tuple[Name, ...], given: str, option: str) -> Name:
    for name in known:
        if name == given:
            return name
    raise typer.BadParameter(f"{option} is one of {', '.join(known)}, not {given!r}")


@app.command()
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
    from joyful_ray.console import Screen, json_line

    if schema:
        print(json_line(JobConfig.model_json_schema()))
        return
    resolved = load_job(job, settings or [])
    if as_json:
        Screen(as_json=True).result(resolved)
    else:
        print(f"# fingerprint: {resolved.fingerprint}\n{to_yaml(resolved)}", end="")


@app.command()
def doctor(
    storage: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Also write, read and remove a small object there.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not start Ray to see whether it does.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine, Ray, storage and versions, and say what to fix."""
    from joyful_ray.console import Screen, show_checkup
    from joyful_ray.doctor import examine

    screen = Screen(as_json=as_json)
    checkup = examine(storage=storage, quick=quick)
    show_checkup(screen, checkup)
    screen.result(checkup)
    raise typer.Exit(0 if checkup.is_healthy else 1)

"""The command `joyful`: its subcommands, and how a command ends. The options of each are in `commands/`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from joyful_ray.commands import (
    cluster,
    corpora,
    cross_corpus,
    predictions,
    retrieval,
    runs,
    searches,
    settings,
    studies,
)
from joyful_ray.commands.options import join_seeds
from joyful_ray.errors import TrainingError, UserError
from joyful_ray.termination import exit_status, last_line, stop_on_sigterm
from joyful_ray.version import __version__

app = typer.Typer(
    name="joyful",
    help="Recognise emotions in conversations from text, audio and vision: train, search, evaluate and predict with "
    "JOYFUL, on a laptop or a Ray cluster.",
    epilog="Start with `joyful demo`. `joyful COMMAND --help` explains a command, and `joyful config --list` every "
    "setting. Exit status: 0 done, 1 failed while working, 2 the input is wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

STOPPED = "stopped; the same command continues a run"
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Start": {"demo": runs.demo, "doctor": settings.doctor, "config": settings.config},
    "Corpora": {
        "import": corpora.import_,
        "synth": corpora.synth,
        "inspect": corpora.inspect,
        "merge": cross_corpus.merge,
    },
    "Training": {
        "train": runs.train,
        "search": searches.search,
        "study": studies.study,
        "transfer": cross_corpus.transfer,
        "report": searches.report,
        "debug": runs.debug,
    },
    "Trained models": {
        "evaluate": runs.evaluate,
        "predict": predictions.predict,
        "retrieve": retrieval.retrieve,
    },
    "Clusters": {"plan": cluster.plan, "submit": cluster.submit, "certify": cluster.certify},
}
"""Every command by name, in the groups in which `joyful --help` shows them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = join_seeds(list(sys.argv[1:] if arguments is None else arguments))
    if arguments is None:
        stop_on_sigterm()
    try:
        status = app(args=given, prog_name="joyful", standalone_mode=False) or 0
        # Typer turns Ctrl-C into this status without a message.
        if status != 130:
            return status
        return _ends(given, last_line(STOPPED), kind="interrupt", status=exit_status())
    except typer.TyperException as error:  # an unknown command or option, or a value that is missing or of a wrong type
        if (
            type(error).__name__ == "NoArgsIsHelpError"
        ):  # Typer has printed the help, and exports no name for this error
            return 0
        return _ends(given, error.format_message(), kind="usage", status=2, more=_help_of(error))
    except UserError as error:
        return _ends(given, str(error), kind=type(error).__name__, status=2)
    except TrainingError as error:
        return _ends(given, str(error), kind=type(error).__name__, status=1)
    except (KeyboardInterrupt, typer.Abort):
        return _ends(given, last_line(STOPPED), kind="interrupt", status=exit_status())


def _ends(given: list[str], message: str, *, kind: str, status: int, more: str = "") -> int:
    line = " ".join(message.split()) or kind
    print(f"joyful: {line}{more}", file=sys.stderr)
    if "--json" in given:
        from joyful_ray.console.screen import json_line

        print(json_line({"error": line, "kind": kind, "status": status}), flush=True)
    return status


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context is not None else ""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"joyful-ray {__version__}")
        raise typer.Exit


@app.callback()
def _joyful(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


for group, commands in COMMANDS.items():
    for name, command in commands.items():
        accepts = cluster.ANY_ARGUMENTS if name == "submit" else None
        app.command(
            name=name,
            context_settings=accepts,
            rich_help_panel=group,
            add_help_option=name != "import",  # its own option describes a format too
            no_args_is_help=name == "import",
        )(command)
app.add_typer(corpora.corpus_group(), rich_help_panel="Corpora")
app.add_typer(cluster.jobs_group(), rich_help_panel="Clusters")

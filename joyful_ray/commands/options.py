"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeVar

import typer

Name = TypeVar("Name", bound=str)
SEED_PART = re.compile(r"(\d+)(?:-(\d+))?")
MOST_SEEDS = 1000

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout, and everything else on stderr.")
]
Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job file, such as jobs/meld.yaml.", show_default=False)]
Bundles = Annotated[
    list[str],
    typer.Argument(
        metavar="BUNDLE…",
        help="Trained model: path or s3:// URI of <run>/bundle. The probabilities of several are averaged.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Change one setting, such as train.epochs=3; may be repeated. `joyful config --list` shows all.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Number of Ray workers; 0 trains in this process, without Ray. Short for --set cluster.workers=N.",
        show_default=False,
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the run and of its folder; the job's name if left out. An unfinished run continues.",
        show_default=False,
    ),
]
MaxHours = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="Stop with a checkpoint before this many hours have passed, all seeds together.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="SEEDS",
        help="Train once per seed, and print mean and standard deviation of the scores: 0 1 2, or 0,1,2, or 0-2.",
        show_default=False,
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="With --seeds: maximum number of runs at a time. If left out: 1 on Ray or on a GPU, and with --workers 0 "
        "as many as this machine has cores for.",
        show_default=False,
    ),
]
Callbacks = Annotated[
    list[str] | None,
    typer.Option(
        "--callback",
        metavar="MODULE:CLASS",
        help="Class of a callback, which receives the events of the run; may be repeated. See joyful_ray/README.md.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Device to run on: auto, cpu or cuda.")]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="Take the run from a command on another machine at once, which then stops. Without it, a run that "
        "is still at work there is refused, and one whose command died continues after half a minute.",
    ),
]
Out = Annotated[str, typer.Option("--out", metavar="URI", help="Path or s3:// URI of the new corpus.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the corpus if there is one already.")]


def one_of(known: tuple[Name, ...], given: str, option: str) -> Name:
    """Return `given` if it is one of the known names.

    Raises:
        BadParameter: it is not; the message lists the names.
    """
    for name in known:
        if name == given:
            return name
    raise typer.BadParameter(f"{option} is one of {', '.join(known)}, not {given!r}")


def parse_seeds(text: str) -> list[int]:
    """Read the value of `--seeds`: `0,1,2`, `0-4`, or a mixture.

    Raises:
        BadParameter: it has a word that is no seed, no seed at all, or a seed twice.
    """
    seeds: list[int] = []
    for part in text.replace(",", " ").split():
        found = SEED_PART.fullmatch(part)
        if found is None:
            raise typer.BadParameter(f"--seeds takes whole numbers such as 0 1 2, or a range such as 0-4, not {part!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last - first >= MOST_SEEDS:
            raise typer.BadParameter(f"--seeds {part} names more than {MOST_SEEDS} seeds")
        seeds += range(first, last + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise typer.BadParameter("give --seeds at least one seed, and each seed once")
    return seeds


def join_seeds(arguments: list[str]) -> list[str]:
    """Replace `--seeds 0 1 2` by `--seeds 0,1,2`, because Typer's options take a fixed number of values."""
    joined: list[str] = []
    position = 0
    while position < len(arguments):
        joined.append(arguments[position])
        position += 1
        if joined[-1] == "--seeds":
            first = position
            while position < len(arguments) and SEED_PART.fullmatch(arguments[position].strip(",")):
                position += 1
            joined += [",".join(arguments[first:position])] if position > first else []
    return joined

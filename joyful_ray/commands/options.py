"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeVar

import typer

Name = TypeVar("Name", bound=str)
SEED_PART = re.compile(r"(\d+)(?:-(\d+))?")
MOST_SEEDS = 1000

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; words go to stderr.")]
Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The experiment.", show_default=False)]
Bundle = Annotated[
    str,
    typer.Argument(metavar="BUNDLE", help="A trained model: <run>/bundle, a path or s3:// URI."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one setting; may be repeated.", show_default=False),
]
Out = Annotated[str, typer.Option("--out", metavar="URI", help="Where the corpus goes: a path or s3:// URI.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a corpus that is already there.")]


def one_of(known: tuple[Name, ...], given: str, option: str) -> Name:
    """What was given, where it is one of the known names; else a usage error that lists them."""
    for name in known:
        if name == given:
            return name
    raise typer.BadParameter(f"{option} is one of {', '.join(known)}, not {given!r}")


def parse_seeds(text: str) -> list[int]:
    """Seeds as the option `--seeds` gives them: `0,1,2`, `0-4`, or a mixture; else a usage error."""
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
        raise typer.BadParameter("--seeds needs at least one seed, and each seed once")
    return seeds


def join_seeds(arguments: list[str]) -> list[str]:
    """Command-line arguments in which `--seeds 0 1 2` is one value, because an option of click takes a fixed number."""
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

"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

Name = TypeVar("Name", bound=str)

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

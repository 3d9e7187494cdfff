"""Commands that make and show corpora."""

from __future__ import annotations

from typing import Annotated

import typer

from joyful_ray.commands.options import Json, Out, Overwrite, one_of


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
    from joyful_ray.console.corpora import show_manifest
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.synthetic import synthesize
    from joyful_ray.schema import TASKS

    screen = Screen(as_json=as_json)
    manifest = synthesize(
        out,
        conversations=conversations,
        seed=seed,
        structure_seed=structure_seed,
        task=one_of(TASKS, task, "--task"),
        overwrite=overwrite,
    )
    show_manifest(screen, manifest, out)
    screen.result(manifest)


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
    from joyful_ray.console.corpora import show_manifest
    from joyful_ray.console.screen import Screen
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


def inspect(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A corpus: a path or s3:// URI.")],
    as_json: Json = False,
) -> None:
    """Show a corpus: its counts, labels, modalities, features, and what to beware of."""
    from joyful_ray.console.corpora import show_corpus
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.card import inspect_corpus
    from joyful_ray.corpora.shards import open_corpus

    screen = Screen(as_json=as_json)
    card = inspect_corpus(open_corpus(uri))
    show_corpus(screen, card)
    screen.result(card)

"""Commands that create, import and show corpora."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from joyful_ray.commands.options import Json, Out, Overwrite, one_of

if TYPE_CHECKING:
    from joyful_ray.schema import Manifest, Modality


def synth(
    out: Out,
    conversations: Annotated[int, typer.Option(min=3, help="Number of conversations in all splits together.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the conversations.")] = 0,
    structure_seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of the feature vectors' structure. Corpora with the same value come from the same domain."
        ),
    ] = 0,
    task: Annotated[str, typer.Option(help="single-label, multi-label or regression.")] = "single-label",
    width: Annotated[
        list[str] | None,
        typer.Option(
            "--width",
            metavar="MODALITY=N",
            help="Width of a modality's vectors; can be repeated. [default: text=32, audio=16, vision=24]",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Create a synthetic corpus with a structure that the model can learn."""
    from joyful_ray.console.corpora import show_manifest
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.synthetic import synthesize
    from joyful_ray.schema import TASKS

    screen = Screen(as_json=as_json)
    with CountDisplay(screen, "wrote", "conversation") as display:
        manifest = synthesize(
            out,
            conversations=conversations,
            seed=seed,
            structure_seed=structure_seed,
            task=one_of(TASKS, task, "--task"),
            widths=_widths(width) or None,
            overwrite=overwrite,
            watch=display.update,
        )
    show_manifest(screen, manifest, out)
    screen.result(manifest)


Format = Annotated[
    str | None,
    typer.Argument(
        metavar="FORMAT",
        help="A format of --list, or an importer of your own as my_package.module:Class.",
        show_default=False,
    ),
]
Source = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="Folder or file to import: a path or s3:// URI.", show_default=False),
]
ImportOut = Annotated[
    str | None,
    typer.Option("--out", metavar="URI", help="Path or s3:// URI of the new corpus.", show_default=False),
]
FormatOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="An option of the format; may be repeated. `joyful import FORMAT --help` lists them.",
        show_default=False,
    ),
]
MaxBad = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Maximum share of bad conversations. They are written to quarantine.jsonl instead of the corpus; "
        "above this share, nothing is imported.",
    ),
]
FormatHelp = Annotated[
    bool, typer.Option("--help", "-h", help="Show this message, or describe FORMAT and its options.")
]


def import_(
    context: typer.Context,
    format: Format = None,
    source: Source = None,
    out: ImportOut = None,
    option: FormatOptions = None,
    max_bad: MaxBad = 0.0,
    overwrite: Overwrite = False,
    list_: Annotated[bool, typer.Option("--list", help="List the formats.")] = False,
    help_: FormatHelp = False,
    as_json: Json = False,
) -> None:
    """Import a corpus from the files of a published data set, or from your own.

    `joyful import --list` lists the formats, and `joyful import FORMAT --help` describes one.
    """
    from joyful_ray.console.corpora import show_format, show_formats, show_manifest
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.importers import IMPORTERS, find_importer, import_corpus
    from joyful_ray.errors import ConfigError

    screen = Screen(as_json=as_json)
    if list_:
        show_formats(screen, list(IMPORTERS.values()))
        screen.result({name: importer.summary for name, importer in IMPORTERS.items()})
        return
    if help_:
        if format is None:
            print(context.get_help())
        else:
            importer = find_importer(format)
            show_format(screen, importer)
            screen.result({"format": importer.format, "options": importer.all_options})
        return
    if format is None or source is None or out is None:
        missing = "FORMAT" if format is None else "SOURCE" if source is None else "--out"
        raise ConfigError(f"joyful import needs {missing}; see joyful import --help")
    with CountDisplay(screen, "imported", "utterance") as display:
        manifest = import_corpus(
            format,
            source,
            out,
            options=_pairs(option),
            max_bad=max_bad,
            overwrite=overwrite,
            watch=display.update,
        )
    show_manifest(screen, manifest, out)
    screen.result(manifest)


def _widths(texts: list[str] | None) -> dict[Modality, int]:
    from joyful_ray.schema import MODALITIES

    found = {}
    for text in texts or []:
        name, _, number = text.partition("=")
        if not number.isdecimal():
            raise typer.BadParameter(f"--width takes MODALITY=N, not {text!r}")
        found[one_of(MODALITIES, name, "--width")] = int(number)
    return found


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"--option takes KEY=VALUE, not {text!r}")
        pairs[key] = value
    return pairs


CorpusUri = Annotated[str, typer.Argument(metavar="URI", help="Path or s3:// URI of a corpus.")]


def inspect(
    uri: CorpusUri,
    verify: Annotated[bool, typer.Option("--verify", help="Also read all shards, and name those that differ.")] = False,
    as_json: Json = False,
) -> None:
    """Show a corpus: its counts, labels, modalities and features, with warnings."""
    from joyful_ray.console.corpora import show_corpus
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.card import inspect_corpus
    from joyful_ray.corpora.shards import open_corpus
    from joyful_ray.corpora.verify import damaged_shards
    from joyful_ray.errors import CorpusError
    from joyful_ray.wording import counted

    screen = Screen(as_json=as_json)
    corpus = open_corpus(uri)
    if verify:
        with CountDisplay(screen, "verified", "shard") as display:
            damaged = damaged_shards(corpus, watch=display.update)
        if damaged:
            for line in damaged[1:]:
                screen.say(line)
            raise CorpusError(f"{counted(len(damaged), 'shard')} differ from the manifest: {damaged[0]}")
    with CountDisplay(screen, "read", "shard") as display:
        card = inspect_corpus(corpus, watch=display.update)
    show_corpus(screen, card)
    screen.result(card)


def corpus_group() -> typer.Typer:
    """The commands `joyful corpus …`."""
    group = typer.Typer(
        name="corpus",
        help="Make a corpus from another (a sample, other splits, other shards), or bring one to the current format.",
        no_args_is_help=True,
    )
    commands: dict[str, Callable[..., None]] = {
        "sample": sample,
        "split": split,
        "reshard": reshard,
        "upgrade": upgrade,
    }
    for name, command in commands.items():
        group.command(name=name)(command)
    return group


def sample(
    uri: CorpusUri,
    out: Out,
    conversations: Annotated[int, typer.Option(min=1, help="Number of conversations in all splits together.")],
    seed: Annotated[int, typer.Option(min=0, help="Decides which.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write some conversations of a corpus, drawn at random from every split in proportion."""
    from joyful_ray.corpora.rewrite import sample_corpus

    _rewritten(
        partial(sample_corpus, uri, out, conversations=conversations, seed=seed, overwrite=overwrite), out, as_json
    )


def split(
    uri: CorpusUri,
    out: Out,
    dev: Annotated[float, typer.Option(help="Share of the conversations; 0 makes no dev split.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the conversations; 0 makes no test split.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Decides which.")] = 0,
    by_speaker: Annotated[bool, typer.Option("--by-speaker", help="Put no speaker into two splits.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Divide all conversations of a corpus anew into train, dev and test."""
    from joyful_ray.corpora.rewrite import split_corpus

    write = partial(split_corpus, uri, out, dev=dev, test=test, seed=seed, by_speaker=by_speaker, overwrite=overwrite)
    _rewritten(write, out, as_json)


def reshard(
    uri: CorpusUri,
    out: Out,
    shard_mib: Annotated[
        float, typer.Option("--shard-mib", min=0.01, help="Most MiB of a shard in memory; its file is smaller.")
    ] = 64.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the same conversations into shards of another size."""
    from joyful_ray.corpora.rewrite import reshard_corpus

    size = int(shard_mib * 2**20)
    _rewritten(partial(reshard_corpus, uri, out, shard_bytes=size, overwrite=overwrite), out, as_json)


def _rewritten(write: Callable[..., Manifest], out: str, as_json: bool) -> None:
    from joyful_ray.console.corpora import show_manifest
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen

    screen = Screen(as_json=as_json)
    with CountDisplay(screen, "wrote", "conversation") as display:
        manifest = write(watch=display.update)
    show_manifest(screen, manifest, out)
    screen.result(manifest)


def upgrade(uri: CorpusUri, as_json: Json = False) -> None:
    """Bring a corpus of an earlier version to the current format, in place. Its shards and its hash stay."""
    from joyful_ray.console.corpora import show_manifest
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.screen import Screen
    from joyful_ray.corpora.upgrade import upgrade_corpus

    screen = Screen(as_json=as_json)
    with CountDisplay(screen, "read", "shard") as display:
        manifest, earlier = upgrade_corpus(uri, watch=display.update)
    show_manifest(screen, manifest, uri)
    now = manifest.format_version
    screen.say(f"it has format version {now}" + (" already" if earlier == now else f"; it had {earlier}"))
    screen.result(manifest)

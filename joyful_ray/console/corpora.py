"""Shows corpora, and the formats that can be imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    from joyful_ray.corpora.card import CorpusCard
    from joyful_ray.corpora.importers import Importer
    from joyful_ray.schema import Manifest


def show_manifest(screen: Screen, manifest: Manifest, out: str) -> None:
    """Print the counts of a new corpus."""
    rows = [[split, f"{entry.conversations:,}", f"{entry.utterances:,}"] for split, entry in manifest.splits.items()]
    screen.table(["split", "conversations", "utterances"], rows)
    screen.say(f"corpus {manifest.name} is at {out}; to look at it: joyful inspect {out}")


def show_corpus(screen: Screen, card: CorpusCard) -> None:
    """Print a corpus card."""
    labels = f", {counted(len(card.labels), 'label')}" if card.labels else ""
    screen.say(f"{card.name}: {card.task}{labels}; {card.uri}", style="bold")
    header, *rows = card.as_rows()
    screen.table(header, rows)
    screen.say()
    rows = [
        [
            name,
            str(contract.width),
            contract.extractor,
            contract.version,
            contract.licence,
            _parameters(contract.parameters),
        ]
        for name, contract in card.modalities.items()
    ]
    header = ["modality", "width", "extractor", "version", "licence", "parameters"]
    screen.wide_table(header, rows, title="Features", left=6)
    if card.speaker_attributes:
        screen.paragraph(f"Known of the speakers: {', '.join(card.speaker_attributes)}")
    for key, value in card.notes.items():
        screen.paragraph(f"{metric_name(key)}: {_note(value)}")
    for warning in card.warnings:
        screen.say(f"warning: {warning}", style="yellow")


def show_formats(screen: Screen, importers: Sequence[Importer]) -> None:
    """Print one line per format."""
    screen.table(["format", "what it imports"], [[each.format, each.summary] for each in importers], left=2)
    screen.say("\njoyful import FORMAT --help describes a format and its options.")


def show_format(screen: Screen, importer: Importer) -> None:
    """Print what a format's files look like, and its options."""
    screen.say(f"joyful import {importer.format} SOURCE --out URI [--option KEY=VALUE]…", style="bold")
    for paragraph in importer.description.split("\n\n"):
        screen.say()
        is_example = paragraph.startswith(" ")
        (screen.say if is_example else screen.paragraph)(paragraph)
    screen.say()
    rows = [[name, meaning] for name, meaning in importer.all_options.items()]
    screen.table(["option", "meaning"], rows, title="Options (--option KEY=VALUE)", left=2)


def _note(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{metric_name(str(key))} {_note(part)}" for key, part in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _parameters(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())

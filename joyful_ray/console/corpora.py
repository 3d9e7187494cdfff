"""What corpora hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from joyful_ray.console.screen import Screen, metric_name

if TYPE_CHECKING:
    from joyful_ray.corpora.card import CorpusCard
    from joyful_ray.schema import Manifest


def show_manifest(screen: Screen, manifest: Manifest, out: str) -> None:
    """What a new corpus holds."""
    rows = [[split, f"{entry.conversations:,}", f"{entry.utterances:,}"] for split, entry in manifest.splits.items()]
    screen.table(["split", "conversations", "utterances"], rows)
    screen.say(f"{manifest.name} is at {out}; see it: joyful inspect {out}")


def show_corpus(screen: Screen, card: CorpusCard) -> None:
    """The corpus card."""
    screen.say(f"{card.name}: {card.task}, {len(card.labels)} labels; {card.uri}", style="bold")
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
    screen.table(["modality", "width", "extractor", "version", "licence", "parameters"], rows, title="Features", left=6)
    for key, value in card.notes.items():
        screen.say(f"{metric_name(key)}: {_note(value)}")
    for warning in card.warnings:
        screen.say(f"warning: {warning}", style="yellow")


def _note(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{metric_name(str(key))} {_note(part)}" for key, part in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _parameters(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())

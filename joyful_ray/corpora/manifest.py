"""Reads and writes the manifest of a corpus with its lists of shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from pydantic import ValidationError

from joyful_ray.corpora.side_files import AGAIN, read_shard_list
from joyful_ray.corpora.statistics import Statistics, counts_in_order
from joyful_ray.errors import CorpusError
from joyful_ray.schema import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    READABLE_VERSIONS,
    Manifest,
    ShardEntry,
    SideFile,
    SplitEntry,
)
from joyful_ray.storage import Location


def read_manifest(location: Location) -> Manifest:
    """The manifest of a corpus, with the shards of every split.

    Raises:
        CorpusError: there is no corpus, its manifest is damaged or of another version, or its numbers disagree.
    """
    manifest = _parse(location)
    if manifest.format_version > 1:
        splits = {
            split: entry.model_copy(update={"shards": read_shard_list(location, entry)})
            for split, entry in manifest.splits.items()
        }
        manifest = manifest.model_copy(update={"splits": splits})
    _check_sums(location, manifest)
    return manifest


def write_manifest(location: Location, manifest: Manifest) -> None:
    """Write the manifest; its shards are in side files."""
    text = manifest.model_dump_json(indent=2, exclude={"splits": {"__all__": {"shards"}}})
    location.join(MANIFEST_NAME).write_text(text + "\n")


def split_entry(
    statistics: Statistics, shards: list[ShardEntry], side_files: Mapping[str, SideFile], manifest: Manifest
) -> SplitEntry:
    """What a manifest says of a split with these statistics."""
    names = statistics.speaker_names
    return SplitEntry(
        conversations=statistics.conversations,
        utterances=statistics.utterances,
        labels=counts_in_order(manifest.labels, statistics.labels),
        unlabeled=statistics.unlabeled,
        present={name: statistics.present.get(name, 0) for name in manifest.widths},
        lengths=dict(sorted(statistics.lengths.items())),
        speakers=statistics.speakers,
        speaker_names=None if names is None else sorted(names),
        label_histogram=dict(sorted(statistics.label_histogram.items())),
        side_files=dict(side_files),
        shards=shards,
    )


def _parse(location: Location) -> Manifest:
    place = location.join(MANIFEST_NAME)
    if not place.exists():
        if not location.exists():
            raise CorpusError(f"there is no corpus at {location.uri}; check the path, or make one with joyful import")
        raise CorpusError(
            f"{location.uri} is not a corpus: it has no {MANIFEST_NAME}, which an import writes last; import it again"
        )
    try:
        content = json.loads(place.read_text())
    except json.JSONDecodeError as error:
        raise CorpusError(f"{place.uri} is not JSON (line {error.lineno}: {error.msg}); {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place.uri} cannot be read as JSON ({error}); {AGAIN}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version not in READABLE_VERSIONS:
        advice = "import the corpus again with this version of joyful_ray, or use the version that wrote it"
        refuse(place, f"format version {FORMAT_VERSION}", f"format version {version}", advice)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"{place.uri}: {where}: {first['msg']}; {AGAIN}") from None


def _check_sums(location: Location, manifest: Manifest) -> None:
    place = location.join(MANIFEST_NAME)
    for split, entry in manifest.splits.items():
        for word, total, parts in (
            ("conversations", entry.conversations, sum(shard.rows for shard in entry.shards)),
            ("utterances", entry.utterances, sum(shard.utterances for shard in entry.shards)),
        ):
            if total != parts:
                refuse(place, f"{total} {word} in {split}", f"{parts} in its shards", AGAIN)


def refuse(place: Location, expected: str, found: str, advice: str) -> NoReturn:
    """Say which file is not as expected.

    Raises:
        CorpusError: always.
    """
    raise CorpusError(f"{place.uri}: expected {expected}, found {found}; {advice}")

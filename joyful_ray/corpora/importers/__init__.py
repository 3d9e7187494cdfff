"""Imports published and own formats as corpora, with one module per format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from joyful_ray.components import is_component, load_component
from joyful_ray.corpora.importers import emorynlp, iemocap, jsonl, meld, meld_pickle, mosei, mosi
from joyful_ray.corpora.importers.base import Importer, nearest
from joyful_ray.corpora.importers.speaker_attributes import read_speaker_table
from joyful_ray.corpora.writer import CorpusWriter
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import Manifest
from joyful_ray.storage import open_location

__all__ = ["IMPORTERS", "Importer", "find_importer", "import_corpus"]

Watch = Callable[[int, int | None], None]
IMPORTERS: dict[str, Importer] = {
    module.IMPORTER.format: module.IMPORTER for module in (meld, jsonl, iemocap, mosei, mosi, emorynlp, meld_pickle)
}


def find_importer(format: str) -> Importer:
    """The importer of a format, or one of your own, named by import path.

    Raises:
        ConfigError: there is no such format, or the class cannot be used.
    """
    if is_component(format):
        own = load_component(format, "importer")()
        summary = (type(own).__doc__ or format).strip().splitlines()[0]
        options = dict(getattr(own, "options", {}))
        return Importer(format=format, summary=summary, read=own.read, options=options, is_own=True)
    if format not in IMPORTERS:
        raise ConfigError(f"unknown format {format}; {nearest(format, IMPORTERS)}")
    return IMPORTERS[format]


def import_corpus(
    format: str,
    source: str,
    out: str,
    *,
    options: Mapping[str, str] | None = None,
    max_bad: float = 0.0,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> Manifest:
    """Import the files of a data set as a corpus.

    Args:
        format: a key of `IMPORTERS`, or the import path of an importer of your own.
        source: folder or file of the data set; a path or s3:// URI.
        out: where the corpus goes; a path or s3:// URI.
        options: options of the format, as in `joyful import FORMAT --help`.
        max_bad: maximum share of bad conversations; they go to quarantine.jsonl.
        overwrite: replace a corpus at `out`.
        watch: called with the number of utterances read so far, and with that of all, or None if it is unknown.

    Raises:
        ConfigError: an unknown format or option.
        CorpusError: a file cannot be used; the message has the file, the line and the reason.
    """
    importer = find_importer(format)
    given = dict(options or {})
    importer.check_options(given)
    place = open_location(source)
    if not place.exists():
        raise CorpusError(f"there is nothing at {place.uri}; check the path of the {format} files")
    read = importer.open(place, given)
    file = given.get("speaker_attributes")
    table = None if file is None else read_speaker_table(file, read.speaker_attributes)
    with CorpusWriter(
        out,
        name=given.get("name", read.name),
        task=read.task,
        labels=read.labels,
        modalities=read.modalities,
        has_texts=read.has_texts,
        speaker_attributes=[*read.speaker_attributes, *(table.names if table is not None else ())],
        max_bad=max_bad,
        overwrite=overwrite,
    ) as writer:
        done = 0
        for split, draft in read.drafts:
            if table is not None:
                table.add_to(draft)
            writer.write(split, draft)
            done += len(draft.utterance_ids)
            if watch is not None:
                watch(done, read.utterances)
        writer.notes.update(read.notes)
        if table is not None:
            writer.notes["speaker_attributes"] = table.check_was_used()
    assert writer.manifest is not None
    return writer.manifest

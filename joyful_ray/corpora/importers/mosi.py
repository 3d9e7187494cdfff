"""CMU-MOSI from the CSV files of bc-LSTM (binary sentiment), or from the pickle of MMSA (sentiment in [-3, 3]).

SOURCE is the folder with the CSV files, or the pickle; joyful_ray/corpora/README.md describes both. In the CSV files,
row k of `text_{split}0.csv`, `audio_{split}0.csv` and `video_{split}0.csv` is the same utterance, and the last column
is its label (1 is positive). Column 0 of `text_{split}.csv` is its row in `transcripts.csv`, which names it
`<video>_<k>`. A video is a conversation of one speaker, sorted by k. There is no dev split; training holds out whole
videos of train, which score higher than test, because the text and video features were trained on the train labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from joyful_ray.corpora.importers.base import Importer, ImportSource
from joyful_ray.corpora.importers.dialogues import find_pickle
from joyful_ray.corpora.importers.files import numbers, records_of
from joyful_ray.corpora.importers.mmsa import MMSA_OPTIONS, is_mmsa, read_mmsa
from joyful_ray.corpora.importers.pickles import read_pickle
from joyful_ray.corpora.validation import Draft, Problem
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import FeatureContract, Label, Modality, Split
from joyful_ray.storage import Location
from joyful_ray.wording import counted

LABELS = ["negative", "positive"]
FILES: dict[Modality, str] = {"text": "text", "audio": "audio", "vision": "video"}
EXTRACTORS: dict[Modality, str] = {"text": "TextCNN", "audio": "openSMILE", "vision": "3D-CNN"}
SPLITS_HERE: tuple[Split, ...] = ("train", "test")
TRANSCRIPTS = "transcripts.csv"


@dataclass(frozen=True)
class _Line:
    number: int
    cells: list[str]


def read_mosi(source: Location, options: Mapping[str, str]) -> ImportSource:
    """Read MOSI's videos, in the order of their first utterances.

    Raises:
        CorpusError: a file is missing, or files that belong together differ in length.
    """
    if not (source.is_dir() and source.join(TRANSCRIPTS).exists()):
        place = find_pickle(source)
        content = read_pickle(place)
        if not is_mmsa(content):
            raise CorpusError(f"{place.uri} is not a pickle of MMSA, a dict of train, valid and test")
        return read_mmsa("mosi", place, content, options)
    if options.get("task", "single-label") != "single-label":
        raise ConfigError(
            f"option task is {options['task']}, but the CSV files have two classes; use the pickle of MMSA"
        )
    transcripts = _lines(source.join(TRANSCRIPTS))
    tables = {split: _tables(source, split) for split in SPLITS_HERE}
    return ImportSource(
        name="mosi",
        task="single-label",
        labels=LABELS,
        modalities={
            modality: FeatureContract(
                extractor=options.get(f"{modality}_extractor", EXTRACTORS[modality]),
                version="unknown",
                width=len(tables["train"][file][0].cells) - 1,
            )
            for modality, file in FILES.items()
        },
        drafts=_drafts(source, tables, transcripts),
        has_texts=True,
        utterances=sum(len(table["rows"]) for table in tables.values()),
        notes={"source": "CMU-MOSI (declare-lab/contextual-utterance-level-multimodal-sentiment-analysis)"},
    )


def _lines(place: Location) -> list[_Line]:
    if not place.exists():
        raise CorpusError(f"there is no {place.uri}")
    lines = [_Line(number, cells) for number, cells in records_of(place)]
    if not lines:
        raise CorpusError(f"{place.uri} is empty")
    return lines


def _tables(source: Location, split: Split) -> dict[str, list[_Line]]:
    """The three files of vectors and, as `rows`, the file with the rows of the transcripts, all of the same length."""
    tables = {file: _lines(source.join(f"{file}_{split}0.csv")) for file in FILES.values()}
    tables["rows"] = _lines(source.join(f"text_{split}.csv"))
    count = len(tables["text"])
    for file, lines in tables.items():
        if len(lines) != count:
            name = f"text_{split}.csv" if file == "rows" else f"{file}_{split}0.csv"
            raise CorpusError(f"{source.join(name).uri}: expected {counted(count, 'row')}, found {len(lines)}")
    return tables


def _drafts(
    source: Location, tables: Mapping[Split, Mapping[str, list[_Line]]], transcripts: list[_Line]
) -> Iterator[tuple[Split, Draft]]:
    for split, table in tables.items():
        videos: dict[str, list[tuple[int, int, str]]] = {}
        for index, line in enumerate(table["rows"]):
            try:
                video, clip, text = _transcript(line.cells[0], transcripts)
            except ValueError as error:
                yield (
                    split,
                    Draft("", problems=[Problem(str(error), source.join(f"text_{split}.csv").uri, line.number)]),
                )
                continue
            videos.setdefault(video, []).append((clip, index, text))
        for video, clips in videos.items():
            yield split, _draft(source, split, video, sorted(clips), table)


def _transcript(cell: str, transcripts: list[_Line]) -> tuple[str, int, str]:
    if not cell.isdigit() or int(cell) >= len(transcripts):
        raise ValueError(f"{cell!r} is not a row of {TRANSCRIPTS}, which has {len(transcripts)}")
    name, text = transcripts[int(cell)].cells[:2]
    video, _, clip = name.rpartition("_")
    if not video or not clip.isdigit():
        raise ValueError(f"{name!r} in {TRANSCRIPTS} is not <video>_<number>")
    return video, int(clip), text


def _draft(
    source: Location,
    split: Split,
    video: str,
    clips: list[tuple[int, int, str]],
    table: Mapping[str, list[_Line]],
) -> Draft:
    rows = [index for _, index, _ in clips]
    draft = Draft(
        conversation_id=video,
        utterance_ids=[f"{video}_{clip}" for clip, _, _ in clips],
        speakers=["speaker"] * len(clips),
        texts=[text for _, _, text in clips],
        file=source.join(f"text_{split}0.csv").uri,
        rows=[table["text"][row].number for row in rows],
    )
    for modality, file in FILES.items():
        vectors = []
        for row in rows:
            line = table[file][row]
            try:
                vectors.append(numbers(line.cells[:-1]))
            except ValueError as error:
                place = source.join(f"{file}_{split}0.csv").uri
                draft.problems.append(Problem(str(error), place, line.number, video))
        if len({len(vector) for vector in vectors}) > 1:
            draft.problems.append(Problem(f"{file} vectors have different widths", draft.file, draft.rows[0], video))
        elif not draft.problems:
            draft.vectors[modality] = np.ma.stack(vectors)
    for row in rows:
        cells = {table[file][row].cells[-1] for file in FILES.values()}
        label: Label = LABELS[int(cells.pop())] if cells in ({"0"}, {"1"}) else None
        draft.labels.append(label)
        if label is None:
            reason = "text, audio and video have different labels, or the label is neither 0 nor 1"
            draft.problems.append(Problem(reason, draft.file, table["text"][row].number, video))
    return draft


IMPORTER = Importer(
    format="mosi",
    summary="CMU-MOSI: CSV files of bc-LSTM, or the pickle of MMSA",
    read=read_mosi,
    options=MMSA_OPTIONS,
)

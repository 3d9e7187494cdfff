"""The utterances of a corpus with the vectors by which they are found.

Shapes: N = utterances, D = width of a space.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from joyful_ray.corpora.shards import Corpus
from joyful_ray.errors import CheckpointError, CorpusError
from joyful_ray.predict.decoder import EMBEDDING, VectorChoice, shared_column
from joyful_ray.predict.ensemble import joint_hash
from joyful_ray.predict.job import card_of
from joyful_ray.predict.output_shards import Origin, OutputShard, finished_shards, output_shards
from joyful_ray.predict.predictor import Predictor
from joyful_ray.schema import MODALITIES, Split
from joyful_ray.storage import Location, open_location

SHOWN = ("split", "conversation_id", "utterance_id", "speaker", "text", "label", "prediction")
"""What a match says of an utterance."""


@dataclass(frozen=True)
class Utterances:
    """Utterances in the order of the corpus.

    Attributes:
        rows: the columns `SHOWN`, N rows.
        vectors: per space, (N, D) float32; NaN for an utterance that is not in it. The spaces are `embedding`, what the
            graph encoder computes, and each modality in the basis that all modalities share.
    """

    rows: pa.Table
    vectors: dict[str, NDArray[np.float32]]


def collect_utterances(
    predictor: Predictor, corpus: Corpus, splits: Sequence[Split], choice: VectorChoice, *, vectors: str | None = None
) -> Utterances:
    """Compute the vectors of all utterances of some splits, or read those that `joyful predict` wrote.

    Args:
        predictor: the model.
        corpus: what it reads.
        splits: splits of the corpus.
        choice: the vectors that are needed.
        vectors: folder of `joyful predict --embedding --shared`, made with the same bundle and corpus.

    Raises:
        CheckpointError: the folder is of another bundle or corpus, or lacks a split or the vectors.
        ConfigError: the model has no such vectors.
        CorpusError: a shard is damaged.
    """
    shards = output_shards(corpus, list(splits))
    place = None if vectors is None else _folder(open_location(vectors), predictor, corpus, shards, choice)
    parts, found = [], []
    for shard in shards:
        rows = corpus.read_checked(shard.source)
        table = predictor.table(rows, choice) if place is None else _read(place.join(shard.name))
        parts.append(_shown(shard.split, rows, table))
        found.append(dict(_vectors_of(table, choice)))
    if not parts:
        raise CorpusError(f"{corpus.location.uri} has no utterance in {', '.join(splits)}")
    return Utterances(
        pa.concat_tables(parts), {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    )


def _folder(
    place: Location, predictor: Predictor, corpus: Corpus, shards: list[OutputShard], choice: VectorChoice
) -> Location:
    card = card_of(place)
    if card is None:
        raise CheckpointError(
            f"{place.uri} holds no finished prediction; joyful predict --embedding --shared makes one"
        )
    for is_needed, has_it, option in (
        (choice.embedding, card.has_embedding, "--embedding"),
        (choice.shared, card.has_shared, "--shared"),
    ):
        if is_needed and not has_it:
            raise CheckpointError(
                f"{place.uri} was predicted without {option}; predict again with it, into another --out"
            )
    origin = Origin(joint_hash(predictor.bundles), corpus.hash, VectorChoice(card.has_embedding, card.has_shared))
    finished = finished_shards(place, shards, origin)
    missing = [shard for shard in shards if shard not in finished]
    if missing:
        raise CheckpointError(f"{place.uri} has no predictions of {missing[0].split}; predict this split too")
    return place


def _read(place: Location) -> pa.Table:
    with place.open("rb") as file:
        return pq.read_table(file)


def _shown(split: Split, rows: pa.Table, predicted: pa.Table) -> pa.Table:
    """The columns that a match shows."""
    count = predicted.num_rows
    texts = rows["texts"].combine_chunks().flatten() if "texts" in rows.column_names else pa.nulls(count, pa.string())
    columns = {
        "split": pa.array([split] * count, pa.string()),
        "conversation_id": predicted["conversation_id"],
        "utterance_id": predicted["utterance_id"],
        "speaker": rows["speakers"].combine_chunks().flatten(),
        "text": texts,
        "label": pa.array([_name(label) for labels in rows["labels"].to_pylist() for label in labels], pa.string()),
        "prediction": pa.array([_name(label) for label in predicted["prediction"].to_pylist()], pa.string()),
    }
    assert tuple(columns) == SHOWN
    return pa.table(columns)


def _name(label: Any) -> str | None:
    if isinstance(label, list):
        return ", ".join(label)
    return label if label is None or isinstance(label, str) else json.dumps(label)


def _vectors_of(table: pa.Table, choice: VectorChoice) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if choice.embedding:
        yield EMBEDDING, _matrix(table[EMBEDDING])
    if choice.shared:
        for name in MODALITIES:
            if shared_column(name) in table.column_names:
                yield name, _matrix(table[shared_column(name)])


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Lists as rows, (N, D); NaN where a list is null."""
    lists = column.combine_chunks()
    matrix = lists.values.slice(lists.offset * lists.type.list_size, len(lists) * lists.type.list_size)
    found = np.array(matrix, np.float32).reshape(len(lists), lists.type.list_size)
    found[np.asarray(lists.is_null())] = np.nan
    return found

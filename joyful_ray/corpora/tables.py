"""Converts conversations to the Arrow tables of shards, and back.

Shapes: n = utterances of one conversation, W = width of one modality's vectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from joyful_ray.errors import CorpusError
from joyful_ray.schema import MODALITIES, Conversation, Manifest, Modality, Task, arrow_schema, attribute_column
from joyful_ray.wording import counted


def table_from_conversations(
    conversations: Sequence[Conversation],
    *,
    task: Task,
    modalities: Sequence[Modality],
    has_texts: bool,
    speaker_attributes: Sequence[str] = (),
) -> pa.Table:
    """One row per conversation, with the columns of `arrow_schema`; NaN becomes null.

    Raises:
        CorpusError: a conversation lacks texts, a modality or a speaker attribute of the corpus.
    """
    schema = arrow_schema(task=task, modalities=modalities, has_texts=has_texts, speaker_attributes=speaker_attributes)
    attributes = {attribute_column(name): name for name in speaker_attributes}
    columns: list[pa.Array] = []
    for column in schema:
        modality = column.name.removesuffix("_present")
        if column.name in attributes:
            known = [item.speaker_attributes.get(attributes[column.name]) for item in conversations]
            columns.append(pa.array(known, type=column.type))
        elif modality not in MODALITIES:
            columns.append(pa.array([getattr(item, column.name) for item in conversations], type=column.type))
        elif column.name == modality:
            columns.append(_flat_lists([item.features[modality].ravel() for item in conversations], pa.float32()))
        else:
            columns.append(_flat_lists([item.present[modality] for item in conversations], pa.bool_()))
    for column, values in zip(schema, columns, strict=True):
        if values.null_count:
            raise CorpusError(f"a conversation has no {column.name}, which its corpus has")
    return pa.Table.from_arrays(columns, schema=schema)


def conversations_from_table(table: pa.Table, manifest: Manifest) -> Iterator[Conversation]:
    """The conversations of one shard or several, in order; null becomes NaN.

    Raises:
        CorpusError: the columns of a row disagree on the number of utterances.
    """
    for batch in table.to_batches():
        yield from _conversations_from_batch(batch, manifest)


def _conversations_from_batch(batch: pa.RecordBatch, manifest: Manifest) -> Iterator[Conversation]:
    ids = batch.column("conversation_id").to_pylist()
    utterance_ids = batch.column("utterance_ids").to_pylist()
    speakers = batch.column("speakers").to_pylist()
    labels = batch.column("labels").to_pylist()
    texts: list[Any] = batch.column("texts").to_pylist() if manifest.has_texts else [None] * len(ids)
    attributes = {name: batch.column(attribute_column(name)).to_pylist() for name in manifest.speaker_attributes}
    vectors = {name: _rows_of_lists(batch.column(name)) for name in manifest.widths}
    present = {name: _rows_of_lists(batch.column(f"{name}_present")) for name in manifest.widths}
    for row, conversation_id in enumerate(ids):
        count = len(utterance_ids[row])
        lengths: dict[str, float] = {"speakers": len(speakers[row]), "labels": len(labels[row])}
        if manifest.has_texts:
            lengths["texts"] = len(texts[row])
        lengths |= {attribute_column(name): len(values[row]) for name, values in attributes.items()}
        for name, width in manifest.widths.items():
            lengths[f"{name}_present"] = len(present[name][row])
            lengths[f"{name} values / {width}"] = len(vectors[name][row]) / width
        for column, length in lengths.items():
            if length != count:
                raise CorpusError(
                    f"conversation {conversation_id}: {counted(count, 'utterance')} but {length:g} {column}"
                )
        yield Conversation(
            conversation_id=conversation_id,
            utterance_ids=utterance_ids[row],
            speakers=speakers[row],
            labels=labels[row],
            features={
                name: vectors[name][row].reshape(count, width).astype(np.float32, copy=False)
                for name, width in manifest.widths.items()
            },
            present={name: present[name][row].astype(np.bool_, copy=False) for name in manifest.widths},
            texts=texts[row],
            speaker_attributes={name: values[row] for name, values in attributes.items()},
        )


def one_piece(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array; nothing is copied if it is in one piece already."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def _flat_lists(parts: list[NDArray], value_type: pa.DataType) -> pa.ListArray:
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    if offsets[-1] >= 2**31:
        raise CorpusError(f"{offsets[-1]} values do not fit one Arrow list column; write smaller shards")
    flat = np.concatenate(parts) if parts else np.zeros(0)
    if pa.types.is_floating(value_type):
        flat = flat.astype(np.float32, copy=False)
        values = pa.array(flat, type=value_type, mask=np.isnan(flat))
    else:
        values = pa.array(flat.astype(np.bool_), type=value_type)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _rows_of_lists(column: pa.ListArray) -> list[NDArray]:
    offsets = column.offsets.to_numpy()
    start = int(offsets[0]) if len(offsets) else 0
    end = int(offsets[-1]) if len(offsets) else 0
    values = column.values.slice(start, end - start)
    if pa.types.is_floating(values.type):
        flat = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
    else:
        flat = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return [flat[begin - start : stop - start] for begin, stop in itertools.pairwise(offsets)]

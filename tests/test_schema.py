"""The record and the columns that every other package relies on."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from joyful_ray.schema import FeatureContract, Manifest, SplitEntry, Task, arrow_schema
from tests.corpora.examples import contract, conversation


def test_the_columns_are_those_of_the_contract() -> None:
    schema = arrow_schema(task="single-label", modalities=["audio", "text"], has_texts=True)
    assert schema.names == [
        "conversation_id",
        "utterance_ids",
        "speakers",
        "texts",
        "labels",
        "text",
        "text_present",
        "audio",
        "audio_present",
    ]
    assert schema.field("text").type == pa.list_(pa.float32())
    assert schema.field("audio_present").type == pa.list_(pa.bool_())


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("single-label", pa.list_(pa.string())),
        ("multi-label", pa.list_(pa.list_(pa.string()))),
        ("regression", pa.list_(pa.float32())),
    ],
)
def test_the_label_column_follows_the_task(task: Task, kind: pa.DataType) -> None:
    schema = arrow_schema(task=task, modalities=[], has_texts=False)
    assert schema.field("labels").type == kind
    assert "texts" not in schema.names


def test_the_length_of_a_conversation_is_its_utterances() -> None:
    assert len(conversation(utterances=1)) == 1
    assert len(conversation(utterances=7)) == 7


def test_a_manifest_survives_json_and_orders_its_widths() -> None:
    manifest = Manifest(
        name="x",
        task="regression",
        modalities={"vision": contract(4), "text": contract(3)},
        splits={"train": SplitEntry(conversations=0, utterances=0)},
    )
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert list(manifest.widths.items()) == [("text", 3), ("vision", 4)]


def test_a_manifest_with_an_unknown_field_or_no_width_is_refused() -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate({"name": "x", "task": "regression", "modalities": {}, "splits": {}, "lables": []})
    with pytest.raises(ValidationError):
        FeatureContract(extractor="x", version="1", width=0)

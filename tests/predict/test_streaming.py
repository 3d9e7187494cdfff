"""A conversation predicted while it is held: the rows that the whole conversation gives, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import joyful_ray
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.predict.predictor import Predictor
from tests.predict.bundles import write_random_bundle
from tests.tiny_corpus import WIDTHS

TASKS = ["single-label", "multi-label", "regression"]
VECTOR = [0.5] * WIDTHS["text"]


@pytest.fixture(scope="module")
def causal(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    folder = tmp_path_factory.mktemp("bundles")
    settings: dict[str, Any] = {"model": {"causal": True, "context": {"kind": "gru", "speakers": "party-state"}}}
    return {
        task: joyful_ray.load(write_random_bundle(folder / task, tiny(task), **settings), device="cpu")
        for task in TASKS
    }


def utterances_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    utterances = []
    for place, (utterance_id, speaker) in enumerate(zip(row["utterance_ids"], row["speakers"], strict=True)):
        utterance: dict[str, Any] = {"utterance_id": utterance_id, "speaker": speaker}
        for name, width in WIDTHS.items():
            if row[f"{name}_present"][place]:
                utterance[name] = row[name][place * width : (place + 1) * width]
        utterances.append(utterance)
    return utterances


@pytest.mark.parametrize("task", TASKS)
def test_utterance_by_utterance_gives_the_rows_of_the_whole(
    task: str, causal: dict[str, Predictor], tiny: Callable[..., str]
) -> None:
    rows = open_corpus(tiny(task)).read_table("train")
    whole = causal[task].table(rows, VectorChoice(embedding=True)).to_pylist()
    found = []
    for row in rows.to_pylist():
        conversation = causal[task].start_conversation(row["conversation_id"])
        found += [conversation.add(utterance, embedding=True) for utterance in utterances_of(row)]
    assert len(found) == len(whole)
    for one, other in zip(found, whole, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            is_number = isinstance(value, float) or name == "embedding"
            # A number has no bounds, and the last layer of this bundle is twenty times what training starts with.
            exactly = 1e-5 if task == "regression" else 1e-6
            assert one[name] == (pytest.approx(value, rel=1e-6, abs=exactly) if is_number else value), name


def test_ids_are_made_and_arrays_are_read(causal: dict[str, Predictor]) -> None:
    conversation = causal["single-label"].start_conversation("talk")
    first = conversation.add({"speaker": "Ann", "text": VECTOR})
    conversation.add({"speaker": "Ben", "text": np.array(VECTOR, np.float32), "audio": None})
    assert (first["conversation_id"], first["utterance_id"]) == ("talk", "talk_0")
    assert len(conversation) == 2


@pytest.mark.parametrize(
    ("utterance", "reason"),
    [
        ({"speaker": "Ann", "text": [0.0] * 5}, "utterance 2: text: vector 0 should have 6 values, found 5 values"),
        ({"text": VECTOR}, "utterance 2: speaker is missing, or not a string"),
        ({"speaker": 7, "text": VECTOR}, "utterance 2: speaker is missing, or not a string"),
        ({"speaker": "Ann", "transcript": 7, "text": VECTOR}, "utterance 2: transcript is missing, or not a string"),
        ({"speakers": "Ann", "text": VECTOR}, "unknown key 'speakers'; did you mean speaker?"),
        ({"speaker": "Ann", "vision": [0.0]}, "the bundle does not read vision; it reads text, audio"),
        ({"speaker": "Ann", "utterance_id": "talk_0"}, "an earlier utterance has the same id, talk_0"),
        ("Hello", "expected a dict, found a value of type str"),
    ],
)
def test_an_invalid_utterance_leaves_the_conversation_as_it_was(
    utterance: Any, reason: str, causal: dict[str, Predictor]
) -> None:
    conversation, untouched = (causal["single-label"].start_conversation("talk") for _ in range(2))
    for each in (conversation, untouched):
        each.add({"speaker": "Ann", "text": VECTOR})
    with pytest.raises(CorpusError) as caught:
        conversation.add(utterance)
    assert reason in str(caught.value)
    after = {"speaker": "Ben", "text": VECTOR}
    assert conversation.add(after) == untouched.add(after)


def test_a_model_that_sees_the_future_is_refused(tmp_path: Path, tiny: Callable[..., str]) -> None:
    predictor = joyful_ray.load(write_random_bundle(tmp_path, tiny()), device="cpu")
    with pytest.raises(ConfigError, match="not causal: it scores an utterance with the help of later ones"):
        predictor.start_conversation()
    assert not predictor.bundle.card.causal

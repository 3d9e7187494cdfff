"""Every fault is refused with file, row and reason, or set aside and counted; none is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from joyful_ray.corpora.shards import open_corpus
from joyful_ray.corpora.validation import Draft, Problem, Rules, draft_of, problems_of
from joyful_ray.errors import CorpusError
from tests.corpora.examples import LABELS, assert_same, conversation, with_gaps, write

RULES = Rules("single-label", tuple(LABELS), {"text": 3, "audio": 2}, has_texts=True)


def draft(**changes: Any) -> Draft:
    made = draft_of(conversation("c0", 3))
    made.file, made.rows = "talk.csv", [2, 3, 4]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def vectors(**changes: Any) -> dict[str, Any]:
    return {"text": np.zeros((3, 3)), "audio": np.zeros((3, 2)), **changes}


def text_with(value: float) -> np.ndarray:
    values = np.zeros((3, 3))
    values[1, 2] = value
    return values


@pytest.mark.parametrize(
    ("changes", "row", "reason"),
    [
        ({"vectors": vectors(text=text_with(np.nan))}, 3, "utterance c0_u1: text value 2 is nan"),
        ({"vectors": vectors(text=text_with(-np.inf))}, 3, "utterance c0_u1: text value 2 is -inf"),
        ({"vectors": vectors(text=np.zeros((3, 4)))}, 2, "text vectors have width 4, expected 3"),
        ({"vectors": vectors(text=np.zeros((2, 3)))}, 2, "3 utterances but text vectors of shape (2, 3)"),
        ({"vectors": {"text": np.zeros((3, 3))}}, 2, "it has no audio vectors, but the corpus has"),
        ({"vectors": vectors(vision=np.zeros((3, 1)))}, 2, "it has vision vectors, but the corpus has none"),
        (
            {"labels": ["joy", "joyy", None]},
            3,
            "utterance c0_u1: unknown label 'joyy'; the labels are joy, anger, neutral",
        ),
        ({"labels": ["joy", None]}, 2, "3 utterance ids but 2 labels"),
        ({"speakers": ["a", "b", " "]}, 4, "utterance c0_u2: the speaker is empty"),
        ({"speakers": ["a", "b"]}, 2, "3 utterance ids but 2 speakers"),
        ({"texts": ["a"]}, 2, "3 utterance ids but 1 text"),
        ({"texts": None}, 2, "it has no texts, but other conversations have"),
        ({"utterance_ids": ["a", "b", "a"]}, 4, "utterance a: this id appears 2 times"),
        ({"conversation_id": ""}, 2, "the conversation has no id"),
    ],
)
def test_a_fault_is_named_with_file_row_and_reason(changes: dict[str, Any], row: int, reason: str) -> None:
    problems = problems_of(draft(**changes), RULES)
    assert problems
    assert (problems[0].file, problems[0].row, problems[0].reason) == ("talk.csv", row, reason)


def test_an_empty_conversation_is_a_fault() -> None:
    empty = Draft("c", vectors={"text": np.zeros((0, 3)), "audio": np.zeros((0, 2))}, texts=[])
    assert [problem.reason for problem in problems_of(empty, RULES)] == ["the conversation has no utterances"]


def test_a_sound_conversation_has_no_faults_and_masked_cells_are_absent() -> None:
    assert problems_of(draft(), RULES) == []
    assert problems_of(draft_of(with_gaps()), RULES) == []
    masked = np.ma.MaskedArray(text_with(np.nan), mask=np.isnan(text_with(np.nan)))
    masked[2] = np.ma.masked
    sound = draft(vectors=vectors(text=masked))
    assert problems_of(sound, RULES) == []
    made = sound.conversation()
    assert made.present["text"].tolist() == [True, True, False]
    assert np.isnan(made.features["text"]).tolist() == [[False] * 3, [False, False, True], [True] * 3]


def test_a_record_becomes_a_draft_and_back_unchanged() -> None:
    assert_same(draft_of(with_gaps()).conversation(), with_gaps())


def test_presence_must_agree_with_the_vectors() -> None:
    wrong = conversation("c", 2, present={"text": np.array([True, False]), "audio": np.ones(2, bool)})
    assert "text_present disagrees" in problems_of(draft_of(wrong), RULES)[0].reason


@pytest.mark.parametrize(
    ("task", "labels", "reason"),
    [
        ("multi-label", [["joy"], ["joy", "joy"], []], "label ['joy', 'joy'] has a name twice"),
        ("multi-label", [["joy"], ["hm"], []], "unknown label 'hm'; the labels are joy, anger, neutral"),
        ("multi-label", [["joy"], "joy", []], "label 'joy' is not a list of names"),
        ("single-label", ["joy", ["joy"], None], "label ['joy'] is not one name"),
        ("regression", [1.0, float("nan"), 0], "label nan is not a finite number"),
        ("regression", [1.0, "2", 0], "label '2' is not a finite number"),
    ],
)
def test_labels_fit_the_task(task: Any, labels: Any, reason: str) -> None:
    rules = Rules(task, tuple(LABELS), RULES.widths, has_texts=True)
    assert [(p.row, p.reason) for p in problems_of(draft(labels=labels), rules)] == [(3, f"utterance c0_u1: {reason}")]


def test_a_bad_conversation_stops_the_import(tmp_path: Path) -> None:
    bad = draft(labels=["joyy", "hm", None])
    expected = r"talk\.csv, line 2: conversation c0: utterance c0_u0: unknown label 'joyy'.* \(and 1 more .*--max-bad"
    with pytest.raises(CorpusError, match=expected):
        write(str(tmp_path / "c"), {"train": [conversation("a"), bad]})
    assert not (tmp_path / "c/manifest.json").exists()


def test_bad_conversations_within_the_share_are_left_out_and_counted(tmp_path: Path) -> None:
    items = [*(conversation(f"a{index}") for index in range(9)), draft(labels=["joyy", "joy", None])]
    manifest = write(str(tmp_path / "c"), {"train": items}, max_bad=0.1)
    assert manifest.splits["train"].conversations == 9
    assert manifest.notes["quarantined_conversations"] == 1
    entry = json.loads((tmp_path / "c/quarantine.jsonl").read_text())
    assert (entry["split"], entry["conversation_id"]) == ("train", "c0")
    assert entry["problems"][0] == {
        "reason": "utterance c0_u0: unknown label 'joyy'; the labels are joy, anger, neutral",
        "file": "talk.csv",
        "row": 2,
        "conversation_id": "c0",
    }
    assert entry["texts"] == ["words 0", "words 1", "words 2"]
    assert open_corpus(str(tmp_path / "c")).manifest == manifest


def test_more_bad_conversations_than_the_share_stop_the_import(tmp_path: Path) -> None:
    items = [*(conversation(f"a{index}") for index in range(8)), draft(labels=[]), draft(speakers=[])]
    with pytest.raises(
        CorpusError, match=r"2 of 10 conversations are bad, more than --max-bad allows \(0\.1\)\. First: talk\.csv"
    ):
        write(str(tmp_path / "c"), {"train": items}, max_bad=0.1)
    assert not (tmp_path / "c/manifest.json").exists()


def test_a_conversation_id_may_appear_once_in_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="this conversation id is already in train"):
        write(str(tmp_path / "c"), {"train": [conversation("a")], "test": [conversation("a")]})


def test_a_problem_reads_well_however_little_is_known() -> None:
    assert str(Problem("broken")) == "broken"
    assert str(Problem("broken", "f.csv", 3, "c")) == "f.csv, line 3: conversation c: broken"

"""The plain format: what the docstring promises, and an error with file and line for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from joyful_ray.corpora.importers import import_corpus
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import ConfigError, CorpusError


def talk(**changes: Any) -> dict[str, Any]:
    line = {
        "conversation_id": "talk-1",
        "speakers": ["Ann", "Bob"],
        "texts": ["Hi.", "Go away!"],
        "labels": ["joy", "anger"],
        "text": [[0.5, 2], [0.25, None]],
        "audio": [[1.0], None],
    }
    return {key: value for key, value in {**line, **changes}.items() if value is not ...}


def lines(*conversations: dict[str, Any]) -> str:
    return "".join(json.dumps(item) + "\n" for item in conversations)


def imported(directory: Path, file: str = "", **options: str) -> Corpus:
    out = str(directory / "out")
    import_corpus("jsonl", str(directory / file), out, options=options, overwrite=True)
    return open_corpus(out)


def test_inline_vectors_with_absent_values(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk()))
    corpus = imported(tmp_path)
    (found,) = corpus.conversations("train")
    assert found.utterance_ids == ["talk-1_0", "talk-1_1"]
    assert found.texts == ["Hi.", "Go away!"]
    np.testing.assert_array_equal(found.features["text"], [[0.5, 2], [0.25, np.nan]])
    np.testing.assert_array_equal(found.features["audio"], [[1], [np.nan]])
    assert found.present["audio"].tolist() == [True, False]
    assert corpus.manifest.labels == ["anger", "joy"]
    assert corpus.manifest.task == "single-label"


def test_one_file_with_splits(tmp_path: Path) -> None:
    content = lines(talk(split="train"), talk(split="test", conversation_id="talk-2"))
    (tmp_path / "all.jsonl").write_text(content)
    corpus = imported(tmp_path, "all.jsonl")
    assert corpus.splits() == ["train", "test"]


def test_vectors_as_rows_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.arange(8).reshape(4, 2))
    first = talk(text={"npy": "text.npy", "start": 2}, audio=...)
    second = talk(text={"npy": "text.npy"}, audio=..., conversation_id="b")
    (tmp_path / "train.jsonl").write_text(lines(first, second))
    one, two = imported(tmp_path).conversations("train")
    assert one.features["text"].tolist() == [[4, 5], [6, 7]]
    assert two.features["text"].tolist() == [[0, 1], [2, 3]]


def test_one_file_of_vectors_per_split(tmp_path: Path) -> None:
    for split, shift in (("train", 0), ("dev", 100)):
        np.save(tmp_path / f"{split}_text.npy", np.arange(8).reshape(4, 2) + shift)
        both = lines(*(talk(conversation_id=f"{split}{index}", text=...) for index in range(2)))
        (tmp_path / f"{split}.jsonl").write_text(both)
    corpus = imported(tmp_path, text_vectors="{split}_text.npy", text_extractor="mine")
    assert [item.features["text"][0, 0] for item in corpus.conversations("train")] == [0, 4]
    assert [item.features["text"][0, 0] for item in corpus.conversations("dev")] == [100, 104]
    assert corpus.manifest.modalities["text"].extractor == "mine"
    np.save(tmp_path / "dev_text.npy", np.zeros((5, 2)))
    with pytest.raises(CorpusError, match=r"dev_text\.npy: expected 4 rows \(text of dev\), found 5"):
        imported(tmp_path, text_vectors="{split}_text.npy")


def test_a_modality_that_one_conversation_lacks_is_not_present_there(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(), talk(conversation_id="b", audio=...)))
    _, second = imported(tmp_path).conversations("train")
    assert second.present["audio"].tolist() == [False, False]


def test_the_header_gives_names_contracts_and_the_order_of_labels(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk()))
    modalities = {"text": {"extractor": "mine", "version": "3", "parameters": {"pool": "mean"}, "licence": "CC0"}}
    header = {"name": "talks", "labels": ["joy", "fear", "anger"], "modalities": modalities}
    (tmp_path / "corpus.json").write_text(json.dumps(header))
    manifest = imported(tmp_path).manifest
    assert (manifest.name, manifest.labels) == ("talks", ["joy", "fear", "anger"])
    assert manifest.modalities["text"].parameters == {"pool": "mean"}
    assert manifest.modalities["text"].width == 2
    assert imported(tmp_path, labels="anger,joy").manifest.labels == ["anger", "joy"]
    (tmp_path / "corpus.json").write_text('{"lables": []}')
    with pytest.raises(CorpusError, match=r"corpus\.json: lables: Extra inputs"):
        imported(tmp_path)


@pytest.mark.parametrize(
    ("labels", "task"),
    [(["joy", None], "single-label"), ([["joy", "anger"], []], "multi-label"), ([0.5, -1], "regression")],
)
def test_the_task_follows_the_labels(tmp_path: Path, labels: Any, task: str) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(labels=labels)))
    corpus = imported(tmp_path)
    assert corpus.manifest.task == task
    assert next(corpus.conversations("train")).labels == labels


def test_conversations_without_labels_are_a_corpus_to_predict_on(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(lines(talk(labels=...)))
    corpus = imported(tmp_path)
    assert corpus.manifest.splits["test"].unlabeled == 2


def test_labels_of_two_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(), talk(conversation_id="b", labels=[1, 2])))
    with pytest.raises(CorpusError, match=r"single-label \(.*line 1\), regression \(.*line 2\)"):
        imported(tmp_path)
    with pytest.raises(ConfigError, match="task emotions is not one of single-label"):
        imported(tmp_path, task="emotions")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"conversation_id": ', "not JSON"),
        ("[1]", "not a JSON object"),
        (lines(talk(speakrs=[])), r"unknown key 'speakrs'; did you mean speakers\?"),
        (lines(talk(split="dev")), "split 'dev' in the file of train"),
        (lines(talk(speakers=...)), "speakers is not a list of strings"),
        (lines(talk(speakers=["Ann", 3])), "speakers is not a list of strings"),
        (lines(talk(speakers=["Ann", ""])), "utterance talk-1_1: the speaker is empty"),
        (lines(talk(conversation_id=7)), "conversation_id is missing, empty, or not a string"),
        (lines(talk(labels=["joy"])), "2 utterance ids but 1 label"),
        (lines(talk(labels="joy")), "labels is not a list"),
        (lines(talk(texts=["Hi."])), "2 utterance ids but 1 text"),
        (lines(talk(texts=...)), "it has no texts, but other conversations have"),
        (lines(talk(utterance_ids=["x", "x"])), "utterance x: this id appears 2 times"),
        (lines(talk(speakers=[], labels=[], texts=[], text=[], audio=[])), "the conversation has no utterances"),
        (lines(talk(text=[[0.5, 2]])), "text: expected a list of 2 vectors, found 1"),
        (lines(talk(text=[[0.5, 2], [1]])), "text: vector 1 should have 2 values, found 1 value"),
        (lines(talk(text=[[0.5, 2], ["1", 2]])), "text: vector 1 has '1', which is not a number"),
        (lines(talk(text=[[0.5, 2], [True, 2]])), "text: vector 1 has True, which is not a number"),
        (lines(talk(text=[[0.5, 2], [float("nan"), 2]])), "utterance talk-1_1: text value 0 is nan"),
        (lines(talk(text=[[0.5, 2], [1e300, 2]])), r"text value 0 is 1e\+300, too large for float32"),
        (lines(talk(text={"npy": "none.npy"})), r"text: there is no .*none\.npy"),
        (lines(talk(text={"npy": "text.npy", "start": 3})), r"text: it needs rows 3 to 4 of text\.npy, which has 4"),
        (lines(talk(text={"npy": "text.npy", "begin": 3})), "text: unknown key 'begin'"),
        (lines(talk(text={"npy": "../text.npy"})), "text: .*leads out of"),
        (lines(talk(text=[[0.5, 2], [10**400, 2]])), "text: vector 1 has a number that is too large for float32"),
        (lines(talk(text=[[0.5, 2], [7, 2]])).replace("[7", f"[1{'0' * 5000}"), "cannot be read as JSON"),
        ("[" * 5000, "cannot be read as JSON"),
        (lines(talk(speakers=["Ann", "\ud800"])), "not Unicode"),
        (lines(talk(labels=3)), "labels is not a list"),
        (lines(talk(conversation_id="good")), "this conversation id is already in train"),
    ],
    ids=lambda text: text[-60:],
)
def test_bad_lines_are_refused_with_file_line_and_reason(tmp_path: Path, line: str, message: str) -> None:
    np.save(tmp_path / "text.npy", np.zeros((4, 2)))
    good = lines(talk(conversation_id="good"))
    (tmp_path / "train.jsonl").write_text(good + "\n" + line)
    with pytest.raises(CorpusError, match=rf"train\.jsonl, line 3: .*{message}") as caught:
        imported(tmp_path)
    assert "\n" not in str(caught.value)
    manifest = import_corpus("jsonl", str(tmp_path), str(tmp_path / "rest"), max_bad=0.5)
    assert manifest.splits["train"].conversations == 1
    assert len((tmp_path / "rest/quarantine.jsonl").read_text().splitlines()) == 1


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(talk()).replace("\n", "\r\n").encode())
    assert [its.conversation_id for its in imported(tmp_path).conversations("train")] == ["talk-1"]


@pytest.mark.parametrize("number", [float("nan"), 1e39, 10**400])
def test_a_label_that_is_no_float32_is_refused(tmp_path: Path, number: float) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(labels=[1.0, number])))
    with pytest.raises(CorpusError, match=r"utterance talk-1_1: label .* is not a finite number"):
        imported(tmp_path)


def test_a_header_whose_width_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk()))
    (tmp_path / "corpus.json").write_text('{"modalities": {"text": {"width": 0}}}')
    with pytest.raises(CorpusError, match=r"modalities\.text\.width"):
        imported(tmp_path)


@pytest.mark.parametrize("pattern", ["{splt}.npy", "{", "{split.x}"])
def test_a_pattern_that_names_more_than_the_split_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk()))
    with pytest.raises(ConfigError, match="option text_vectors"):
        imported(tmp_path, text_vectors=pattern)


def test_if_no_line_can_be_read_the_first_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(talk(), indent=1))
    with pytest.raises(CorpusError, match=r"train\.jsonl, line 1: not JSON"):
        imported(tmp_path)


def test_a_corpus_is_named_after_its_file_or_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    line = json.dumps({"conversation_id": "a", "speakers": ["Ann"], "labels": ["joy"], "text": [[1.0]]})
    (folder / "train.jsonl").write_text(line + "\n")
    assert import_corpus("jsonl", str(folder), str(tmp_path / "first")).name == "calls"
    (folder / "own.jsonl").write_text(line.replace('"speakers"', '"split": "train", "speakers"') + "\n")
    assert import_corpus("jsonl", str(folder / "own.jsonl"), str(tmp_path / "second")).name == "own"

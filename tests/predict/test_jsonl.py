"""Predictions for new conversations in a JSONL file: equal to those for a corpus, joined with the file's columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import joyful_ray
from joyful_ray.cli import main
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.predict import jsonl
from joyful_ray.predict.jsonl import predict_jsonl
from tests.predict.bundles import write_random_bundle
from tests.predict.test_predictor import as_dict
from tests.tiny_corpus import WIDTHS
from tests.train.test_ngrams import write_spoken

TASKS = ["single-label", "multi-label", "regression"]


@pytest.fixture(scope="module")
def bundles(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bundles")
    return {task: write_random_bundle(folder / task, tiny(task)) for task in TASKS}


def written(path: Path, conversations: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(content) + "\n" for content in conversations))
    return str(path)


def conversations_of(corpus: str) -> list[dict[str, Any]]:
    return [as_dict(row) for row in open_corpus(corpus).read_table("test").to_pylist()]


@pytest.mark.parametrize("task", TASKS)
def test_a_file_gives_what_the_shard_gives(
    task: str,
    bundles: dict[str, str],
    tiny: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jsonl, "CONVERSATIONS_PER_CHUNK", 2)
    predictor = joyful_ray.load(bundles[task], device="cpu")
    expected = predictor.table(open_corpus(tiny(task)).read_table("test"))
    source = written(tmp_path / "new.jsonl", conversations_of(tiny(task)))
    found = predict_jsonl(bundles[task], source, device="cpu")
    assert found.table is not None
    for name in ("conversation_id", "utterance_id"):
        assert found.table[name].to_pylist() == expected[name].to_pylist()
    if task == "regression":
        assert found.table["prediction"].to_pylist() == pytest.approx(expected["prediction"].to_pylist(), abs=1e-5)
    else:
        assert found.table["prediction"].to_pylist() == expected["prediction"].to_pylist()
    for name in expected.column_names:
        if name.startswith("probability_"):
            assert np.allclose(found.table[name].to_numpy(), expected[name].to_numpy(), atol=1e-6)


def test_the_rows_carry_speaker_text_and_true_label(
    bundles: dict[str, str], tiny: Callable[..., str], tmp_path: Path
) -> None:
    first, second = conversations_of(tiny("single-label"))[:2]
    first["texts"] = [f"said {index}" for index in range(len(first["speakers"]))]
    del second["labels"]
    found = predict_jsonl(bundles["single-label"], written(tmp_path / "new.jsonl", [first, second]), device="cpu")
    assert found.table is not None
    rows = found.table.to_pylist()
    assert [row["speaker"] for row in rows] == first["speakers"] + second["speakers"]
    assert [row["text"] for row in rows] == first["texts"] + [None] * len(second["speakers"])
    assert [row["label"] for row in rows] == first["labels"] + [None] * len(second["speakers"])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("task", TASKS)
def test_each_format_has_the_same_predictions(
    suffix: str, task: str, bundles: dict[str, str], tiny: Callable[..., str], tmp_path: Path
) -> None:
    source = written(tmp_path / "new.jsonl", conversations_of(tiny(task)))
    shown = predict_jsonl(bundles[task], source, device="cpu").table
    assert shown is not None
    out = tmp_path / f"predictions{suffix}"
    done = predict_jsonl(bundles[task], source, str(out), device="cpu")
    assert (done.utterances, done.table) == (shown.num_rows, None)
    expected = shown["prediction"].to_pylist()
    if suffix == ".parquet":
        assert pq.read_table(out)["prediction"].to_pylist() == expected
    elif suffix == ".jsonl":
        assert [json.loads(line)["prediction"] for line in out.read_text().splitlines()] == expected
    else:
        with out.open(newline="") as file:
            found = [row["prediction"] for row in csv.DictReader(file)]
        if task == "regression":
            assert [float(value) for value in found] == pytest.approx(expected, rel=1e-5)
        else:
            assert found == [", ".join(value) if isinstance(value, list) else value for value in expected]


def test_vectors_may_be_in_an_npy_file_beside_it(
    bundles: dict[str, str], tiny: Callable[..., str], tmp_path: Path
) -> None:
    content = conversations_of(tiny("single-label"))[0]
    count = len(content["speakers"])
    vectors = np.random.default_rng(0).normal(size=(count + 3, WIDTHS["text"])).astype(np.float32)
    np.save(tmp_path / "text.npy", vectors)
    referred = written(tmp_path / "a.jsonl", [content | {"text": {"npy": "text.npy", "start": 3}}])
    inline = written(tmp_path / "b.jsonl", [content | {"text": vectors[3:].tolist()}])
    tables = [predict_jsonl(bundles["single-label"], source, device="cpu").table for source in (referred, inline)]
    assert tables[0] is not None
    assert tables[0].equals(tables[1])


def test_a_model_that_reads_words_reads_them_in_new_conversations(tmp_path: Path) -> None:
    corpus = write_spoken(tmp_path / "spoken")
    bundle = write_random_bundle(tmp_path / "bundle", corpus, data={"word_ngrams": 1})
    predictor = joyful_ray.load(bundle, device="cpu")
    assert predictor.bundle.model.ngrams is not None
    torch.nn.init.normal_(predictor.bundle.model.ngrams.vectors_BE)  # they start at zero
    rows = open_corpus(corpus).read_table("test")
    conversations = [
        {
            "conversation_id": row["conversation_id"],
            "utterance_ids": row["utterance_ids"],
            "speakers": row["speakers"],
            "texts": row["texts"],
            "text": np.reshape(row["text"], (len(row["speakers"]), -1)).tolist(),
        }
        for row in rows.to_pylist()
    ]
    assert predictor.predict(conversations).equals(predictor.table(rows))
    silent = [{key: value for key, value in content.items() if key != "texts"} for content in conversations]
    empty = [content | {"texts": [""] * len(content["speakers"])} for content in conversations]
    assert not predictor.predict(silent).equals(predictor.table(rows))
    assert predictor.predict(silent).equals(predictor.predict(empty))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["{"], "line 1: not JSON"),
        (["[]"], "line 1: not a JSON object"),
        (['{"conversation_id": 3, "speakers": ["A"]}'], "line 1: conversation_id is not a string"),
        (['{"conversation_id": "a"}'], "line 1: speakers is not a list of strings"),
        (['{"conversation_id": "a", "speakers": ["A"], "speker": 1}'], "line 1: unknown key 'speker'"),
        (['{"conversation_id": "a", "speakers": ["A"]}'] * 2, "line 2: conversation_id a appears twice"),
        (['{"conversation_id": "a", "speakers": ["A"], "text": [[1]]}'], "line 1: text: "),
        (['{"conversation_id": "a", "speakers": ["A"], "text": {"npy": "absent.npy"}}'], "line 1: "),
        (
            ['{"conversation_id": "a", "speakers": ["A"], "text": {"file": "x.npy"}}'],
            "line 1: text: write vectors of a file",
        ),
        ([], "contains no conversation"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    lines: list[str], expected: str, bundles: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "new.jsonl"
    source.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(CorpusError, match=expected):
        predict_jsonl(bundles["single-label"], str(source), str(tmp_path / "out.csv"), device="cpu")
    assert not (tmp_path / "out.csv").exists()


def test_another_suffix_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out\.txt must end in one of \.jsonl, \.csv, \.parquet"):
        predict_jsonl("absent", "absent", str(tmp_path / "out.txt"))


def test_the_command_prints_a_table(
    bundles: dict[str, str], tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = conversations_of(tiny("single-label"))[0]
    source = written(tmp_path / "new.jsonl", [content])
    assert main(["predict", bundles["single-label"], "--jsonl", source, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["utterance", "speaker", "text", "prediction", "probability"]
    assert len(printed) == 1 + len(content["speakers"])
    assert main(["predict", bundles["single-label"], "--jsonl", source, "--corpus", "c"]) == 2
    assert "either --corpus URI or --jsonl FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jsonl", "x.jsonl", "--workers", "2"], "--workers belongs to --corpus"),
        (["--jsonl", "x.jsonl", "--gpus-per-worker", "1"], "--gpus-per-worker belongs to --corpus"),
        (["--jsonl", "x.jsonl", "--split", "test"], "--split belongs to --corpus"),
        (["--jsonl", "x.jsonl", "--address", "auto"], "--address belongs to --corpus"),
        (["--corpus", "c", "--out", "o", "--device", "cpu"], "--device needs --workers 0"),
    ],
)
def test_options_that_would_not_be_used_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "bundle", *options]) == 2
    assert message in capsys.readouterr().err

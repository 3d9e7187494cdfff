"""The page about corpora: its example files are imported, and it covers every format and option."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.corpora.importers import IMPORTERS, import_corpus
from joyful_ray.corpora.importers.jsonl_scan import KEYS
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.schema import arrow_schema
from tests.docs.doc_blocks import CHECKOUT, run_page

PAGE = CHECKOUT / "joyful_ray/corpora/README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    run_page(PAGE, folder)
    return folder


@pytest.mark.parametrize(
    ("name", "task", "utterances"),
    [
        ("calls", "single-label", 6),
        ("meld", "single-label", 3),
        ("emorynlp", "single-label", 2),
        ("iemocap-6way", "single-label", 3),
        ("meld-pickle", "single-label", 3),
        ("mosei", "regression", 4),
        ("mosei-2way", "single-label", 4),
        ("mosi", "single-label", 3),
    ],
)
def test_every_example_becomes_a_corpus(folder: Path, name: str, task: str, utterances: int) -> None:
    corpus = open_corpus(str(folder / "corpora" / name))
    assert corpus.manifest.task == task
    assert sum(entry.utterances for entry in corpus.manifest.splits.values()) == utterances


@pytest.mark.parametrize(
    ("name", "source", "options"),
    [
        ("jsonl", "calls", {}),
        ("meld", "meld", {}),
        ("emorynlp", "emorynlp", {"text_vectors": "{split}.csv"}),
        ("iemocap", "IEMOCAP_features.pkl", {}),
        ("mosei", "mosei_aligned.pkl", {}),
        ("mosi", "mosi", {}),
    ],
)
def test_progress_counts_the_utterances_of_every_format(
    folder: Path, tmp_path: Path, name: str, source: str, options: dict[str, str]
) -> None:
    seen: list[tuple[int, int | None]] = []
    manifest = import_corpus(
        name,
        str(folder / source),
        str(tmp_path / "corpus"),
        options=options,
        watch=lambda done, total: seen.append((done, total)),
    )
    utterances = sum(entry.utterances for entry in manifest.splits.values())
    assert seen[-1] == (utterances, utterances)
    assert seen == sorted(seen)


def test_what_the_examples_say_is_in_the_corpora(folder: Path) -> None:
    calls = open_corpus(str(folder / "corpora/calls"))
    assert calls.manifest.labels == ["calm", "angry"], "the order of corpus.json"
    assert calls.manifest.modalities["audio"].extractor == "openSMILE eGeMAPSv02"
    (first, second) = calls.conversations("train")
    assert (first.utterance_ids, second.labels) == (["call-1_0", "call-1_1"], [None])
    assert first.present["text"].tolist() == [True, True]
    meld = next(iter(open_corpus(str(folder / "corpora/meld")).conversations("train")))
    assert (meld.conversation_id, meld.speakers) == ("train_dia0", ["Monica", "Joey"])
    scene = next(iter(open_corpus(str(folder / "corpora/emorynlp")).conversations("train")))
    assert (scene.conversation_id, scene.speakers[1]) == ("train_s01_e01_c04", "Joey Tribbiani & Chandler Bing")


def test_every_format_key_and_column_is_described() -> None:
    text = PAGE.read_text()
    assert all(f"joyful import {name} " in text for name in IMPORTERS)
    assert all(f"`{key}`" in text for key in KEYS)
    columns = arrow_schema(task="single-label", modalities=["text", "audio", "vision"], has_texts=True).names
    assert all(f"`{name}`" in text for name in columns if not name.startswith(("audio_", "vision_")))

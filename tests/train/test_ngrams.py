"""Word n-grams, from the texts of a corpus to the scores of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from joyful_ray.corpora.shards import write_corpus
from joyful_ray.records import RunRecord
from joyful_ray.schema import Conversation, FeatureContract, Split
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.launch import train
from tests.tiny_corpus import COUNTS, LABELS, small_job

SAYINGS = {"joy": "So happy!", "anger": "Go away!", "neutral": "I see."}


def write_spoken(folder: Path, *, has_texts: bool = True) -> str:
    """The vectors are noise; only the words determine the label."""
    draw = np.random.default_rng(0)

    def spoken(name: str) -> Conversation:
        labels = [LABELS[state] for state in draw.integers(0, len(LABELS), 6)]
        return Conversation(
            conversation_id=name,
            utterance_ids=[str(place) for place in range(6)],
            speakers=["A", "B"] * 3,
            labels=list(labels),
            texts=[SAYINGS[label] for label in labels] if has_texts else None,
            features={"text": draw.standard_normal((6, 4)).astype(np.float32)},
            present={"text": np.ones(6, bool)},
        )

    splits: dict[Split, list[Conversation]] = {
        split: [spoken(f"{split}-{place}") for place in range(count)] for split, count in COUNTS.items()
    }
    contracts = {"text": FeatureContract(extractor="noise", version="1", width=4)}
    write_corpus(
        str(folder),
        name="spoken",
        task="single-label",
        labels=LABELS,
        modalities=contracts,
        splits=splits,
        has_texts=has_texts,
    )
    return str(folder)


def run(corpus: str, storage: Path, name: str, *, epochs: int = 15, **data: object) -> RunRecord:
    model = {"fusion": {"kind": "concatenation"}, "context": {"kind": "none"}, "encoder": {"kind": "none"}}
    settings = {"epochs": epochs, "patience": epochs, "learning_rate": 0.03}
    job = small_job(corpus=corpus, storage=str(storage), data=data, model=model, train=settings)
    return train(job, name=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spoken")


def test_words_add_what_vectors_lack_and_the_bundle_keeps_them(folder: Path) -> None:
    corpus = write_spoken(folder / "corpus")
    reading = run(corpus, folder, "reading", word_ngrams=2)
    assert reading.dev.selection > 0.95
    assert run(corpus, folder, "vectors", word_ngrams=0).dev.selection < 0.6
    bundle = reading.locations["bundle"]
    assert reading.test is not None
    assert evaluate_bundle(bundle, corpus, split="test").values == reading.test.values
    silent = write_spoken(folder / "silent", has_texts=False)
    assert evaluate_bundle(bundle, silent, split="test").values["weighted_f1"] < 0.6


def test_a_corpus_without_texts_or_a_run_without_text_reads_no_words(folder: Path) -> None:
    silent = write_spoken(folder / "without", has_texts=False)
    with_words, without = (run(silent, folder, f"words-{n}", epochs=1, word_ngrams=n) for n in (2, 0))
    assert with_words.parameters == without.parameters

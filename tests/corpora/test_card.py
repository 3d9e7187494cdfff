"""The corpus card says what is in a corpus and warns of what will hurt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from joyful_ray.corpora import card
from joyful_ray.corpora.card import CorpusCard, inspect_corpus
from joyful_ray.corpora.shards import open_corpus
from tests.corpora.examples import conversation, with_gaps, write


def card_of(path: Path) -> CorpusCard:
    return inspect_corpus(open_corpus(str(path)))


def test_the_card_counts_everything_in_the_corpus(tmp_path: Path) -> None:
    train = [conversation("a", 3), conversation("b", 1), with_gaps()]
    write(str(tmp_path), {"train": train, "dev": [conversation("d", 3)], "test": [conversation("t", 3)]})
    card = card_of(tmp_path)
    split = card.splits["train"]
    assert (split.conversations, split.utterances, split.unlabeled, split.most_speakers) == (3, 6, 1, 2)
    assert split.labels == {"joy": 3, "anger": 1, "neutral": 1}
    assert split.present == {"text": 6, "audio": 5}
    assert split.absent_cells == {"text": 0, "audio": 1}
    lengths = split.utterances_per_conversation
    assert lengths is not None
    assert (lengths.least, lengths.median, lengths.mean, lengths.most) == (1, 2, 2, 3)
    assert card.warnings == []
    assert CorpusCard.model_validate_json(card.model_dump_json()) == card


def test_the_rows_have_one_column_per_split(tmp_path: Path) -> None:
    write(str(tmp_path), {"train": [conversation("a", 3)], "test": [conversation("t", 3)]})
    rows = card_of(tmp_path).as_rows()
    assert rows[0] == ["", "train", "test"]
    assert ["utterances", "3", "3"] in rows
    assert ["label joy", "1 (33.3%)", "1 (33.3%)"] in rows
    assert {len(row) for row in rows} == {3}


def test_warnings_name_what_affects_training(tmp_path: Path) -> None:
    long = conversation("long", 201, labels=["joy", *["neutral"] * 200])
    long.features["text"][:, 1] = 4.0
    dev = conversation("dev", 2, labels=[None, None], utterance_ids=["long_u0", "x"])
    dev.features["audio"][:] = np.nan
    dev.present["audio"][:] = False
    write(str(tmp_path), {"train": [long], "dev": [dev]})
    assert card_of(tmp_path).warnings == [
        "no test split: a run on it has no test score",
        "label joy is rare in train: 1 of 201 labeled utterances",
        "label anger is absent in train",
        "label joy is absent in dev",
        "label anger is absent in dev",
        "label neutral is absent in dev",
        "no utterance of dev has a label",
        "no utterance of dev has audio",
        "1 of 3 text features are constant in train: 1",
        "1 utterance id of train also in dev, such as long_u0",
    ]


def test_a_corpus_without_dev_says_what_training_will_do(tmp_path: Path) -> None:
    write(str(tmp_path), {"train": [conversation()], "test": [conversation("t")]})
    assert card_of(tmp_path).warnings == ["no dev split: training uses some conversations of train instead"]


def test_bad_conversations_that_were_left_out_are_mentioned(tmp_path: Path) -> None:
    bad = conversation("bad", labels=["hm", "joy", "joy"])
    write(str(tmp_path), {"train": [conversation(), bad]}, max_bad=0.5)
    assert "1 bad conversation left out by the import; see quarantine.jsonl" in card_of(tmp_path).warnings


def test_regression_labels_have_a_spread(tmp_path: Path) -> None:
    write(str(tmp_path), {"train": [conversation("r", 3, labels=[-1.0, None, 2.0])]}, task="regression", labels=[])
    card = card_of(tmp_path)
    values = card.splits["train"].label_values
    assert values is not None
    assert (values.least, values.mean, values.most) == (-1, 0.5, 2)
    assert ["label", "-1 to 2, mean 0.5"] in card.as_rows()


def test_ids_of_a_large_corpus_are_said_not_to_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(str(tmp_path), {"train": [conversation("a", 3)], "dev": [conversation("d")], "test": [conversation("t")]})
    monkeypatch.setattr(card, "MOST_COMPARED", 5)
    assert card_of(tmp_path).warnings == [
        "utterance ids were not compared between splits, because there are more than 5"
    ]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from joyful_ray.corpora import statistics
from joyful_ray.corpora.shards import Corpus, open_corpus, write_corpus
from joyful_ray.corpora.statistics import feature_statistics
from joyful_ray.data import prepare
from joyful_ray.data.encode import Scaling
from joyful_ray.data.plan import cut_dev
from joyful_ray.data.prepare import prepare_here, survey_here
from joyful_ray.data.split_rows import split_rows
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import SPLITS, FeatureContract, Split
from tests.tiny_corpus import COUNTS, LABELS, WIDTHS, small_job, tiny_conversations, write_tiny


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(write_tiny(tmp_path_factory.mktemp("corpora") / "tiny"))


@pytest.fixture(scope="module")
def without_dev(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(write_tiny(tmp_path_factory.mktemp("corpora") / "no-dev", counts={"train": 23, "test": 5}))


def test_every_split_has_its_conversations(corpus: Corpus) -> None:
    corpus_info, stores = prepare_here(corpus, small_job())
    assert {split: len(store) for split, store in stores.items()} == COUNTS
    for split, store in stores.items():
        assert store.conversation_ids == [item.conversation_id for item in tiny_conversations(split, COUNTS[split])]
    assert (corpus_info.conversations, corpus_info.utterances) == (23, stores["train"].utterances)
    assert corpus_info.dev_cut == frozenset()
    assert corpus_info.corpus["hash"] == corpus.hash


def test_scaling_comes_from_train_alone(corpus: Corpus) -> None:
    corpus_info, stores = prepare_here(corpus, small_job())
    read = feature_statistics(corpus.read_table("train"), WIDTHS)
    for name in WIDTHS:
        expected = Scaling.of(read[name])
        np.testing.assert_allclose(corpus_info.encoding.scaling[name].mean_W, expected.mean_W)
        np.testing.assert_allclose(corpus_info.encoding.scaling[name].deviation_W, expected.deviation_W)
        dev = np.concatenate([item.features[name] for item in tiny_conversations("dev", COUNTS["dev"])])
        found = stores["dev"].batch(range(COUNTS["dev"])).features[name].numpy()
        np.testing.assert_allclose(found, (dev - expected.mean_W) / expected.deviation_W, rtol=1e-4, atol=1e-5)


def test_features_are_not_scaled_if_normalise_is_off(corpus: Corpus) -> None:
    corpus_info, stores = prepare_here(corpus, small_job(data={"normalise": False}))
    assert corpus_info.encoding.scaling == {}
    (item,) = tiny_conversations("train", 1)
    np.testing.assert_array_equal(stores["train"].batch([0]).features["text"], item.features["text"])


def test_a_corpus_without_dev_gets_whole_conversations_of_train(without_dev: Corpus) -> None:
    corpus_info, stores = prepare_here(without_dev, small_job(seed=3, data={"dev_fraction": 0.2}))
    names = [item.conversation_id for item in tiny_conversations("train", 23)]
    expected = cut_dev(names, fraction=0.2, seed=3)
    assert corpus_info.dev_cut == expected
    assert stores["dev"].conversation_ids == sorted(expected)
    assert stores["train"].conversation_ids == sorted(set(names) - expected)
    assert len(stores["dev"]) == 5


def test_scaling_does_not_see_the_conversations_cut_off_as_dev(without_dev: Corpus) -> None:
    corpus_info, stores = prepare_here(without_dev, small_job())
    kept = [item for item in tiny_conversations("train", 23) if item.conversation_id not in corpus_info.dev_cut]
    text = np.concatenate([item.features["text"] for item in kept])
    np.testing.assert_allclose(corpus_info.encoding.scaling["text"].mean_W, np.nanmean(text, 0), rtol=1e-5)
    assert corpus_info.conversations == len(kept) == len(stores["train"])


def test_rows_are_chosen_by_id(without_dev: Corpus) -> None:
    found = split_rows(without_dev, small_job())
    table = without_dev.read_table("train")
    dev, train = found["dev"].choose(table), found["train"].choose(table)
    assert dev.num_rows + train.num_rows == 23
    assert not set(dev["conversation_id"].to_pylist()) & set(train["conversation_id"].to_pylist())
    assert found["test"].choose(table) is table


def test_only_the_modalities_of_the_job_are_prepared(corpus: Corpus) -> None:
    corpus_info, stores = prepare_here(corpus, small_job(data={"modalities": ["audio"]}))
    assert list(corpus_info.encoding.widths) == list(stores["train"].batch([0]).features) == ["audio"]
    assert list(corpus_info.contracts) == ["audio"]


def test_a_modality_that_the_corpus_lacks_is_refused_by_name(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"data\.modalities names vision, but the corpus tiny has text, audio"):
        prepare_here(corpus, small_job(data={"modalities": ["vision"]}))


def test_a_job_of_another_task_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="task is regression, but the corpus tiny is labeled for single-label"):
        prepare_here(corpus, small_job(task="regression"))


def test_a_corpus_without_train_is_refused(tmp_path: Path) -> None:
    corpus = open_corpus(write_tiny(tmp_path / "c", counts={"test": 3}))
    with pytest.raises(CorpusError, match="no train conversations"):
        prepare_here(corpus, small_job())


def test_a_corpus_of_one_conversation_has_no_dev_to_cut(tmp_path: Path) -> None:
    corpus = open_corpus(write_tiny(tmp_path / "c", counts={"train": 1}))
    with pytest.raises(CorpusError, match="too few train conversations"):
        prepare_here(corpus, small_job())


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_split_without_a_single_label_is_refused(tmp_path: Path, split: Split) -> None:
    items = {name: tiny_conversations(name, 4) for name in SPLITS[:2]}
    for item in items[split]:
        item.labels[:] = [None] * len(item)
    contracts = {name: FeatureContract(extractor="x", version="1", width=width) for name, width in WIDTHS.items()}
    write_corpus(
        str(tmp_path / "c"), name="tiny", task="single-label", labels=LABELS, modalities=contracts, splits=items
    )
    with pytest.raises(CorpusError, match=f"no utterance of {split} is labeled"):
        prepare_here(open_corpus(str(tmp_path / "c")), small_job())


def ids_of(split: Split) -> list[str]:
    return [item.conversation_id for item in tiny_conversations(split, COUNTS[split])]


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_hold_out_every_conversation_of_train_and_dev_once(corpus: Corpus, folds: int) -> None:
    every = {name for split in ("train", "dev") for name in ids_of(split)}
    held_out: list[str] = []
    for fold in range(folds):
        found = prepare_here(corpus, small_job(data={"folds": folds, "fold": fold}, seed=fold))[1]
        dev, train = set(found["dev"].conversation_ids), set(found["train"].conversation_ids)
        assert dev | train == every
        assert not dev & train
        assert abs(len(dev) - len(every) / folds) < 1
        assert sorted(found["test"].conversation_ids) == ids_of("test")
        held_out += dev
    assert sorted(held_out) == sorted(every)


def test_folds_do_not_depend_on_the_seed_and_scaling_does_not_see_them(corpus: Corpus) -> None:
    settings = {"folds": 3, "fold": 1}
    (info, stores), (_, others) = (prepare_here(corpus, small_job(data=settings, seed=seed)) for seed in (0, 1))
    assert sorted(stores["dev"].conversation_ids) == sorted(others["dev"].conversation_ids)
    whole, _ = prepare_here(corpus, small_job())
    assert not np.allclose(info.encoding.scaling["text"].mean_W, whole.encoding.scaling["text"].mean_W)
    assert info.dev_cut == frozenset(stores["dev"].conversation_ids)


def test_more_folds_than_conversations_are_refused(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="30 conversations to train on, too few for 31 folds"):
        split_rows(corpus, small_job(data={"folds": 31}))


def test_a_corpus_with_dev_is_known_without_its_shards(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "corpus", shard_conversations=5)
    corpus = open_corpus(folder)
    expected = prepare_here(corpus, small_job())[0]
    for shard in Path(folder).rglob("part-*.parquet"):
        shard.unlink()
    found, reading = survey_here(corpus, small_job())
    assert (found.label_counts, found.speakers) == (expected.label_counts, expected.speakers)
    assert (found.conversations, found.utterances) == (expected.conversations, expected.utterances)
    for name, scaling in expected.encoding.scaling.items():
        np.testing.assert_array_equal(found.encoding.scaling[name].deviation_W, scaling.deviation_W)
    assert [sum(reading[split].rows) for split in SPLITS] == [COUNTS[split] for split in SPLITS]


def test_of_a_large_corpus_without_dev_only_some_vectors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(write_tiny(tmp_path / "corpus", counts={"train": 23, "test": 5}, shard_conversations=5))
    whole, reading = survey_here(corpus, small_job())
    shards = corpus.shards("train")
    monkeypatch.setattr(prepare, "SURVEYED_BYTES", sum(shard.bytes for shard in shards) // 2 + 1)
    sampled = survey_here(corpus, small_job())[0]
    assert (sampled.label_counts, sampled.speakers) == (whole.label_counts, whole.speakers)
    assert (sampled.conversations, sampled.utterances) == (whole.conversations, whole.utterances)
    some = [reading["train"].read(shard) for shard in shards[::2]]
    for name, found in feature_statistics(pa.concat_tables(some), WIDTHS).items():
        expected = Scaling.of(found)
        np.testing.assert_allclose(sampled.encoding.scaling[name].mean_W, expected.mean_W, rtol=1e-6)
        assert not np.array_equal(sampled.encoding.scaling[name].mean_W, whole.encoding.scaling[name].mean_W)


@pytest.mark.parametrize("has_many", [False, True])
def test_speakers_are_numbered_as_they_are_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_many: bool
) -> None:
    """Without a list of all names, or with some that have no fixed number, the names are read."""
    if has_many:
        monkeypatch.setattr(statistics, "MOST_NAMES", 1)
    corpus = open_corpus(write_tiny(tmp_path / "corpus"))
    names = sorted({name for item in tiny_conversations("train", COUNTS["train"]) for name in item.speakers})
    for order in (names[::-1], ["nobody", *names], names[:1], ["nobody"]):
        job = small_job(data={"speaker_order": order})
        corpus_info, stores = prepare_here(corpus, job)
        most = max(int(stores["train"].batch([place]).speakers_N.max()) for place in range(COUNTS["train"]))
        assert corpus_info.speakers == most + 1, order

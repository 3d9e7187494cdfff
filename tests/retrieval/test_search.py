"""Searching a corpus by an utterance, by a text, or across modalities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import joyful_ray
from joyful_ray.cli import main
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import CheckpointError, ConfigError, CorpusError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.predict.job import predict_corpus
from joyful_ray.retrieval.index import unit
from joyful_ray.retrieval.search import Direction, retrieve, score_modalities
from joyful_ray.settings import ClusterConfig
from tests.predict.bundles import write_random_bundle
from tests.train.test_ngrams import write_spoken

HERE = ClusterConfig(workers=0)
BOTH = VectorChoice(embedding=True, shared=True)
ACROSS = Direction("text", "audio")


@pytest.fixture(scope="module")
def bundle(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_random_bundle(tmp_path_factory.mktemp("bundle"), tiny())


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A corpus whose texts matter, and a bundle that reads them."""
    folder = tmp_path_factory.mktemp("spoken")
    corpus = write_spoken(folder / "corpus")
    return write_random_bundle(folder / "bundle", corpus, data={"word_ngrams": 1}), corpus


@pytest.fixture(scope="module")
def frame(bundle: str, tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, str]:
    """What `joyful predict --embedding --shared` writes for all splits, and where."""
    folder = str(tmp_path_factory.mktemp("vectors") / "out")
    predict_corpus(bundle, tiny(), folder, cluster=HERE, vectors=BOTH)
    return pd.read_parquet(folder), folder


def ids(matches: pa.Table) -> list[str]:
    return matches["utterance_id"].to_pylist()


def by_hand(frame: pd.DataFrame, query: pd.Series, source: str, target: str) -> list[str]:
    """Ids of all other utterances in the order of their cosine similarity to a query."""
    known = frame[frame[target].notna() & (frame["utterance_id"] != query["utterance_id"])]
    similarity = unit(np.stack(known[target])) @ unit(np.stack([query[source]]))[0]
    return known["utterance_id"].iloc[np.argsort(-similarity, kind="stable")].tolist()


def test_the_nearest_embeddings_are_found_and_an_utterance_does_not_find_itself(
    bundle: str, tiny: Callable[..., str], frame: tuple[pd.DataFrame, str]
) -> None:
    predictions, _ = frame
    query = predictions[predictions["split"] == "test"].iloc[3]
    found = retrieve(bundle, tiny(), queries=[query["utterance_id"]], count=5)
    assert ids(found) == by_hand(predictions, query, "embedding", "embedding")[:5]
    assert found["rank"].to_pylist() == [1, 2, 3, 4, 5]
    assert found["similarity"].to_pylist() == sorted(found["similarity"].to_pylist(), reverse=True)
    assert len(retrieve(bundle, tiny(), queries=[query["utterance_id"]], count=500)) == len(predictions) - 1


def test_a_match_says_what_the_corpus_says_of_it(bundle: str, tiny: Callable[..., str]) -> None:
    corpus = open_corpus(tiny())
    known = {
        (split, name): (one.conversation_id, one.speakers[place], one.labels[place])
        for split in corpus.splits()
        for one in corpus.conversations(split)
        for place, name in enumerate(one.utterance_ids)
    }
    query = next(iter(known))[1]
    for row in retrieve(bundle, tiny(), queries=[query], count=500).to_pylist():
        expected = known[row["split"], row["utterance_id"]]
        assert (row["conversation_id"], row["speaker"], row["label"]) == expected
        assert row["query"] == query


def test_one_modality_searches_another_and_may_find_its_own_utterance(
    bundle: str, tiny: Callable[..., str], frame: tuple[pd.DataFrame, str]
) -> None:
    predictions, _ = frame
    both = predictions[predictions["shared_text"].notna() & predictions["shared_audio"].notna()]
    query = both.iloc[0]
    found = retrieve(bundle, tiny(), queries=[query["utterance_id"]], direction=ACROSS, count=500)
    own = found.filter(pa.compute.equal(found["utterance_id"], query["utterance_id"]))
    assert len(own) == 1
    others = [name for name in ids(found) if name != query["utterance_id"]]
    assert others == by_hand(predictions, query, "shared_text", "shared_audio")
    same = retrieve(bundle, tiny(), queries=[query["utterance_id"]], direction=Direction("text", "text"), count=500)
    assert ids(same) == by_hand(predictions, query, "shared_text", "shared_text")
    silent = set(predictions["utterance_id"][predictions["shared_audio"].isna()])
    assert silent
    assert silent.isdisjoint(ids(found))


def test_vectors_that_predict_wrote_give_the_same_matches(
    bundle: str, tiny: Callable[..., str], frame: tuple[pd.DataFrame, str]
) -> None:
    predictions, folder = frame
    query = predictions["utterance_id"].iloc[2]
    for direction in (Direction(), Direction("audio", "text")):
        computed = retrieve(bundle, tiny(), queries=[query], direction=direction)
        assert retrieve(bundle, tiny(), queries=[query], direction=direction, vectors=folder).equals(computed)
    across = score_modalities(bundle, tiny(), "text", "audio", splits=["train"], vectors=folder)
    assert across == score_modalities(bundle, tiny(), "text", "audio", splits=["train"])


def test_a_text_finds_the_utterances_that_say_it(spoken: tuple[str, str]) -> None:
    bundle, corpus = spoken
    said = next(iter(open_corpus(corpus).conversations("train"))).texts[0]
    found = retrieve(bundle, corpus, texts=[said, said + " indeed"], count=3)
    assert found["query"].to_pylist() == [said] * 3 + [said + " indeed"] * 3
    predicted = joyful_ray.load(bundle, device="cpu").predict(
        [{"speakers": ["query"], "texts": [said]}], embedding=True
    )
    every = joyful_ray.load(bundle, device="cpu").table(
        open_corpus(corpus).read_table("train"), VectorChoice(embedding=True)
    )
    similarity = unit(np.stack(every["embedding"].to_pylist())) @ unit(np.array(predicted["embedding"].to_pylist()))[0]
    best = retrieve(bundle, corpus, texts=[said], splits=["train"], count=1)
    assert best["similarity"][0].as_py() == pytest.approx(float(similarity.max()), abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": ["nobody"]}, r"has no utterance nobody; (did you mean|the first one is)"),
        ({"texts": ["Hello"]}, r"does not read words \(data\.word_ngrams is 0\)"),
        ({"queries": ["x"], "direction": ("text", "vision")}, "does not read vision; it reads text, audio"),
        ({"queries": ["x"], "splits": ["dev", "prod"]}, "has no prod split"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    given: dict[str, Any], message: str, bundle: str, tiny: Callable[..., str]
) -> None:
    given = {**given, "direction": Direction(*given.get("direction", ()))}
    with pytest.raises((ConfigError, CorpusError), match=message):
        retrieve(bundle, tiny(), **given)


def test_an_utterance_without_the_modality_cannot_search(
    bundle: str, tiny: Callable[..., str], frame: tuple[pd.DataFrame, str]
) -> None:
    silent = frame[0][frame[0]["shared_audio"].isna()]["utterance_id"].iloc[0]
    with pytest.raises(CorpusError, match=f"{silent} has no audio"):
        retrieve(bundle, tiny(), queries=[silent], direction=Direction("audio", "text"))


def test_a_query_of_one_split_searches_another(
    bundle: str, tiny: Callable[..., str], frame: tuple[pd.DataFrame, str]
) -> None:
    predictions, folder = frame
    query = predictions[predictions["split"] == "test"].iloc[0]
    train = predictions[predictions["split"] == "train"]
    for vectors in (None, folder):
        found = retrieve(bundle, tiny(), queries=[query["utterance_id"]], splits=["train"], count=4, vectors=vectors)
        assert ids(found) == by_hand(train, query, "embedding", "embedding")[:4]


def test_an_id_that_several_conversations_have_needs_the_conversation(spoken: tuple[str, str]) -> None:
    bundle, corpus = spoken
    with pytest.raises(CorpusError, match=r"utterances have the id 0; write the conversation too: \S+/0"):
        retrieve(bundle, corpus, queries=["0"])
    assert len(retrieve(bundle, corpus, queries=["train-0/0"], count=2)) == 2


def test_directions_name_two_modalities() -> None:
    with pytest.raises(ConfigError, match="give both modalities"):
        Direction("text")
    with pytest.raises(ConfigError, match="there is no modality 'video'"):
        Direction("text", "video")  # type: ignore[arg-type]


def test_vectors_of_something_else_are_refused(
    bundle: str, tiny: Callable[..., str], frame: tuple[pd.DataFrame, str], tmp_path: Path
) -> None:
    other = write_random_bundle(tmp_path / "other", tiny(), seed=9)
    with pytest.raises(CheckpointError, match="was predicted with another bundle"):
        score_modalities(other, tiny(), "text", "audio", vectors=frame[1])
    with pytest.raises(CheckpointError, match="holds no finished prediction"):
        score_modalities(bundle, tiny(), "text", "audio", vectors=str(tmp_path / "nothing"))
    predict_corpus(bundle, tiny(), str(tmp_path / "plain"), cluster=HERE, splits=["test"])
    with pytest.raises(CheckpointError, match="was predicted without --shared"):
        score_modalities(bundle, tiny(), "text", "audio", vectors=str(tmp_path / "plain"))
    predict_corpus(bundle, tiny(), str(tmp_path / "part"), cluster=HERE, splits=["test"], vectors=BOTH)
    with pytest.raises(CheckpointError, match="has no predictions of dev"):
        score_modalities(bundle, tiny(), "text", "audio", splits=["dev"], vectors=str(tmp_path / "part"))


def test_a_model_without_a_shared_basis_finds_by_embedding_only(tiny: Callable[..., str], tmp_path: Path) -> None:
    plain = write_random_bundle(tmp_path / "plain", tiny(), model={"fusion": {"kind": "concatenation"}})
    query = next(iter(open_corpus(tiny()).conversations("test"))).utterance_ids[0]
    assert len(retrieve(plain, tiny(), queries=[query], count=4)) == 4
    with pytest.raises(ConfigError, match="has no basis that modalities share"):
        score_modalities(plain, tiny(), "text", "audio")


def test_the_command_prints_writes_and_returns_the_matches(
    bundle: str, tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = next(iter(open_corpus(tiny()).conversations("test"))).utterance_ids[0]
    arguments = ["retrieve", bundle, "--corpus", tiny(), "--device", "cpu"]
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"matches.{suffix}"
        assert main([*arguments, "--query", query, "--count", "3", "--out", str(out), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert [row["rank"] for row in result["matches"]] == [1, 2, 3]
    assert pd.read_csv(tmp_path / "matches.csv")["utterance_id"].tolist() == [
        row["utterance_id"] for row in result["matches"]
    ]
    assert pd.read_parquet(tmp_path / "matches.parquet")["rank"].tolist() == [1, 2, 3]
    assert main([*arguments, "--from", "text", "--to", "audio"]) == 0
    printed = capsys.readouterr().out
    for part in ("text finds audio among", "recall@10", "mean reciprocal rank", "by chance"):
        assert part in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --query or --text, or --from and --to"),
        (["--from", "text"], "--from and --to belong together"),
        (["--from", "text", "--to", "smell"], "--to is one of text, audio, vision"),
        (["--from", "text", "--to", "text"], "text always finds itself"),
        (["--query", "x", "--out", "matches.xlsx"], "must end in one of"),
        (["--from", "text", "--to", "audio", "--out", "scores.csv"], "--out belongs to a search"),
        (["--query", "x", "--split", "prod"], "--split is one of"),
    ],
)
def test_wrong_options_end_with_status_2(
    arguments: list[str], message: str, bundle: str, tiny: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retrieve", bundle, "--corpus", tiny(), *arguments]) == 2
    assert message in capsys.readouterr().err

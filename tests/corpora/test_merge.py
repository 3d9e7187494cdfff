"""Several corpora in one: ids, labels, modalities, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from joyful_ray.cli import main
from joyful_ray.corpora.label_map import read_label_map
from joyful_ray.corpora.merge import merge_corpora
from joyful_ray.corpora.shards import open_corpus, write_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import Conversation, FeatureContract, Modality, Task

WIDTHS: dict[Modality, int] = {"text": 3, "audio": 2}


def conversation(name: str, labels: list[Any], modalities: list[Modality], text: bool = True) -> Conversation:
    count = len(labels)
    return Conversation(
        name,
        [f"{name}-{place}" for place in range(count)],
        ["ann"] * count,
        labels,
        {modality: np.full((count, WIDTHS[modality]), 1.5, np.float32) for modality in modalities},
        {modality: np.ones(count, bool) for modality in modalities},
        ["words"] * count if text else None,
    )


def write(folder: Path, name: str, labels: list[str], given: list[Any], **settings: Any) -> str:
    modalities = settings.get("modalities", ["text", "audio"])
    task: Task = settings.get("task", "single-label")
    extractor, text = settings.get("extractor", "x"), settings.get("text", True)
    write_corpus(
        str(folder / name),
        name=name,
        task=task,
        labels=labels,
        has_texts=text,
        modalities={m: FeatureContract(extractor=extractor, version="1", width=WIDTHS[m]) for m in modalities},
        splits={
            "train": [conversation("one", given, modalities, text)],
            "test": [conversation("two", given[::-1], modalities, text)],
        },
    )
    return str(folder / name)


def write_map(folder: Path, name: str, source: list[str], mapping: dict[str, str], **changes: Any) -> str:
    tree = {
        "from": {"name": name, "labels": source},
        "to": {"name": "shared", "labels": ["good", "bad"]},
        "map": mapping,
        "drop": {"from": [label for label in source if label not in mapping]},
    }
    place = folder / f"{name}.yaml"
    place.write_text(yaml.safe_dump(tree | changes))
    return str(place)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Two corpora of different labels, one without audio, and the maps of both."""
    corpora = [
        write(tmp_path, "first", ["joy", "rage", "awe"], ["joy", "awe", None, "rage"]),
        write(tmp_path, "second", ["happy", "glad", "sad"], ["glad", "sad"], modalities=["text"], text=False),
    ]
    maps = [
        write_map(tmp_path, "second", ["happy", "glad", "sad"], {"happy": "good", "glad": "good", "sad": "bad"}),
        write_map(tmp_path, "first", ["joy", "rage", "awe"], {"joy": "good", "rage": "bad"}),
    ]
    return corpora, maps


def test_a_merged_corpus_has_all_conversations_with_shared_labels(
    pair: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    corpora, maps = pair
    merge_corpora(corpora, str(tmp_path / "out"), label_maps=maps)
    merged = open_corpus(str(tmp_path / "out"))
    assert merged.manifest.labels == ["good", "bad"]
    assert merged.manifest.name == "first-and-second"
    first, second = merged.conversations("train")
    assert (first.conversation_id, second.conversation_id) == ("first/one", "second/one")
    assert first.labels == ["good", None, None, "bad"]
    assert second.labels == ["good", "bad"]
    assert second.present["audio"].tolist() == [False, False]
    assert np.isnan(second.features["audio"]).all()
    assert (first.features["audio"] == 1.5).all()
    assert first.texts is None
    assert [one.labels for one in merged.conversations("test")] == [["bad", None, None, "good"], ["bad", "good"]]
    notes = merged.manifest.notes["merged_from"]
    assert [entry["hash"] for entry in notes] == [open_corpus(uri).hash for uri in corpora]


def test_corpora_of_one_name_and_the_same_labels_need_no_map(tmp_path: Path) -> None:
    places = [write(tmp_path / where, "same", ["joy"], given) for where, given in (("a", ["joy"]), ("b", [None]))]
    merge_corpora(places, str(tmp_path / "out"))
    ids = [one.conversation_id for one in open_corpus(str(tmp_path / "out")).conversations("train")]
    assert ids == ["same-1/one", "same-2/one"]


def test_regression_and_several_labels_merge_too(tmp_path: Path) -> None:
    numbers = [write(tmp_path, f"numbers{n}", [], [0.5, None, n], task="regression") for n in (1.0, 2.0)]
    merge_corpora(numbers, str(tmp_path / "out"))
    merged = [one.labels for one in open_corpus(str(tmp_path / "out")).conversations("train")]
    assert merged == [[0.5, None, 1.0], [0.5, None, 2.0]]
    several = write(tmp_path, "several", ["joy", "rage", "awe"], [["joy", "awe"], [], ["awe"]], task="multi-label")
    label_map = write_map(tmp_path, "m", ["joy", "rage", "awe"], {"joy": "good", "rage": "bad"})
    merge_corpora([several], str(tmp_path / "out2"), label_maps=[label_map])
    (one,) = open_corpus(str(tmp_path / "out2")).conversations("train")
    assert one.labels == [["good"], [], []]


def test_progress_counts_conversations(pair: tuple[list[str], list[str]], tmp_path: Path) -> None:
    corpora, maps = pair
    seen: list[tuple[int, int]] = []
    manifest = merge_corpora(
        corpora, str(tmp_path / "out"), label_maps=maps, watch=lambda done, total: seen.append((done, total))
    )
    total = sum(entry.conversations for entry in manifest.splits.values())
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_what_does_not_fit_is_refused(pair: tuple[list[str], list[str]], tmp_path: Path) -> None:
    corpora, maps = pair
    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"differ in the label 'joy': .*first needs a --label-map to good, bad"):
        merge_corpora(corpora, out, label_maps=maps[:1])
    with pytest.raises(ConfigError, match="the label map from second fits none of the corpora"):
        merge_corpora(corpora[:1], out, label_maps=maps)
    short = write_map(tmp_path, "short", ["joy", "rage"], {"joy": "good", "rage": "bad"})
    with pytest.raises(ConfigError, match=r"from \(short\) of the label map lacks 'awe', a label of .*first"):
        merge_corpora(corpora[:1], out, label_maps=[short])
    other = write_map(tmp_path, "o", ["a"], {"a": "good"}, to={"name": "else", "labels": ["good"]})
    with pytest.raises(ConfigError, match="have different labels in `to`: good, bad and good"):
        merge_corpora(corpora, out, label_maps=[*maps, other])
    twice = write_map(tmp_path, "t", ["joy", "rage", "awe"], {"joy": "good", "rage": "bad", "awe": "good"})
    with pytest.raises(ConfigError, match=r"two different label maps fit the labels of .*first"):
        merge_corpora(corpora, out, label_maps=[*maps, twice])
    unlike = write(tmp_path, "unlike", ["happy", "glad", "sad"], ["sad"], extractor="y")
    with pytest.raises(CorpusError, match="expected extractor x, found extractor y"):
        merge_corpora([corpora[0], unlike], out, label_maps=maps)
    several = write(tmp_path, "several", ["joy", "rage", "awe"], [["joy"]], task="multi-label")
    with pytest.raises(CorpusError, match="is multi-label, that of the first corpus single-label"):
        merge_corpora([corpora[0], several], out, label_maps=maps[1:])
    assert not Path(out).exists()


def test_no_corpus_is_merged_into_itself_or_twice(pair: tuple[list[str], list[str]], tmp_path: Path) -> None:
    corpora, maps = pair
    before = open_corpus(corpora[0]).hash
    with pytest.raises(CorpusError, match="is one of the corpora to merge"):
        merge_corpora(corpora, corpora[0], label_maps=maps, overwrite=True)
    assert open_corpus(corpora[0]).hash == before
    with pytest.raises(CorpusError, match="has the same conversations as"):
        merge_corpora([corpora[0], corpora[0]], str(tmp_path / "twice"), label_maps=maps[1:])
    assert not (tmp_path / "twice").exists()


def test_a_label_that_is_mapped_twice_is_refused(tmp_path: Path) -> None:
    side = "{name: a, labels: [joy]}"
    (tmp_path / "map.yaml").write_text(f"from: {side}\nto: {side}\nmap: {{joy: joy, joy: joy}}\n")
    with pytest.raises(ConfigError, match="joy appears twice"):
        read_label_map(str(tmp_path / "map.yaml"))


def test_the_command_merges(pair: tuple[list[str], list[str]], tmp_path: Path) -> None:
    corpora, maps = pair
    options = [part for one in maps for part in ("--label-map", one)]
    assert main(["merge", *corpora, *options, "--out", str(tmp_path / "out"), "--name", "both"]) == 0
    assert open_corpus(str(tmp_path / "out")).manifest.name == "both"

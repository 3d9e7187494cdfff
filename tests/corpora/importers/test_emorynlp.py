"""EmoryNLP's CSV files: small ones of the same layout, and the published ones if they are available."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from joyful_ray.corpora.importers import import_corpus
from joyful_ray.corpora.importers.emorynlp import speaker_of
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import CorpusError
from tests.corpora.examples import DATA

CSV = (
    "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time\n"
    "Second.,\"['Ann Lee', 'Bob']\",Mad,4,3,1,2,x,y\n"
    "Elsewhere.,['Cem'],Joyful,4,1,2,2,x,y\n"
    "First.,['Bob'],Neutral,4,1,1,2,x,y\n"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "emorynlp"
    directory.mkdir()
    (directory / "emorynlp_train_final.csv").write_text(CSV)
    np.save(directory / "train_text_minilm.npy", np.arange(6, dtype=np.float16).reshape(3, 2))
    return directory


def test_a_scene_is_identified_by_season_episode_and_number(source: Path) -> None:
    manifest = import_corpus("emorynlp", str(source), str(source.parent / "out"))
    first, second = open_corpus(str(source.parent / "out")).conversations("train")
    assert first.conversation_id == "train_s01_e02_c04"
    assert first.speakers == ["Bob", "Ann Lee & Bob"]
    assert first.labels == ["neutral", "mad"]
    assert first.features["text"].tolist() == [[4, 5], [0, 1]]
    assert second.conversation_id == "train_s02_e02_c04"
    assert manifest.labels == ["joyful", "mad", "neutral", "peaceful", "powerful", "sad", "scared"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("['Cem']", "Cem", "line 3: Speaker 'Cem' is not a list of names"),
        ("['Cem']", "__import__('os').getcwd()", "is not a list of names"),
        ("['Cem']", "[]", "the speaker is empty"),
        ("Joyful,4,1,2", "Joyful,4,one,2", "line 3: Utterance_ID 'one' is not a number"),
        ("Joyful", "Joy", "line 3: .*unknown label 'joy'"),
    ],
)
def test_bad_rows_are_refused(source: Path, old: str, new: str, message: str) -> None:
    file = source / "emorynlp_train_final.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(CorpusError, match=message):
        import_corpus("emorynlp", str(source), str(source.parent / "out"))


def test_a_line_of_several_people_has_one_joint_speaker() -> None:
    assert speaker_of("['Ann Lee', ' Bob']") == "Ann Lee & Bob"
    assert speaker_of("['Ann Lee']") == "Ann Lee"


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "emorynlp").exists(), reason="the real EmoryNLP files are not beside this checkout")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    manifest = import_corpus("emorynlp", str(DATA / "emorynlp"), str(tmp_path / "emorynlp"))
    counts = {name: (entry.conversations, entry.utterances) for name, entry in manifest.splits.items()}
    assert counts == {"train": (659, 7551), "dev": (89, 954), "test": (79, 984)}
    assert manifest.splits["test"].labels["neutral"] == 288

"""CMU-MOSI's CSV files: small ones of the same layout, and the published ones if they are available."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.corpora.importers import import_corpus
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import Manifest
from tests.corpora.examples import DATA

FILES = {
    "transcripts.csv": '"a_b_2","SECOND","9","0"\n"a_b_10","THIRD","9",""\n"a_b_1","FIRST","9","1"\n"c_1","X","",""\n',
    "text_train.csv": '"1","0","0"\n"0","0","0"\n"2","0","0"\n',
    "text_train0.csv": '"0.1","0.2","1"\n"0.3","0.4","0"\n"0.5","0.6","1"\n',
    "audio_train0.csv": '"1","1"\n"2","0"\n"","1"\n',
    "video_train0.csv": '"7","1"\n"8","0"\n"9","1"\n',
    "text_test.csv": '"3","0","0"\n',
    "text_test0.csv": '"0.1","0.2","1"\n',
    "audio_test0.csv": '"1","1"\n',
    "video_test0.csv": '"7","1"\n',
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "mosi"
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_text(content)
    return directory


def imported(source: Path, **options: str) -> Manifest:
    return import_corpus("mosi", str(source), str(source.parent / "out"), options=options)


def test_videos_are_conversations_sorted_by_clip(source: Path) -> None:
    manifest = imported(source)
    (found,) = open_corpus(str(source.parent / "out")).conversations("train")
    assert found.conversation_id == "a_b"
    assert found.utterance_ids == ["a_b_1", "a_b_2", "a_b_10"]
    assert found.texts == ["FIRST", "SECOND", "THIRD"]
    assert found.labels == ["positive", "negative", "positive"]
    assert found.features["text"][:, 0].tolist() == pytest.approx([0.5, 0.3, 0.1])
    assert found.present["audio"].tolist() == [False, True, True]
    assert found.features["vision"].ravel().tolist() == [9, 8, 7]
    assert list(manifest.splits) == ["train", "test"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("audio_train0.csv", '"2","0"', '"2","1"', r"text_train0\.csv, line 2: .*have different labels"),
        ("audio_train0.csv", '"2","0"', '"two","0"', r"audio_train0\.csv, line 2: .*'two' is not a number"),
        ("audio_train0.csv", '"2","0"\n', "", r"audio_train0\.csv: expected 3 rows, found 2"),
        ("text_train0.csv", '"0.3",', '"nan",', r"text_train0\.csv, line 2: .*utterance a_b_2: text value 0 is nan"),
        ("text_train0.csv", '"0.3","0.4"', '"0.3"', "text vectors have different widths"),
        ("text_train.csv", '"2"', '"9"', r"text_train\.csv, line 3: '9' is not a row of transcripts\.csv, which has 4"),
        ("transcripts.csv", "a_b_2", "ab", r"'ab' in transcripts\.csv is not <video>_<number>"),
        ("video_test0.csv", '"7","1"\n', "", r"video_test0\.csv is empty"),
    ],
)
def test_bad_files_are_refused_with_file_line_and_reason(
    source: Path, file: str, old: str, new: str, message: str
) -> None:
    (source / file).write_text((source / file).read_text().replace(old, new, 1))
    with pytest.raises(CorpusError, match=message):
        imported(source)


def test_the_csv_files_hold_classes_only(source: Path) -> None:
    with pytest.raises(ConfigError, match="option task is regression, but the CSV files have two classes"):
        imported(source, task="regression")


def test_a_missing_file_is_named(source: Path) -> None:
    (source / "video_train0.csv").unlink()
    with pytest.raises(CorpusError, match=r"there is no .*video_train0\.csv"):
        imported(source)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "mosi").exists(), reason="the real MOSI files are not beside this checkout")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    manifest = import_corpus("mosi", str(DATA / "mosi"), str(tmp_path / "mosi"))
    counts = {name: (entry.conversations, entry.utterances) for name, entry in manifest.splits.items()}
    assert counts == {"train": (62, 1447), "test": (31, 752)}
    assert manifest.widths == {"text": 100, "audio": 73, "vision": 100}
    assert [entry.present for entry in manifest.splits.values()] == [
        {"text": 1447, "audio": 1447, "vision": 1447},
        {"text": 752, "audio": 752, "vision": 752},
    ]
    assert manifest.splits["test"].labels == {"negative": 285, "positive": 467}

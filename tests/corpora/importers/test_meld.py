"""MELD's own files: small ones of the same layout, and the published ones if they are available."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from joyful_ray.corpora.card import inspect_corpus
from joyful_ray.corpora.importers import import_corpus
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import ConfigError, CorpusError
from tests.corpora.examples import DATA

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
ROWS = [
    '1,"Second, with a comma.",Joey,anger,negative,7,3,1,1,"0:0:1,0","0:0:2,0"',
    '2,"First,\nover two lines.",Mark Ross,neutral,neutral,7,0,1,1,"0:0:0,0","0:0:1,0"',
    "3,Alone.,Joey,joy,positive,2,0,1,1,x,y",
]
AUDIO = "filename,pitch,rate\ndia2_utt0.wav,,4.5\ndia7_utt0.wav,1,2\ndia9_utt9.wav,5,5\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "meld"
    directory.mkdir()
    for split in ("train", "dev", "test"):
        (directory / f"{split}_sent_emo.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
        np.save(directory / f"{split}_text_minilm.npy", np.arange(6, dtype=np.float16).reshape(3, 2))
        (directory / f"{split}_audio_praat.csv").write_text(AUDIO)
    return directory


def imported(source: Path, **settings: object) -> Corpus:
    out = str(source.parent / "out")
    import_corpus("meld", str(source), out, **settings)  # type: ignore[arg-type]
    return open_corpus(out)


def test_conversations_keep_the_order_of_their_utterances(source: Path) -> None:
    first, second = imported(source).conversations("train")
    assert first.conversation_id == "train_dia7"
    assert first.utterance_ids == ["train_dia7_utt0", "train_dia7_utt3"]
    assert first.speakers == ["Mark Ross", "Joey"]
    assert first.labels == ["neutral", "anger"]
    assert first.texts == ["First,\nover two lines.", "Second, with a comma."]
    assert first.features["text"].tolist() == [[2, 3], [0, 1]]
    assert second.utterance_ids == ["train_dia2_utt0"]


def test_absent_rows_and_cells_are_not_present_and_never_zero(source: Path) -> None:
    corpus = imported(source)
    first, second = corpus.conversations("dev")
    assert first.present["audio"].tolist() == [True, False]
    np.testing.assert_array_equal(first.features["audio"], [[1, 2], [np.nan, np.nan]])
    assert second.present["audio"].tolist() == [True]
    np.testing.assert_array_equal(second.features["audio"], [[np.nan, 4.5]])
    assert corpus.manifest.splits["dev"].present == {"text": 3, "audio": 2}
    assert corpus.manifest.notes["dev_audio_rows_without_utterance"] == 1


def test_the_contracts_say_what_the_vectors_are(source: Path) -> None:
    contracts = imported(source).manifest.modalities
    assert contracts["text"].extractor == "sentence-transformers/all-MiniLM-L6-v2"
    assert (contracts["text"].width, contracts["audio"].width) == (2, 2)


def test_other_vectors_can_be_given(source: Path) -> None:
    for split in ("train", "dev", "test"):
        np.save(source / f"{split}_faces.npy", np.ones((3, 5)))
    options = {
        "vision_vectors": "{split}_faces.npy",
        "vision_extractor": "DenseNet",
        "audio_vectors": "none",
        "name": "faces",
    }
    manifest = imported(source, options=options).manifest
    assert manifest.widths == {"text": 2, "vision": 5}
    assert manifest.modalities["vision"].extractor == "DenseNet"
    assert manifest.name == "faces"


def test_nan_in_a_file_is_refused_unless_an_option_reads_it_as_absent(source: Path) -> None:
    np.save(source / "dev_text_minilm.npy", np.array([[0, 1], [2, np.nan], [4, 5]]))
    message = (
        r"dev_sent_emo\.csv, line 3: conversation dev_dia7: utterance dev_dia7_utt0: text value 1 is nan.*--max-bad"
    )
    with pytest.raises(CorpusError, match=message):
        imported(source)
    first, _ = imported(source, options={"nan": "absent"}).conversations("dev")
    np.testing.assert_array_equal(first.features["text"], [[2, np.nan], [0, 1]])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train_sent_emo.csv", "joy", "joyy", r"train_sent_emo\.csv, line 5: .*unknown label 'joyy'"),
        ("train_sent_emo.csv", "2,0,1,1,x,y", "two,0,1,1,x,y", r"line 5: Dialogue_ID 'two' .* is not a number"),
        ("train_sent_emo.csv", ",7,3,", ",7,0,", r"line 3: .*utterance train_dia7_utt0: this id appears 2 times"),
        ("train_sent_emo.csv", "Mark Ross", " ", r"line 3: .*the speaker is empty"),
        ("train_sent_emo.csv", "Emotion", "Emotions", r"no column Emotion; its columns are Sr No\., Utterance"),
        ("train_sent_emo.csv", "x,y", "x", r"line 5: 10 cells, the header has 11"),
        ("train_audio_praat.csv", "4.5", "fast", r"train_audio_praat\.csv, line 2: 'fast' is not a number"),
        ("train_audio_praat.csv", "4.5", "inf", r"line 5: .*audio value 1 is inf"),
        ("train_audio_praat.csv", "dia9_utt9", "dia7_utt0", r"line 4: filename dia7_utt0\.wav appears twice"),
        ("train_audio_praat.csv", "filename", "file", r"train_audio_praat\.csv has no column filename"),
    ],
)
def test_bad_input_is_refused_with_file_line_and_reason(
    source: Path, file: str, old: str, new: str, message: str
) -> None:
    text = (source / file).read_text()
    assert old in text
    (source / file).write_text(text.replace(old, new, 1))
    with pytest.raises(CorpusError, match=message) as caught:
        imported(source)
    assert "\n" not in str(caught.value)


def test_bad_rows_can_be_left_out(source: Path) -> None:
    text = (source / "test_sent_emo.csv").read_text()
    (source / "test_sent_emo.csv").write_text(text.replace("joy", "joyy").replace(",7,3,", ",x,3,"))
    manifest = imported(source, max_bad=0.5).manifest
    assert manifest.splits["test"].conversations == 1
    assert manifest.notes["quarantined_conversations"] == 2


def test_a_npy_of_another_length_or_of_objects_is_refused(source: Path) -> None:
    np.save(source / "train_text_minilm.npy", np.zeros((2, 2)))
    with pytest.raises(CorpusError, match="expected 3 rows, one per utterance, found 2"):
        imported(source)
    np.save(source / "train_text_minilm.npy", np.array([{}, {}, {}]), allow_pickle=True)
    with pytest.raises(CorpusError, match=r"train_text_minilm\.npy is not a \.npy file of numbers"):
        imported(source)
    (source / "train_text_minilm.npy").unlink()
    with pytest.raises(CorpusError, match=r"there is no .*train_text_minilm\.npy"):
        imported(source)


def test_without_vectors_the_usual_files_are_named(source: Path) -> None:
    for file in source.glob("*_text_*"):
        file.unlink()
    for file in source.glob("*_audio_*"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"has no vectors \(\{split\}_text_minilm\.npy, "):
        imported(source)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "meld").exists(), reason="the real MELD files are not beside this checkout")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    manifest = import_corpus("meld", str(DATA / "meld"), str(tmp_path / "meld"))
    splits = manifest.splits
    assert {name: entry.conversations for name, entry in splits.items()} == {"train": 1038, "dev": 114, "test": 280}
    assert {name: entry.utterances for name, entry in splits.items()} == {"train": 9989, "dev": 1109, "test": 2610}
    assert {name: entry.present["audio"] for name, entry in splits.items()} == {
        "train": 9988,
        "dev": 1108,
        "test": 2610,
    }
    counts = {name: [splits[name].labels[label] for label in manifest.labels] for name in splits}
    assert manifest.labels == ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    assert counts == {
        "train": [4710, 1205, 268, 683, 1743, 271, 1109],
        "dev": [470, 150, 40, 111, 163, 22, 153],
        "test": [1256, 281, 50, 208, 402, 68, 345],
    }
    assert manifest.notes["dev_audio_rows_without_utterance"] == 4
    assert manifest.notes["test_audio_rows_without_utterance"] == 5
    card = inspect_corpus(open_corpus(str(tmp_path / "meld")))
    in_an_unused_row = 1
    absent = [card.splits[name].absent_cells["audio"] for name in card.splits]
    assert absent == [77 + 370, 12 + 43, 26 + 117 - in_an_unused_row]
    assert card.splits["train"].most_speakers == 9

"""IEMOCAP, MELD, MOSEI and MOSI from files of exactly the layouts that are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from joyful_ray.corpora.importers import import_corpus
from joyful_ray.corpora.importers.mmsa import mean_of_frames
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import ConfigError, CorpusError, UserError
from tests.corpora.importers.foreign import iemocap_tuple, meld_tuple, mmsa, sample, samples, write_pickle


def imported(format: str, source: str, **settings: Any) -> Corpus:
    out = source + ".corpus"
    import_corpus(format, source, out, overwrite=True, **settings)
    return open_corpus(out)


def test_iemocap_of_dialogue_rnn_keeps_ids_and_cuts_the_authors_dev(tmp_path: Path) -> None:
    corpus = imported("iemocap", write_pickle(tmp_path / "IEMOCAP_features.pkl", iemocap_tuple()))
    assert {name: entry.conversations for name, entry in corpus.manifest.splits.items()} == {
        "train": 9,
        "dev": 1,
        "test": 1,
    }
    (first,) = corpus.conversations("dev")
    assert first.conversation_id == "Ses01F_impro00"
    assert first.utterance_ids == ["Ses01F_impro00_F000", "Ses01F_impro00_F001"]
    assert first.speakers == ["M", "F"]
    assert first.speaker_attributes == {"gender": ["male", "female"]}
    assert first.labels == ["happy", "sad"]
    assert first.texts == ["sentence 0", "sentence 1"]
    assert corpus.manifest.widths == {"text": 100, "audio": 100, "vision": 512}
    assert first.features["audio"][:, 0].tolist() == [2, 3]
    assert corpus.manifest.notes["dev"] == "the first 1 of 10 train dialogues"


@pytest.mark.parametrize(("labels", "names"), [([0, 3], 4), ([0, 5], 6)])
def test_iemocap_finds_out_whether_it_has_four_or_six_labels(tmp_path: Path, labels: list[int], names: int) -> None:
    content = iemocap_tuple()
    every = {name: (labels * 3)[: len(content[0][name])] for name in content[0]}
    corpus = imported("iemocap", write_pickle(tmp_path / "x.pkl", iemocap_tuple(every)))
    assert corpus.manifest.labels == ["happy", "sad", "neutral", "angry", "excited", "frustrated"][:names]
    assert corpus.manifest.name == f"iemocap-{names}way"


def test_four_labels_of_a_six_way_file_leave_the_others_out(tmp_path: Path) -> None:
    content = iemocap_tuple()
    every = {name: [0, 4, 5, 3][: len(content[0][name])] for name in content[0]}
    source = write_pickle(tmp_path / "x.pkl", iemocap_tuple(every))
    corpus = imported("iemocap", source, options={"labels": "4"})
    longest = max(corpus.conversations("train"), key=len)
    assert len(longest.speaker_attributes["gender"]) == len(longest)
    six = imported("iemocap", source).manifest
    left_out = sum(entry.labels["excited"] + entry.labels["frustrated"] for entry in six.splits.values())
    assert corpus.manifest.notes["left_out_utterances"] == left_out
    four_counts = [list(entry.labels.values()) for entry in corpus.manifest.splits.values()]
    assert four_counts == [list(entry.labels.values())[:4] for entry in six.splits.values()]
    assert longest.utterance_ids[-1].endswith("F003")
    assert longest.features["audio"][:, 0].tolist() == [2, 5]
    with pytest.raises(ConfigError, match="option labels is 4 or 6, not 5"):
        imported("iemocap", source, options={"labels": "5"})


@pytest.mark.parametrize("module", ["joyful", "cogmen"])
def test_iemocap_samples_use_the_sentence_embeddings(tmp_path: Path, module: str) -> None:
    splits = {"train": [sample("v1", [0, 1])], "dev": [sample("v2", [2])], "test": [sample("v3", [3, 3, 0])]}
    corpus = imported("iemocap", samples(module, splits, tmp_path / "data_iemocap_4.pkl"))
    assert corpus.manifest.widths == {"text": 768, "audio": 100, "vision": 512}
    (found,) = corpus.conversations("train")
    assert found.features["text"][:, 0].tolist() == [7, 8]
    assert found.speakers == ["F", "M"]
    assert corpus.splits() == ["train", "dev", "test"]
    assert corpus.manifest.modalities["text"].extractor.startswith("SBERT")


def test_meld_of_mmgcn_has_numbered_speakers_and_sorted_dialogues(tmp_path: Path) -> None:
    source = write_pickle(tmp_path / "MELD_features_raw.pkl", meld_tuple(), protocol=4)
    corpus = imported("meld-pickle", source)
    assert corpus.splits() == ["train", "test"]
    assert [item.conversation_id for item in corpus.conversations("train")] == ["dia0", "dia1", "dia2"]
    last = list(corpus.conversations("train"))[-1]
    assert last.speakers == ["speaker 0", "speaker 1", "speaker 2"]
    assert last.labels == ["neutral", "surprise", "fear"]
    assert last.utterance_ids == ["dia2_utt0", "dia2_utt1", "dia2_utt2"]
    assert corpus.manifest.widths == {"text": 600, "audio": 300, "vision": 342}
    with_dev = imported("meld-pickle", source, options={"dev_share": "0.4"})
    assert [item.conversation_id for item in with_dev.conversations("dev")] == ["dia0"]


def test_a_tenth_entry_that_lists_ids_makes_the_last_three_train_dev_and_test(tmp_path: Path) -> None:
    content = [*meld_tuple()]
    content[7:10] = [[0, 1], [2], [1153]]
    corpus = imported("meld-pickle", write_pickle(tmp_path / "x.pkl", tuple(content)))
    assert [len(list(corpus.conversations(split))) for split in ("train", "dev", "test")] == [2, 1, 1]


def test_vectors_of_zeros_are_not_present_unless_an_option_keeps_them(tmp_path: Path) -> None:
    content = meld_tuple()
    content[5][2][1] = 0
    source = write_pickle(tmp_path / "x.pkl", content)
    corpus = imported("meld-pickle", source)
    found = list(corpus.conversations("train"))[-1]
    assert found.present["vision"].tolist() == [True, False, True]
    assert np.isnan(found.features["vision"][1]).all()
    assert corpus.manifest.notes["vision_vectors_of_zeros"] == 1
    kept = list(imported("meld-pickle", source, options={"zeros": "present"}).conversations("train"))[-1]
    assert kept.features["vision"][1].tolist() == [0] * 342


def test_mosei_samples_are_multi_label_sentiment_classes_or_numbers(tmp_path: Path) -> None:
    def corpus(values: list[Any], **options: str) -> Corpus:
        splits = {"train": [sample("v1", values, speaker=["M"] * len(values))]}
        return imported("mosei", samples("cogmen", splits, tmp_path / "data_mosei.pkl"), options=options)

    several = corpus([[1, 0, 0, 0, 0, 1], [0] * 6, np.array([0, 1, 0, 0, 0, 0])])
    assert several.manifest.task == "multi-label"
    assert next(several.conversations("train")).labels == [["happiness", "fear"], [], ["sadness"]]
    two = corpus([0, 1])
    assert (two.manifest.task, two.manifest.labels) == ("single-label", ["negative", "positive"])
    seven = corpus([0, 6, np.int64(3)])
    assert next(seven.conversations("train")).labels == ["-3", "3", "0"]
    named = corpus([0, 1], labels="other,happiness")
    assert next(named.conversations("train")).labels == ["other", "happiness"]
    assert next(corpus([0.5, -2.0]).conversations("train")).labels == [0.5, -2]
    with pytest.raises(ConfigError, match="5 classes without names"):
        corpus([0, 4])
    with pytest.raises(CorpusError, match="not a row of 6 zeros and ones"):
        corpus([[1, 0, 0, 0, 0, 2]])


CLIPS = {"train": ["vidA$_$10", "vidB$_$0", "vidA$_$2"], "valid": ["vidC$_$0"], "test": ["vidD$_$1", "vidD$_$0"]}


@pytest.mark.parametrize("format", ["mosi", "mosei"])
def test_mmsa_groups_clips_by_video_and_sorts_them(tmp_path: Path, format: str) -> None:
    corpus = imported(format, write_pickle(tmp_path / "aligned_50.pkl", mmsa(CLIPS), protocol=4))
    assert corpus.manifest.task == "regression"
    first, second = corpus.conversations("train")
    assert first.conversation_id == "vidA"
    assert first.utterance_ids == ["vidA_2", "vidA_10"]
    assert first.labels == [3, -3]
    assert first.texts == ["sentence vidA$_$2", "sentence vidA$_$10"]
    assert second.labels == [0]
    assert corpus.manifest.widths == {"text": 6, "audio": 2, "vision": 3}
    assert corpus.splits() == ["train", "dev", "test"]
    classes = imported(format, str(tmp_path / "aligned_50.pkl"), options={"task": "single-label"})
    assert [item.labels for item in classes.conversations("train")] == [["positive", "negative"], [None]]


def test_frames_are_averaged_over_what_was_measured() -> None:
    frames = np.zeros((4, 3, 2), dtype=np.float32)
    frames[0] = [[1, 2], [3, 4], [100, 100]]
    frames[1] = [[0, 0], [2, 0], [0, 0]]
    frames[2, 0] = [-np.inf, 5]
    pooled = mean_of_frames(frames, [2, 3, 3, 3])
    assert np.ma.getmaskarray(pooled).tolist() == [[False, False], [False, False], [True, False], [True, True]]
    assert pooled[:2].tolist() == [[2, 3], [2, 0]]
    assert pooled[2, 1] == 5


def test_mmsa_lengths_are_respected_and_odd_values_counted(tmp_path: Path) -> None:
    content = mmsa(CLIPS, is_aligned=False)
    content["train"]["audio"][:, 2:] = 99
    content["train"]["audio"][0, 0, 0] = -np.inf
    content["train"]["vision"][1] = 0
    corpus = imported("mosei", write_pickle(tmp_path / "unaligned_50.pkl", content))
    first, second = corpus.conversations("train")
    assert first.features["audio"].tolist() == [[1, 1], [1, 1]]
    assert second.present["vision"].tolist() == [False]
    assert corpus.manifest.notes["train_audio_values_not_finite"] == 1


def test_a_directory_with_one_pickle_is_enough(tmp_path: Path) -> None:
    (tmp_path / "iemocap").mkdir()
    write_pickle(tmp_path / "iemocap" / "IEMOCAP_features.pkl", iemocap_tuple())
    assert imported("iemocap", str(tmp_path / "iemocap")).splits() == ["train", "dev", "test"]
    write_pickle(tmp_path / "iemocap" / "other.pkl", 1)
    with pytest.raises(CorpusError, match=r"has 2 \.pkl files; name one"):
        imported("iemocap", str(tmp_path / "iemocap"))


def broken_tuple(part: int, name: str, value: Any) -> tuple[Any, ...]:
    content = iemocap_tuple()
    content[part][name] = value
    return content


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        (
            "iemocap",
            {"a": 1},
            "expected a dict of train, dev and test samples or a tuple of 9 or 10, found a dict of a",
        ),
        ("iemocap", {"train": [1]}, "a sample of train has no vid, speaker"),
        ("iemocap", (1,) * 9, "expected a dict of ids by dialogue, found int"),
        (
            "iemocap",
            broken_tuple(2, "Ses01F_impro00", [0, 9]),
            "conversation Ses01F_impro00: label 9 is not a number from 0 to 5",
        ),
        ("iemocap", broken_tuple(4, "Ses01F_impro00", [np.zeros(3), np.zeros(4)]), "conversation Ses01F_impro00"),
        ("iemocap", broken_tuple(4, "Ses02F_impro01", [np.ones(7)] * 3), "audio vectors have width 7, expected 100"),
        ("iemocap", broken_tuple(1, "Ses01F_impro00", ["M"]), "2 utterance ids but 1 speaker"),
        ("iemocap", broken_tuple(3, "Ses01F_impro00", [np.full(100, np.nan)] * 2), "text value 0 is nan"),
        (
            "meld-pickle",
            broken_tuple(1, "Ses01F_impro00", [[0, 0], [1, 0]]),
            r"speaker \[0, 0\] is not a row with one 1",
        ),
        ("mosi", {"x": 1}, "is not a pickle of MMSA, a dict of train, valid and test"),
        ("mosi", mmsa({"train": ["noclip"]}), "id 'noclip' of train is not <video>"),
        ("mosi", {"train": {"id": ["a$_$0"]}}, "train has no raw_text"),
        (
            "mosi",
            {"train": {**mmsa(CLIPS)["train"], "audio": np.ones((9, 4, 2))}},
            r"audio of train has shape \(9, 4, 2\)",
        ),
    ],
)
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, format: str, content: Any, message: str) -> None:
    source = write_pickle(tmp_path / "x.pkl", content)
    with pytest.raises(UserError, match=rf"x\.pkl.*{message}") as caught:
        imported(format, source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["iemocap", "meld-pickle", "mosei", "mosi"])
def test_no_pickle_importer_runs_what_is_inside(tmp_path: Path, format: str) -> None:
    (tmp_path / "x.pkl").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path) + b"/ran'\ntR.")
    with pytest.raises(CorpusError, match=r"it names os\.system"):
        imported(format, str(tmp_path / "x.pkl"))
    assert not (tmp_path / "ran").exists()

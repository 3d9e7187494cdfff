"""Attributes of the speakers: from a table, from the lines, through merging, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from joyful_ray.cli import main
from joyful_ray.corpora.card import inspect_corpus
from joyful_ray.corpora.importers import import_corpus
from joyful_ray.corpora.merge import merge_corpora
from joyful_ray.corpora.shards import open_corpus, write_corpus
from joyful_ray.errors import CorpusError
from joyful_ray.predict.conversations import rows_of
from joyful_ray.schema import FeatureContract
from tests.corpora.importers.test_jsonl import imported, lines, talk

GENDERS = {"gender": ["f", None]}


def with_table(directory: Path, content: str | bytes) -> Any:
    place = directory / "speakers.csv"
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return imported(directory, speaker_attributes=str(place))


def test_a_table_gives_every_utterance_the_attributes_of_its_speaker(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(), talk(conversation_id="2", speakers=["Bob", "Cleo"])))
    plain = imported(tmp_path)
    corpus = with_table(tmp_path, "\ufeffgender,speaker,age_group\nfemale,Ann,young\n,Bob,old\nmale,Dan,\n")
    first, second = corpus.conversations("train")
    assert first.speaker_attributes == {"gender": ["female", None], "age_group": ["young", "old"]}
    assert second.speaker_attributes == {"gender": [None, None], "age_group": ["old", None]}
    assert corpus.manifest.speaker_attributes == ["age_group", "gender"]
    assert corpus.manifest.notes["speaker_attributes"] == {"speakers": 2, "not_in_the_corpus": 1}
    assert corpus.hash != plain.hash
    assert corpus.read_table("train").column_names[3:5] == ["speaker_age_group", "speaker_gender"]
    assert inspect_corpus(corpus).speaker_attributes == ["age_group", "gender"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,gender\nAnn,f\n", r"speakers.csv, line 1: expected a column speaker and one for each attribute"),
        ("speaker\nAnn\n", r"line 1: expected a column speaker and one"),
        ("", r"line 1: expected a column speaker"),
        ("speaker,Gender\nAnn,f\n", r"line 1: 'Gender' is not a name of lowercase letters"),
        ("speaker,gender,gender\nAnn,f,f\n", r"line 1: the column gender is there twice"),
        ("speaker,gender\nAnn,f\nAnn,m\n", r"line 3: Ann has a line already"),
        ("speaker,gender\nAnn,f\n ,m\n", r"line 3: the speaker is empty"),
        ("speaker,gender\nAnn\n", r"line 2: 1 cells, the header has 2"),
        ("speaker,gender\n", r"speakers.csv has no speakers"),
        ("speaker,gender\nann,f\n", r"the corpus has none of its speakers \(ann, …\)"),
        ("speaker,mood\nAnn,f\n", r"line 1: the data set has an attribute mood already"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(speaker_attributes={"mood": ["good", "bad"]})))
    with pytest.raises(CorpusError, match=message):
        with_table(tmp_path, content)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk()))
    with pytest.raises(CorpusError, match=r"there is no file of speaker attributes at .*nowhere.csv"):
        imported(tmp_path, speaker_attributes=str(tmp_path / "nowhere.csv"))


def test_lines_may_have_attributes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(speaker_attributes=GENDERS)))
    corpus = with_table(tmp_path, "speaker,age\nBob,40\n")
    (found,) = corpus.conversations("train")
    assert found.speaker_attributes == {"age": [None, "40"], "gender": ["f", None]}
    assert main(["inspect", corpus.location.uri]) == 0
    assert "Known of the speakers: age, gender" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (["f", "m"], "line 2: conversation 2: speaker_attributes is not an object"),
        ({"gender": "f"}, "the speaker attribute gender is not a list"),
        ({"gender": ["f"]}, "2 utterance ids but 1 value of gender"),
        ({"gender": ["f", 1]}, "utterance 2_1: gender 1 is not a string or null"),
        ({"gender": ["f", " "]}, "utterance 2_1: gender ' ' is not a string or null"),
        (..., "it has no speaker attribute gender, but the corpus has"),
    ],
)
def test_a_line_whose_attributes_do_not_fit_is_refused(tmp_path: Path, attributes: Any, message: str) -> None:
    second = talk(conversation_id="2", speaker_attributes=attributes)
    (tmp_path / "train.jsonl").write_text(lines(talk(speaker_attributes=GENDERS), second))
    with pytest.raises(CorpusError, match=message):
        imported(tmp_path)


def test_a_name_that_is_no_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(speaker_attributes={"Gender!": ["f", "m"]})))
    with pytest.raises(CorpusError, match="speaker attribute 'Gender!' is not a name of lowercase letters"):
        imported(tmp_path)


def test_a_conversation_with_an_attribute_that_the_corpus_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(talk(speaker_attributes=GENDERS)))
    (found,) = imported(tmp_path).conversations("train")
    widths = {"text": 2, "audio": 1}
    contracts = {name: FeatureContract(extractor="x", version="1", width=width) for name, width in widths.items()}
    splits = {"train": [found]}
    with pytest.raises(CorpusError, match="it has the speaker attribute gender, but the corpus has not"):
        write_corpus(
            str(tmp_path / "copy"),
            name="copy",
            task="single-label",
            labels=["anger", "joy"],
            has_texts=True,
            modalities=contracts,
            splits=splits,
        )


def test_merging_keeps_attributes_and_does_not_know_those_of_others(tmp_path: Path) -> None:
    for name, changes in {"a": {"speaker_attributes": GENDERS}, "b": {}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(lines(talk(conversation_id=name, **changes)))
        import_corpus("jsonl", str(tmp_path / name), str(tmp_path / f"corpus-{name}"))
    merge_corpora([str(tmp_path / "corpus-a"), str(tmp_path / "corpus-b")], str(tmp_path / "both"))
    found = {each.conversation_id: each for each in open_corpus(str(tmp_path / "both")).conversations("train")}
    assert found["a/a"].speaker_attributes == GENDERS
    assert found["b/b"].speaker_attributes == {"gender": [None, None]}


def test_conversations_to_predict_may_have_attributes_and_no_model_reads_them() -> None:
    line = {key: value for key, value in talk(speaker_attributes=GENDERS).items() if key != "labels"}
    table = rows_of([line], {"text": 2, "audio": 1})
    assert "speaker_gender" not in table.column_names

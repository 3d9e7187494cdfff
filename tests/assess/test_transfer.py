"""A transfer table on tiny corpora, with rows of one corpus and of several, over shared labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from joyful_ray.assess.assessment import assess_bundle
from joyful_ray.assess.overlap import line_of, repeats, training_lines
from joyful_ray.assess.transfer import transfer
from joyful_ray.cli import main
from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import open_corpus, write_corpus
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import TransferRecord
from joyful_ray.schema import FeatureContract, Split
from joyful_ray.train.calibration import fit_temperature
from tests.tiny_corpus import LABELS, WIDTHS, small_job, tiny_conversation

OTHER = {"joy": "happy", "anger": "mad", "neutral": "calm"}
SHARED = ["good", "bad"]


def write(folder: Path, name: str, *, renamed: bool) -> str:
    """Tiny conversations; in `theirs` in other words, without audio, and with some of the lines of `ours`."""
    splits: dict[Split, list] = {}
    for split, count in (("train", 12), ("dev", 6), ("test", 6)):
        for place in range(count):
            one = tiny_conversation(f"{name}-{split}-{place}")
            texts = [f"this is what {split} {place} of {name} said" for _ in one.labels]
            if renamed:
                one.labels[:] = [None if label is None else OTHER[str(label)] for label in one.labels]
                del one.features["audio"], one.present["audio"]
                if split == "test" and place < 2:
                    texts[0] = f"This is what train {place} of OURS said!"
            splits.setdefault(split, []).append(replace(one, texts=texts))  # type: ignore[arg-type]
    modalities = ["text"] if renamed else ["text", "audio"]
    write_corpus(
        str(folder / name),
        name=name,
        task="single-label",
        labels=list(OTHER.values()) if renamed else LABELS,
        modalities={m: FeatureContract(extractor="made up", version="1", width=WIDTHS[m]) for m in modalities},  # type: ignore[index]
        splits=splits,
        has_texts=True,
    )
    return str(folder / name)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    folder = tmp_path_factory.mktemp("transfer")
    corpora = {}
    for name, labels, mapping in (
        ("ours", LABELS, {"joy": "good", "anger": "bad"}),
        ("theirs", list(OTHER.values()), {"happy": "good", "mad": "bad"}),
    ):
        tree = {
            "from": {"name": name, "labels": labels},
            "to": {"name": "shared", "labels": SHARED},
            "map": mapping,
            "drop": {"from": [labels[2]]},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        place = write(folder, name, renamed=name == "theirs")
        corpora[name] = {"corpus": place, "label_map": str(folder / f"{name}.yaml")}
    plan = {"corpora": corpora, "train_on": [["ours"], ["theirs", "ours"]], "test_on": ["ours", "theirs"]}
    return small_job(name="tiny", storage=str(folder / "runs"), transfer=plan, train={"epochs": 2})


@pytest.fixture(scope="module")
def record(job: JobConfig) -> TransferRecord:
    return transfer(job)


def test_the_table_has_a_cell_for_every_row_and_column(job: JobConfig, record: TransferRecord) -> None:
    assert [(cell.trained_on, cell.tested_on) for cell in record.cells] == [
        (["ours"], "ours"),
        (["ours"], "theirs"),
        (["theirs", "ours"], "ours"),
        (["theirs", "ours"], "theirs"),
    ]
    assert len({cell.utterances for cell in record.cells if cell.tested_on == "theirs"}) == 1
    for cell in record.cells:
        assert cell.interval is not None
        assert cell.interval.low <= cell.score <= cell.interval.high
    written = Path(job.storage) / "tiny-transfer-0" / "transfer.json"
    assert TransferRecord.model_validate_json(written.read_text()) == record


def test_a_row_of_several_corpora_has_only_the_shared_labels(job: JobConfig, record: TransferRecord) -> None:
    cards = [json.loads((Path(cell.bundle) / "bundle.json").read_text()) for cell in record.cells]
    assert [card["labels"] for card in cards] == [LABELS, LABELS, SHARED, SHARED]


def test_a_bundle_contains_the_temperature_that_fits_dev(job: JobConfig, record: TransferRecord) -> None:
    assert job.transfer is not None
    predictor = Predictor.open(record.cells[0].bundle, device="cpu")
    dev = list(open_corpus(job.transfer.corpora["ours"].corpus).tables("dev"))
    truth = [
        LABELS.index(label) if label else -1 for table in dev for row in table["labels"].to_pylist() for label in row
    ]
    labeled = torch.tensor(truth) >= 0
    scores = predictor.scores(dev)[0][labeled]
    expected = fit_temperature(scores, torch.tensor(truth)[labeled], task="single-label")
    assert predictor.bundle.card.temperature == pytest.approx(expected, rel=1e-4)
    assert predictor.decoder.temperature == predictor.bundle.card.temperature


def test_a_cell_equals_evaluate_with_a_label_map(record: TransferRecord, job: JobConfig, tmp_path: Path) -> None:
    tree = {
        "from": {"name": "ours", "labels": LABELS},
        "to": {"name": "theirs", "labels": list(OTHER.values())},
        "map": {"joy": "happy", "anger": "mad"},
        "drop": {"from": ["neutral"], "to": ["calm"]},
    }
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(tree))
    assert job.transfer is not None
    place = job.transfer.corpora["theirs"].corpus
    found = assess_bundle(record.cells[1].bundle, place, label_map=str(tmp_path / "map.yaml"), device="cpu")
    assert found.values["weighted_f1"] == pytest.approx(record.cells[1].score)
    assert found.raw is not None
    assert found.raw.values["weighted_f1"] == pytest.approx(record.cells[1].raw)


def test_conversations_that_repeat_a_training_line_are_counted(job: JobConfig, record: TransferRecord) -> None:
    assert job.transfer is not None
    theirs = list(open_corpus(job.transfer.corpora["theirs"].corpus).conversations("test"))
    scored = [one for one in theirs if {"happy", "mad"} & set(one.labels)]
    repeating = [one for one in scored if one.conversation_id in ("theirs-test-0", "theirs-test-1")]
    assert repeating
    assert [cell.repeating for cell in record.cells] == [0, len(repeating), 0, len(repeating)]
    assert [cell.conversations for cell in record.cells][1::2] == [len(scored)] * 2


def test_finished_rows_are_not_trained_again_and_other_settings_are_refused(
    job: JobConfig, record: TransferRecord
) -> None:
    before = {place: place.stat().st_mtime_ns for place in Path(job.storage).rglob("model.safetensors")}
    stages: list[str] = []
    again = transfer(job, stage=stages.append)
    assert again.cells == record.cells
    assert not [stage for stage in stages if stage.startswith("training")]
    assert {place: place.stat().st_mtime_ns for place in Path(job.storage).rglob("model.safetensors")} == before
    changed = job.model_copy(update={"train": job.train.model_copy(update={"learning_rate": 0.5})})
    with pytest.raises(CheckpointError, match=r"run tiny-ours-0 .* is finished, but with other settings"):
        transfer(changed)


def test_the_command_prints_the_table(
    job: JobConfig, record: TransferRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.transfer is not None
    place = Path(job.storage).parent / "job.yaml"
    place.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    assert main(["transfer", str(place)]) == 0
    shown = capsys.readouterr().out
    assert "Weighted F1 over good, bad" in shown
    assert "theirs + ours" in shown
    assert f"{record.cells[1].score:.3f} [" in shown
    assert f"({record.cells[1].repeating} of {record.cells[1].conversations})" in shown


def test_a_job_without_the_section_or_with_unknown_names_is_refused(job: JobConfig) -> None:
    with pytest.raises(ConfigError, match="has no section transfer"):
        transfer(job.model_copy(update={"transfer": None}))
    assert job.transfer is not None
    tree = job.model_dump(mode="json")
    tree["transfer"]["test_on"] = ["hers"]
    with pytest.raises(ConfigError, match=r"hers is not in transfer\.corpora, which has ours, theirs"):
        small_job(tree)


def test_the_section_does_not_change_the_fingerprint(job: JobConfig) -> None:
    assert job.model_copy(update={"transfer": None}).fingerprint == job.fingerprint


def test_lines_are_compared_without_case_and_punctuation_and_short_lines_are_ignored() -> None:
    assert line_of("No, I don’t THINK so... ") == line_of("no i don't think so") == "no i dont think so"
    assert line_of("Oh my God!") is None
    assert line_of(None) is None
    owner = np.array([0, 0, 1, 2])
    texts = ["hm", "no i dont think so", "I do think so, my dear", "hm"]
    assert repeats(texts, owner, frozenset({"no i dont think so"})).tolist() == [True, True, False, False]


def test_training_lines_are_those_of_train_and_dev(job: JobConfig) -> None:
    assert job.transfer is not None
    known = training_lines([open_corpus(job.transfer.corpora["ours"].corpus)])
    assert known is not None
    assert len(known) == 18
    assert "this is what dev 3 of ours said" in known

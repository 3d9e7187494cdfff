"""A step that is not finite leaves a file; `joyful debug` makes the step again from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from joyful_ray.cli import main
from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import write_corpus
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import CheckpointError, StorageError, TrainingError
from joyful_ray.schema import Conversation
from joyful_ray.storage import open_location
from joyful_ray.train import failed_step
from joyful_ray.train.failed_step import FILE, read_failed_step
from joyful_ray.train.launch import train
from joyful_ray.train.replay import replay
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.trainer import Trainer
from tests.tiny_corpus import CONTRACTS, COUNTS, LABELS, small_job, tiny_conversations

RANDOM: dict[str, Any] = {
    "model": {"feature_dropout": 0.2, "modality_dropout": 0.2, "context": {"dropout": 0.3}},
    "data": {"word_ngrams": 2, "word_buckets": 64},
    "objective": {"class_weighting": 0.5},
}
DIVERGES: dict[str, Any] = {
    "learning_rate": 1e30,
    "gradient_clip": None,
    "warmup_epochs": 0.0,
    "batch_conversations": 12,
}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """The tiny corpus, with texts."""
    write_corpus(
        str(tmp_path / "corpus"),
        name="tiny",
        task="single-label",
        labels=LABELS,
        modalities=CONTRACTS,
        has_texts=True,
        splits={split: with_texts(tiny_conversations(split, count)) for split, count in COUNTS.items()},
    )
    return str(tmp_path / "corpus")


def with_texts(conversations: Sequence[Conversation]) -> list[Conversation]:
    return [replace(each, texts=[f"it is {name} again" for name in each.utterance_ids]) for each in conversations]


def job_of(corpus: str, folder: Path, **train_settings: Any) -> JobConfig:
    settings = {"epochs": 1, "batch_conversations": 30, **train_settings}
    return small_job(RANDOM, {"corpus": corpus, "storage": str(folder), "train": settings})


def failing(job: JobConfig) -> tuple[str, Path]:
    """The message of a run that fails, and the file that it leaves."""
    with pytest.raises(TrainingError) as raised:
        train(job)
    return str(raised.value), Path(RunDirectory.of(job).location.uri) / FILE


def break_gradients(monkeypatch: pytest.MonkeyPatch, prefix: str = "") -> None:
    """The losses stay as they are, and the gradients of some parameters become NaN."""
    whole: Callable[..., None] = Trainer.__init__

    def init(self: Trainer, *args: Any, **settings: Any) -> None:
        whole(self, *args, **settings)
        for name, parameter in self.model.named_parameters():
            if name.startswith(prefix) and parameter.requires_grad:
                parameter.register_hook(lambda gradient: gradient * float("nan"))

    monkeypatch.setattr(Trainer, "__init__", init)


@pytest.mark.parametrize("most", [None, 20], ids=["one pass", "several passes"])
def test_the_step_is_made_again_with_the_losses_of_the_run(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int | None
) -> None:
    whole = job_of(corpus, tmp_path / "whole")
    whole = whole.model_copy(update={"cluster": whole.cluster.model_copy(update={"utterances_per_pass": most})})
    train(whole)
    (line,) = RunDirectory.of(whole).metrics()
    job = whole.model_copy(update={"storage": str(tmp_path / "broken")})
    with monkeypatch.context() as patched:
        break_gradients(patched)
        message, file = failing(job)
        assert message.startswith("epoch 1, step 1: the gradient is not finite (in a batch of ")
        assert f"joyful debug {file} makes the step again" in message
        step = read_failed_step(open_location(file))
        assert len(step.batches) > 1 or most is None
        report = replay(step, source=str(file))
        assert report.parameters
        assert not report.not_finite
    expected = {name: value for name, value in line.losses.items() if name != "total"}
    assert report.losses == pytest.approx(expected, rel=1e-6)
    assert len(report.conversations) == line.conversations
    assert replay(step, source=str(file)).is_finite, "the cause was the broken hook, which is gone"


def test_one_conversation_is_found_among_the_others(
    corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(corpus, tmp_path / "runs")
    whole = SplitStore.batch

    def with_a_bad_one(self: SplitStore, *args: Any, **settings: Any) -> Any:
        batch = whole(self, *args, **settings)
        if settings.get("draw_key") is not None:
            place = batch.conversation_ids.index("train-007")
            row = int((batch.layout.conversation_N == place).nonzero()[0])
            batch.features["text"][row] = 3e38
            batch.present["text"][row] = True
        return batch

    with monkeypatch.context() as patched:
        patched.setattr(SplitStore, "batch", with_a_bad_one)
        message, file = failing(job)
    assert "the loss of " in message
    assert " more); try" in message
    capsys.readouterr()
    assert main(["debug", str(file), "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["alone"] == ["train-007"]
    assert report["largest_feature"][0] == "text of train-007"
    assert report["first_part"]
    assert main(["debug", str(file)]) == 0
    text = capsys.readouterr().out
    assert "not finite also alone: 1 of 23 conversations: train-007" in text
    assert f"first output that is not finite: {report['first_part']}" in text


def test_weights_that_have_grown_too_large_are_named(corpus: str, tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path, **DIVERGES)
    _, file = failing(job)
    report = replay(read_failed_step(open_location(file)), source=str(file))
    assert not report.is_finite
    assert report.largest_weight is not None
    assert report.largest_weight[1] > 1e20
    assert sorted(report.alone) == sorted(report.conversations)


def test_a_two_phase_run_makes_the_step_of_its_stage_again(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(corpus, tmp_path, stages="two-phase", fusion_epochs=1, epochs=2)
    break_gradients(monkeypatch, "fusion.")
    _, file = failing(job)
    step = read_failed_step(open_location(file))
    assert step.stage == "fusion"
    report = replay(step, source=str(file))
    assert "classification" not in report.losses


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_another_file_is_refused(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"is not a {FILE} that a run has left"):
        read_failed_step(open_location(tmp_path / "other"))
    assert main(["debug", str(tmp_path / "other")]) == 2
    assert main(["debug", str(tmp_path / "none")]) == 2


def test_a_cut_file_is_refused(corpus: str, tmp_path: Path) -> None:
    _, file = failing(job_of(corpus, tmp_path, **DIVERGES))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged"):
        read_failed_step(open_location(file))


def test_a_full_disk_does_not_hide_what_happened(corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(failed_step, "write_failed_step", fails)
    message, file = failing(job_of(corpus, tmp_path, **DIVERGES))
    assert "not finite" in message
    assert "joyful debug" not in message
    assert not file.exists()


def test_a_conversation_alone_has_its_part_of_every_column(corpus: str, tmp_path: Path) -> None:
    _, file = failing(job_of(corpus, tmp_path, **DIVERGES))
    ((_, batch),) = read_failed_step(open_location(file)).batches
    parts = [batch.alone(place) for place in range(len(batch.conversation_ids))]

    def joined(of: Callable[[Any], Tensor]) -> Tensor:
        return torch.cat([of(part) for part in parts])

    for name in batch.features:
        torch.testing.assert_close(
            joined(lambda part, name=name: part.features[name]), batch.features[name], equal_nan=True
        )
        assert torch.equal(joined(lambda part, name=name: part.present[name]), batch.present[name])
    assert torch.equal(joined(lambda part: part.labels), batch.labels)
    assert torch.equal(joined(lambda part: part.layout.key_N), batch.layout.key_N)
    assert torch.equal(joined(lambda part: part.ngrams.ids_T), batch.ngrams.ids_T)
    assert torch.equal(joined(lambda part: part.ngrams.counts_N), batch.ngrams.counts_N)
    assert [name for part in parts for name in part.conversation_ids] == list(batch.conversation_ids)

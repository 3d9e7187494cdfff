"""Whole runs without Ray on the tiny corpus."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from joyful_ray.config import JobConfig, merge
from joyful_ray.errors import CheckpointError, ConfigError, TrainingError
from joyful_ray.records import RunRecord
from joyful_ray.schema import TASKS, Task
from joyful_ray.storage import Location, open_location
from joyful_ray.train import checkpoint, loop, saving
from joyful_ray.train.bundle import read_bundle
from joyful_ray.train.checkpoint import complete_checkpoints, read_tensors
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import COUNTS, small_job
from tests.train.conftest import Tiny

TIMES = {"seconds", "train_seconds", "waiting_share", "utterances_per_second", "ranks"}


class Crash(Exception):
    pass


def job(corpus: str, storage: Path, *overrides: dict[str, Any], **settings: Any) -> JobConfig:
    return small_job(
        {"corpus": corpus, "storage": str(storage), "train": {"learning_rate": 0.01}}, *overrides, settings
    )


def crash_in(epoch: int, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends when it writes `epoch`: before its line, or before, during or after its checkpoint."""
    owner, name = {
        "line": (RunDirectory, "add_metrics"),
        "checkpoint": (saving, "write_checkpoint"),
        "optimizer": (checkpoint, "_finite"),
        "pruning": (saving, "prune_checkpoints"),
    }[where]
    whole, calls = getattr(owner, name), []

    def ending(*args: Any, **settings: Any) -> Any:
        calls.append(None)
        if len(calls) == epoch + 1:
            raise Crash
        return whole(*args, **settings)

    monkeypatch.setattr(owner, name, ending)


def what_was_learned(directory: RunDirectory) -> list[dict[str, Any]]:
    """metrics.jsonl without its timings."""
    return [metrics.model_dump(exclude=TIMES) for metrics in directory.metrics()]


def assert_same_run(one: RunDirectory, other: RunDirectory) -> None:
    assert what_was_learned(one) == what_was_learned(other)
    mine, theirs = one.read_record(), other.read_record()
    assert mine is not None
    assert theirs is not None
    assert (mine.dev, mine.test, mine.selected_epoch) == (theirs.dev, theirs.test, theirs.selected_epoch)
    weights = [read_tensors(run.bundle.join("model.safetensors")) for run in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])


@pytest.fixture(scope="module")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobConfig, RunRecord]:
    """One uninterrupted run, for all tests that only read it."""
    resolved = job(tiny(), tmp_path_factory.mktemp("runs"), name="whole")
    return resolved, train(resolved)


def test_a_run_writes_the_documented_files(finished: tuple[JobConfig, RunRecord]) -> None:
    resolved, record = finished
    directory = RunDirectory.of(resolved)
    found = set(directory.location.list())
    assert found == {"config.yaml", "metrics.jsonl", "record.json", "tensorboard", "checkpoints", "bundle", "logs"}
    assert directory.read_record() == record
    assert resolved.fingerprint in directory.location.join("config.yaml").read_text()
    assert any("tfevents" in name for name in directory.location.join("tensorboard").list())
    assert set(directory.bundle.list()) == {"bundle.json", "model.safetensors"}


def test_the_record_says_what_was_run(finished: tuple[JobConfig, RunRecord]) -> None:
    resolved, record = finished
    assert (record.outcome, record.epochs, record.workers, record.test_reads) == ("finished", 3, 0, 1)
    assert record.config == resolved.model_dump(mode="json")
    assert record.corpus["name"] == "tiny"
    assert record.test is not None
    assert set(record.dev.values) == {"accuracy", "weighted_f1", "macro_f1"}
    assert record.peak_memory_bytes > 50 * 2**20
    assert record.seconds["total"] >= record.seconds["fit"] > 0


def test_every_epoch_trains_on_every_conversation(finished: tuple[JobConfig, RunRecord]) -> None:
    lines = RunDirectory.of(finished[0]).metrics()
    assert [line.epoch for line in lines] == [0, 1, 2]
    assert {line.conversations for line in lines} == {COUNTS["train"]}
    assert all(
        set(line.losses) == {"classification", "smoothing", "global", "specific", "contrast", "total"} for line in lines
    )
    for line in lines:
        losses = line.losses
        expected = (
            losses["classification"]
            + 0.06 * (losses["smoothing"] + losses["global"] + losses["specific"])  # the weights of `SMALL`
            + 0.3 * losses["contrast"]
        )
        assert losses["total"] == pytest.approx(expected)


def test_the_selected_epoch_is_the_best_on_dev_and_its_scores_are_measured_again(
    finished: tuple[JobConfig, RunRecord],
) -> None:
    resolved, record = finished
    lines = RunDirectory.of(resolved).metrics()
    best = max(lines, key=lambda line: (line.dev.selection, -line.epoch))
    assert record.selected_epoch == best.epoch
    assert record.dev == best.dev
    assert [line.is_best for line in lines][best.epoch]


def test_the_bundle_gives_the_scores_of_the_record(finished: tuple[JobConfig, RunRecord]) -> None:
    resolved, record = finished
    assert resolved.corpus is not None
    assert evaluate_bundle(RunDirectory.of(resolved).bundle.uri, resolved.corpus) == record.test
    # Its two shards are scored one after the other, so that losses are rounded in other batches.
    dev = evaluate_bundle(RunDirectory.of(resolved).location.uri, resolved.corpus, split="dev")
    assert dev.loss == pytest.approx(record.dev.loss, rel=1e-6)
    assert dev.model_copy(update={"loss": record.dev.loss}) == record.dev


def test_a_finished_run_is_not_run_again(finished: tuple[JobConfig, RunRecord]) -> None:
    with pytest.raises(CheckpointError, match="is finished"):
        train(finished[0])


def test_the_same_job_gives_the_same_results(finished: tuple[JobConfig, RunRecord], tmp_path: Path) -> None:
    resolved = finished[0].model_copy(update={"storage": str(tmp_path)})
    train(resolved)
    assert_same_run(RunDirectory.of(resolved), RunDirectory.of(finished[0]))


def test_another_seed_gives_other_results(finished: tuple[JobConfig, RunRecord], tmp_path: Path) -> None:
    resolved = finished[0].model_copy(update={"storage": str(tmp_path), "seed": 1})
    train(resolved)
    assert what_was_learned(RunDirectory.of(resolved)) != what_was_learned(RunDirectory.of(finished[0]))


def test_watch_is_called_once_per_epoch(tiny: Tiny, tmp_path: Path) -> None:
    seen: list[int] = []
    train(job(tiny(), tmp_path), watch=lambda metrics: seen.append(metrics.epoch))
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("epoch", "where"), [(0, "line"), (0, "pruning"), (1, "checkpoint"), (1, "optimizer"), (2, "line"), (2, "pruning")]
)
def test_a_crashed_run_continues_as_if_it_had_not_crashed(
    finished: tuple[JobConfig, RunRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    where: str,
) -> None:
    resolved = finished[0].model_copy(update={"storage": str(tmp_path)})
    with monkeypatch.context() as patched:
        crash_in(epoch, where, patched)
        with pytest.raises(Crash):
            train(resolved)
    train(resolved)
    assert_same_run(RunDirectory.of(resolved), RunDirectory.of(finished[0]))


def flip_a_bit(content: bytes) -> bytes:
    place = len(content) - 5
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "emptied": lambda content: b"",
    "removed": lambda content: None,
    "a bit flipped": flip_a_bit,
}


def unfinished(finished: tuple[JobConfig, RunRecord], folder: Path) -> tuple[JobConfig, RunDirectory]:
    """The run with its checkpoints, as if it had been killed before its record."""
    resolved = finished[0].model_copy(update={"storage": str(folder)})
    shutil.copytree(finished[0].storage, folder, dirs_exist_ok=True)
    directory = RunDirectory.of(resolved)
    directory.location.join("record.json").remove()
    return resolved, directory


def damage(file: Location, kind: str) -> None:
    content = DAMAGES[kind](file.read_bytes())
    if content is None:
        file.remove()
    else:
        file.write_bytes(content)


# Without progress.json, a checkpoint does not count as complete.
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        *itertools.product(["model.safetensors", "optimizer.safetensors"], DAMAGES),
        ("progress.json", "emptied"),
        ("progress.json", "a bit flipped"),
    ],
)
def test_a_damaged_checkpoint_is_never_used(
    finished: tuple[JobConfig, RunRecord], tmp_path: Path, file: str, kind: str
) -> None:
    resolved, directory = unfinished(finished, tmp_path)
    for place in list(complete_checkpoints(directory.checkpoints)):
        damage(place.join(file), kind)
    with pytest.raises(CheckpointError, match=rf"00002.*{file}.*no earlier checkpoint is left: remove .*checkpoints"):
        train(resolved)


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_continues_the_run(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    settings = {"train": {"epochs": 4, "keep_checkpoints": 3}}
    whole = small_job(settings, name="run", corpus=tiny(), storage=str(tmp_path / "whole"))
    job = whole.model_copy(update={"storage": str(tmp_path / "part")})
    record = train(whole)
    _, directory = unfinished((whole, record), tmp_path / "part")
    damage(directory.checkpoint(3).join("optimizer.safetensors"), kind)
    with pytest.warns(UserWarning, match=r"00003.*optimizer.*; continuing from .*00002"):
        train(job)
    assert_same_run(directory, RunDirectory.of(whole))


def test_a_bundle_with_a_flipped_bit_is_refused(finished: tuple[JobConfig, RunRecord], tmp_path: Path) -> None:
    shutil.copytree(finished[0].storage, tmp_path, dirs_exist_ok=True)
    place = open_location(str(tmp_path)).join(finished[0].name, "bundle")
    damage(place.join("model.safetensors"), "a bit flipped")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged \(its sha256 differs"):
        read_bundle(place.uri)


def test_a_run_that_ended_before_its_record_only_scores(finished: tuple[JobConfig, RunRecord], tmp_path: Path) -> None:
    resolved, directory = unfinished(finished, tmp_path)
    directory.bundle.remove()
    train(resolved)
    assert_same_run(directory, RunDirectory.of(finished[0]))


VARIANTS: dict[str, dict[str, Any]] = {
    "weight averaging": {"train": {"ema_decay": 0.9}},
    "two phases": {"train": {"stages": "two-phase", "fusion_target": "terms", "fusion_epochs": 1, "epochs": 4}},
    "two phases, inputs first": {"train": {"stages": "two-phase", "fusion_epochs": 1, "epochs": 4}},
    "two phases, labels first": {
        "data": {"word_ngrams": 1},
        "train": {"stages": "two-phase", "fusion_target": "labels", "fusion_epochs": 1, "epochs": 4},
    },
    "two passes and party state": {
        "objective": {"consistency": 0.5},
        "model": {"context": {"kind": "gru", "speakers": "party-state"}},
    },
    "batch norm and plateau": {"model": {"encoder": {"normalisation": "batch"}}, "train": {"schedule": "plateau"}},
    "modality dropout, gru": {"model": {"modality_dropout": 0.2, "context": {"kind": "gru"}}},
}


@pytest.mark.parametrize(
    ("variant", "epoch"), [("two phases", 2), ("two phases, inputs first", 0), *((variant, 0) for variant in VARIANTS)]
)
def test_every_training_mode_resumes_bit_for_bit(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, epoch: int
) -> None:
    whole, broken = (job(tiny(), tmp_path, VARIANTS[variant], name=name) for name in ("whole", "broken"))
    train(whole)
    with monkeypatch.context() as patched:
        crash_in(epoch, "pruning", patched)
        with pytest.raises(Crash):
            train(broken)
    train(broken)
    assert_same_run(RunDirectory.of(broken), RunDirectory.of(whole))


def test_two_phase_training_trains_the_fusion_alone_and_then_all_but_the_fusion(tiny: Tiny, tmp_path: Path) -> None:
    resolved = job(tiny(), tmp_path, VARIANTS["two phases"], {"train": {"keep_checkpoints": 10}})
    record = train(resolved)
    directory = RunDirectory.of(resolved)
    weights = [read_tensors(directory.checkpoint(epoch).join("model.safetensors")) for epoch in range(4)]
    changed = [
        {name for name in before if not torch.equal(before[name], after[name])}
        for before, after in itertools.pairwise(weights)
    ]
    lines = directory.metrics()
    assert set(lines[0].losses) == {"smoothing", "global", "specific", "total"}
    assert set(lines[1].losses) == {"classification", "contrast", "total"}
    assert changed[0], "the rest has trained"
    for names in changed:
        assert not {name for name in names if name.startswith(("fusion.", "missing_embeddings."))}
    assert not lines[0].is_best
    assert record.selected_epoch >= 1


@pytest.mark.parametrize("target", ["inputs", "labels"])
def test_what_the_first_stage_trains_the_fusion_on_is_dropped_afterwards(
    tiny: Tiny, tmp_path: Path, target: str
) -> None:
    resolved = job(tiny(), tmp_path, VARIANTS[f"two phases, {target} first"], {"train": {"keep_checkpoints": 10}})
    train(resolved)
    directory = RunDirectory.of(resolved)
    first, second, *_ = (read_tensors(directory.checkpoint(epoch).join("model.safetensors")) for epoch in range(4))
    lines = directory.metrics()
    assert set(lines[0].losses) == {"pretraining", "total"}
    assert set(lines[1].losses) == {"classification", "contrast", "total"}
    frozen = ("fusion.", "missing_embeddings.", "pretraining.")
    assert all(torch.equal(values, second[name]) for name, values in first.items() if name.startswith(frozen))
    assert any(name.startswith("pretraining.") for name in first)
    kept = read_tensors(directory.bundle.join("model.safetensors"))
    assert set(kept) == {name for name in first if not name.startswith("pretraining.")}
    assert read_bundle(directory.bundle.uri).model.pretraining is None


def test_the_ema_weights_are_evaluated_and_kept(tiny: Tiny, tmp_path: Path) -> None:
    resolved = job(tiny(), tmp_path, VARIANTS["weight averaging"])
    record = train(resolved)
    directory = RunDirectory.of(resolved)
    kept = read_tensors(directory.bundle.join("model.safetensors"))
    place = directory.checkpoint(record.selected_epoch)
    average, plain = (read_tensors(place.join(f"{name}.safetensors")) for name in ("average", "model"))
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert not all(torch.equal(kept[name], plain[name]) for name in kept)


def test_patience_ends_a_run_early(tiny: Tiny, tmp_path: Path) -> None:
    resolved = job(tiny(), tmp_path, {"train": {"epochs": 30, "patience": 1, "learning_rate": 1e-9}})
    record = train(resolved)
    assert (record.outcome, record.epochs, record.selected_epoch) == ("stopped-early", 2, 0)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_every_task_trains_and_its_bundle_scores_the_same(tiny: Tiny, tmp_path: Path, task: Task) -> None:
    resolved = job(tiny(task), tmp_path)
    record = train(resolved)
    assert record.test is not None
    assert record.test.task == task
    bundle = RunDirectory.of(resolved).bundle.uri
    assert evaluate_bundle(bundle, tiny(task)) == record.test
    if task == "multi-label":
        thresholds = {name: values["threshold"] for name, values in record.dev.per_label.items()}
        assert read_bundle(bundle).card.thresholds == thresholds
        assert {name: values["threshold"] for name, values in record.test.per_label.items()} == thresholds


def test_a_loss_that_is_not_finite_stops_the_run_with_epoch_step_and_term(tiny: Tiny, tmp_path: Path) -> None:
    resolved = job(tiny(), tmp_path, {"train": {"learning_rate": 1e30, "gradient_clip": None, "warmup_epochs": 0.0}})
    with pytest.raises(TrainingError, match=r"epoch 1, step 2: the loss of .*classification.* is not finite"):
        train(resolved)
    assert RunDirectory.of(resolved).read_record() is None


def test_a_dev_score_that_is_not_finite_stops_the_run(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.evaluate
    monkeypatch.setattr(
        loop, "evaluate", lambda *args, **settings: whole(*args, **settings).model_copy(update={"loss": math.inf})
    )
    resolved = job(tiny(), tmp_path)
    with pytest.raises(TrainingError, match="epoch 1: dev loss is not finite"):
        train(resolved)
    assert RunDirectory.of(resolved).metrics() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_missing_gpu_is_refused_before_anything_is_written(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        train(job(tiny(), tmp_path / "runs", train={"device": "cuda"}))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp64"])
@pytest.mark.parametrize("kind", ["relational-transformer", "relational-attention", "gcn"])
def test_every_encoder_trains_in_every_precision(tiny: Tiny, tmp_path: Path, kind: str, precision: str) -> None:
    resolved = job(tiny(), tmp_path, model={"encoder": {"kind": kind}}, train={"precision": precision, "epochs": 1})
    train(resolved)
    (line,) = RunDirectory.of(resolved).metrics()
    assert all(math.isfinite(loss) for loss in line.losses.values())


def test_one_conversation_per_step_and_more_micro_batches_than_conversations(tiny: Tiny, tmp_path: Path) -> None:
    resolved = job(tiny(), tmp_path, {"train": {"batch_conversations": 1, "micro_batches": 5, "epochs": 1}})
    assert train(resolved).epochs == 1
    (line,) = RunDirectory.of(resolved).metrics()
    assert line.conversations == COUNTS["train"]
    assert all(math.isfinite(loss) for loss in line.losses.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_run_in_fp64_has_the_losses_of_one_in_fp32(tiny: Tiny, tmp_path: Path, task: Task) -> None:
    lines = []
    for precision in ("fp32", "fp64"):
        resolved = job(tiny(task), tmp_path, train={"precision": precision, "epochs": 3}).model_copy(
            update={"name": precision}
        )
        record = train(resolved)
        lines.append(RunDirectory.of(resolved).metrics()[-1])
    assert lines[1].losses == pytest.approx(lines[0].losses, rel=1e-4)
    assert lines[1].losses != lines[0].losses
    bundle = RunDirectory.of(resolved).bundle.uri
    assert record.test is not None
    assert evaluate_bundle(bundle, tiny(task)).loss == pytest.approx(record.test.loss, rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_other_presets_train(tiny: Tiny, tmp_path: Path, preset: str, precision: str) -> None:
    from joyful_ray.config import resolve

    resolved = resolve(
        merge(
            {
                "corpus": tiny(),
                "storage": str(tmp_path),
                "model": {"preset": preset, "fusion": {"specific_width": 8, "bottleneck": 8, "global_feedforward": 8}},
                "train": {"epochs": 1, "device": "cpu", "precision": precision},
                "cluster": {"workers": 0},
            },
            {"model": {"context": {"layers": 1, "feedforward": 8}}} if preset == "released" else {},
        )
    )
    record = train(resolved)
    assert all(math.isfinite(value) for value in record.dev.values.values())

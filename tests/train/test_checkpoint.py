from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import Location, open_location
from joyful_ray.train import checkpoint
from joyful_ray.train.schedule import PartialEpoch, Progress

PARTIAL = PartialEpoch(4, {"contrast": 7.25}, {"contrast": 10.0}, 24, 1.5, 0.25, 3.125, {"spread/fused": 0.5})


@pytest.fixture
def place(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "checkpoints"))


def save(
    place: Location,
    *,
    model: nn.Module,
    ema_weights: dict[str, torch.Tensor] | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    checkpoint.write_checkpoint(place, checkpoint.snapshot(model, ema_weights, optimizer), progress)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    optimizer.zero_grad()
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_training_continues_from_a_checkpoint_as_if_it_had_not_stopped(
    place: Location, kind: type[torch.optim.Optimizer]
) -> None:
    model = net()
    optimizer = kind(model.parameters(), lr=0.1, foreach=True)
    step(model, optimizer)
    save(place, model=model, ema_weights=None, optimizer=optimizer, progress=Progress(next_epoch=3))
    step(model, optimizer)
    again = net()
    resumed = kind(again.parameters(), lr=0.1, foreach=True)
    checkpoint.load_weights(again, checkpoint.read_tensors(place.join(checkpoint.MODEL)), source="it")
    checkpoint.load_optimizer(resumed, checkpoint.read_tensors(place.join(checkpoint.OPTIMIZER)))
    step(again, resumed)
    for mine, theirs in zip(again.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_parameters_that_never_trained_have_no_optimizer_state(place: Location) -> None:
    model = net()
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer)
    save(place, model=model, ema_weights=None, optimizer=optimizer, progress=Progress())
    resumed = torch.optim.Adam(net().parameters())
    checkpoint.load_optimizer(resumed, checkpoint.read_tensors(place.join(checkpoint.OPTIMIZER)))
    assert set(resumed.state_dict()["state"]) == {2, 3, 4, 5}


@pytest.mark.parametrize("progress", [Progress(), Progress(7, 3, 0.61, 4, 0.9, 2, 0.1), Progress(2, partial=PARTIAL)])
def test_progress_is_read_as_it_was_written(place: Location, progress: Progress) -> None:
    model = net()
    save(place, model=model, ema_weights=None, optimizer=torch.optim.Adam(model.parameters()), progress=progress)
    assert checkpoint.read_progress(place) == progress
    text = place.join(checkpoint.PROGRESS).read_text()
    assert "Infinity" not in text
    assert json.loads(text)["next_epoch"] == progress.next_epoch


def test_a_checkpoint_contains_no_pickle(place: Location) -> None:
    model = net()
    save(
        place,
        model=model,
        ema_weights=model.state_dict(),
        optimizer=torch.optim.Adam(model.parameters()),
        progress=Progress(),
    )
    assert {name.rsplit(".")[-1] for name in place.list()} == {"safetensors", "json"}


def mark(place: Location, epoch: int, *, complete: bool = True) -> None:
    folder = place.join(f"{epoch:05d}")
    folder.join(checkpoint.MODEL).write_text("x")
    if complete:
        folder.join(checkpoint.PROGRESS).write_text("{}")


def test_the_latest_checkpoint_is_the_last_complete_one(place: Location) -> None:
    assert checkpoint.latest_checkpoint(place) is None
    for epoch in (0, 9, 10, 100_000):
        mark(place, epoch)
    mark(place, 100_001, complete=False)
    place.join("notes").join("x").write_text("not a checkpoint")
    found = checkpoint.latest_checkpoint(place)
    assert found is not None
    assert found.name == "100000"


def test_a_checkpoint_of_mid_epoch_comes_after_the_epoch_before_and_before_the_end_of_its_own(place: Location) -> None:
    for name in ("00002", "00002-000009", "00003-000004", "00003-000010"):
        place.join(name, checkpoint.PROGRESS).write_text("{}")
    found = [each.name for each in checkpoint.complete_checkpoints(place)]
    assert found == ["00003-000010", "00003-000004", "00002", "00002-000009"]
    checkpoint.prune_checkpoints(place, keep=None, partial="00003-000010")
    assert sorted(place.list()) == ["00002", "00003-000010"]
    checkpoint.prune_checkpoints(place, keep={3})
    assert place.list() == []


def test_a_copy_does_not_follow_training_and_a_plain_snapshot_does() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    step(model, optimizer)
    copy, view = (checkpoint.snapshot(model, None, optimizer, is_copy=is_copy) for is_copy in (True, False))
    before = {file: {name: tensor.clone() for name, tensor in tensors.items()} for file, tensors in view.items()}
    step(model, optimizer)
    for file, tensors in before.items():
        assert all(torch.equal(copy[file][name], tensor) for name, tensor in tensors.items())
    assert not torch.equal(view[checkpoint.MODEL]["0.weight"], before[checkpoint.MODEL]["0.weight"])


def test_pruning_keeps_the_chosen_epochs_and_foreign_folders(place: Location) -> None:
    for epoch in range(4):
        mark(place, epoch)
    place.join("notes").join("x").write_text("not a checkpoint")
    checkpoint.prune_checkpoints(place, keep={1, 3, -1})
    assert sorted(place.list()) == ["00001", "00003", "notes"]


def test_a_damaged_file_is_refused_by_name(place: Location) -> None:
    place.join("model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        checkpoint.read_tensors(place.join("model.safetensors"))


def test_weights_with_other_widths_are_refused_with_both_shapes() -> None:
    other = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).state_dict()
    with pytest.raises(CheckpointError, match=r"it: 0\.weight has shape \(4, 5\), expected \(4, 3\)"):
        checkpoint.load_weights(net(), other, source="it")


def test_missing_and_unexpected_weights_are_refused_by_name() -> None:
    state = net().state_dict()
    del state["2.bias"]
    with pytest.raises(CheckpointError, match=r"it has no 2\.bias"):
        checkpoint.load_weights(net(), state, source="it")
    with pytest.raises(CheckpointError, match=r"it has 3\.bias, but the model does not"):
        checkpoint.load_weights(net(), {**net().state_dict(), "3.bias": torch.zeros(1)}, source="it")


def test_infinite_progress_is_written_as_null(place: Location) -> None:
    model = net()
    save(place, model=model, ema_weights=None, optimizer=torch.optim.Adam(model.parameters()), progress=Progress())
    assert checkpoint.read_progress(place).best_score == -math.inf

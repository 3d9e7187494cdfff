from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.train.checkpoint import CheckpointContent
from joyful_ray.train.process_group import ProcessGroup, pick_device, use_cores
from tests.ranks import on_ranks


def collectives(process_group: ProcessGroup) -> tuple[float, list[object], bool, list[float]]:
    """A sum, a gathered list, whether this rank is the first, and gradients of two backward passes."""
    total = process_group.all_reduce(torch.tensor(float(process_group.rank + 1)))
    gathered = process_group.all_gather(f"rank {process_group.rank}")
    process_group.barrier()
    plain = nn.Linear(1, 1, bias=False)
    model = process_group.distribute(plain)
    gradients = []
    for is_last in (False, True):
        with process_group.no_sync(model, is_last=is_last):
            model(torch.full((1, 1), float(process_group.rank + 1))).sum().backward()
        assert plain.weight.grad is not None
        gradients.append(float(plain.weight.grad))
    return float(total), gathered, process_group.is_first, gradients


def test_a_single_rank_does_not_communicate() -> None:
    assert collectives(ProcessGroup()) == (1.0, ["rank 0"], True, [1.0, 2.0])


@pytest.mark.slow
def test_two_ranks_sum_gather_and_synchronise_only_the_last_backward_pass(tmp_path: Path) -> None:
    first, second = on_ranks(collectives, 2, tmp_path)
    assert first == (3.0, ["rank 0", "rank 1"], True, [1.0, 3.0])
    assert second == (3.0, ["rank 0", "rank 1"], False, [2.0, 3.0])


def test_auto_is_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="device cuda was requested, but torch finds no GPU"):
        pick_device("cuda")


def test_a_fraction_of_a_core_is_one_thread() -> None:
    before = torch.get_num_threads()
    try:
        use_cores(0.5, torch.device("cpu"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def read_by_one(process_group: ProcessGroup, what: str) -> object:
    """What every rank gets of what the first rank reads; the other ranks must not read."""

    def read() -> CheckpointContent | None:
        assert process_group.is_first, "another rank has read"
        if what == "damaged":
            raise CheckpointError("it is damaged")
        return None if what == "nothing" else CheckpointContent("there", {"a": bytes(range(256)) * 5, "empty": b""})

    try:
        content = process_group.from_first(read)
    except CheckpointError as error:
        return str(error)
    return None if content is None else (content.uri, dict(content.files))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("files", ("there", {"a": bytes(range(256)) * 5, "empty": b""})),
        ("nothing", None),
        ("damaged", "it is damaged"),
    ],
)
def test_the_first_rank_reads_for_all(tmp_path: Path, what: str, expected: object) -> None:
    assert read_by_one(ProcessGroup(), what) == expected
    assert on_ranks(read_by_one, 3, tmp_path, what) == [expected] * 3

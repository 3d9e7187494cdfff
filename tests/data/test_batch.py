from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from joyful_ray.data.batch import joined
from tests.batches import layout_of, quick, random_batch

lengths = st.lists(st.integers(1, 7), min_size=1, max_size=6)


@quick
@given(lengths)
def test_a_layout_counts_conversations_and_positions(lengths: list[int]) -> None:
    layout = layout_of(*lengths)
    expected = [(c, place) for c, length in enumerate(lengths) for place in range(length)]
    assert list(zip(layout.conversation_N.tolist(), layout.position_N.tolist(), strict=True)) == expected
    assert layout.longest == max(lengths)


@quick
@given(lengths)
def test_padding_and_unpadding_gives_back_what_was_packed(lengths: list[int]) -> None:
    layout = layout_of(*lengths)
    packed = torch.randn(sum(lengths), 3)
    padded = layout.pad(packed)
    assert padded.shape == (len(lengths), max(lengths), 3)
    assert torch.equal(layout.unpad(padded), packed)
    assert torch.equal(padded[~layout.valid_CL], torch.zeros(int((~layout.valid_CL).sum()), 3))
    rows = iter(packed)
    for c, length in enumerate(lengths):
        for place in range(length):
            assert torch.equal(padded[c, place], next(rows))


def test_padding_takes_any_number_of_dimensions() -> None:
    layout = layout_of(2, 1)
    for shape in [(3,), (3, 2), (3, 2, 4)]:
        packed = torch.randn(*shape)
        assert torch.equal(layout.unpad(layout.pad(packed)), packed)


def test_gradients_pass_through_padding() -> None:
    packed = torch.randn(3, 2, requires_grad=True)
    layout_of(1, 2).pad(packed).sum().backward()
    assert torch.equal(packed.grad, torch.ones(3, 2))


def test_labeled_utterances_of_every_task() -> None:
    single = random_batch(40, unlabeled=0.5)
    assert torch.equal(single.labeled_N, single.labels != -1)
    multi = random_batch(40, task="multi-label", unlabeled=0.5)
    assert torch.equal(multi.labeled_N, ~multi.labels.isnan().any(dim=1))
    number = random_batch(40, task="regression", unlabeled=0.5)
    assert torch.equal(number.labeled_N, ~number.labels.isnan())
    assert all(0 < int(batch.labeled_N.sum()) < 40 for batch in (single, multi, number))


def test_a_batch_on_its_own_device_is_itself() -> None:
    batch = random_batch(3)
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.labels.device.type == moved.features["text"].device.type == "meta"
    assert moved.conversations == batch.conversations


@quick
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=12), most_padding=st.floats(1.0, 9.0))
def test_groups_have_every_utterance_once_and_little_padding(lengths: list[int], most_padding: float) -> None:
    layout = layout_of(*lengths)
    groups = layout.groups(most_padding=most_padding)
    values = torch.arange(sum(lengths))
    assert torch.equal(joined(groups, [values[rows_N] for rows_N, _ in groups]), values)
    for rows_N, part in groups:
        assert int(part.lengths_C.max()) <= most_padding * int(part.lengths_C.min())
        assert torch.equal(part.key_N, layout.key_N[rows_N]), "draws stay with their utterances"
        assert torch.equal(part.position_N, layout.position_N[rows_N])

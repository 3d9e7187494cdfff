from __future__ import annotations

import math

import pytest
import torch

from joyful_ray.settings import TrainConfig
from joyful_ray.train.schedule import Progress, learning_rate, lengthened


def train(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate({"learning_rate": 0.1, "epochs": 10, "warmup_epochs": 0.0, **settings})


def rates(config: TrainConfig, steps_per_epoch: int = 4) -> list[float]:
    return [
        learning_rate(config, step=step, steps_per_epoch=steps_per_epoch)
        for step in range(config.epochs * steps_per_epoch)
    ]


def after(scores: list[float], losses: list[float] | None = None) -> Progress:
    progress = Progress()
    for place, score in enumerate(scores):
        progress = progress.after(score=score, dev_loss=losses[place] if losses else 1.0)
    return progress


def test_a_constant_rate_is_constant() -> None:
    assert set(rates(train(schedule="constant"))) == {0.1}


def test_warmup_rises_linearly_to_the_full_rate() -> None:
    found = rates(train(schedule="constant", warmup_epochs=2.0))
    assert found[:8] == pytest.approx([0.1 * step / 8 for step in range(1, 9)])
    assert set(found[8:]) == {0.1}


def test_cosine_equals_torchs_over_the_steps_after_the_warmup() -> None:
    config = train(schedule="cosine", warmup_epochs=1.0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=36)
    expected = []
    for _ in range(36):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    assert rates(config)[4:] == pytest.approx(expected)


def test_a_warmup_longer_than_the_run_does_not_fail() -> None:
    assert max(rates(train(schedule="cosine", warmup_epochs=100.0))) < 0.1


def test_plateau_multiplies_the_rate_by_its_factor() -> None:
    config = train(schedule="plateau")
    assert learning_rate(config, step=3, steps_per_epoch=4, plateau_factor=0.01) == pytest.approx(0.001)
    assert learning_rate(train(schedule="cosine"), step=0, steps_per_epoch=4, plateau_factor=0.01) == 0.1


def test_the_plateau_factor_drops_when_torchs_scheduler_does() -> None:
    draw = torch.Generator().manual_seed(0)
    losses = (1.0 + 0.3 * torch.rand(60, generator=draw)).tolist() + [0.5] + [0.49999] * 30
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=8, eps=0.0)
    progress = Progress()
    for loss in losses:
        progress = progress.after(score=0.0, dev_loss=loss)
        oracle.step(loss)
        assert progress.plateau_factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert progress.plateau_factor < 1e-3


def test_the_first_of_equal_scores_is_the_best() -> None:
    progress = after([0.2, 0.5, 0.5, 0.4])
    assert (progress.best_epoch, progress.best_score, progress.stale_epochs) == (1, 0.5, 2)
    assert progress.next_epoch == 4


def test_a_run_is_done_after_its_patience_or_its_epochs() -> None:
    assert not after([0.5, 0.4]).is_done(train(patience=2))
    assert after([0.5, 0.4, 0.4]).is_done(train(patience=2))
    assert not after([0.1, 0.2]).is_done(train(epochs=3))
    assert after([0.1, 0.2, 0.3]).is_done(train(epochs=3))


def test_a_better_score_resets_patience() -> None:
    assert not after([0.5, 0.4, 0.6, 0.5]).is_done(train(patience=2))


def test_an_epoch_that_does_not_count_only_advances_the_epoch() -> None:
    progress = Progress().after(score=9.0, dev_loss=0.0, counts=False)
    assert progress == Progress(next_epoch=1)
    assert progress.best_score == -math.inf


@pytest.mark.parametrize(("conversations", "epochs", "patience", "warmup"), [(1000, 16, 6, 1.0), (100, 92, 35, 5.714)])
def test_a_small_corpus_trains_as_many_epochs_as_min_steps_needs(
    conversations: int, epochs: int, patience: int, warmup: float
) -> None:
    train = TrainConfig(epochs=16, patience=6, warmup_epochs=1.0, batch_conversations=16, min_steps=640)
    found = lengthened(train, conversations=conversations)
    assert (found.epochs, found.patience) == (epochs, patience)
    assert found.warmup_epochs == pytest.approx(warmup, abs=1e-3)
    steps = math.ceil(conversations / 16)
    assert found.epochs * steps >= 640
    assert (found.epochs - 1) * steps < 640 or found == train
    last, first = (learning_rate(found, step=step, steps_per_epoch=steps) for step in (found.epochs * steps - 1, 0))
    assert last < first < found.learning_rate

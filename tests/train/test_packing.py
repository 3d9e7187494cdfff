"""A rank packs its share of a step into one pass: no number of workers, and no limit of a pass, changes the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import table_from_conversations
from joyful_ray.data.encode import Encoding
from joyful_ray.data.loader import ResidentLoader, Work, blank_batch
from joyful_ray.data.ngrams import NgramHasher
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.data.scope import step_rules
from joyful_ray.data.store import SplitStore
from joyful_ray.train import trainer as training
from joyful_ray.train.build import build_model, build_objective
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.schedule import Progress
from joyful_ray.train.step import TrainState, train_step
from joyful_ray.train.trainer import Trainer
from tests.tiny_corpus import LABELS, WIDTHS, small_job, tiny_conversations

WORKERS = [1, 2, 3, 8, 16]
CONVERSATIONS = 34
WORDS = [f"word {place} and word {place % 4}" for place in range(40)]
PLAIN = Encoding("single-label", tuple(LABELS), WIDTHS, {})
DROPPING: dict[str, Any] = {
    "feature_dropout": 0.1,
    "modality_dropout": 0.2,
    "fusion": {"dropout": 0.3, "global_layers": 2},
    "encoder": {"dropout": 0.3},
    "classifier": {"dropout": 0.3},
}
EVERY_DRAW: dict[str, dict[str, Any]] = {
    "transformer, perturbed edges": {
        "model": DROPPING | {"context": {"kind": "transformer", "dropout": 0.3, "layers": 2}},
        "augment": {"first_view": {"edge_ratio": 0.3}, "second_view": {"feature_ratio": 0.3, "edge_ratio": 0.2}},
    },
    "causal": {
        "model": DROPPING | {"causal": True, "context": {"kind": "transformer", "dropout": 0.3}},
        "augment": {"first_view": {"edge_ratio": 0.3}, "second_view": {"proximity_ratio": 0.3}},
    },
    "gru, party state, R-Drop, proximity, words": {
        "data": {"word_ngrams": 2, "word_buckets": 50},
        "model": DROPPING
        | {"context": {"kind": "gru", "layers": 3, "dropout": 0.3, "speakers": "party-state"}, "ngrams": {"width": 4}},
        "augment": {"first_view": {"proximity_ratio": 0.3}, "second_view": {"feature_mask": "element"}},
        "objective": {"consistency": 0.5},
    },
    "views classified": {
        "model": DROPPING | {"encoder": {"kind": "gcn", "dropout": 0.3}, "context": {"kind": "identity"}},
        "augment": {"classify": "views"},
        "objective": {"consistency": 0.5, "alignment_weight": 0.1, "alignment_negatives": "conversation"},
    },
    "relational attention": {"model": DROPPING | {"encoder": {"kind": "relational-attention", "dropout": 0.3}}},
}


class Training:
    """A model, its objective and the loader of one job."""

    def __init__(self, name: str, *, precision: str = "fp32", **cluster: Any) -> None:
        settings: dict[str, Any] = {"batch_conversations": CONVERSATIONS - 2, "precision": precision}
        self.job: JobConfig = small_job(EVERY_DRAW[name], train=settings, cluster=cluster)
        assert step_rules(self.job).micro_batches is None
        words = self.job.data.word_ngrams
        encoding = Encoding(
            "single-label", tuple(LABELS), WIDTHS, {}, NgramHasher(words, self.job.data.word_buckets) if words else None
        )
        table = table_from_conversations(
            [replace(each, texts=WORDS[: len(each.speakers)]) for each in tiny_conversations("train", CONVERSATIONS)],
            task="single-label",
            modalities=list(WIDTHS),
            has_texts=bool(words),
        )
        self.info = info = CorpusInfo(encoding, {}, {}, label_counts=(50, 30, 20), speakers=2)
        self.loader = ResidentLoader.of(self.job, SplitStore([encoding.table(table)], encoding))
        model = build_model(self.job, info)
        parameters = tuple(model.parameters())
        self.state = TrainState(
            model=model.train(),
            objective=build_objective(self.job, info),
            optimizer=torch.optim.SGD(parameters, lr=0.05),
            process_group=ProcessGroup(),
            blank=blank_batch(encoding),
            parameters=parameters,
        )

    def work(self, step: int, *, workers: int) -> list[Work]:
        """The passes of each rank in one step."""
        ranks = [self.loader.epoch(0, rank=rank, world_size=workers) for rank in range(workers)]
        return [list(rank)[step] for rank in ranks]

    def trained(self, *, workers: int) -> dict[str, Tensor]:
        """Losses of two steps, and the weights after them; the passes of all ranks run one after the other."""
        found: dict[str, Tensor] = {}
        for step in range(2):
            passes = [each for rank in self.work(step, workers=workers) for each in rank]
            result = train_step(self.state, passes, place="")
            found |= {f"{step} {name}": value / result.counts[name] for name, value in result.sums.items()}
        return found | {name: value.detach().clone() for name, value in self.state.model.state_dict().items()}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", EVERY_DRAW)
def test_in_fp64_only_the_last_digits_depend_on_the_workers(name: str) -> None:
    """In fp32, rounding hides what differs by less than 1e-6; a term that is left out of one rank is not rounding."""
    alone = Training(name, precision="fp64").trained(workers=1)
    shared = Training(name, precision="fp64").trained(workers=3)
    in_fp32 = Training(name).trained(workers=1)
    for weight, value in Training(name).state.model.state_dict().items():
        if value.is_floating_point():
            assert alone[weight].dtype == torch.float64
            torch.testing.assert_close(shared[weight], alone[weight], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(in_fp32[weight].double(), alone[weight], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", EVERY_DRAW)
def test_any_number_of_workers_gives_the_same_losses_and_weights(name: str) -> None:
    alone = Training(name).trained(workers=1)
    for workers in WORKERS[1:]:
        assert_alike(Training(name).trained(workers=workers), alone)


@pytest.mark.parametrize("name", EVERY_DRAW)
def test_a_limit_of_a_pass_changes_nothing(name: str) -> None:
    limited = Training(name, utterances_per_pass=20)
    assert len(limited.work(0, workers=1)[0]) > 3
    assert_alike(limited.trained(workers=1), Training(name).trained(workers=1))


@pytest.mark.parametrize("workers", WORKERS)
def test_a_worker_makes_one_pass_of_a_step_however_many_there_are(workers: int) -> None:
    found = Training("relational attention").work(0, workers=workers)
    assert [len(rank) for rank in found] == [1] * workers
    sizes = [batch.utterances for ((_, batch),) in found]
    assert max(sizes) - min(sizes) <= 12, "the longest conversation has as many"


@pytest.mark.parametrize("name", EVERY_DRAW)
def test_nothing_draws_from_torch(name: str) -> None:
    training = Training(name)
    ((passes,),) = ([training.work(0, workers=1)[0]],)
    torch.manual_seed(passes[0][0].seed)
    before = torch.get_rng_state()
    train_step(training.state, passes, place="")
    assert torch.equal(torch.get_rng_state(), before)


class Apart(ProcessGroup):
    """The first of several ranks, without the others."""

    def all_reduce(self, values: Tensor) -> Tensor:
        return values

    def all_gather(self, value: object) -> list[object]:
        return [value]

    def distribute(self, model: torch.nn.Module) -> torch.nn.Module:
        return model


def test_diagnostics_do_not_depend_on_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(training, "diagnose", lambda model, objective, batch, seed: seen.append(batch.conversations))
    whole = Training("relational attention")
    for size in (1, 2, 8):
        trainer = Trainer(whole.job, whole.info, Apart(size=size))
        trainer.config = trainer.config.model_copy(update={"diagnostics": True})
        trainer.train_epoch(whole.loader, Progress())
    assert len(set(seen)) == 1
    assert len(seen) == 3

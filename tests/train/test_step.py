"""One step in one process, and the same step over real gloo processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from joyful_ray.config import JobConfig
from joyful_ray.data.encode import Encoding
from joyful_ray.data.loader import Work, blank_batch
from joyful_ray.data.plan import MicroBatch
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.errors import TrainingError
from joyful_ray.schema import Modality
from joyful_ray.train.build import build_model, build_objective
from joyful_ray.train.evaluate import evaluate
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.step import TrainState, train_step
from tests.batches import random_batch
from tests.ranks import on_ranks
from tests.tiny_corpus import LABELS, small_job

WIDTHS: dict[Modality, int] = {"text": 6, "audio": 4}
MICRO = [((4, 2), 0), ((7,), 1), ((1, 1, 3), 2)]
"""Lengths and seeds of three micro-batches."""
CORPUS_INFO = CorpusInfo(
    Encoding("single-label", tuple(LABELS), WIDTHS, {}), {}, {}, label_counts=(50, 30, 20), speakers=2
)
VARIANTS: dict[str, dict[str, Any]] = {
    "joyful": {"objective": {"class_weighting": 0.5, "negatives": "micro-batch"}},
    "no contrast": {"objective": {"contrast_weight": 0.0}},
    "views": {"augment": {"classify": "views"}, "model": {"encoder": {"kind": "gcn"}, "context": {"kind": "identity"}}},
}


def work(numbers: list[int]) -> Work:
    return [
        (
            MicroBatch(0, number, (), seed),
            random_batch(*lengths, widths=WIDTHS, absent_vectors=0.2, unlabeled=0.2, seed=seed),
        )
        for number in numbers
        for lengths, seed in [MICRO[number]]
    ]


def state(job: JobConfig, process_group: ProcessGroup) -> TrainState:
    model = build_model(job, CORPUS_INFO)
    parameters = tuple(parameter for parameter in model.parameters() if parameter.requires_grad)
    return TrainState(
        model=process_group.distribute(model),
        objective=build_objective(job, CORPUS_INFO),
        optimizer=torch.optim.SGD(parameters, lr=0.05),
        process_group=process_group,
        blank=blank_batch(CORPUS_INFO.encoding),
        parameters=parameters,
        gradient_clip=1.0,
    )


def two_steps(job: JobConfig, process_group: ProcessGroup) -> dict[str, Tensor]:
    """Losses and gradient norms of two steps, and the weights after them."""
    trained = state(job, process_group)
    found: dict[str, Tensor] = {}
    for step, numbers in enumerate([[0, 1, 2], [1]]):
        result = train_step(trained, work(numbers[process_group.rank :: process_group.size]), place=f"step {step}")
        for name, value in result.sums.items():
            found[f"{step} {name}"] = process_group.all_reduce(value.double()) / result.counts[name].double()
        found[f"{step} norm"] = torch.tensor(result.gradient_norm)
    plain = getattr(trained.model, "module", trained.model)
    return found | {name: value.detach().clone() for name, value in plain.state_dict().items()}


def everything(process_group: ProcessGroup) -> dict[str, Any]:
    found: dict[str, Any] = {name: two_steps(small_job(settings), process_group) for name, settings in VARIANTS.items()}
    return found | {"scores": evaluated(process_group), "error": failing(process_group)}


@pytest.fixture(scope="module", params=[2, 4])
def over(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of each of several processes; of four, the last never has a micro-batch."""
    return on_ranks(everything, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return everything(ProcessGroup())


def evaluated(process_group: ProcessGroup) -> dict[str, Any]:
    batches = [random_batch(length, widths=WIDTHS, unlabeled=0.2, seed=length) for length in (3, 5, 1, 4, 9)]
    model = build_model(small_job(), CORPUS_INFO)
    scores = evaluate(
        model,
        batches[process_group.rank :: process_group.size],
        task="single-label",
        labels=LABELS,
        process_group=process_group,
    )
    return scores.model_dump()


def failing(process_group: ProcessGroup) -> str:
    """A step in which only one rank has a number that is too large."""
    trained = state(small_job({"objective": {"contrast_weight": 0.0}}), process_group)
    mine = work([process_group.rank % len(MICRO)])
    if process_group.rank == process_group.size - 1:
        mine[0][1].features["text"].fill_(float("inf"))
    try:
        train_step(trained, mine, place="epoch 4, step 2")
    except TrainingError as error:
        return str(error)
    return "nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_over_several_processes_equals_the_step_of_one(
    over: list[dict[str, Any]], alone: dict[str, Any], name: str
) -> None:
    # in the second step, only the first rank has work
    for found in over:
        assert found[name].keys() == alone[name].keys()
        for key, value in alone[name].items():
            torch.testing.assert_close(
                found[name][key], value, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
            )


@pytest.mark.slow
def test_scores_over_several_processes_equal_those_of_one(over: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    expected = alone["scores"]
    for found in over:
        assert found["scores"].pop("loss") == pytest.approx(expected["loss"])
        assert found["scores"] == {name: value for name, value in expected.items() if name != "loss"}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_every_rank_with_the_same_message(
    over: list[dict[str, Any]],
) -> None:
    (message,) = {found["error"] for found in over}
    assert message.startswith("epoch 4, step 2: the loss of classification")
    assert "is not finite; try a smaller train.learning_rate" in message


def test_micro_batches_add_up_to_the_gradient_of_the_weighted_sum() -> None:
    job = small_job(
        {"model": {"fusion": {"dropout": 0.0}, "context": {"dropout": 0.0}, "classifier": {"dropout": 0.0}}}
    )
    trained = state(job, ProcessGroup())
    before = {name: value.detach().clone() for name, value in trained.model.state_dict().items()}
    mine = work([0, 1, 2])
    result = train_step(trained, mine, place="")
    model = build_model(job, CORPUS_INFO)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    objective = build_objective(job, CORPUS_INFO)
    total = torch.zeros(())
    counts: dict[str, Tensor] = {}
    for _, batch in mine:
        for name, count in objective.counts(batch).items():
            counts[name] = counts.get(name, torch.zeros(())) + count
    for _, batch in mine:
        output = model(batch, with_views=True)
        sums = objective.sums(output, batch)
        total = total + sum(objective.weights[name] * sums[name] / counts[name] for name in sums)
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert result.gradient_norm == pytest.approx(float(norm), rel=1e-4)
    for (name, parameter), mine_now in zip(model.named_parameters(), trained.model.parameters(), strict=True):
        expected = before[name] - 0.05 * parameter.grad
        torch.testing.assert_close(mine_now, expected, rtol=1e-4, atol=1e-6)


def test_only_the_seed_of_a_micro_batch_decides_its_draws() -> None:
    found = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        torch.rand(noise + 1)
        found.append(two_steps(small_job(), ProcessGroup()))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_step_whose_utterances_are_all_unlabeled_still_trains_the_other_terms() -> None:
    trained = state(small_job(), ProcessGroup())
    batch = random_batch(4, 2, widths=WIDTHS, unlabeled=1.0)
    result = train_step(trained, [(MicroBatch(0, 0, (), 0), batch)], place="")
    assert float(result.sums["classification"]) == 0.0
    assert result.gradient_norm > 0

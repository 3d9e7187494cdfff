"""What lets an utterance depend on other conversations: claimed by scope.py, and tried."""

from __future__ import annotations

from typing import Any

import pytest

from joyful_ray.config import resolve
from joyful_ray.data.scope import beyond_conversations, step_rules
from tests.tiny_corpus import small_job

BEYOND: dict[str, dict[str, Any]] = {
    "model.encoder.normalisation: batch": {"model": {"encoder": {"normalisation": "batch"}}},
    "model.context.padding_mask: false": {"model": {"context": {"kind": "transformer", "padding_mask": False}}},
    "augment.first_view.edge_mode: rewire": {"augment": {"first_view": {"edge_ratio": 0.2, "edge_mode": "rewire"}}},
    "objective.negatives: micro-batch": {"objective": {"negatives": "micro-batch"}},
    "objective.alignment_negatives: micro-batch": {"objective": {"alignment_weight": 0.1}},
    "objective.reconstruction_scope: last-conversation": {"objective": {"reconstruction_scope": "last-conversation"}},
    "objective.correlation_weight": {"objective": {"correlation_weight": 0.1}},
    "objective.multi_label_reduction: sum": {"objective": {"multi_label_reduction": "sum"}},
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_setting_that_looks_further_keeps_the_micro_batches(name: str) -> None:
    job = small_job(BEYOND[name], train={"micro_batches": 3})
    assert beyond_conversations(job) == [name]
    assert step_rules(job).micro_batches == 3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": {"context": {"kind": "gru", "padding_mask": False}}},
        {"model": {"causal": True, "context": {"kind": "transformer", "padding_mask": False}}},
        {"augment": {"first_view": {"edge_ratio": 0.0, "edge_mode": "rewire"}}},
        {"objective": {"contrast_weight": 0.0, "negatives": "micro-batch"}},
        {"objective": {"alignment_weight": 0.1, "alignment_negatives": "conversation"}},
        {"objective": {"fusion_weight": 0.0, "reconstruction_scope": "last-conversation"}},
    ],
)
def test_without_one_a_conversation_is_the_unit(settings: dict[str, Any]) -> None:
    job = small_job(settings, cluster={"utterances_per_pass": 70})
    assert beyond_conversations(job) == []
    assert step_rules(job).micro_batches is None
    assert step_rules(job).pass_utterances == 70


@pytest.mark.parametrize(("preset", "looks_further"), [("joyful", False), ("paper", False), ("released", True)])
def test_only_the_released_preset_looks_further(preset: str, looks_further: bool) -> None:
    job = resolve({"name": "x", "corpus": "y", "model": {"preset": preset}})
    assert bool(beyond_conversations(job)) == looks_further

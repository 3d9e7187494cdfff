from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from joyful_ray.model.party_state import PartyState, same_speaker_as_before
from joyful_ray.model_settings import ContextConfig
from tests.batches import random_batch, spans

CONFIG = ContextConfig(width=5, hidden=7, layers=2, dropout=0.0)


@pytest.mark.parametrize("causal", [False, True])
def test_each_speaker_of_a_conversation_is_a_sequence_of_its_own(causal: bool) -> None:
    torch.manual_seed(0)
    batch = random_batch(11, 1, 6, speakers=3)
    party, nodes_ND = PartyState(4, 5, CONFIG, causal=causal), torch.randn(18, 4)
    found = party(nodes_ND, batch)
    oracle = torch.nn.GRU(4, 7, num_layers=2, bidirectional=not causal)
    oracle.load_state_dict(party.gru.state_dict())
    for span in spans(batch.layout):
        speakers = batch.speakers_N[span]
        for speaker in speakers.unique():
            rows = (speakers == speaker).nonzero().squeeze(1) + span.start
            torch.testing.assert_close(found[rows], party.leave(oracle(nodes_ND[rows])[0]))


def test_the_flag_says_who_continues() -> None:
    batch = random_batch(9, 1, 4)
    expected = []
    for span in spans(batch.layout):
        speakers = batch.speakers_N[span].tolist()
        expected += [0.0, *(float(one == before) for before, one in pairwise(speakers))]
    assert same_speaker_as_before(batch).squeeze(1).tolist() == expected

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from joyful_ray.model.inputs import MissingEmbeddings, scaled_by_group, speaker_groups
from tests.batches import WIDTHS, random_batch


def test_missing_embeddings_replace_missing_values() -> None:
    batch = random_batch(6, absent_vectors=0.4, absent_cells=0.2)
    missing_embeddings = MissingEmbeddings(WIDTHS, learned=True)
    for vector in missing_embeddings.vectors.values():
        torch.nn.init.normal_(vector)
    for name, filled in missing_embeddings(batch).items():
        for utterance in range(6):
            for cell in range(WIDTHS[name]):
                found = batch.features[name][utterance, cell]
                expected = missing_embeddings.vectors[name][cell] if torch.isnan(found) else found
                assert filled[utterance, cell] == expected


def test_missing_embeddings_learn_only_from_missing_cells() -> None:
    batch = random_batch(4, absent_vectors=0.5)
    missing_embeddings = MissingEmbeddings(WIDTHS, learned=True)
    sum(filled.sum() for filled in missing_embeddings(batch).values()).backward()
    for name, vector in missing_embeddings.vectors.items():
        absent = torch.isnan(batch.features[name]).sum(dim=0).float()
        assert torch.equal(vector.grad, absent)


def test_modality_dropout_removes_whole_vectors_only_in_training() -> None:
    batch = random_batch(400, widths={"text": 3})
    missing_embeddings = MissingEmbeddings({"text": 3}, learned=True, modality_dropout=0.3)
    torch.manual_seed(0)
    gone = (missing_embeddings.train()(batch)["text"] == 0).float()
    assert (gone.mean(dim=1) % 1 == 0).all()
    assert float(gone.mean()) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(missing_embeddings.eval()(batch)["text"], batch.features["text"])


def test_missing_embeddings_may_be_zeros() -> None:
    batch = random_batch(4, absent_vectors=0.5)
    missing_embeddings = MissingEmbeddings(WIDTHS, learned=False)
    assert not list(missing_embeddings.parameters())
    for name, filled in missing_embeddings(batch).items():
        assert torch.equal(filled, torch.nan_to_num(batch.features[name]))


def test_a_modality_that_is_always_missing_is_its_embedding() -> None:
    batch = random_batch(2)
    batch = replace(batch, features={**batch.features, "audio": torch.full((2, 4), torch.nan)})
    assert torch.equal(MissingEmbeddings(WIDTHS, learned=True)(batch)["audio"], torch.zeros(2, 4))


def test_features_are_scaled_within_each_speakers_part_of_a_conversation_as_by_scikit_learn() -> None:
    batch = random_batch(9, 1, 6, speakers=3, absent_vectors=0.2, absent_cells=0.1)
    scaled = scaled_by_group(batch.features["text"], speaker_groups(batch)).numpy()
    conversation = batch.layout.conversation_N.numpy()
    for group in set(zip(conversation.tolist(), batch.speakers_N.tolist(), strict=True)):
        rows = (conversation == group[0]) & (batch.speakers_N.numpy() == group[1])
        with warnings.catch_warnings(action="ignore"):  # a feature that is always missing
            expected = StandardScaler().fit_transform(batch.features["text"].numpy()[rows].astype(np.float64))
        np.testing.assert_allclose(scaled[rows], expected, atol=1e-5)


def test_beside_keeps_the_given_features_and_instead_does_not() -> None:
    batch = random_batch(5, 2, absent_cells=0.2)
    scaled = torch.nan_to_num(scaled_by_group(batch.features["audio"], speaker_groups(batch)))
    beside = MissingEmbeddings(WIDTHS, learned=True, speaker_scaling="beside")
    instead = MissingEmbeddings(WIDTHS, learned=True, speaker_scaling="instead")
    assert torch.equal(beside(batch)["audio"], torch.cat([torch.nan_to_num(batch.features["audio"]), scaled], dim=1))
    assert torch.equal(instead(batch)["audio"], scaled)
    assert beside.widths == {name: 2 * width for name, width in WIDTHS.items()}
    assert instead.widths == WIDTHS


def test_modality_dropout_removes_the_scaled_features_too() -> None:
    batch = random_batch(200, widths={"text": 3})
    inputs = MissingEmbeddings({"text": 3}, learned=True, modality_dropout=0.5, speaker_scaling="beside").train()
    torch.manual_seed(0)
    filled = inputs(batch)["text"]
    gone = (filled == 0).all(dim=1)
    assert 0.3 < float(gone.float().mean()) < 0.7
    assert (filled[~gone] != 0).all()

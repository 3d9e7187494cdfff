"""Groups of utterances: their gaps to all others, against scikit-learn, and attributes of the speakers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from joyful_ray.assess.assessment import assess_bundle
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.predict.predictor import Predictor
from joyful_ray.schema import UNKNOWN_VALUE
from tests.predict.bundles import write_random_bundle
from tests.tiny_corpus import LABELS, tiny_conversations, with_genders, write_gendered


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_gendered(tmp_path_factory.mktemp("gendered") / "corpus", {"train": 30})


def test_a_gap_is_the_score_of_a_group_minus_that_of_all_others(
    corpus: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", tiny())
    found = assess_bundle(bundle, corpus, split="train", device="cpu")
    predictor = Predictor.open(bundle, device="cpu")
    tables = list(open_corpus(corpus).tables("train"))
    predicted = np.array(LABELS)[predictor.scores(tables)[0].argmax(dim=1).numpy()]
    conversations = with_genders(tiny_conversations("train", 30))
    truth = np.array([label or "" for each in conversations for label in each.labels])
    gender = np.array([value or UNKNOWN_VALUE for each in conversations for value in each.speaker_attributes["gender"]])
    groups = {group.group: group for group in found.groups["gender"]}
    assert set(groups) == {"female", "male", UNKNOWN_VALUE}
    for name, group in groups.items():
        sides = [(truth != "") & side for side in (gender == name, gender != name)]
        scores = [f1_score(truth[side], predicted[side], average="weighted") for side in sides]
        assert group.utterances == sides[0].sum()
        assert group.score == pytest.approx(scores[0])
        assert group.gap == pytest.approx(scores[0] - scores[1])
        assert group.gap_interval is not None
        assert group.gap_interval.low < group.gap < group.gap_interval.high


def test_a_group_of_everything_has_no_gap(tiny: Callable[..., str], tmp_path: Path) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", tiny("regression"))
    found = assess_bundle(bundle, tiny("regression"), split="train", device="cpu")
    assert "gender" not in found.groups
    for groups in found.groups.values():
        for group in groups:
            assert (group.gap is None) == (len(groups) == 1)

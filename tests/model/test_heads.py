from __future__ import annotations

import torch

from joyful_ray.model.heads import Classifier
from joyful_ray.model_settings import ClassifierConfig
from tests.batches import layout_of


def test_the_classifier_is_two_linear_layers_with_relu_between() -> None:
    torch.manual_seed(0)
    head = Classifier(3, 2, ClassifierConfig(hidden=4, dropout=0.5)).eval()
    x_ND = torch.randn(5, 3)
    hidden = (x_ND @ head.hidden.weight.T + head.hidden.bias).clamp(min=0.0)
    torch.testing.assert_close(head(x_ND, layout_of(5)), hidden @ head.scores.weight.T + head.scores.bias)


def test_dropout_acts_only_in_training() -> None:
    torch.manual_seed(0)
    head = Classifier(3, 2, ClassifierConfig(hidden=64, dropout=0.5))
    x_ND, one, other = torch.randn(5, 3), layout_of(5), layout_of(5).apart("again")
    assert not torch.equal(head(x_ND, one), head(x_ND, other))
    head.eval()
    assert torch.equal(head(x_ND, one), head(x_ND, other))


def test_regression_has_one_score_per_utterance() -> None:
    assert Classifier(3, 1, ClassifierConfig(hidden=4))(torch.randn(5, 3), layout_of(5)).shape == (5, 1)

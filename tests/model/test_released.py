from __future__ import annotations

import torch
from torch.nn import functional as F

from joyful_ray.model.released import AutoFusion
from joyful_ray.model_settings import FusionConfig
from tests.batches import WIDTHS, layout_of, random_batch


def test_auto_fusion_equals_the_released_code_for_one_utterance() -> None:
    torch.manual_seed(0)
    config = FusionConfig(kind="auto-fusion", specific_width=8, bottleneck=6)
    fusion = AutoFusion(WIDTHS, config)
    features = random_batch(4).features
    fused = fusion(features, layout_of(4))
    for row in range(4):
        whole = torch.cat([features[name][row] for name in WIDTHS])
        code = F.relu(fusion.whole.code(torch.tanh(fusion.whole.narrow(whole))))
        rebuilt = fusion.whole.rebuild(torch.tanh(fusion.whole.widen(code)))
        basis = fusion.basis(torch.ones(8))
        mapped = [fusion.maps[name](features[name][row]) for name in WIDTHS]
        mixed = torch.cat([torch.softmax(basis[:, None] * vector[None, :], dim=1) @ vector for vector in mapped])
        mixed_code = F.relu(fusion.mixed.code(torch.tanh(fusion.mixed.narrow(mixed))))
        torch.testing.assert_close(fused.nodes_ND[row], torch.cat([code, mixed_code]))
        torch.testing.assert_close(fused.reconstructions["global"][0][row], rebuilt)
        torch.testing.assert_close(fused.reconstructions["specific"][1][row], mixed)
    assert fused.nodes_ND.shape == (4, fusion.width)
    assert fused.topic_NG is None


def test_the_specific_target_is_not_detached_as_in_the_released_code() -> None:
    fusion = AutoFusion(WIDTHS, FusionConfig(kind="auto-fusion", specific_width=8, bottleneck=6))
    fused = fusion(random_batch(2).features, layout_of(2))
    assert fused.reconstructions["specific"][1].requires_grad

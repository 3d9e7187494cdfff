"""What enters the fusion: features with missing values replaced, optionally scaled by the statistics of each speaker.

Shapes: N = utterances, W = width of a modality, G = speakers of all conversations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Batch
from joyful_ray.data.draws import at, uniform
from joyful_ray.model.dropout import DrawingPart, Dropout
from joyful_ray.schema import Modality

SpeakerScaling = Literal["none", "instead", "beside"]
SMALLEST_DEVIATION = 1e-6


class MissingEmbeddings(DrawingPart):
    """Replaces missing cells and missing modalities by trained embeddings, or by zeros.

    Shapes: output per modality (N, W), or (N, 2 W) with speaker scaling `beside`; without NaN.

    Args:
        widths: width of each modality.
        learned: whether a trained embedding replaces what is missing, or zeros.
        modality_dropout: probability that, in training, an utterance's modality is treated as missing.
        feature_dropout: dropout on the features.
        speaker_scaling: whether features scaled within each speaker's part of the conversation come instead of the
            given ones, or beside them; those are zero where a value is missing.
    """

    def __init__(
        self,
        widths: Mapping[Modality, int],
        *,
        learned: bool,
        modality_dropout: float = 0.0,
        feature_dropout: float = 0.0,
        speaker_scaling: SpeakerScaling = "none",
    ) -> None:
        super().__init__()
        self.names = list(widths)
        self.vectors = nn.ParameterDict({name: torch.zeros(width) for name, width in widths.items()} if learned else {})
        self.modality_dropout = modality_dropout
        self.drops = nn.ModuleDict({name: Dropout(feature_dropout) for name in self.names})
        self.speaker_scaling = speaker_scaling
        factor = 2 if speaker_scaling == "beside" else 1
        self.widths: dict[Modality, int] = {name: factor * width for name, width in widths.items()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Fill in missing values; in training also those that modality dropout removes."""
        filled: dict[str, Tensor] = {}
        group_N = None if self.speaker_scaling == "none" else speaker_groups(batch)
        for name in self.names:
            values = batch.features[name]
            scaled = None if group_N is None else scaled_by_group(values, group_N)
            if self.speaker_scaling == "instead" and scaled is not None:
                values = scaled
            missing = torch.isnan(values)
            if self.training and self.modality_dropout:
                draw_N = uniform(at(batch.layout.key_N, f"{self.place}.{name}"))
                missing = missing | (draw_N < self.modality_dropout)[:, None]
            fill_W = self.vectors[name] if name in self.vectors else values.new_zeros(values.shape[1])
            given = torch.where(missing, fill_W, values)
            if self.speaker_scaling == "beside" and scaled is not None:
                given = torch.cat([given, scaled.masked_fill(missing, 0.0)], dim=1)
            filled[name] = self.drops[name](given, batch.layout)
        return filled


def speaker_groups(batch: Batch) -> Tensor:
    """The number of each utterance's speaker, (N,); speakers of different conversations are different ones."""
    slots = int(batch.speakers_N.max()) + 1
    return torch.unique(batch.layout.conversation_N * slots + batch.speakers_N, return_inverse=True)[1]


def scaled_by_group(values_NW: Tensor, group_N: Tensor) -> Tensor:
    """Features minus their mean, divided by their deviation, both over the utterances with the same number.

    Missing values (NaN) do not count, and stay missing. A feature that does not vary is only centred, so the only
    utterance of a group becomes zero.
    """
    known = ~torch.isnan(values_NW)
    known_NW, zeroed_NW = known.to(values_NW.dtype), torch.nan_to_num(values_NW)
    shape = (int(group_N.max()) + 1, values_NW.shape[1])
    count_GW = values_NW.new_zeros(shape).index_add(0, group_N, known_NW).clamp(min=1.0)
    mean_GW = values_NW.new_zeros(shape).index_add(0, group_N, zeroed_NW) / count_GW
    centred_NW = (zeroed_NW - mean_GW[group_N]) * known_NW
    deviation_GW = (values_NW.new_zeros(shape).index_add(0, group_N, centred_NW.square()) / count_GW).sqrt()
    deviation_GW = torch.where(deviation_GW > SMALLEST_DEVIATION, deviation_GW, 1.0)
    return (centred_NW / deviation_GW[group_N]).masked_fill(~known, float("nan"))

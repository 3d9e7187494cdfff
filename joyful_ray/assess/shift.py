"""Measures how far the features of a corpus differ from the training data, in standard deviations of the training data.

Shapes: N = utterances, W = width of a modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from joyful_ray.corpora.statistics import FeatureStatistics
from joyful_ray.data.encode import Scaling
from joyful_ray.records import ModalityShift
from joyful_ray.schema import Modality

FAR_DEVIATIONS = 2.0
"""Utterances whose root mean square is above this count as far."""


@dataclass(frozen=True)
class Distances:
    """Sums over tables: statistics of the scaled features, and counts of utterances.

    Attributes:
        features: statistics of the scaled features.
        utterances, present, far: all utterances, those that have the modality, and those far from the training data.
    """

    features: FeatureStatistics
    utterances: int
    present: int
    far: int

    @classmethod
    def of(cls, rows: pa.Table, scaled: Mapping[Modality, Scaling]) -> dict[Modality, Distances]:
        """Compute the sums of one table, by modality."""
        distances = {}
        for name, scaling in scaled.items():
            flat = rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
            scaled_NW = (flat.reshape(-1, len(scaling.mean_W)) - scaling.mean_W) / scaling.deviation_W
            known_NW = ~np.isnan(scaled_NW)
            cells_N = known_NW.sum(axis=1)
            squares_N = (np.where(known_NW, scaled_NW, 0.0).astype(np.float64) ** 2).sum(axis=1)
            present_N = cells_N > 0
            spread_N = np.sqrt(squares_N[present_N] / cells_N[present_N])
            far, present = int((spread_N > FAR_DEVIATIONS).sum()), int(present_N.sum())
            distances[name] = cls(FeatureStatistics.of(scaled_NW), len(scaled_NW), present, far)
        return distances

    def __add__(self, other: Distances) -> Distances:
        return Distances(
            self.features + other.features,
            self.utterances + other.utterances,
            self.present + other.present,
            self.far + other.far,
        )


def shift_of(distances: Mapping[Modality, Distances]) -> dict[Modality, ModalityShift]:
    """Return the shift of each modality that at least one utterance has."""
    return {name: _shift(sums) for name, sums in distances.items() if sums.present}


def _shift(sums: Distances) -> ModalityShift:
    known = sums.features.count_W > 0
    mean_W = sums.features.mean_W[known]
    spread_W = np.sqrt(sums.features.squares_W[known] / sums.features.count_W[known])
    return ModalityShift(
        present_share=sums.present / sums.utterances,
        mean_shift=float(np.sqrt((mean_W**2).mean())),
        largest_mean_shift=float(np.abs(mean_W).max()),
        width_ratio=float(np.median(spread_W)),
        width_low=float(np.percentile(spread_W, 5)),
        width_high=float(np.percentile(spread_W, 95)),
        far_share=sums.far / sums.present,
    )

"""How far a corpus's features lie from those that a model was trained on, in its own deviations.

Shapes: N = utterances, W = width of a modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from joyful_ray.data.encode import Moments, Scaling
from joyful_ray.records import ModalityShift
from joyful_ray.schema import Modality

FAR = 2.0


@dataclass(frozen=True)
class Distances:
    """What adds up over tables: moments of the scaled features, and how many utterances are far outside."""

    moments: Moments
    utterances: int
    present: int
    far: int

    @classmethod
    def of(cls, rows: pa.Table, scaled: Mapping[Modality, Scaling]) -> dict[Modality, Distances]:
        """Distances of some rows, by modality."""
        found = {}
        for name, scaling in scaled.items():
            flat = rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
            scaled_NW = (flat.reshape(-1, len(scaling.mean_W)) - scaling.mean_W) / scaling.deviation_W
            here_NW = ~np.isnan(scaled_NW)
            cells_N = here_NW.sum(axis=1)
            squares_N = (np.where(here_NW, scaled_NW, 0.0).astype(np.float64) ** 2).sum(axis=1)
            present_N = cells_N > 0
            spread_N = np.sqrt(squares_N[present_N] / cells_N[present_N])
            far, present = int((spread_N > FAR).sum()), int(present_N.sum())
            found[name] = cls(Moments.of(scaled_NW), len(scaled_NW), present, far)
        return found

    def __add__(self, other: Distances) -> Distances:
        return Distances(
            self.moments + other.moments,
            self.utterances + other.utterances,
            self.present + other.present,
            self.far + other.far,
        )


def shift_of(distances: Mapping[Modality, Distances]) -> dict[Modality, ModalityShift]:
    """The report of each modality that has a vector at all."""
    return {name: _shift(found) for name, found in distances.items() if found.present}


def _shift(found: Distances) -> ModalityShift:
    known = found.moments.count_W > 0
    mean_W = found.moments.mean_W[known]
    width_W = np.sqrt(found.moments.squares_W[known] / found.moments.count_W[known])
    return ModalityShift(
        present_share=found.present / found.utterances,
        mean_shift=float(np.sqrt((mean_W**2).mean())),
        largest_mean_shift=float(np.abs(mean_W).max()),
        width_ratio=float(np.median(width_W)),
        width_low=float(np.percentile(width_W, 5)),
        width_high=float(np.percentile(width_W, 95)),
        far_share=found.far / found.present,
    )

"""Small random batches for the tests of data, graph, model and objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from hypothesis import settings
from torch import Tensor

from joyful_ray.data.batch import Batch, Layout
from joyful_ray.schema import Modality, Task

# On a busy machine, any example may be slow.
quick = settings(deadline=None, max_examples=40)

WIDTHS: dict[Modality, int] = {"text": 6, "audio": 4, "vision": 5}


def layout_of(*lengths: int) -> Layout:
    return Layout.of(torch.tensor(lengths), torch.arange(len(lengths)))


def spans(layout: Layout) -> list[slice]:
    """The slice of each conversation in the packed batch."""
    ends = layout.lengths_C.cumsum(0).tolist()
    return [slice(end - length, end) for end, length in zip(ends, layout.lengths_C.tolist(), strict=True)]


def random_batch(
    *lengths: int,
    widths: Mapping[Modality, int] = WIDTHS,
    task: Task = "single-label",
    classes: int = 3,
    speakers: int = 2,
    absent_vectors: float = 0.0,
    absent_cells: float = 0.0,
    unlabeled: float = 0.0,
    seed: int = 0,
) -> Batch:
    """Conversations of these lengths with Gaussian vectors; shares of vectors, cells and labels are missing."""
    draw = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    features: dict[Modality, Tensor] = {}
    present: dict[Modality, Tensor] = {}
    for name, width in widths.items():
        here = torch.rand(count, generator=draw) >= absent_vectors
        cells = torch.rand(count, width, generator=draw) >= absent_cells
        values = torch.randn(count, width, generator=draw)
        features[name] = torch.where(cells & here[:, None], values, torch.nan)
        present[name] = here
    known = torch.rand(count, generator=draw) >= unlabeled
    return Batch(
        features=features,
        present=present,
        speakers_N=_speakers(lengths, speakers, draw),
        lengths_C=torch.tensor(lengths),
        labels=_labels(task, classes, known, draw),
        conversations=tuple(range(len(lengths))),
        keys_C=torch.arange(len(lengths)),
    )


def redrawn(batch: Batch, seed: int) -> Batch:
    """The batch with other random draws; the same seed gives the same ones."""
    return batch.apart(f"seed {seed}")


def _speakers(lengths: Sequence[int], speakers: int, draw: torch.Generator) -> Tensor:
    parts = [torch.randint(speakers, (length,), generator=draw) for length in lengths]
    for part in parts:  # numbered by first appearance
        names = list(dict.fromkeys(part.tolist()))
        part.copy_(torch.tensor([names.index(name) for name in part.tolist()]))
    return torch.cat(parts)


def _labels(task: Task, classes: int, known_N: Tensor, draw: torch.Generator) -> Tensor:
    count = len(known_N)
    if task == "single-label":
        return torch.where(known_N, torch.randint(classes, (count,), generator=draw), -1)
    if task == "multi-label":
        indicators = (torch.rand(count, classes, generator=draw) < 0.4).float()
        return torch.where(known_N[:, None], indicators, torch.nan)
    return torch.where(known_N, 2 * torch.randn(count, generator=draw), torch.nan)


def pick(batch: Batch, *conversations: int) -> Batch:
    """A batch of some of the conversations of a batch."""
    rows = torch.cat([torch.arange(batch.utterances)[spans(batch.layout)[chosen]] for chosen in conversations])
    return Batch(
        features={name: values[rows] for name, values in batch.features.items()},
        present={name: values[rows] for name, values in batch.present.items()},
        speakers_N=batch.speakers_N[rows],
        lengths_C=batch.lengths_C[list(conversations)],
        labels=batch.labels[rows],
        conversations=tuple(batch.conversations[chosen] for chosen in conversations),
        keys_C=None if batch.keys_C is None else batch.keys_C[list(conversations)],
    )

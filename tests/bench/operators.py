"""Our message passing against PyTorch Geometric's, forward and backward, one thread: `python tests/bench/operators.py`.

Both run in one process, turn by turn, so that a busy machine slows both; what counts is the ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from joyful_ray.data.batch import Layout
from joyful_ray.graph.edges import Graph, windowed_graph
from joyful_ray.graph.operators import neighbour_convolution, relational_convolution, transformer_convolution

ROUNDS = 15
SIZES = {
    "MELD, 16 conversations of 9": [9] * 16,
    "IEMOCAP, 32 conversations of 48": [48] * 32,
}
KINDS: dict[str, Callable[[str], nn.Module]] = {
    "relational convolution, 4 relations": lambda kind: relational_convolution(100, 100, 4, operators=kind),
    "relational convolution, 162 relations": lambda kind: relational_convolution(100, 100, 162, operators=kind),
    "graph transformer": lambda kind: transformer_convolution(100, 100, 4, operators=kind),
    "attention with relations": lambda kind: transformer_convolution(128, 32, 4, relations=4, operators=kind),
    "neighbour convolution": lambda kind: neighbour_convolution(100, 100, operators=kind),
}


def graph_for(lengths: list[int], name: str) -> Graph:
    """A windowed graph with the relations that the operator takes."""
    speakers_N = torch.randint(9, (sum(lengths),))
    pairs = "162" in name
    return windowed_graph(
        speakers_N,
        Layout.of(torch.tensor(lengths)),
        past=8,
        future=8,
        relations="speaker-pairs" if pairs else "same-other",
        speakers=9,
    )


def once(operator: nn.Module, x_ND: torch.Tensor, graph: Graph) -> float:
    """CPU seconds of one forward and backward pass."""
    began = time.process_time()
    operator(x_ND, graph).sum().backward()
    return time.process_time() - began


def main() -> None:
    """Print a row an operator and size."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'':<72} {'PyG ms':>8} {'ours ms':>8} {'ratio':>6}")
    for size, lengths in SIZES.items():
        for name, build in KINDS.items():
            graph = graph_for(lengths, name)
            width = 128 if "with relations" in name else 100
            x_ND = torch.randn(sum(lengths), width, requires_grad=True)
            operators = {kind: build(kind) for kind in ("pyg", "fast")}
            best = dict.fromkeys(operators, float("inf"))
            for _ in range(ROUNDS):
                for kind, operator in operators.items():
                    best[kind] = min(best[kind], once(operator, x_ND, graph))
            row = f"{size}: {name}"
            print(f"{row:<72} {best['pyg'] * 1e3:>8.1f} {best['fast'] * 1e3:>8.1f} {best['pyg'] / best['fast']:>6.1f}")


if __name__ == "__main__":
    main()

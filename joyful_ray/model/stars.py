"""The graph around the next utterance of a conversation, whose edges come from the past.

Shapes: T = utterances that the next one is connected to, itself included, D = any width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from joyful_ray.graph.edges import Graph, relation_ids
from joyful_ray.graph.views import GraphBuilder
from joyful_ray.model.memory import PartMemory, one_conversation


@dataclass(frozen=True)
class Stars:
    """Connects the next utterance to those before it, for each layer of an encoder.

    Attributes:
        graphs: how graphs are built.
        speakers_T: speakers of the utterances that the next one is connected to, itself the last.
        memory: keeps what each layer took in.
    """

    graphs: GraphBuilder
    speakers_T: Tensor
    memory: PartMemory

    def around(self, x_1D: Tensor, *, name: str) -> tuple[Tensor, Graph]:
        """The inputs of a layer, (T, D), and the edges from all of them to the last one."""
        x_TD = self.memory.append(name, x_1D, most=len(self.speakers_T))
        source_E = torch.arange(len(x_TD), device=x_TD.device)
        target_E = torch.full_like(source_E, len(x_TD) - 1)
        relations, speakers = self.graphs.graph.relations, self.graphs.speakers
        relation_E = relation_ids(source_E, target_E, self.speakers_T, relations=relations, speakers=speakers)
        return x_TD, Graph(source_E, target_E, relation_E, self.graphs.relation_count, one_conversation(x_TD))

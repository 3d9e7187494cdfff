"""One utterance after the other: a causal model with what it remembers of a conversation.

Shapes: N = utterances so far, K = labels, E = embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from joyful_ray.data.batch import Batch
from joyful_ray.model.joyful import Joyful
from joyful_ray.model.memory import Memory, PartMemory, one_conversation, step_through
from joyful_ray.model.stars import Stars


class ConversationState:
    """A conversation so far, as a causal model in evaluation mode sees it.

    Args:
        model: built with `model.causal`; it must not be trained meanwhile.
    """

    def __init__(self, model: Joyful) -> None:
        self.model = model
        self.memory = Memory()
        self._last_speaker: int | None = None

    def add(self, utterance: Batch) -> tuple[Tensor, Tensor]:
        """Score the next utterance: its scores (1, K), and its embedding (1, E).

        Args:
            utterance: a batch of this utterance alone; speakers are numbered over the conversation.
        """
        model, speaker = self.model, int(utterance.speakers_N[0])
        node_1D = self._fused(model.features(utterance))
        entering = node_1D
        if model.has_speaker_flag:
            entering = torch.cat([node_1D, node_1D.new_full((1, 1), float(speaker == self._last_speaker))], dim=1)
        context_1D = step_through(model.context, entering, self.memory.of("context"))
        if model.party_state is not None:
            context_1D = context_1D + model.party_state.step(node_1D, speaker, self.memory.of("party state"))
        embedding_1E, encoded = self._encoded(context_1D, utterance)
        self._last_speaker = speaker
        return model.classified(encoded, context_1D, utterance.layout), embedding_1E

    def _fused(self, features: dict[str, Tensor]) -> Tensor:
        fusion, memory = self.model.fusion, self.memory.of("fusion")
        if hasattr(fusion, "step"):
            return fusion.step(features, memory)
        past = {name: memory.append(name, values) for name, values in features.items()}
        return fusion(past, one_conversation(next(iter(past.values())))).nodes_ND[-1:]

    def _encoded(self, context_1D: Tensor, utterance: Batch) -> tuple[Tensor, Tensor]:
        encoder, graphs, memory = self.model.encoder, self.model.graphs, self.memory.of("encoder")
        past = graphs.graph.window_past
        if hasattr(encoder, "step"):
            most = None if past is None else past + 1
            speakers_T = self.memory.of("speakers").append("ids", utterance.speakers_N, most=most)
            return encoder.step(context_1D, Stars(graphs, speakers_T, memory))
        return self._encoded_again(context_1D, utterance, memory)

    def _encoded_again(self, context_1D: Tensor, utterance: Batch, memory: PartMemory) -> tuple[Tensor, Tensor]:
        """An encoder of the user runs over the whole conversation so far."""
        past_ND = memory.append("inputs", context_1D)
        speakers_N = self.memory.of("speakers").append("ids", utterance.speakers_N)
        graph = self.model.graphs.of(speakers_N, one_conversation(past_ND))
        embedding = self.model.encoder.embed(past_ND, graph)[-1]
        return embedding[-1:], self.model.encoder.refine(embedding, graph)[-1:]

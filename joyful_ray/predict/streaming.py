"""Predicts a conversation while it is held: one utterance after the other, with what came before it kept as state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from joyful_ray.corpora.importers.base import nearest
from joyful_ray.data.batch import Batch
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import CorpusError, TrainingError
from joyful_ray.model.streaming import ConversationState
from joyful_ray.predict.conversations import rows_of
from joyful_ray.predict.decoder import Scored
from joyful_ray.schema import MODALITIES

if TYPE_CHECKING:
    from joyful_ray.predict.predictor import Predictor

KEYS = ("speaker", "utterance_id", "transcript", *MODALITIES)
"""The keys of an utterance."""


@dataclass
class StreamedConversation:
    """A conversation of a causal model that is not over yet; `Predictor.start_conversation` makes one.

    Attributes:
        predictor: the model.
        conversation_id: in the predictions, and in front of utterance ids that are not given.
    """

    predictor: Predictor
    conversation_id: str
    _state: ConversationState = field(init=False, repr=False)
    _speakers: dict[str, int] = field(default_factory=dict, repr=False)
    _seen: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        bundle = self.predictor.bundle
        self._state = ConversationState(bundle.model)
        self._speakers = {name: number for number, name in enumerate(bundle.encoding.speaker_order)}

    def __len__(self) -> int:
        """Number of utterances so far."""
        return len(self._seen)

    def add(self, utterance: Mapping[str, Any], *, embedding: bool = False) -> dict[str, Any]:
        """Predict the next utterance.

        Args:
            utterance: a dict with `speaker` and, under `text`, `audio` and `vision`, its vectors (lists or arrays; left
                out or None where the modality is missing). `transcript` matters only if the model reads words.
                `utterance_id` is generated if it is missing.
            embedding: also return the vector that the graph encoder computes for the utterance.

        Returns:
            One row of what `Predictor.predict` returns for the whole conversation, as a dict.

        Raises:
            CorpusError: the utterance is invalid; the conversation then goes on as if it had not been added.
            TrainingError: a score is not finite.
        """
        rows = self._rows(utterance)
        utterance_id, speaker = (rows[name][0].as_py()[0] for name in ("utterance_ids", "speakers"))
        if utterance_id in self._seen:
            raise CorpusError(f"an earlier utterance has the same id, {utterance_id}")
        self._seen.add(utterance_id)
        scores_1K, embedding_1E = self._scored(rows, self._speakers.setdefault(speaker, len(self._speakers)))
        table = self.predictor.decoder.table(
            pa.array([self.conversation_id]),
            pa.array([utterance_id]),
            Scored(scores_1K.float().cpu(), embedding_1E.float().cpu() if embedding else None),
        )
        return table.to_pylist()[0]

    def _rows(self, utterance: Mapping[str, Any]) -> pa.Table:
        if not isinstance(utterance, Mapping):
            raise CorpusError(f"expected a dict, found a value of type {type(utterance).__name__}")
        for key in utterance:
            if key not in KEYS:
                raise CorpusError(f"unknown key {key!r}; {nearest(str(key), KEYS)}")
        utterance_id = utterance.get("utterance_id", f"{self.conversation_id}_{len(self)}")
        conversation: dict[str, Any] = {
            "conversation_id": self.conversation_id,
            "speakers": [utterance.get("speaker")],
            "utterance_ids": [utterance_id],
            **{name: _one_vector(utterance[name]) for name in MODALITIES if utterance.get(name) is not None},
        }
        if utterance.get("transcript") is not None:
            conversation["texts"] = [utterance["transcript"]]
        encoding, place = self.predictor.bundle.encoding, f"utterance {len(self) + 1}"
        for key in ("speaker", "transcript"):
            if not isinstance(utterance.get(key, ""), str | None) or (key == "speaker" and not utterance.get(key)):
                raise CorpusError(f"{place}: {key} is missing, or not a string")
        return rows_of(
            [conversation], encoding.widths, reads_texts=encoding.ngrams is not None, called=lambda number: place
        )

    @torch.inference_mode()
    def _scored(self, rows: pa.Table, speaker: int) -> tuple[torch.Tensor, torch.Tensor]:
        bundle, device = self.predictor.bundle, self.predictor.device
        store = SplitStore([bundle.encoding.table(rows, with_labels=False)], bundle.encoding)
        batch: Batch = store.batch([0])
        batch = replace(batch, speakers_N=torch.full_like(batch.speakers_N, speaker)).to(device)
        is_bf16 = bundle.job.train.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            scores_1K, embedding_1E = self._state.add(batch)
        if not torch.isfinite(scores_1K).all():
            raise TrainingError("a score is not finite; check the features for extreme values, and the weights")
        return scores_1K, embedding_1E


def _one_vector(vector: Any) -> Any:
    """What a conversation of one utterance has under a modality."""
    return vector[None] if isinstance(vector, np.ndarray) else [vector]

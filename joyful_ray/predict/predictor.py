"""A bundle that answers: rows of a shard, or conversations as plain dicts, to predictions.

Shapes: N = utterances, K = labels, E = embedding width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from joyful_ray.data.plan import plan_evaluation
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import TrainingError
from joyful_ray.predict.conversations import rows_of
from joyful_ray.predict.prediction_table import PredictionTable
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.evaluate import forward
from joyful_ray.train.process_group import pick_device


@dataclass(frozen=True)
class Predictor:
    """A bundle on a device. `joyful_ray.load` makes one."""

    bundle: Bundle
    device: torch.device
    answers: PredictionTable

    @classmethod
    def open(cls, bundle: str, *, device: str = "auto") -> Predictor:
        """Open a bundle, or the run that holds it.

        Args:
            bundle: a path or s3:// URI.
            device: auto, cpu or cuda.

        Raises:
            CheckpointError: there is no bundle, or it is damaged.
            ConfigError: `cuda` where torch sees no GPU.
        """
        read = read_bundle(bundle)
        chosen = pick_device(device)
        read.model.to(chosen)
        return cls(read, chosen, answers_of(read))

    def predict(self, conversations: Iterable[Mapping[str, Any]], *, embedding: bool = False) -> pa.Table:
        """The emotions of conversations given as plain dicts, with the keys of the jsonl importer's lines.

        Args:
            conversations: each with `speakers` and, for `text`, `audio` and `vision`, vectors an utterance a row
                (lists, with None for what is not present, or arrays); `conversation_id` and `utterance_ids` are made up
                where they are left out. A modality that is left out gets the model's embedding for a missing one.
                `texts` matter where the model reads words (`data.word_ngrams`); `labels` are ignored.
            embedding: add the vector that the graph gave each utterance.

        Returns:
            One row an utterance, in the order given; the columns are those of `joyful predict`. `.to_pandas()` and
            `.to_pylist()` make of it what is needed.

        Raises:
            CorpusError: a conversation is not what it must be; says which and why.

        Example:
            joyful_ray.load("runs/meld/bundle").predict([{"speakers": ["Ann"], "text": [vector]}]).to_pandas()
        """
        encoding = self.bundle.encoding
        rows = rows_of(conversations, encoding.widths, reads_texts=encoding.ngrams is not None)
        return self.table(rows, embedding=embedding)

    def table(self, rows: pa.Table, *, embedding: bool = False) -> pa.Table:
        """Predictions for a shard's rows: one row an utterance, in the order of the rows."""
        scores_NK, embedding_NE = self.scores([rows], embedding=embedding)
        utterance_ids = rows["utterance_ids"].combine_chunks()
        owners = pc.list_parent_indices(utterance_ids)
        conversation_ids = rows["conversation_id"].combine_chunks().take(owners)
        return self.answers.table(conversation_ids, utterance_ids.flatten(), scores_NK, embedding_NE)

    @torch.inference_mode()
    def scores(self, tables: Sequence[pa.Table], *, embedding: bool = False) -> tuple[Tensor, Tensor | None]:
        """The model's scores (N, K), and embeddings (N, E) where asked for, in the order of the rows, on the CPU.

        Conversations are grouped over all tables as `evaluate` groups a split; only a model that attends to padding
        (`released`) answers otherwise in another grouping.

        Raises:
            TrainingError: a score is not finite.
        """
        job, encoding = self.bundle.job, self.bundle.encoding
        store = SplitStore([encoding.table(rows, with_labels=False) for rows in tables], encoding)
        in_order = np.empty_like(store.lengths)
        in_order[store.rows] = store.lengths
        starts = (np.cumsum(in_order) - in_order)[store.rows]
        places, scores, embeddings = [], [], []
        for chosen in plan_evaluation(store.lengths, utterances=job.train.evaluation_utterances):
            output = forward(self.bundle.model, store.batch(chosen).to(self.device), precision=job.train.precision)
            places += [np.arange(starts[one], starts[one] + store.lengths[one]) for one in chosen]
            scores.append(output.scores_NK.float().cpu())
            if embedding:
                embeddings.append(output.layers[-1].float().cpu())
        if not places:
            return torch.zeros(0, max(len(encoding.labels), 1)), torch.zeros(0, 1) if embedding else None
        order = torch.from_numpy(np.argsort(np.concatenate(places), kind="stable"))
        scores_NK = torch.cat(scores)[order]
        if not torch.isfinite(scores_NK).all():
            raise TrainingError("a score is not finite; look for extreme features, or weights that are not finite")
        return scores_NK, torch.cat(embeddings)[order] if embedding else None


def answers_of(bundle: Bundle) -> PredictionTable:
    """How a bundle's scores become probabilities and predictions."""
    return PredictionTable(
        bundle.encoding.task,
        bundle.encoding.labels,
        thresholds=bundle.card.thresholds,
        temperature=bundle.card.temperature or 1.0,
    )

"""Predicts with a bundle, from the rows of a shard or from conversations given as dicts.

Shapes: N = utterances, K = labels, E = embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from joyful_ray.data.plan import plan_evaluation
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.predict.conversations import rows_of
from joyful_ray.predict.decoder import PredictionDecoder
from joyful_ray.predict.ensemble import check_alike, combined, combined_decoder
from joyful_ray.predict.streaming import StreamedConversation
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.evaluate import forward
from joyful_ray.train.process_group import pick_device
from joyful_ray.wording import counted


@dataclass(frozen=True)
class Predictor:
    """A bundle on a device. `joyful_ray.load` creates one.

    Attributes:
        bundle: the trained model with its labels and statistics.
        device: where the model runs.
        decoder: converts scores to probabilities and predictions.
        others: further bundles, whose probabilities are averaged with those of the first.
    """

    bundle: Bundle
    device: torch.device
    decoder: PredictionDecoder
    others: tuple[Bundle, ...] = ()

    def __repr__(self) -> str:
        """The model in one line."""
        encoding = self.bundle.encoding
        labels = f", {counted(len(encoding.labels), 'label')}" if encoding.labels else ""
        widths = ", ".join(f"{name} {width}" for name, width in encoding.widths.items())
        return (
            f"Predictor {self.bundle.card.config['name']}: {encoding.task}{labels}; features {widths}; on {self.device}"
        )

    @classmethod
    def open(cls, bundle: str | Sequence[str], *, device: str = "auto") -> Predictor:
        """Open a bundle, or the run that contains it; or several, which are averaged.

        Args:
            bundle: a path or s3:// URI, or several.
            device: auto, cpu or cuda.

        Raises:
            CheckpointError: there is no bundle, or it is damaged.
            ConfigError: the device is `cuda`, but torch finds no GPU; or the bundles have different labels.
        """
        bundles = [read_bundle(each) for each in ([bundle] if isinstance(bundle, str) else bundle)]
        check_alike(bundles)
        chosen = pick_device(device)
        for opened in bundles:
            opened.model.to(chosen)
        decoders = [decoder_of(opened) for opened in bundles]
        decoder = decoders[0] if len(decoders) == 1 else combined_decoder(decoders)
        return cls(bundles[0], chosen, decoder, tuple(bundles[1:]))

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """All bundles."""
        return (self.bundle, *self.others)

    def predict(self, conversations: Iterable[Mapping[str, Any]], *, embedding: bool = False) -> pa.Table:
        """Predict conversations given as dicts, with the keys of the JSONL format.

        Args:
            conversations: dicts with `speakers` and, under `text`, `audio` and `vision`, one vector per utterance
                (lists, with None for an utterance without the modality, or arrays). `conversation_id` and
                `utterance_ids` are generated if they are missing. For a missing modality, the model uses its learned
                embedding. `texts` matter only if the model reads words (`data.word_ngrams`); `labels` are ignored.
            embedding: also return the vector that the graph encoder computes for each utterance.

        Returns:
            One row per utterance, in the given order, with the columns of `joyful predict`. Convert it with
            `.to_pandas()` or `.to_pylist()`.

        Raises:
            CorpusError: a conversation is invalid; the message says which one and why.

        Example:
            joyful_ray.load("runs/meld/bundle").predict([{"speakers": ["Ann"], "text": [vector]}]).to_pandas()
        """
        widths = {name: width for bundle in self.bundles for name, width in bundle.encoding.widths.items()}
        reads_texts = any(bundle.encoding.ngrams is not None for bundle in self.bundles)
        rows = rows_of(conversations, widths, reads_texts=reads_texts)
        return self.table(rows, embedding=embedding)

    def start_conversation(self, conversation_id: str = "conversation") -> StreamedConversation:
        """Begin a conversation that is predicted utterance by utterance, while it is held.

        Its predictions are those of the whole conversation, because no utterance sees a later one.

        Raises:
            ConfigError: the model is not causal.

        Example:
            conversation = joyful_ray.load("runs/causal").start_conversation()
            conversation.add({"speaker": "Ann", "text": vector})["prediction"]
        """
        if self.others:
            raise ConfigError("a conversation is predicted utterance by utterance with one bundle, not with several")
        if not self.bundle.card.causal:
            raise ConfigError(
                "the model is not causal: it scores an utterance with the help of later ones; train one with "
                "--set model.causal=true"
            )
        return StreamedConversation(self, conversation_id)

    def table(self, rows: pa.Table, *, embedding: bool = False) -> pa.Table:
        """Predict the rows of a shard; the result has one row per utterance, in the order of the shard."""
        scores_NK, embedding_NE = self.scores([rows], embedding=embedding)
        utterance_ids = rows["utterance_ids"].combine_chunks()
        owners = pc.list_parent_indices(utterance_ids)
        conversation_ids = rows["conversation_id"].combine_chunks().take(owners)
        return self.decoder.table(conversation_ids, utterance_ids.flatten(), scores_NK, embedding_NE)

    def scores(
        self,
        tables: Sequence[pa.Table],
        *,
        embedding: bool = False,
        watch: Callable[[int, int], None] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute scores (N, K) and, on request, embeddings (N, E), in the order of the rows, on the CPU.

        The scores of several bundles are combined, so that `decoder` gives the mean of their probabilities.

        Args:
            tables: rows of shards.
            embedding: also return embeddings.
            watch: called with the number of utterances scored so far, and with that of all.

        Raises:
            ConfigError: embeddings of several bundles are requested.
            TrainingError: a score is not finite.
        """
        if not self.others:
            return self._scores_of(self.bundle, tables, embedding=embedding, watch=watch)
        if embedding:
            raise ConfigError("each bundle has embeddings of its own; name one bundle to get them")
        scores = [self._scores_of(bundle, tables, watch=watch)[0] for bundle in self.bundles]
        return combined(scores, [decoder_of(bundle) for bundle in self.bundles]), None

    @torch.inference_mode()
    def _scores_of(
        self,
        bundle: Bundle,
        tables: Sequence[pa.Table],
        *,
        embedding: bool = False,
        watch: Callable[[int, int], None] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The scores of one bundle.

        Conversations are batched over all tables in the way `evaluate` batches a split. Only a model that attends to
        padding (`Bundle.depends_on_batch`, as with `released`) gives other scores in other batches.
        """
        job, encoding = bundle.job, bundle.encoding
        store = SplitStore([encoding.table(rows, with_labels=False) for rows in tables], encoding)
        in_order = np.empty_like(store.lengths)
        in_order[store.rows] = store.lengths
        starts = (np.cumsum(in_order) - in_order)[store.rows]
        positions, scores, embeddings = [], [], []
        for chosen in plan_evaluation(store.lengths, utterances=job.train.evaluation_utterances):
            output = forward(bundle.model, store.batch(chosen).to(self.device), precision=job.train.precision)
            positions += [np.arange(starts[one], starts[one] + store.lengths[one]) for one in chosen]
            scores.append(output.scores_NK.float().cpu())
            if embedding:
                embeddings.append(output.layers[-1].float().cpu())
            if watch is not None:
                watch(sum(map(len, scores)), store.utterances)
        if not positions:
            return torch.zeros(0, max(len(encoding.labels), 1)), torch.zeros(0, 1) if embedding else None
        order = torch.from_numpy(np.argsort(np.concatenate(positions), kind="stable"))
        scores_NK = torch.cat(scores)[order]
        if not torch.isfinite(scores_NK).all():
            raise TrainingError("a score is not finite; check the features for extreme values, and the weights")
        return scores_NK, torch.cat(embeddings)[order] if embedding else None


def decoder_of(bundle: Bundle) -> PredictionDecoder:
    """Return the decoder for the scores of a bundle."""
    return PredictionDecoder(
        bundle.encoding.task,
        bundle.encoding.labels,
        thresholds=bundle.card.thresholds,
        temperature=bundle.card.temperature or 1.0,
    )

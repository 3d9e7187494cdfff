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

from joyful_ray.data.batch import Batch
from joyful_ray.data.plan import plan_evaluation
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.model.joyful import Output
from joyful_ray.predict.conversations import rows_of
from joyful_ray.predict.decoder import PredictionDecoder, Scored, VectorChoice
from joyful_ray.predict.ensemble import check_alike, combined, combined_decoder
from joyful_ray.predict.streaming import StreamedConversation
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.evaluate import forward
from joyful_ray.train.process_group import pick_device
from joyful_ray.wording import counted

NO_VECTORS = VectorChoice()


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

    def predict(
        self, conversations: Iterable[Mapping[str, Any]], *, embedding: bool = False, shared: bool = False
    ) -> pa.Table:
        """Predict conversations given as dicts, with the keys of the JSONL format.

        Args:
            conversations: dicts with `speakers` and, under `text`, `audio` and `vision`, one vector per utterance
                (lists, with None for an utterance without the modality, or arrays). `conversation_id` and
                `utterance_ids` are generated if they are missing. For a missing modality, the model uses its learned
                embedding. `texts` matter only if the model reads words (`data.word_ngrams`); `labels` are ignored.
            embedding: also return the vector that the graph encoder computes for each utterance.
            shared: also return the vectors of each modality in the basis that all modalities share; null where an
                utterance lacks the modality.

        Returns:
            One row per utterance, in the given order, with the columns of `joyful predict`. Convert it with
            `.to_pandas()` or `.to_pylist()`.

        Raises:
            ConfigError: the model has no basis that modalities share.
            CorpusError: a conversation is invalid; the message says which one and why.

        Example:
            joyful_ray.load("runs/meld/bundle").predict([{"speakers": ["Ann"], "text": [vector]}]).to_pandas()
        """
        widths = {name: width for bundle in self.bundles for name, width in bundle.encoding.widths.items()}
        reads_texts = any(bundle.encoding.ngrams is not None for bundle in self.bundles)
        rows = rows_of(conversations, widths, reads_texts=reads_texts)
        return self.table(rows, VectorChoice(embedding, shared))

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

    def table(self, rows: pa.Table, vectors: VectorChoice = NO_VECTORS) -> pa.Table:
        """Predict the rows of a shard; the result has one row per utterance, in the order of the shard."""
        scored = self.scores([rows], vectors)
        utterance_ids = rows["utterance_ids"].combine_chunks()
        owners = pc.list_parent_indices(utterance_ids)
        conversation_ids = rows["conversation_id"].combine_chunks().take(owners)
        return self.decoder.table(conversation_ids, utterance_ids.flatten(), scored)

    def scores(
        self,
        tables: Sequence[pa.Table],
        vectors: VectorChoice = NO_VECTORS,
        *,
        watch: Callable[[int, int], None] | None = None,
    ) -> Scored:
        """Compute scores and, on request, vectors, in the order of the rows, on the CPU.

        The scores of several bundles are combined, so that `decoder` gives the mean of their probabilities.

        Args:
            tables: rows of shards.
            vectors: what to return beside the scores.
            watch: called with the number of utterances scored so far, and with that of all.

        Raises:
            ConfigError: vectors of several bundles are requested, or the model has no basis that modalities share.
            TrainingError: a score is not finite.
        """
        check_vectors(self.bundles, vectors)
        if not self.others:
            return self._scores_of(self.bundle, tables, vectors, watch=watch)
        scores = [self._scores_of(bundle, tables, watch=watch).scores_NK for bundle in self.bundles]
        return Scored(combined(scores, [decoder_of(bundle) for bundle in self.bundles]))

    @torch.inference_mode()
    def _scores_of(
        self,
        bundle: Bundle,
        tables: Sequence[pa.Table],
        vectors: VectorChoice = NO_VECTORS,
        *,
        watch: Callable[[int, int], None] | None = None,
    ) -> Scored:
        """The scores of one bundle.

        Conversations are batched over all tables in the way `evaluate` batches a split. Only a model that attends to
        padding (`Bundle.depends_on_batch`, as with `released`) gives other scores in other batches.
        """
        job, encoding = bundle.job, bundle.encoding
        store = SplitStore([encoding.table(rows, with_labels=False) for rows in tables], encoding)
        in_order = np.empty_like(store.lengths)
        in_order[store.rows] = store.lengths
        starts = (np.cumsum(in_order) - in_order)[store.rows]
        positions, found, seen = [], [], 0
        for chosen in plan_evaluation(store.lengths, utterances=job.train.evaluation_utterances):
            batch = store.batch(chosen).to(self.device)
            found.append(_part(forward(bundle.model, batch, precision=job.train.precision), batch, vectors))
            positions += [np.arange(starts[one], starts[one] + store.lengths[one]) for one in chosen]
            seen += batch.utterances
            if watch is not None:
                watch(seen, store.utterances)
        if not found:
            found, positions = [_empty(bundle, vectors)], [np.arange(0)]
        order = torch.from_numpy(np.argsort(np.concatenate(positions), kind="stable"))
        scores_NK = torch.cat([part.scores_NK for part in found])[order]
        if not torch.isfinite(scores_NK).all():
            raise TrainingError("a score is not finite; check the features for extreme values, and the weights")
        embeddings = [part.embedding_NE for part in found if part.embedding_NE is not None]
        shared = {name: torch.cat([part.shared[name] for part in found])[order] for name in found[0].shared}
        return Scored(scores_NK, torch.cat(embeddings)[order] if embeddings else None, shared)


def _part(output: Output, batch: Batch, vectors: VectorChoice) -> Scored:
    """What is kept of a batch's output."""
    shared = {
        name: vectors_NS.float().masked_fill(~batch.given[name][:, None], float("nan")).cpu()
        for name, vectors_NS in (output.fused.shared if vectors.shared else {}).items()
    }
    embedding_NE = output.layers[-1].float().cpu() if vectors.embedding else None
    return Scored(output.scores_NK.float().cpu(), embedding_NE, shared)


def _empty(bundle: Bundle, vectors: VectorChoice) -> Scored:
    """What a shard without conversations gives."""
    shared = {name: torch.zeros(0, 1) for name in bundle.shared_modalities} if vectors.shared else {}
    embedding_NE = torch.zeros(0, 1) if vectors.embedding else None
    return Scored(torch.zeros(0, max(len(bundle.encoding.labels), 1)), embedding_NE, shared)


def check_vectors(bundles: Sequence[Bundle], vectors: VectorChoice) -> None:
    """Check that bundles have the requested vectors.

    Raises:
        ConfigError: there are several bundles, or the model has no basis that modalities share.
    """
    if vectors and len(bundles) > 1:
        raise ConfigError("each bundle has embeddings of its own; name one bundle to get them")
    if vectors.shared and not bundles[0].shared_modalities:
        raise ConfigError(
            "this model has no basis that modalities share; train one with model.fusion.kind: dual-branch and "
            "model.fusion.specific_branch: true"
        )


def decoder_of(bundle: Bundle) -> PredictionDecoder:
    """Return the decoder for the scores of a bundle."""
    return PredictionDecoder(
        bundle.encoding.task,
        bundle.encoding.labels,
        thresholds=bundle.card.thresholds,
        temperature=bundle.card.temperature or 1.0,
    )

"""Predicts a corpus: checks everything first, predicts the shards that are not finished, and writes the card."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import CheckpointError, CorpusError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.predict.ensemble import check_alike, combined_decoder, joint_hash
from joyful_ray.predict.output_shards import (
    ADVICE,
    CARD,
    Origin,
    OutputShard,
    columns_of,
    finished_shards,
    output_shards,
)
from joyful_ray.predict.predictor import NO_VECTORS, Predictor, check_vectors, decoder_of
from joyful_ray.predict.shard_task import ShardTask
from joyful_ray.records import PredictionCard, read_as, versions
from joyful_ray.schema import Split
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import Location, open_location
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.on_ray.connection import check_machine, ray_cluster
from joyful_ray.train.process_group import use_cores

Watch = Callable[[int, int], None]
"""Called with the number of finished shards and the number of all shards."""


def predict_corpus(
    bundle: str | Sequence[str],
    corpus: str,
    out: str,
    *,
    splits: list[Split] | None = None,
    cluster: ClusterConfig | None = None,
    vectors: VectorChoice = NO_VECTORS,
    device: str = "auto",
    watch: Watch | None = None,
) -> PredictionCard:
    """Predict every utterance of a corpus and write Parquet files; the same call continues after an interruption.

    Args:
        bundle, corpus, out: paths or s3:// URIs; on a cluster, all workers must be able to reach them. The
            probabilities of several bundles are averaged.
        splits: the splits to predict; by default, all splits of the corpus.
        cluster: the pool of Ray actors; with `workers=0`, this process predicts without Ray.
        vectors: what to write beside the predictions.
        device: auto, cpu or cuda, if `workers=0`; Ray actors use a GPU if they have one.
        watch: called whenever a shard is finished.

    Returns:
        The card, which is also written to `out`.

    Raises:
        UserError: the bundle does not fit the corpus, or `out` contains something else; nothing was predicted yet.
        TrainingError: a score is not finite.
    """
    start = time.perf_counter()
    cluster = cluster or ClusterConfig()
    models, opened, place = _open([bundle] if isinstance(bundle, str) else bundle, corpus, out, vectors)
    requested = _splits_of(opened, splits)
    earlier = _earlier_card(place, origin := Origin(joint_hash(models), opened.hash, vectors))
    finished = finished_shards(place, output_shards(opened, opened.splits()), origin)
    shards = output_shards(opened, requested)
    unfinished = [shard for shard in shards if shard not in finished]
    if not unfinished and earlier is not None and set(requested) <= set(earlier.splits):
        return earlier
    task = ShardTask(tuple(model.location.uri for model in models), opened, place, origin)
    kept = len(shards) - len(unfinished)
    for count, _ in enumerate(_predict_shards(task, unfinished, cluster, device), start=kept + 1):
        if watch is not None:
            watch(count, len(shards))
    covered = [split for split in opened.splits() if split in requested or (earlier and split in earlier.splits)]
    seconds = time.perf_counter() - start
    card = PredictionCard(
        **_origin_of(models, opened),
        splits={split: _counts(opened, split) for split in covered},
        columns=columns_of(place, shards[0]),
        has_embedding=vectors.embedding,
        has_shared=vectors.shared,
        shards=len(output_shards(opened, covered)),
        kept_shards=kept,
        workers=cluster.workers,
        seconds=seconds,
        utterances_per_second=sum(shard.source.utterances for shard in unfinished) / seconds,
        versions=versions(),
    )
    return _write_card(place, card)


def _write_card(place: Location, card: PredictionCard) -> PredictionCard:
    place.join(CARD).write_text(card.model_dump_json(indent=1) + "\n")
    return card


def _open(
    bundles: Sequence[str], corpus: str, out: str, vectors: VectorChoice
) -> tuple[list[Bundle], Corpus, Location]:
    models = [read_bundle(bundle) for bundle in bundles]
    check_alike(models)
    check_vectors(models, vectors)
    opened, place = open_corpus(corpus), open_location(out)
    for model in models:
        model.check_fits(opened.manifest)
    if place.uri.startswith(f"{opened.location.uri}/"):
        raise CheckpointError(f"{place.uri} is inside the corpus {opened.location.uri}; choose another --out")
    return models, opened, place


def _origin_of(bundles: Sequence[Bundle], corpus: Corpus) -> dict[str, Any]:
    """The entries of the card about the models and the corpus."""
    decoders = [decoder_of(bundle) for bundle in bundles]
    decoder = decoders[0] if len(decoders) == 1 else combined_decoder(decoders)
    return {
        "bundle": {
            "uri": " ".join(bundle.location.uri for bundle in bundles),
            "hash": joint_hash(bundles),
            "fingerprint": " ".join(bundle.card.fingerprint for bundle in bundles),
        },
        "corpus": {"uri": corpus.location.uri, "name": corpus.manifest.name, "hash": corpus.hash},
        "temperature": decoder.temperature,
        "thresholds": decoder.calibrated_thresholds,
        "depends_on_batch": any(bundle.depends_on_batch for bundle in bundles),
    }


def _predict_shards(
    task: ShardTask, unfinished: list[OutputShard], cluster: ClusterConfig, device: str
) -> Iterator[OutputShard]:
    """Yield each shard when this process or a worker has finished it."""
    if not unfinished:
        return
    if cluster.workers == 0:
        predictor = Predictor.open(task.bundles, device=device)
        use_cores(cluster.cpus_per_worker, predictor.device)
        yield from task.run(predictor, unfinished)
        return
    job = JobConfig(cluster=cluster)
    check_machine(job)
    with ray_cluster(job):
        from joyful_ray.predict.pool import predict_on_ray

        yield from predict_on_ray(task, unfinished, cluster)


def _splits_of(corpus: Corpus, requested: list[Split] | None) -> list[Split]:
    found = corpus.splits()
    for split in requested or []:
        if split not in found:
            raise CorpusError(f"{corpus.location.uri} has no {split} split; it has {', '.join(found)}")
    return [split for split in found if requested is None or split in requested]


def _counts(corpus: Corpus, split: Split) -> dict[str, int]:
    entry = corpus.manifest.splits[split]
    return {"conversations": entry.conversations, "utterances": entry.utterances}


def card_of(out: Location) -> PredictionCard | None:
    """Read the card of an earlier prediction; None if there is none, or it is not finished.

    Raises:
        CheckpointError: the card is damaged.
    """
    place = out.join(CARD)
    if not place.exists():
        return None
    try:
        return read_as(PredictionCard, place.read_text(), place=place.uri)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {ADVICE}") from None


def _earlier_card(out: Location, origin: Origin) -> PredictionCard | None:
    """Read the card of an earlier prediction, which must have the same bundle, corpus and columns."""
    card = card_of(out)
    if card is None:
        return None
    found, wanted = VectorChoice(card.has_embedding, card.has_shared), origin.vectors
    for difference, theirs, ours in (
        ("with another bundle", card.bundle["hash"], origin.bundle),
        ("from another corpus", card.corpus["hash"], origin.corpus),
        ("with embeddings" if found.embedding else "without embeddings", found.embedding, wanted.embedding),
        ("with shared vectors" if found.shared else "without shared vectors", found.shared, wanted.shared),
    ):
        if theirs != ours:
            raise CheckpointError(f"{out.uri} was predicted {difference}; {ADVICE}")
    return card

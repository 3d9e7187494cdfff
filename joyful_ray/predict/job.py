"""A prediction from the driver: checks before anything is spent, the shards that are not done yet, then the card."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import CheckpointError, CorpusError
from joyful_ray.predict.output_shards import (
    AGAIN,
    CARD,
    Origin,
    OutputShard,
    columns_of,
    finished_shards,
    output_shards,
)
from joyful_ray.predict.predictor import Predictor, answers_of
from joyful_ray.predict.shard_task import ShardTask
from joyful_ray.records import PredictionCard, read_as, versions
from joyful_ray.schema import Split
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import Location, open_location
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.launch import check_machine, ray_cluster
from joyful_ray.train.process_group import use_cores

Watch = Callable[[int, int], None]
"""Given the shards that are done, and how many there are."""


def predict_corpus(
    bundle: str,
    corpus: str,
    out: str,
    *,
    splits: list[Split] | None = None,
    cluster: ClusterConfig | None = None,
    embedding: bool = False,
    device: str = "auto",
    watch: Watch | None = None,
) -> PredictionCard:
    """Write the emotions of every utterance of a corpus as Parquet; the same call continues where one was killed.

    Args:
        bundle, corpus, out: paths or s3:// URIs; on a cluster all workers must reach them.
        splits: those to read; all that the corpus has where None.
        cluster: the actor pool; `workers=0` predicts in this process without Ray.
        embedding: add the vector that the graph gave each utterance.
        device: of `workers=0`; workers take a GPU where they have one.
        watch: told of every finished shard.

    Raises:
        UserError: bundle and corpus do not fit, or `out` holds something else; nothing has been spent.
        TrainingError: a score is not finite.
    """
    began = time.perf_counter()
    cluster = cluster or ClusterConfig()
    read, opened, place = read_bundle(bundle), open_corpus(corpus, verify=False), open_location(out)
    read.check_fits(opened.manifest)
    if place.uri.startswith(f"{opened.location.uri}/"):
        raise CheckpointError(f"{place.uri} lies inside the corpus {opened.location.uri}; name another --out")
    asked = _splits_of(opened, splits)
    origin = Origin(read.hash, opened.hash, embedding)
    earlier = _card_of(place, origin)
    kept = finished_shards(place, output_shards(opened, opened.splits()), origin)
    pieces = output_shards(opened, asked)
    waiting = [piece for piece in pieces if piece not in kept]
    if not waiting and earlier is not None and set(asked) <= set(earlier.splits):
        return earlier
    errand = ShardTask(read.location.uri, opened, place, origin)
    finished = len(pieces) - len(waiting)
    for count, _ in enumerate(_spread(errand, waiting, cluster, device), start=finished + 1):
        if watch is not None:
            watch(count, len(pieces))
    covered = [split for split in opened.splits() if split in asked or (earlier and split in earlier.splits)]
    seconds = time.perf_counter() - began
    card = PredictionCard(
        **_origin_of(read, opened),
        splits={split: _counts(opened, split) for split in covered},
        columns=columns_of(place, pieces[0]),
        has_embedding=embedding,
        shards=len(output_shards(opened, covered)),
        kept_shards=finished,
        workers=cluster.workers,
        seconds=seconds,
        utterances_per_second=sum(piece.shard.utterances for piece in waiting) / seconds,
        versions=versions(),
    )
    place.join(CARD).write_text(card.model_dump_json(indent=1) + "\n")
    return card


def _origin_of(bundle: Bundle, corpus: Corpus) -> dict[str, Any]:
    """What the card says of the model and the corpus."""
    answers = answers_of(bundle)
    return {
        "bundle": {"uri": bundle.location.uri, "hash": bundle.hash, "fingerprint": bundle.card.fingerprint},
        "corpus": {"uri": corpus.location.uri, "name": corpus.manifest.name, "hash": corpus.hash},
        "temperature": answers.temperature,
        "thresholds": answers.calibrated_thresholds,
    }


def _spread(
    errand: ShardTask, waiting: list[OutputShard], cluster: ClusterConfig, device: str
) -> Iterator[OutputShard]:
    """The shards as they are finished, here or by workers."""
    if not waiting:
        return
    if cluster.workers == 0:
        predictor = Predictor.open(errand.bundle, device=device)
        use_cores(cluster.cpus_per_worker, predictor.device)
        yield from errand.work(predictor, waiting)
        return
    job = JobConfig(cluster=cluster)
    check_machine(job)
    with ray_cluster(job):
        from joyful_ray.predict.pool import predict_on_ray

        yield from predict_on_ray(errand, waiting, cluster)


def _splits_of(corpus: Corpus, asked: list[Split] | None) -> list[Split]:
    found = corpus.splits()
    for split in asked or []:
        if split not in found:
            raise CorpusError(f"{corpus.location.uri} has no {split} split; it has {', '.join(found)}")
    return [split for split in found if asked is None or split in asked]


def _counts(corpus: Corpus, split: Split) -> dict[str, int]:
    entry = corpus.manifest.splits[split]
    return {"conversations": entry.conversations, "utterances": entry.utterances}


def _card_of(out: Location, origin: Origin) -> PredictionCard | None:
    """The card of an earlier prediction, which must be of the same bundle, corpus and columns."""
    place = out.join(CARD)
    if not place.exists():
        return None
    try:
        card = read_as(PredictionCard, place.read_text(), place=place.uri)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {AGAIN}") from None
    for what, theirs, ours in (
        ("from another bundle", card.bundle["hash"], origin.bundle),
        ("from another corpus", card.corpus["hash"], origin.corpus),
        ("with embeddings" if card.has_embedding else "without embeddings", card.has_embedding, origin.embedding),
    ):
        if theirs != ours:
            raise CheckpointError(f"{out.uri} was predicted {what}; {AGAIN}")
    return card

"""Evaluation: scores of a split, over every conversation once, for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import pyarrow as pa
import torch
from torch import Tensor, nn

from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.batch import Batch
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import CorpusError
from joyful_ray.model.joyful import Output
from joyful_ray.objective.joint import JointObjective
from joyful_ray.records import Scores
from joyful_ray.schema import Split, Task
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.process_group import ProcessGroup, pick_device
from joyful_ray.train.scores import Tally

Keep = Callable[[Tensor, Tensor], None]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    task: Task,
    labels: list[str],
    process_group: ProcessGroup,
    precision: str = "fp32",
    thresholds: Mapping[str, float] | None = None,
    keep: Keep | None = None,
) -> Scores:
    """Evaluate this rank's batches, and sum the counts over all ranks.

    Args:
        model: put into evaluation mode for the duration.
        batches: this rank's share of the split.
        task: task of the corpus.
        labels: label names; empty for regression.
        process_group: the ranks that evaluate together.
        precision: `fp32`, `bf16` or `fp64`.
        thresholds: threshold per label (multi-label); None tunes them on the evaluated utterances.
        keep: called with the scores and labels of each batch's labeled utterances, on the CPU.
    """
    was_training = model.training
    model.eval()
    tally = Tally(task, labels)
    for batch in batches:
        batch = batch.to(process_group.device)
        scores_NK = forward(model, batch, precision=precision).scores_NK
        loss = JointObjective.plain_loss(scores_NK, batch.labels, task)
        if keep is not None:
            keep(scores_NK[batch.labeled_N].float().cpu(), batch.labels[batch.labeled_N].cpu())
        tally.saw(scores_NK, batch.labels, batch.labeled_N, float(loss.sum()))
    tally.state = process_group.all_reduce(tally.state.to(process_group.device)).cpu()
    model.train(was_training)
    return tally.scores(thresholds)


def forward(model: nn.Module, batch: Batch, *, precision: str) -> Output:
    """The model's output for a batch, without augmented views, in the precision that it was trained with."""
    with torch.autocast(batch.speakers_N.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return model(batch)


def evaluate_bundle(bundle_uri: str, corpus_uri: str, *, split: Split = "test", device: str = "auto") -> Scores:
    """Score a bundle on one split of any corpus that fits it; a modality that the corpus lacks is treated as missing.

    Args:
        bundle_uri: folder of the bundle, or of the run that has it.
        corpus_uri: the corpus.
        split: split to score.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
        CorpusError: the corpus has no such split, other widths, another task, or a label unknown to the bundle.
    """
    bundle = read_bundle(bundle_uri)
    corpus = open_corpus(corpus_uri)
    bundle.check_fits(corpus.manifest)
    if split not in corpus.splits():
        raise CorpusError(f"{corpus.location.uri} has no {split} split; it has {', '.join(corpus.splits())}")
    if corpus.manifest.task != bundle.encoding.task:
        raise CorpusError(
            f"the bundle was trained for {bundle.encoding.task}, but the corpus is labeled for {corpus.manifest.task}"
        )
    process_group = ProcessGroup(device=pick_device(device))
    return evaluate(
        bundle.model.to(process_group.device),
        _batches(bundle, corpus, split),
        task=bundle.encoding.task,
        labels=list(bundle.encoding.labels),
        process_group=process_group,
        precision=bundle.job.train.precision,
        thresholds=bundle.card.thresholds or None,
    )


def tables_by_batch(corpus: Corpus, split: Split, *, together: bool) -> Iterator[list[pa.Table]]:
    """The rows of a split that batches may be made of: a shard at a time, so that memory does not grow with the split.

    Args:
        corpus: the opened corpus.
        split: the split.
        together: whether scores depend on which conversations share a batch; then all rows come at once.
    """
    if together:
        yield list(corpus.tables(split))
    else:
        yield from ([table] for table in corpus.tables(split))


def _batches(bundle: Bundle, corpus: Corpus, split: Split) -> Iterator[Batch]:
    for tables in tables_by_batch(corpus, split, together=bundle.depends_on_batch):
        store = SplitStore([bundle.encoding.table(table) for table in tables], bundle.encoding)
        yield from ResidentLoader.of(bundle.job, store).once(rank=0, world_size=1)

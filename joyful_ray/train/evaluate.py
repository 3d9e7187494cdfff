"""Scores of a split: every conversation once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.batch import Batch
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import CorpusError
from joyful_ray.model.joyful import Output
from joyful_ray.objective.joint import JointObjective
from joyful_ray.records import Scores
from joyful_ray.schema import Split, Task
from joyful_ray.train.bundle import read_bundle
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
    """Run this rank's batches, and add what was counted over all ranks.

    Args:
        thresholds: per label (multi-label); None tunes them on what is evaluated.
        keep: given the scores and labels of each batch's labeled utterances, on the CPU.
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
    tally.state = process_group.add(tally.state.to(process_group.device)).cpu()
    model.train(was_training)
    return tally.scores(thresholds)


def forward(model: nn.Module, batch: Batch, *, precision: str) -> Output:
    """The model's answer to a batch on its device, without augmented views, in the arithmetic it was trained with."""
    with torch.autocast(batch.speakers_N.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return model(batch)


def evaluate_bundle(bundle_uri: str, corpus_uri: str, *, split: Split = "test", device: str = "auto") -> Scores:
    """Score a bundle on one split of any corpus that fits it; a modality that the corpus lacks is not present.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
        CorpusError: no such split, other widths, another task or a label that the bundle does not know.
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
    tables = [bundle.encoding.table(table) for table in corpus.tables(split)]
    source = ResidentLoader.of(bundle.job, SplitStore(tables, bundle.encoding))
    process_group = ProcessGroup(device=pick_device(device))
    return evaluate(
        bundle.model.to(process_group.device),
        source.once(rank=0, world_size=1),
        task=bundle.encoding.task,
        labels=list(bundle.encoding.labels),
        process_group=process_group,
        precision=bundle.job.train.precision,
        thresholds=bundle.card.thresholds or None,
    )

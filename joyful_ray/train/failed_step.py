"""A step whose loss or gradient was not finite, in one file from which one process can make it again.

The file is safetensors: the weights before the step, and the batches of all ranks; its metadata has the settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from joyful_ray.config import JobConfig, resolve
from joyful_ray.data.batch import Batch, NgramIds
from joyful_ray.data.encode import Encoding
from joyful_ray.data.prepare import CorpusInfo, words_of
from joyful_ray.errors import CheckpointError, ConfigError, StorageError
from joyful_ray.schema import Modality
from joyful_ray.storage import Location
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.step import NotFiniteError
from joyful_ray.train.trainer import Trainer

FILE = "failed-step.safetensors"
_ABOUT, _WEIGHTS, _BATCH = "failed_step", "weights.", "batch."


@dataclass(frozen=True)
class FailedStep:
    """Everything that a step depended on.

    Attributes:
        place: epoch and step.
        stage: of the training, as `Trainer.stage_of` names it.
        corpus_info: what building the model and the objective needs of it.
        weights: of the model, before the step.
        batches: micro-batches of all ranks, each with the seed for parts of the user's own.
    """

    place: str
    stage: str
    job: JobConfig
    corpus_info: CorpusInfo
    weights: Mapping[str, Tensor]
    batches: Sequence[tuple[int, Batch]]


@contextmanager
def keeping_failed_step(spec: RunSpec, process_group: ProcessGroup, trainer: Trainer, *, epoch: int) -> Iterator[None]:
    """Write a step of the block that is not finite into the run's folder, and name the file in the error.

    Args:
        spec: the run; a trial of a search keeps no file, because trials that diverge are many, and answer the search.
        process_group: the ranks that train together.
        trainer: what trains in the block.
        epoch: that is trained in the block, counted from 0.
    """
    try:
        yield
    except NotFiniteError as error:
        work = [] if spec.is_trial else error.work
        mine = [(micro.seed, batch.to(torch.device("cpu"))) for micro, batch in work]
        gathered = process_group.all_gather((mine, error.conversations))
        ranks = cast("list[tuple[list[tuple[int, Batch]], tuple[str, ...]]]", gathered)
        where = spec.directory.location.join(FILE)
        advice = ""
        # A full disk must not hide what happened.
        with suppress(StorageError):
            if process_group.is_first and not spec.is_trial:
                step = FailedStep(
                    place=error.place,
                    stage=trainer.stage_of(epoch),
                    job=spec.job,
                    corpus_info=spec.corpus_info,
                    weights=trainer.model.state_dict(),
                    batches=[batch for batches, _ in ranks for batch in batches],
                )
                write_failed_step(where, step)
                advice = f"; joyful debug {where.uri} makes the step again"
        conversations = [name for _, names in ranks for name in names]
        error.args = (error.message(error.place, conversations, advice),)
        raise


def write_failed_step(location: Location, step: FailedStep) -> None:
    """Write a step into one file.

    Raises:
        StorageError: it cannot be written.
    """
    info = step.corpus_info
    about = {
        "place": step.place,
        "stage": step.stage,
        "config": step.job.model_dump(mode="json"),
        "task": info.encoding.task,
        "labels": list(info.encoding.labels),
        "widths": dict(info.encoding.widths),
        "reads_texts": info.encoding.ngrams is not None,
        "label_counts": list(map(int, info.label_counts)),
        "label_histogram": [[int(place), int(count)] for place, count in info.label_histogram.items()],
        "conversations": info.conversations,
        "speakers": info.speakers,
        "batches": [
            {"seed": seed, "conversation_ids": batch.conversation_ids, "conversations": batch.conversations}
            for seed, batch in step.batches
        ],
    }
    tensors = {_WEIGHTS + name: values.cpu().contiguous() for name, values in step.weights.items()}
    for place, (_, batch) in enumerate(step.batches):
        tensors |= {f"{_BATCH}{place}.{name}": values.contiguous() for name, values in _tensors_of(batch).items()}
    location.write_bytes(save(tensors, metadata={_ABOUT: json.dumps(about)}))


def read_failed_step(location: Location) -> FailedStep:
    """Read the file of a step.

    Raises:
        CheckpointError: it is no such file, it is damaged, or its settings cannot be used any more.
    """
    content = location.read_bytes()
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about: dict[str, Any] = json.loads(header["__metadata__"][_ABOUT])
        tensors = load(content)
    except (ValueError, KeyError, TypeError, SafetensorError):
        raise CheckpointError(f"{location.uri} is not a {FILE} that a run has left, or it is damaged") from None
    try:
        job = resolve(about["config"])
    except ConfigError as error:
        raise CheckpointError(f"{location.uri} cannot be used: {error}") from None
    ngrams = words_of(job) if about["reads_texts"] else None
    encoding = Encoding(about["task"], tuple(about["labels"]), about["widths"], {}, ngrams)
    info = CorpusInfo(
        encoding,
        contracts={},
        corpus={},
        label_counts=about["label_counts"],
        conversations=about["conversations"],
        speakers=about["speakers"],
        label_histogram=dict(map(tuple, about["label_histogram"])),
    )
    return FailedStep(
        place=about["place"],
        stage=about["stage"],
        job=job,
        corpus_info=info,
        weights={name.removeprefix(_WEIGHTS): v for name, v in tensors.items() if name.startswith(_WEIGHTS)},
        batches=[
            (entry["seed"], _batch_of(_under(tensors, f"{_BATCH}{place}."), entry))
            for place, entry in enumerate(about["batches"])
        ],
    )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def _tensors_of(batch: Batch) -> dict[str, Tensor]:
    found = {f"features.{name}": values for name, values in batch.features.items()}
    found |= {f"present.{name}": values for name, values in batch.present.items()}
    found |= {"speakers": batch.speakers_N, "lengths": batch.lengths_C, "labels": batch.labels}
    if batch.ngrams is not None:
        found |= {"ngrams": batch.ngrams.ids_T, "ngram_counts": batch.ngrams.counts_N}
    return found if batch.keys_C is None else found | {"keys": batch.keys_C}


def _batch_of(tensors: Mapping[str, Tensor], entry: Mapping[str, Any]) -> Batch:
    has_words = "ngrams" in tensors
    return Batch(
        features=cast("dict[Modality, Tensor]", _under(tensors, "features.")),
        present=cast("dict[Modality, Tensor]", _under(tensors, "present.")),
        speakers_N=tensors["speakers"],
        lengths_C=tensors["lengths"],
        labels=tensors["labels"],
        conversations=tuple(entry["conversations"]),
        conversation_ids=tuple(entry["conversation_ids"]),
        ngrams=NgramIds(tensors["ngrams"], tensors["ngram_counts"]) if has_words else None,
        keys_C=tensors.get("keys"),
    )

"""A trial that goes on from a copy of another one (population-based training)."""

from __future__ import annotations

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import Location
from joyful_ray.train.checkpoint import PROGRESS, latest_checkpoint, read_progress
from joyful_ray.train.directory import CONFIG, METRICS, RECORD, RunDirectory


def inherit(source: RunDirectory, heir: RunDirectory, *, epoch: int) -> None:
    """Put another trial's checkpoint, and its history up to there, in the place of this one's own.

    The source goes on meanwhile; where it has already dropped the checkpoint, its latest is taken.

    Raises:
        CheckpointError: the source has no checkpoint.
    """
    place = source.checkpoint(epoch)
    if not place.join(PROGRESS).exists():
        found = latest_checkpoint(source.checkpoints)
        if found is None:
            raise CheckpointError(f"{source.checkpoints.uri} holds no checkpoint to go on from")
        place = found
    progress = read_progress(place)
    for name in (CONFIG, RECORD):
        heir.location.join(name).remove()
    heir.checkpoints.remove()
    for number in {progress.next_epoch - 1, progress.best_epoch} - {-1}:
        _copy(source.checkpoint(number), heir.checkpoint(number))
    lines = [line for line in source.metrics() if line.epoch < progress.next_epoch]
    heir.location.join(METRICS).write_text("".join(line.model_dump_json() + "\n" for line in lines))


def _copy(source: Location, target: Location) -> None:
    names = [name for name in source.list() if name != PROGRESS]
    for name in [*names, PROGRESS]:  # the marker last
        target.join(name).write_bytes(source.join(name).read_bytes())

"""TensorBoard events: losses by term, dev scores, throughput and an image of the confusion matrix."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from joyful_ray.records import EpochMetrics, Scores
from joyful_ray.storage import Location

CELL, MARGIN = 56, 92


class TensorBoardWriter:
    """Writes the events of one run; for remote storage it writes locally and copies the files after every epoch.

    TensorBoard's step is the epoch, counted from 1.

    Args:
        location: folder of the events.
        first_epoch: first epoch to write, counted from 0; it and later epochs replace what an earlier attempt wrote.
    """

    def __init__(self, location: Location, *, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._target = location if location.is_remote else None
        self._temporary = tempfile.TemporaryDirectory(prefix="joyful-events-") if location.is_remote else None
        self._folder = location.local_path() if self._temporary is None else Path(self._temporary.name)
        self._writer = SummaryWriter(str(self._folder), purge_step=first_epoch + 1)

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._copy()
        if self._temporary is not None:
            self._temporary.cleanup()

    def epoch(self, metrics: EpochMetrics) -> None:
        """Write the events of one epoch."""
        numbers = {f"loss/{name}": value for name, value in metrics.losses.items()}
        numbers |= {f"dev/{name}": value for name, value in metrics.dev.values.items()}
        numbers |= {f"dev_f1/{name}": value["f1"] for name, value in metrics.dev.per_label.items()}
        numbers |= {f"diagnostics/{name}": value for name, value in metrics.diagnostics.items()}
        numbers |= {
            "dev/loss": metrics.dev.loss,
            "speed/utterances_per_second": metrics.utterances_per_second,
            "speed/waiting_share": metrics.waiting_share,
            "optimizer/learning_rate": metrics.learning_rate,
            "optimizer/gradient_norm": metrics.gradient_norm,
        }
        step = metrics.epoch + 1
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        if metrics.dev.confusion is not None:
            self._writer.add_image("dev/confusion", confusion_image(metrics.dev), step, dataformats="HWC")
        self._writer.flush()
        self._copy()

    def _copy(self) -> None:
        if self._target is not None:
            for file in self._folder.iterdir():
                self._target.join(file.name).write_bytes(file.read_bytes())


def confusion_image(scores: Scores) -> NDArray[np.uint8]:
    """The confusion matrix as an RGB image (height, width, 3).

    Rows are true labels, columns are predictions; a darker cell is a larger share of its row.
    """
    table = np.array(scores.confusion, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    size = MARGIN + CELL * len(scores.labels)
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(scores.labels):
        draw.text((4, MARGIN + row * CELL + CELL // 2 - 6), name[:14], fill="black")
        draw.text((MARGIN + row * CELL + 4, MARGIN - 18), name[:8], fill="black")
        for column in range(len(scores.labels)):
            share = float(shares[row, column])
            left, top = MARGIN + column * CELL, MARGIN + row * CELL
            color = (int(255 - 225 * share), int(255 - 170 * share), 255 - int(75 * share))
            draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=color)
            draw.text(
                (left + 8, top + CELL // 2 - 6), str(int(table[row, column])), fill="white" if share > 0.5 else "black"
            )
    return np.asarray(image)

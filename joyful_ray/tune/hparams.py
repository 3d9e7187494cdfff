"""TensorBoard's HParams tab: the settings of each trial beside its curves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from joyful_ray.storage import Location
from joyful_ray.tune.goals import Goal


def write_hparams(location: Location, settings: Mapping[str, Any], goal: Goal) -> None:
    """Write a trial's settings next to its events, so that `tensorboard --logdir SEARCH/trials` compares trials."""
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import FileWriter

    plain = {
        path: value if isinstance(value, bool | int | float | str) else str(value) for path, value in settings.items()
    }
    with tempfile.TemporaryDirectory(prefix="joyful-hparams-") if location.is_remote else nullcontext() as temporary:
        folder = location.local_path() if temporary is None else Path(temporary)
        writer = FileWriter(str(folder), filename_suffix=".hparams")
        for summary in hparams(plain, {f"dev/{goal.name}": 0.0}):
            writer.add_summary(summary)
        writer.close()
        for file in folder.iterdir() if temporary is not None else ():
            location.join(file.name).write_bytes(file.read_bytes())

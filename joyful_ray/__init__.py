"""JOYFUL on Ray: emotions in conversations, trained, searched and predicted on a laptop or a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joyful_ray.predict.predictor import Predictor

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(bundle: str, *, device: str = "auto") -> Predictor:
    """Open a trained bundle: `joyful_ray.load("runs/meld/bundle").predict(conversations)`.

    Args:
        bundle: `<run>/bundle`, or the run itself; a path or s3:// URI.
        device: auto, cpu or cuda.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
    """
    from joyful_ray.predict.predictor import Predictor

    return Predictor.open(bundle, device=device)

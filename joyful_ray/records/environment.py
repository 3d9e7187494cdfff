"""The software that a result was computed with."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

VERSIONED = ("joyful-ray", "ray", "torch", "torch-geometric", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that determine a result, and the machine's architecture."""
    found = {"python": sys.version.split()[0], "platform": platform.machine()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found

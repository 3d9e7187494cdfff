"""Which variables of the environment are secret: their values enter no job, package or listing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from joyful_ray.errors import ConfigError

SECRET_NAMES = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|PRIVATE_KEY)")
NOT_SECRET = re.compile(r"(_PATH|_FILE|_MODE|_DIR|_URL|_URI|_DISABLED|_ENABLED|_PID|_PARALLELISM)$")
LEAST_CHARACTERS = 8
"""A shorter value would be found in innocent text."""


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Values, by variable, that must not leave this process."""
    found = os.environ if environment is None else environment
    return {
        name: value
        for name, value in found.items()
        if SECRET_NAMES.search(name) and not NOT_SECRET.search(name) and len(value) >= LEAST_CHARACTERS
    }


def refuse_secrets(words: Sequence[str]) -> None:
    """See that no word of a command, which a cluster lists for everybody, holds a secret.

    Raises:
        ConfigError: naming the variable, never its value.
    """
    for name, value in secret_values().items():
        if any(value in word for word in words):
            raise ConfigError(
                f"the command holds the value of {name}, and a cluster lists commands; leave it to the cluster's own "
                "environment (see cluster/README.md)"
            )

"""Recognises environment variables with secrets, so that their values never enter a job, a package or a listing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from joyful_ray.errors import ConfigError

SECRET_NAMES = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|PRIVATE_KEY)")
NOT_SECRET = re.compile(r"(_PATH|_FILE|_MODE|_DIR|_URL|_URI|_DISABLED|_ENABLED|_PID|_PARALLELISM)$")
MIN_CHARACTERS = 8
"""Shorter values also occur in harmless text."""


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the values, by variable, that must not leave this process.

    Args:
        environment: the variables to look at; those of this process by default.
    """
    variables = os.environ if environment is None else environment
    return {
        name: value
        for name, value in variables.items()
        if SECRET_NAMES.search(name) and not NOT_SECRET.search(name) and len(value) >= MIN_CHARACTERS
    }


def refuse_secrets(words: Sequence[str]) -> None:
    """Check that no word of a command contains a secret, because a cluster shows commands to all of its users.

    Raises:
        ConfigError: a word contains one; the message names the variable, never its value.
    """
    for name, value in secret_values().items():
        if any(value in word for word in words):
            raise ConfigError(
                f"the command contains the value of {name}, and a cluster lists all commands; set the variable in the "
                "environment of the cluster instead (see cluster/README.md)"
            )

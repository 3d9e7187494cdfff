"""Chooses the runtime environment of a job: packages that the image lacks, and the address of its bucket."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

from joyful_ray.submit.cluster_environment import (
    ClusterEnvironment,
    compare_packages,
    locked_versions,
    summarize,
)
from joyful_ray.submit.packing import Packing
from joyful_ray.submit.secrets import refuse_secrets
from joyful_ray.submit.submission import Submission
from joyful_ray.wording import counted

Dependencies = Literal["auto", "locked", "none"]
WriteLine = Callable[[str], None]
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables of this shell that are not secret; a bucket outside AWS needs one of the first two."""


def runtime_env_of(
    submission: Submission,
    packing: Packing,
    found: ClusterEnvironment,
    dependencies: Dependencies,
    write_line: WriteLine,
) -> dict[str, Any]:
    """Choose the packages and variables of a job, and say what they are.

    Args:
        submission: the command.
        packing: the files that are sent with it; their lock file decides the versions.
        found: the environment of the cluster.
        dependencies: `auto` installs the packages of the lock file that the cluster's image lacks, `locked` installs
            all of them, and `none` installs nothing.
        write_line: called with each line for the user.

    Returns:
        The entries `pip` and `env_vars` of Ray's runtime environment, each only if the job needs it.

    Raises:
        ClusterError: the cluster has another version of Ray, or its Python is too old.
        ConfigError: a variable that would be sent contains a secret.
    """
    locked = locked_versions(packing.folder)
    differences = compare_packages(found, locked)
    runtime_env: dict[str, Any] = {}
    requirements = differences.requirements if dependencies != "locked" else _all_requirements(locked)
    if dependencies == "none" and requirements:
        write_line(f"dependencies: nothing is installed, although these differ: {summarize(differences.descriptions)}")
    elif requirements:
        packages = counted(len(requirements), "package")
        write_line(
            f"dependencies: installs {packages} for this job: {summarize(differences.descriptions or requirements)}"
        )
        runtime_env["pip"] = {"packages": list(requirements), "pip_check": False}
    else:
        write_line(f"dependencies: nothing to install; the image has all {len(locked)} packages in the locked versions")
    if submission.uses_bucket:
        variables = _endpoint_variables(found)
        if variables:
            runtime_env["env_vars"] = variables
        write_line(_credentials_line(found, variables))
    for note in submission.notes:
        write_line(f"note: {note}")
    return runtime_env


def _all_requirements(locked: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}=={version}" for name, version in locked.items() if name != "ray")


def _endpoint_variables(found: ClusterEnvironment) -> dict[str, str]:
    """Return the endpoint and region of this shell for a cluster that has none; addresses, never credentials."""
    if found.has_endpoint:
        return {}
    variables = {name: os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)}
    refuse_secrets(list(variables.values()))
    return {name: value for name, value in variables.items() if "@" not in value}


def _credentials_line(found: ClusterEnvironment, sent_variables: dict[str, str]) -> str:
    names = list(sent_variables)
    sent = f"; {', '.join(names)} of this shell {'is' if len(names) == 1 else 'are'} sent" if names else ""
    if found.credentials:
        known = ", ".join(found.credentials)
        return f"storage: the job uses the cluster's credentials ({known}); none of this shell's are sent{sent}"
    return (
        "storage: warning: the cluster's head has no AWS_ACCESS_KEY_ID, AWS_PROFILE or role variable. Unless its "
        "machine has a role, the bucket will deny access; give the cluster a secret (cluster/README.md). No "
        f"credentials are sent from this machine{sent}"
    )

"""The files in cluster/ name the locked version of Ray, fit the official schemas, and mark every field to edit."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

CHECKOUT = Path(__file__).parents[2]
CLUSTER = CHECKOUT / "cluster"
KUBERAY = CLUSTER / "kuberay"
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
PLACEHOLDERS = re.compile(r"REPOSITORY|\bPROJECT\b|/IMAGE\b|s3://BUCKET|0{12}|ami-0+")
MAX_LINES_TO_MARK = 3
"""A comment cannot be inside a folded text, so it follows the text."""


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@cache
def schema(kind: str) -> dict[str, Any]:
    """Return KubeRay's schema of a kind, changed to refuse unknown fields."""
    every = closed(json.loads(Path(__file__).with_name("kuberay-1.7.0.json").read_text()))
    return {"$defs": every["$defs"], **every[kind]}


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_the_stored_schema_equals_that_of_the_operator(kind: str) -> None:
    folder = Path(os.environ.get("JOYFUL_KUBERAY_SCHEMAS", CHECKOUT.parent / "shared" / "reference" / "kuberay"))
    whole = folder / f"{kind.lower()}_v1_schema.json"
    if not whole.is_file():
        pytest.skip(f"no whole KubeRay schemas at {folder}; set JOYFUL_KUBERAY_SCHEMAS")
    theirs = closed(json.loads(whole.read_text()))
    del theirs["properties"]["status"]
    assert fields(schema(kind), schema(kind)) == fields(theirs, theirs)


def fields(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Return the tree of fields with their types and allowed values."""
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    own = {key: node[key] for key in ("type", "enum", "required") if key in node}
    parts = {name: fields(part, root) for name, part in node.get("properties", {}).items()}
    items = {"[]": fields(node["items"], root)} if "items" in node else {}
    return own | parts | items


def closed(node: Any) -> Any:
    """Return the schema, changed to refuse unknown fields wherever fields are listed."""
    if isinstance(node, list):
        return [closed(part) for part in node]
    if not isinstance(node, dict):
        return node
    strict = {key: closed(value) for key, value in node.items()}
    if isinstance(strict.get("properties"), dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def problems(manifest: Any, rules: dict[str, Any]) -> list[str]:
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in Draft202012Validator(rules).iter_errors(manifest)
    ]


def locked_ray() -> str:
    return next(
        line.split("==")[1].strip()
        for line in (CHECKOUT / "requirements.lock").read_text().splitlines()
        if line.startswith("ray==")
    )


def test_every_file_names_the_locked_version_of_ray_and_no_other() -> None:
    for path in FILES:
        named = set(re.findall(r"\b2\.\d\d+\.\d+\b", path.read_text()))
        if path.name == "network-policy.yaml":
            assert not named
        else:
            assert named == {locked_ray()}, path


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_a_manifest_fits_the_schema_of_kuberay(kind: str) -> None:
    assert not problems(loaded(KUBERAY / f"{kind.lower()}.yaml"), schema(kind))


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "authOption"),
        ("spec", "headGroupSpec", "replicass"),
        ("spec", "workerGroupSpecs", 1, "template", "spec", "toleration"),
        ("spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "envfrom"),
    ],
)
def test_a_misspelled_field_is_found(path: tuple[Any, ...]) -> None:
    manifest = copy.deepcopy(loaded(KUBERAY / "raycluster.yaml"))
    place = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = {}
    assert problems(manifest, schema("RayCluster"))


def test_the_cluster_of_the_rayjob_equals_the_raycluster() -> None:
    assert loaded(KUBERAY / "rayjob.yaml")["spec"]["rayClusterSpec"] == loaded(KUBERAY / "raycluster.yaml")["spec"]


def test_all_clusters_require_a_token_and_keep_their_ports_private() -> None:
    spec = loaded(KUBERAY / "raycluster.yaml")["spec"]
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["enableInTreeAutoscaling"] is True
    for name in ("aws", "gcp"):
        launcher = loaded(CLUSTER / f"{name}.yaml")
        assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
        assert any("--dashboard-host=127.0.0.1" in line for line in launcher["head_start_ray_commands"])
    assert "RAY_AUTH_MODE=token" in (CLUSTER / "Dockerfile").read_text()
    assert "RAY_AUTH_MODE=token" in (CLUSTER / "slurm.sh").read_text()


def test_credentials_come_from_a_secret_and_no_file_contains_a_key() -> None:
    spec = loaded(KUBERAY / "raycluster.yaml")["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for container in (container for group in groups for container in group["template"]["spec"]["containers"]):
        assert container["envFrom"] == [{"secretRef": {"name": "joyful-storage"}}]
        assert "env" not in container
    for path in FILES:
        values = re.findall(r"AWS_(?:SECRET_ACCESS_KEY|ACCESS_KEY_ID)=(\S*)", path.read_text())
        assert all(value[:1] in "…" for value in values), path


def test_spot_workers_tell_ray_before_they_are_reclaimed() -> None:
    spec = loaded(KUBERAY / "raycluster.yaml")["spec"]
    (spot,) = [
        group for group in spec["workerGroupSpecs"] if group.get("labels", {}).get("ray.io/market-type") == "spot"
    ]
    pod = spot["template"]["spec"]
    (container,) = pod["containers"]
    notice = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert "DRAIN_NODE_REASON_PREEMPTION" in notice
    deadline = int(re.search(r"--deadline-remaining-seconds (\d+)", notice)[1])  # type: ignore[index]
    assert deadline < pod["terminationGracePeriodSeconds"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert any(toleration["key"] == "nvidia.com/gpu" for toleration in pod["tolerations"])


def test_this_ray_has_the_drain_command() -> None:
    from click.testing import CliRunner
    from ray.scripts.scripts import cli

    shown = CliRunner().invoke(cli, ["drain-node", "--help"])
    assert shown.exit_code == 0
    for word in ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "--deadline-remaining-seconds"):
        assert word in shown.output


def test_the_network_policy_has_valid_rules() -> None:
    policy = loaded(KUBERAY / "network-policy.yaml")
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert set(policy["spec"]) == {"podSelector", "policyTypes", "ingress"}
    # The operator has a field for policies with the same rules, and its schema is available.
    head = {"ingressRules": [*policy["spec"]["ingress"], {"from": [{"podSelector": policy["spec"]["podSelector"]}]}]}
    cluster = copy.deepcopy(loaded(KUBERAY / "raycluster.yaml"))
    cluster["spec"]["networkPolicy"] = {"head": head}
    rules = schema("RayCluster")
    assert not problems(cluster, rules)
    head["ingressRules"][0]["fromm"] = []
    assert problems(cluster, rules)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_a_launcher_file_fits_the_schema_of_ray(name: str) -> None:
    import ray

    rules = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    launcher = loaded(CLUSTER / f"{name}.yaml")
    assert not [error.message for error in Draft7Validator(rules).iter_errors(launcher)]
    assert launcher["head_node_type"] in launcher["available_node_types"]
    assert list(Draft7Validator(rules).iter_errors({**launcher, "head_nodetype": "head"}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_to_change_is_marked(path: Path) -> None:
    lines = path.read_text().splitlines()
    is_prose = path.suffix == ".md" or path.name == "Dockerfile"
    for number, line in enumerate(lines):
        if PLACEHOLDERS.search(line) and not (is_prose and not line.startswith("docker ")):
            assert any("CHANGE" in near for near in lines[number : number + 1 + MAX_LINES_TO_MARK]), (
                f"{path}:{number + 1}"
            )


def test_joyful_accepts_the_command_of_the_rayjob() -> None:
    import shlex

    import typer

    from joyful_ray.cli import app

    program, verb, *words = shlex.split(loaded(KUBERAY / "rayjob.yaml")["spec"]["entrypoint"])
    assert program == "joyful"
    group = typer.main.get_command(app)
    parameters = group.commands[verb].make_context(verb, words).params  # type: ignore[attr-defined]
    assert (CHECKOUT / parameters["job"]).is_file()
    assert parameters["max_hours"] * 3600 < loaded(KUBERAY / "rayjob.yaml")["spec"]["activeDeadlineSeconds"]


def test_the_slurm_script_is_bash() -> None:
    found = subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_every_step_of_the_slurm_script_gets_the_cores_of_the_job() -> None:
    text = (CLUSTER / "slurm.sh").read_text()
    assert text.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK") < text.index("\nsrun ")


def test_machines_have_room_for_the_image() -> None:
    kinds = loaded(CLUSTER / "aws.yaml")["available_node_types"]
    sizes = {name: kind["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] for name, kind in kinds.items()}
    assert sizes == {"head": 64, "cpu": 100, "gpu-spot": 150}


def test_a_rayjob_can_be_created_again() -> None:
    metadata = loaded(KUBERAY / "rayjob.yaml")["metadata"]
    assert metadata == {"generateName": "joyful-train-"}


def test_the_lines_for_a_head_that_may_fail_fit_the_schema() -> None:
    (block,) = re.findall(r"```yaml\n(gcsFaultTolerance.*?)```", (CLUSTER / "README.md").read_text(), re.DOTALL)
    cluster = loaded(KUBERAY / "raycluster.yaml")
    cluster["spec"] |= yaml.safe_load(block)
    assert not problems(cluster, schema("RayCluster"))
    cluster["spec"]["gcsFaultToleranceOptions"]["redisAdress"] = ""
    assert problems(cluster, schema("RayCluster"))

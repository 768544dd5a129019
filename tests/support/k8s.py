"""Manifests as the cluster would get them, and what would be said of them there, without asking a cluster.

Three judges: Kubernetes' own schemas (kubernetes-validate), KubeRay's CRDs made strict, and what KubeRay's
operator checks beyond its schema (ray-operator/controllers/ray/utils/validation.go, in our own words).
"""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "k8s/overlays"
KUBERNETES = ("1.32", "1.37")  # the oldest that we promise and the newest that the schemas know
Manifest = dict[str, Any]


def tool(name: str) -> str:
    """A program of requirements-tools.lock, or the machine's own; a counted skip without one."""
    found = shutil.which(name, path=str(ROOT / ".venv-tools/bin")) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: cluster/install_tools.sh")
    return found


@lru_cache
def render(folder: Path) -> list[Manifest]:
    """Shared by all tests: who changes a manifest copies it first."""
    done = subprocess.run([tool("kubectl"), "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    [found] = [one for one in manifests if one["kind"] == kind]
    return found


def cluster_spec(manifest: Manifest) -> Manifest:
    """The RayClusterSpec of any of KubeRay's kinds."""
    key = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(manifest["kind"])
    spec: Manifest = manifest["spec"]
    return spec[key] if key else spec


def groups(spec: Manifest) -> dict[str, Manifest]:
    return {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def pods(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Every pod template in it, with its group's name."""
    if manifest["apiVersion"] == "ray.io/v1":
        spec = cluster_spec(manifest)
        yield "head", spec["headGroupSpec"]["template"]
        yield from ((name, group["template"]) for name, group in groups(spec).items())
        if template := manifest["spec"].get("submitterPodTemplate"):
            yield "submitter", template
    elif manifest["kind"] == "StatefulSet":
        yield manifest["metadata"]["name"], manifest["spec"]["template"]


def ray_pods(spec: Manifest) -> dict[str, Manifest]:
    return {"head": spec["headGroupSpec"]["template"]} | {
        name: group["template"] for name, group in groups(spec).items()
    }


@lru_cache
def _crds() -> dict[str, Any]:
    path = ROOT / "tests/golden/kuberay-v1.7.0.json.gz"
    schemas: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return {kind: _strict(schema) for kind, schema in schemas.items()}


def _strict(schema: Any) -> Any:
    """A CRD's schema as JSON schema: unknown fields are errors, as with `kubectl apply --validate=strict`.

    Fields with a default need not be written: the API server fills them in.
    """
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    properties: dict[str, Any] = schema.get("properties", {})
    out = {
        key: _strict(value)
        for key, value in schema.items()
        if key != "properties" and not key.startswith("x-kubernetes")
    }
    if schema.get("type") == "object" and properties:
        out["properties"] = {name: _strict(one) for name, one in properties.items()}
        out["required"] = [name for name in schema.get("required", ()) if "default" not in properties[name]]
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out["additionalProperties"] = False
    return out


def schema_complaints(manifest: Manifest) -> list[str]:
    return _schema_complaints(json.dumps(manifest, sort_keys=True))


@lru_cache  # overlays have much in common
def _schema_complaints(manifest_json: str) -> list[str]:
    manifest = json.loads(manifest_json)
    if manifest["apiVersion"] == "ray.io/v1":
        schema = _crds()[manifest["kind"]] | {"additionalProperties": False}
        schema["properties"] = schema["properties"] | {"metadata": {"type": "object"}}
        errors = Draft202012Validator(schema).iter_errors(manifest)
        return [f"{error.json_path}: {error.message[:200]}" for error in errors]
    complaints = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            complaints.append(f"{version} {error.json_path}: {error.message[:200]}")
    return complaints


LONGEST_NAME = {"RayJob": 47, "RayService": 41, "RayCluster": 53}  # room for what KubeRay appends
GCS_FT_ENV = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}
SIZES = {"num-cpus", "num-gpus", "memory", "resources"}


def operator_complaints(manifest: Manifest) -> list[str]:
    """What the operator refuses although the schema has it."""
    name, kind, spec = manifest["metadata"]["name"], manifest["kind"], manifest["spec"]
    found = list(_cluster_complaints(cluster_spec(manifest)))
    if len(name) > LONGEST_NAME[kind] or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        found.append(f"name {name}")
    if any("ray.io/ft-enabled" in key for key in manifest["metadata"].get("annotations", {})):
        found.append("fault tolerance by annotation")
    if kind == "RayJob":
        found += _job_complaints(spec)
    if kind == "RayService":
        found += _service_complaints(spec)
    return found


def _cluster_complaints(spec: Manifest) -> Iterator[str]:
    head = spec["headGroupSpec"]
    autoscales = spec.get("enableInTreeAutoscaling", False)
    is_v2 = spec.get("autoscalerOptions", {}).get("version") == "v2"
    head_env = {one["name"] for one in head["template"]["spec"]["containers"][0].get("env", ())}
    for name, group in {"head": head, **groups(spec)}.items():
        start = group.get("rayStartParams", {})
        if SIZES & start.keys() and group.get("resources"):
            yield f"{name}: sizes in rayStartParams and in resources"
        if "labels" in start:
            yield f"{name}: labels in rayStartParams"
        if is_v2 and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy with autoscaler v2"
        if autoscales and group.get("suspend"):
            yield f"{name}: suspended under an autoscaler"
        if not autoscales and name != "head" and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"{name}: no replicas without an autoscaler"
        if name != "head" and group.get("minReplicas", 0) > group.get("maxReplicas", 2**31):
            yield f"{name}: minReplicas above maxReplicas"
    if is_v2 and not autoscales:
        yield "autoscaler v2 without enableInTreeAutoscaling"
    if "RAY_enable_autoscaler_v2" in head_env:
        yield "autoscaler v2 by environment"
    if GCS_FT_ENV & head_env or {"redis-password", "redis-username"} & head.get("rayStartParams", {}).keys():
        yield "Redis beside gcsFaultToleranceOptions"
    if spec.get("authOptions", {}).get("mode") == "token":
        version = tuple(int(part) for part in spec.get("rayVersion", "0").split("."))
        if version < (2, 52, 0):
            yield "token authentication needs rayVersion >= 2.52.0"


def _job_complaints(spec: Manifest) -> Iterator[str]:
    ends = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not ends:
        yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    if spec.get("suspend") and not ends:
        yield "suspend without shutdownAfterJobFinishes"
    if spec.get("deletionStrategy", {}).get("deletionRules") and ends:
        yield "deletionRules beside shutdownAfterJobFinishes"
    if (
        spec.get("submissionMode") == "SidecarMode"
        and {"submitterPodTemplate", "submitterConfig"} & spec.keys()
    ):
        yield "SidecarMode with a submitter"
    if spec.get("activeDeadlineSeconds", 1) <= 0 or spec.get("backoffLimit", 0) < 0:
        yield "a deadline or limit below its least"


def _service_complaints(spec: Manifest) -> Iterator[str]:
    upgrade = spec.get("upgradeStrategy", {})
    if upgrade.get("type") not in (None, "None", "NewCluster", "NewClusterWithIncrementalUpgrade"):
        yield f"upgradeStrategy {upgrade['type']}"
    if upgrade.get("type") == "NewClusterWithIncrementalUpgrade":
        options = upgrade.get("clusterUpgradeOptions", {})
        if not cluster_spec({"kind": "RayService", "spec": spec}).get("enableInTreeAutoscaling"):
            yield "an upgrade in steps needs the autoscaler"
        if not options.get("gatewayClassName"):
            yield "an upgrade in steps needs a gatewayClassName"
        if not 0 <= options.get("stepSizePercent", -1) <= options.get("maxSurgePercent", 100) <= 100:
            yield "stepSizePercent above maxSurgePercent"
        if options.get("intervalSeconds", 0) <= 0:
            yield "intervalSeconds"
    if "name" in spec["rayClusterConfig"]["headGroupSpec"].get("headService", {}).get("metadata", {}):
        yield "headService has a name"

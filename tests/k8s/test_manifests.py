"""Every overlay as the cluster would get it: schemas, the operator's checks, pod security, the network."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.k8s import (
    OVERLAYS,
    Manifest,
    cluster_spec,
    of_kind,
    operator_complaints,
    pods,
    ray_pods,
    render,
    schema_complaints,
)

FOLDERS = sorted(path.parent for path in OVERLAYS.rglob("kustomization.yaml"))
WHOLE = [OVERLAYS / name for name in ("local", "gpu", "gpu-spot", "gpu-kueue")]
RAY_KINDS = ("RayJob", "RayService", "RayCluster")
CALLS = {"protocol": "TCP", "port": 8000}
RESTRICTED_VOLUMES = {"emptyDir", "persistentVolumeClaim", "secret", "configMap", "projected"}


def overlay_id(folder: Path) -> str:
    return str(folder.relative_to(OVERLAYS))


def ray_manifests(folder: Path) -> list[Manifest]:
    return [one for one in render(folder) if one["kind"] in RAY_KINDS]


def test_every_overlay_has_what_it_should() -> None:
    for folder in WHOLE:
        kinds = {one["kind"] for one in ray_manifests(folder)}
        assert kinds == ({"RayJob", "RayCluster"} if folder.name == "gpu-kueue" else set(RAY_KINDS))
        names = [one["metadata"]["name"] for one in ray_manifests(folder)]
        assert len(set(names)) == len(names), "KubeRay derives the names of services from them"
        parts = [one for part in folder.glob("*/kustomization.yaml") for one in render(part.parent)]
        assert sorted(map(str, parts)) == sorted(map(str, render(folder)))


@pytest.mark.parametrize("folder", FOLDERS, ids=overlay_id)
def test_schemas_and_the_operator_have_nothing_to_say(folder: Path) -> None:
    for manifest in render(folder):
        assert schema_complaints(manifest) == [], manifest["kind"]
    for manifest in ray_manifests(folder):
        assert operator_complaints(manifest) == []


def at(tree: Any, path: str) -> tuple[Any, Any]:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        tree = tree[part]
    return tree, last


def setting(path: str, value: Any) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        node, last = at(manifest, path)
        node[last] = value

    return change


def misspelling(path: str) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        node, last = at(manifest, path)
        node[last + "s"] = node.pop(last)

    return change


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("RayJob", "spec/ttlSecondsAfterFinished"),
        ("RayJob", "spec/rayClusterSpec/autoscalerOptions/idleTimeoutSeconds"),
        ("RayJob", "spec/submitterPodTemplate/spec/containers/0/envFrom"),
        ("RayJob", "spec/rayClusterSpec/workerGroupSpecs/0/template/spec/tolerations/0/effect"),
        ("RayService", "spec/excludeHeadPodFromServeSvc"),
        ("RayService", "spec/rayClusterConfig/gcsFaultToleranceOptions/redisAddress"),
        ("RayCluster", "spec/headGroupSpec/template/spec/terminationGracePeriodSeconds"),
        ("NetworkPolicy", "spec/podSelector"),
        ("PodDisruptionBudget", "spec/minAvailable"),
        ("StatefulSet", "spec/template/spec/containers/0/readinessProbe"),
        ("PersistentVolumeClaim", "spec/accessModes"),
        ("PriorityClass", "description"),
    ],
)
def test_a_misspelt_field_is_caught(kind: str, path: str) -> None:
    manifest = copy.deepcopy(next(one for one in render(OVERLAYS / "gpu") if one["kind"] == kind))
    assert schema_complaints(manifest) == []
    misspelling(path)(manifest)
    assert schema_complaints(manifest)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayJob", "spec/backoffLimit", "two"),
        ("RayJob", "spec/rayClusterSpec/authOptions/mode", "tokens"),
        ("RayService", "spec/rayClusterConfig/autoscalerOptions/version", "v3"),
        ("RayCluster", "spec/workerGroupSpecs/0/template/spec/containers", None),
        ("PodDisruptionBudget", "spec", "all"),
    ],
)
def test_a_wrong_value_is_caught(kind: str, path: str, value: object) -> None:
    manifest = copy.deepcopy(next(one for one in render(OVERLAYS / "gpu") if one["kind"] == kind))
    setting(path, value)(manifest)
    assert schema_complaints(manifest)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayJob", "metadata/name", "drsft-" + "x" * 42),
        ("RayJob", "metadata/name", "2nd-run"),
        ("RayJob", "spec/shutdownAfterJobFinishes", False),
        ("RayJob", "spec/deletionStrategy", {"deletionRules": [{"policy": "DeleteCluster"}]}),
        ("RayJob", "spec/submissionMode", "SidecarMode"),
        ("RayJob", "spec/activeDeadlineSeconds", 0),
        ("RayJob", "spec/rayClusterSpec/enableInTreeAutoscaling", False),
        ("RayJob", "spec/rayClusterSpec/rayVersion", "2.51.0"),
        ("RayJob", "spec/rayClusterSpec/headGroupSpec/resources", {"CPU": "4"}),
        ("RayJob", "spec/rayClusterSpec/workerGroupSpecs/0/rayStartParams", {"labels": "a=b"}),
        ("RayJob", "spec/rayClusterSpec/workerGroupSpecs/0/template/spec/restartPolicy", "Always"),
        ("RayJob", "spec/rayClusterSpec/workerGroupSpecs/0/suspend", True),
        ("RayJob", "spec/rayClusterSpec/workerGroupSpecs/0/minReplicas", 99),
        ("RayService", "metadata/name", "drsft-" + "x" * 36),
        ("RayService", "metadata/annotations", {"ray.io/ft-enabled": "true"}),
        ("RayService", "spec/upgradeStrategy/type", "Rolling"),
        ("RayService", "spec/upgradeStrategy/clusterUpgradeOptions/stepSizePercent", 60),
        ("RayService", "spec/upgradeStrategy/clusterUpgradeOptions/intervalSeconds", 0),
        ("RayService", "spec/upgradeStrategy/clusterUpgradeOptions/gatewayClassName", ""),
        ("RayService", "spec/rayClusterConfig/enableInTreeAutoscaling", False),
        (
            "RayService",
            "spec/rayClusterConfig/headGroupSpec/template/spec/containers/0/env/0/name",
            "REDIS_PASSWORD",
        ),
    ],
)
def test_what_the_operator_would_refuse_is_caught(kind: str, path: str, value: object) -> None:
    manifest = copy.deepcopy(of_kind(render(OVERLAYS / "gpu"), kind))
    setting(path, value)(manifest)
    assert operator_complaints(manifest)


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_every_pod_passes_restricted_pod_security(folder: Path) -> None:
    for manifest in render(folder):
        for name, template in pods(manifest):
            spec = template["spec"]
            assert spec["securityContext"]["runAsNonRoot"], name
            assert spec["securityContext"]["runAsUser"] > 0
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
            assert all((one.keys() - {"name"}) <= RESTRICTED_VOLUMES for one in spec.get("volumes", ()))
            for container in (*spec["containers"], *spec.get("initContainers", ())):
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert context["readOnlyRootFilesystem"] is True
        if manifest["kind"] in RAY_KINDS and (options := cluster_spec(manifest).get("autoscalerOptions")):
            assert options["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    namespace = of_kind(render(folder), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_a_read_only_root_leaves_room_to_write(folder: Path) -> None:
    for manifest in ray_manifests(folder):
        for template in ray_pods(cluster_spec(manifest)).values():
            [container] = template["spec"]["containers"]
            volumes = {one["name"]: one for one in template["spec"]["volumes"]}
            mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"]}
            assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
            assert "emptyDir" in mounts["/tmp"]
            assert "persistentVolumeClaim" in mounts["/cache"]
            written = {one["name"]: one.get("value", "") for one in container["env"]}
            for name in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR"):
                assert written[name].startswith(("/tmp", "/cache"))


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_probes_of_ray_containers_are_left_to_the_operator(folder: Path) -> None:
    for manifest in ray_manifests(folder):
        for template in ray_pods(cluster_spec(manifest)).values():
            for container in template["spec"]["containers"]:
                assert not {"livenessProbe", "readinessProbe", "startupProbe"} & container.keys()


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_secrets_are_only_named(folder: Path) -> None:
    manifests = render(folder)
    assert "Secret" not in {one["kind"] for one in manifests}
    for manifest in manifests:
        for _, template in pods(manifest):
            for container in template["spec"]["containers"]:
                for one in container.get("env", ()):
                    if any(word in one["name"] for word in ("TOKEN", "PASSWORD", "SECRET", "AUTH")):
                        assert "secretKeyRef" in one["valueFrom"]


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_pods_run_as_accounts_that_exist(folder: Path) -> None:
    manifests = render(folder)
    accounts = {one["metadata"]["name"]: one for one in manifests if one["kind"] == "ServiceAccount"}
    classes = {one["metadata"]["name"] for one in manifests if one["kind"] == "PriorityClass"}
    claims = {one["metadata"]["name"] for one in manifests if one["kind"] == "PersistentVolumeClaim"}
    for manifest in manifests:
        for name, template in pods(manifest):
            spec = template["spec"]
            assert spec["serviceAccountName"] in accounts
            assert spec["priorityClassName"] in classes
            needs_api = name == "head" and cluster_spec(manifest)["enableInTreeAutoscaling"]
            assert spec["automountServiceAccountToken"] is needs_api
            for volume in spec.get("volumes", ()):
                if claim := volume.get("persistentVolumeClaim"):
                    assert claim["claimName"] in claims
    if folder.name != "local":
        assert all(
            "eks.amazonaws.com/role-arn" in one["metadata"]["annotations"] for one in accounts.values()
        )


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    for rule in selector.get("matchExpressions", ()):
        value = labels.get(rule["key"])
        if not (value in rule["values"] if rule["operator"] == "In" else value is not None):
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_the_network_is_closed_but_for_what_is_listed(folder: Path) -> None:
    """Which ports of which pods can be reached from outside of drsft's own, and where pods can go."""
    manifests = render(folder)
    policies = [one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"]
    assert any(
        one["podSelector"] == {} and one["policyTypes"] == ["Ingress", "Egress"] and len(one) == 2
        for one in policies
    ), "closed by default"
    for manifest in manifests:
        for name, template in pods(manifest):
            labels = template["metadata"]["labels"]
            mine = [one for one in policies if one["podSelector"] and selects(one["podSelector"], labels)]
            opened = {
                rule["ports"][index]["port"]
                for one in mine
                for rule in one.get("ingress", ())
                if "ports" in rule
                for index in range(len(rule["ports"]))
            }
            callers = [
                rule for one in mine for rule in one.get("ingress", ()) if rule.get("ports") == [CALLS]
            ]
            assert opened == {8000, 8265, 8080, 44217, 44227}
            assert bool(callers) == (name in ("ingress", "engine")), name
            out = {
                (port["protocol"], port["port"])
                for one in mine
                for rule in one.get("egress", ())
                for port in rule.get("ports", ())
            }
            kubernetes = {("TCP", 6443)} if name == "head" else set()
            assert out == {("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", 988), ("TCP", 80), *kubernetes}


@pytest.mark.parametrize("folder", [one for one in WHOLE if one.name != "gpu-kueue"], ids=overlay_id)
def test_budgets_cover_the_pods_that_answer(folder: Path) -> None:
    manifests = render(folder)
    service = of_kind(manifests, "RayService")
    budgets = [one["spec"] for one in manifests if one["kind"] == "PodDisruptionBudget"]
    for name, template in pods(service):
        covering = [one for one in budgets if selects(one["selector"], template["metadata"]["labels"])]
        assert len(covering) == (name != "head")
        assert all(type(one["minAvailable"]) is int for one in covering), "the pods have no scale subresource"
    for manifest in (one for one in manifests if one["kind"] in ("RayJob", "RayCluster")):
        for _, template in pods(manifest):
            assert not any(selects(one["selector"], template["metadata"]["labels"]) for one in budgets)

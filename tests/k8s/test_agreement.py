"""What the manifests say twice, or say about other files, is the same everywhere; sizes fit together."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.stages.actors import GROUP_LABEL
from serve.settings import ServeConfig
from tests.support.k8s import OVERLAYS, ROOT, Manifest, cluster_spec, groups, of_kind, pods, ray_pods, render

IN_IMAGE = "/opt/drsft"
WHOLE = [OVERLAYS / name for name in ("local", "gpu", "gpu-spot", "gpu-kueue")]
JOBS = [*WHOLE, OVERLAYS / "two-nodes/job"]
SERVING = [one for one in WHOLE if one.name != "gpu-kueue"]
QUANTITY = {"Mi": 2**20, "Gi": 2**30, "": 1}


def overlay_id(folder: Path) -> str:
    return folder.name


def quantity(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+)(m|Mi|Gi|)", str(text))
    assert match, text
    return float(match[1]) * (0.001 if match[2] == "m" else QUANTITY[match[2]])


def limits(template: Manifest) -> dict[str, float]:
    container = template["spec"]["containers"][0]
    return {name: quantity(size) for name, size in container["resources"]["limits"].items()}


def lock(name: str, package: str) -> str:
    [line] = [one for one in (ROOT / name).read_text().split() if one.startswith(f"{package}==")]
    return line.partition("==")[2]


def job_config(job: Manifest) -> RunConfig:
    program, script, flag, config, *overrides = shlex.split(job["spec"]["entrypoint"])
    assert (program, script, flag) == ("python", f"{IN_IMAGE}/jobs/rewrite_and_train.py", "--config")
    assert (ROOT / Path(script).relative_to(IN_IMAGE)).is_file()
    assert "storage=$DRSFT_STORAGE" in overrides, "which the submitter's shell fills in"
    return load_config(ROOT / Path(config).relative_to(IN_IMAGE), overrides)


def serve_config(service: Manifest) -> ServeConfig:
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "serve.app:build_app"
    return ServeConfig.model_validate(application["args"])


def test_the_service_runs_serve_yaml() -> None:
    ours = (ROOT / "serve/serve.yaml").read_text()
    for folder in (one for one in SERVING if one.name != "local"):
        assert of_kind(render(folder), "RayService")["spec"]["serveConfigV2"] == ours
    local = yaml.safe_load((ROOT / "serve/local.yaml").read_text())
    args = serve_config(of_kind(render(OVERLAYS / "local"), "RayService")).model_dump(exclude_unset=True)
    assert {"target", "rewrite"} <= args.keys()
    assert ServeConfig.model_validate(local | {"access": args["access"], "score_phi": False}) == (
        ServeConfig.model_validate(args)
    )


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_ray_is_one_version(folder: Path) -> None:
    pinned = lock("requirements-cpu.lock", "ray")
    assert lock("requirements-gpu.lock", "ray") == pinned
    for manifest in render(folder):
        if manifest["apiVersion"] == "ray.io/v1":
            assert cluster_spec(manifest)["rayVersion"] == pinned


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_images_are_named_by_digest(folder: Path) -> None:
    images = {
        container["image"]
        for manifest in render(folder)
        for _, template in pods(manifest)
        for container in template["spec"]["containers"]
    }
    if folder.name == "local":
        assert images == {"drsft:cpu", "redis:7.4.2-alpine"}  # loaded into kind: there is no registry
    else:
        assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)


def test_a_built_image_gets_into_every_manifest(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    digests = {"drsft": f"sha256:{'a1' * 32}", "redis": f"sha256:{'b2' * 32}"}
    for name, digest in digests.items():
        image = f"registry:5000/team/{name}@{digest}"
        subprocess.run([ROOT / "cluster/set_image.sh", name, image, copy / "site"], check=True)
    rendered = subprocess.run(
        ["cat", copy / "site/kustomization.yaml"], capture_output=True, text=True
    ).stdout
    assert "0" * 64 not in rendered
    images = [
        container["image"]
        for manifest in render(copy / "overlays/gpu")
        for _, template in pods(manifest)
        for container in template["spec"]["containers"]
    ]
    assert set(images) == {f"registry:5000/team/{name}@{digest}" for name, digest in digests.items()}


@pytest.mark.parametrize(
    "image", ["drsft:latest", "drsft@sha256:12", f"drsft@sha256:{'g' * 64}", f"dr sft@sha256:{'a' * 64}"]
)
def test_an_image_without_a_digest_is_refused(image: str, tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT / "k8s/site", tmp_path / "site")
    before = (copy / "kustomization.yaml").read_text()
    done = subprocess.run(
        [ROOT / "cluster/set_image.sh", "drsft", image, copy], capture_output=True, text=True
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert (copy / "kustomization.yaml").read_text() == before


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_groups_labels_and_node_pools_have_one_name(folder: Path) -> None:
    for manifest in render(folder):
        if manifest["apiVersion"] != "ray.io/v1":
            continue
        for name, group in groups(cluster_spec(manifest)).items():
            template = group["template"]
            assert group["labels"] == {GROUP_LABEL: name}
            assert template["metadata"]["labels"]["drsft.io/role"] == name
            needs_gpu = folder.name != "local" and name != "ingress"
            assert ("nvidia.com/gpu" in limits(template)) == needs_gpu
            if needs_gpu:
                assert template["spec"]["nodeSelector"][GROUP_LABEL] == name
                assert any(one["key"] == "nvidia.com/gpu" for one in template["spec"]["tolerations"])
            if folder.name == "gpu-spot" and name in ("rollout", "training"):
                assert template["spec"]["nodeSelector"]["drsft.io/spot"] == "true"
                assert any(one["key"] == "drsft.io/spot" for one in template["spec"]["tolerations"])


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_requests_are_limits_and_shared_memory_fits(folder: Path) -> None:
    """Ray promises what the limits say; a pod with smaller requests would lie about it."""
    for manifest in render(folder):
        if manifest["apiVersion"] != "ray.io/v1":
            continue
        spec = cluster_spec(manifest)
        for name, template in ray_pods(spec).items():
            resources = template["spec"]["containers"][0]["resources"]
            assert resources["requests"] == resources["limits"]
            [shm] = [
                one["emptyDir"]["sizeLimit"] for one in template["spec"]["volumes"] if one["name"] == "shm"
            ]
            assert quantity(shm) <= limits(template)["memory"] / 2
            if name == "head" and folder.name != "local":
                assert limits(template)["memory"] >= 8 * 2**30
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("folder", JOBS, ids=overlay_id)
def test_the_job_finds_room_for_what_it_asks(folder: Path) -> None:
    job = of_kind(render(folder), "RayJob")
    resources = job_config(job).resources
    of_group = groups(cluster_spec(job))
    rollout, training = of_group[str(resources.rewrite_group)], of_group[str(resources.train_group)]
    assert rollout["groupName"] != training["groupName"]
    room = limits(rollout["template"])
    engines, trainers = resources.engine_share, resources.train_share
    per_pod = [(room["cpu"] - 1) // engines.cpus]  # a CPU is left for Ray Data's own tasks
    if engines.gpus:
        per_pod.append(room["nvidia.com/gpu"] // engines.gpus)
    assert min(per_pod) * rollout["maxReplicas"] >= engines.num_workers
    room = limits(training["template"])
    per_pod = [room["cpu"] // trainers.cpus]
    if trainers.gpus:
        per_pod.append(room["nvidia.com/gpu"] // trainers.gpus)
    assert min(per_pod) * training["maxReplicas"] >= trainers.num_workers


@pytest.mark.parametrize("folder", SERVING, ids=overlay_id)
def test_the_service_finds_room_for_its_replicas(folder: Path) -> None:
    service = of_kind(render(folder), "RayService")
    config = serve_config(service)
    of_group = groups(cluster_spec(service))
    engine, ingress = of_group["engine"], of_group["ingress"]
    engines = config.resources.engine_share
    room = limits(engine["template"])
    assert room["cpu"] >= engines.cpus
    assert room.get("nvidia.com/gpu", 0) >= engines.gpus
    assert engine["maxReplicas"] >= max(engine["minReplicas"], engines.num_workers)
    needed = config.ingress_replicas * config.cpus_per_ingress
    assert ingress["minReplicas"] * limits(ingress["template"])["cpu"] >= needed


@pytest.mark.parametrize("folder", SERVING, ids=overlay_id)
def test_what_was_admitted_is_finished_before_a_pod_goes(folder: Path) -> None:
    service = of_kind(render(folder), "RayService")
    config = serve_config(service)
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > config.drain_s
    for name, group in groups(cluster_spec(service)).items():
        spec = group["template"]["spec"]
        *command, seconds = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command == ["python", "-m", "drsft.stages.preemption", "--seconds"], name
        assert spec["terminationGracePeriodSeconds"] > float(seconds) > config.drain_s
        mounts = {one["mountPath"]: one["name"] for one in spec["containers"][0]["volumeMounts"]}
        keys = mounts[str(config.access.keys_path.parent)]
        [volume] = [one for one in spec["volumes"] if one["name"] == keys]
        assert volume["secret"]["secretName"] == "drsft-serve-keys"


@pytest.mark.parametrize("folder", WHOLE, ids=overlay_id)
def test_a_node_that_goes_is_announced(folder: Path) -> None:
    for kind in ("RayJob", "RayCluster"):
        for group in groups(cluster_spec(of_kind(render(folder), kind))).values():
            spec = group["template"]["spec"]
            command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert spec["terminationGracePeriodSeconds"] > float(command[-1])


def test_under_kueue_the_size_is_fixed_and_the_queue_named() -> None:
    for kind in ("RayJob", "RayCluster"):
        manifest = of_kind(render(OVERLAYS / "gpu-kueue"), kind)
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "drsft"
        spec = cluster_spec(manifest)
        assert not spec["enableInTreeAutoscaling"]
        assert "autoscalerOptions" not in spec
        assert len(spec["workerGroupSpecs"]) <= 7
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
        assert "suspend" not in manifest["spec"], "Kueue's to set"


def test_only_the_service_survives_its_head() -> None:
    for folder in WHOLE:
        for manifest in render(folder):
            if manifest["apiVersion"] == "ray.io/v1":
                keeps = "gcsFaultToleranceOptions" in cluster_spec(manifest)
                assert keeps == (manifest["kind"] == "RayService")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "k8s").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_manifest_says_why(path: Path) -> None:
    """Files that only list others (a part of an overlay, a base) explain themselves by their names."""
    text = path.read_text()
    lists_only = path.name == "kustomization.yaml" and "patches:" not in text
    assert lists_only or re.search(r"(^|\s)# \w", text)

"""The manifests of deploy/kubernetes agree with the service, its images and each other."""

import re
import shutil
from pathlib import Path, PurePosixPath

import pytest
from fastapi.testclient import TestClient

from app.errors import CODES
from app.main import create_app
from app.monitoring.metrics import Metrics
from app.process.cores import PROCESS_BYTES
from app.process.open_connections import MAX_UNREAD_SECONDS_AT_STOP
from app.process.supervisor import MAX_PAUSE_SECONDS
from app.settings import Settings, variables
from tests.deploy.rendering import MANIFESTS, ROOT, Rendered, containers, folders, render
from training.__main__ import _parser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first run installs an environment

NAMES = list(folders())
SERVING = "base", "overlays/hpa", "overlays/keda"
TRAIN, PUBLISH, ACTIVATE = "overlays/jobs/train", "overlays/jobs/publish", "overlays/jobs/activate"
JOBS = TRAIN, PUBLISH, ACTIVATE
KSERVE, PROMETHEUS, RAY = "examples/kserve", "examples/prometheus", "examples/ray"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S))
MEBIBYTES = {"Mi": 2**20, "Gi": 2**30}


def stage(container: dict) -> str:
    """The stage of the Dockerfile that a container's image is built from."""
    return container["image"].partition(":")[2]


def environment(folder: Rendered, container: dict) -> dict[str, str]:
    maps = {document["metadata"]["name"]: document["data"] for document in folder.all("ConfigMap")}
    values = [maps[source["configMapRef"]["name"]] for source in container.get("envFrom", [])]
    return {name: value for each in values for name, value in each.items()} | {
        variable["name"]: variable["value"] for variable in container.get("env", [])
    }


def servers(rendered: dict[str, Rendered]) -> list[tuple[Rendered, dict, dict]]:
    """Each folder that serves, its pod, and the service's container."""
    pods = [(rendered[name], pod) for name in (*SERVING, KSERVE) for pod in rendered[name].pods()]
    return [(folder, pod, container) for folder, pod in pods for container in pod["containers"]]


def size(quantity: str) -> int:
    return int(quantity[:-2]) * MEBIBYTES[quantity[-2:]]


def test_the_folders_are_the_ones_tested_here():
    assert sorted(NAMES) == sorted([*SERVING, *JOBS, KSERVE, PROMETHEUS, RAY])  # the last one is in test_ray.py


def test_images_are_stages_that_make_image_builds(rendered):
    built = re.findall(r"docker build --target (\w+) --tag \$\(IMAGE\):(\w+)", (ROOT / "Makefile").read_text())
    images = {
        container["image"] for folder in rendered.values() for pod in folder.pods() for container in containers(pod)
    }
    assert images == {f"cifar10:{tag}" for target, tag in built if target == tag and target in STAGES}


def test_every_probe_asks_a_health_path_of_the_service_on_its_port(rendered, tmp_path):
    client = TestClient(create_app(Settings(store=tmp_path)))
    for _, _, container in servers(rendered):
        ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
        assert list(ports.values()) == [Settings.model_fields["bind_port"].default]
        assert f"EXPOSE {next(iter(ports.values()))}\n" in STAGES["serve"]
        for name, status in (("startupProbe", 200), ("livenessProbe", 200), ("readinessProbe", 503)):
            probe = container[name]["httpGet"]
            assert ports.get(probe["port"], probe["port"]) in ports.values()
            assert client.get(probe["path"]).status_code == status  # without a model it lives but is not ready


def test_the_kubelet_waits_longer_than_the_service_takes_to_replace_a_process_that_hangs(rendered):
    for _, _, container in servers(rendered):
        probe = container["livenessProbe"]
        assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > MAX_PAUSE_SECONDS + probe["timeoutSeconds"]


def test_settings_exist_and_are_valid(rendered, monkeypatch):
    for folder, _, container in servers(rendered):
        values = environment(folder, container)
        assert values["CIFAR10_ACCESS"] in ("open", "keys")
        assert set(values) <= set(variables().values())
        with monkeypatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            Settings()


@pytest.mark.parametrize("name", SERVING)
def test_the_component_for_keys_mounts_the_secret_where_the_service_reads_it(name, tmp_path):
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    kustomization = tmp_path / "kubernetes" / name / "kustomization.yaml"
    component = "../" * len(PurePosixPath(name).parts) + "components/keys"
    kustomization.write_text(f"{kustomization.read_text()}components: [{component}]\n")
    (folder,) = render([kustomization.parent])
    assert folder.problems == []
    (pod,) = folder.pods()
    (serve,) = pod["containers"]
    values = environment(folder, serve)
    assert values["CIFAR10_ACCESS"] == "keys" and values["CIFAR10_DRAIN_SECONDS"]
    assert set(values) <= set(variables().values())
    mount, volume = serve["volumeMounts"][-1], pod["volumes"][-1]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    secret, file = re.search(
        r"create secret generic (\S+) --from-file=(\S+)", (MANIFESTS / "components/keys/kustomization.yaml").read_text()
    ).groups()
    assert volume["secret"] == {"secretName": secret, "defaultMode": 0o440}
    assert values["CIFAR10_KEYS_FILE"] == f"{mount['mountPath']}/{file}"


def test_a_terminated_pod_has_time_to_drain_and_to_answer(rendered):
    for folder, pod, container in servers(rendered):
        values = environment(folder, container)
        drain, timeout = float(values["CIFAR10_DRAIN_SECONDS"]), float(values["CIFAR10_TIMEOUT_SECONDS"])
        assert pod["terminationGracePeriodSeconds"] == drain + timeout + MAX_UNREAD_SECONDS_AT_STOP
        probe = container["readinessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] < drain


def test_requests_equal_limits_in_whole_cores(rendered):
    for folder in rendered.values():
        for container in (each for pod in folder.pods() for each in containers(pod)):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"]
            assert set(resources["limits"]) == {"cpu", "memory"}
            assert re.fullmatch(r"[1-9]\d*", resources["limits"]["cpu"])


def test_the_service_has_the_memory_for_a_process_per_core_and_its_memory_volume(rendered):
    for _, pod, container in servers(rendered):
        limits = container["resources"]["limits"]
        volumes = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
        in_memory = sum(size(volume["sizeLimit"]) for volume in volumes if volume.get("medium") == "Memory")
        assert size(limits["memory"]) - in_memory >= int(limits["cpu"]) * PROCESS_BYTES


def test_pods_run_confined_as_the_images_user(rendered):
    pods = [pod for folder in rendered.values() for pod in folder.pods()]
    assert len(pods) == len(SERVING) + len(JOBS) + 1
    for pod in pods:
        users = {re.search(r"^USER (\d+):(\d+)$", STAGES[stage(each)], re.M).groups() for each in containers(pod)}
        context = pod["securityContext"]
        assert users == {(str(context["runAsUser"]), str(context["runAsGroup"]))}
        assert (context["runAsNonRoot"], context["fsGroup"]) == (True, context["runAsGroup"])
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        assert pod["shareProcessNamespace"] is True
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_volumes_are_mounted_at_paths_of_the_images_and_exist(rendered):
    claims = {
        claim["metadata"]["name"] for folder in rendered.values() for claim in folder.all("PersistentVolumeClaim")
    }
    for folder in rendered.values():
        maps = {document["metadata"]["name"] for document in folder.all("ConfigMap")}
        for pod in folder.pods():
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            for container in containers(pod):
                declared = re.findall(r"^VOLUME (\[.*\])$", STAGES["runtime"] + STAGES[stage(container)], re.M)
                known = {*re.findall(r'"(/\w+)"', " ".join(declared)), "/tmp", "/dev/shm", "/scripts"}
                for mount in container["volumeMounts"]:
                    assert mount["mountPath"] in known
                    volume = volumes[mount["name"]]
                    if "persistentVolumeClaim" in volume:
                        assert volume["persistentVolumeClaim"]["claimName"] in claims
                        assert mount["name"] == PurePosixPath(mount["mountPath"]).name
                    assert volume.get("configMap", {}).get("name") in {None, *maps}


def test_every_python_program_has_a_home_that_it_can_write(rendered):
    (home,) = re.findall(r"\bHOME=(\S+)", STAGES["runtime"])
    for pod in (pod for folder in rendered.values() for pod in folder.pods()):
        for container in (each for each in containers(pod) if each["name"] != "fill-store"):
            (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == home]
            assert mount["name"] in {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}


@pytest.mark.parametrize("name", SERVING)
def test_the_service_reads_the_volume_that_the_images_versions_were_copied_into(name, rendered):
    pod = rendered[name].one("Deployment")["spec"]["template"]["spec"]
    (fill,), (serve,) = pod["initContainers"], pod["containers"]
    shell, script, shipped, store = fill["command"]
    scripts = [document["data"] for document in rendered[name].all("ConfigMap") if "fill-store.sh" in document["data"]]
    assert (shell, PurePosixPath(script).name, len(scripts)) == ("sh", "fill-store.sh", 1)
    workdir = re.search(r"^WORKDIR (\S+)", DOCKERFILE, re.M)[1]
    assert shipped == f"{workdir}/model_store/models"
    assert f"CIFAR10_STORE={store}\n" in DOCKERFILE
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in serve["volumeMounts"]}
    assert mounts == {store: True, "/tmp": False, "/dev/shm": False}
    assert {mount["mountPath"]: mount.get("readOnly", False) for mount in fill["volumeMounts"]} == {
        store: False,
        str(PurePosixPath(script).parent): True,
    }


def test_the_example_for_kserve_serves_what_the_image_ships(rendered):
    _, _, container = servers(rendered)[-1]
    workdir = re.search(r"^WORKDIR (\S+)", DOCKERFILE, re.M)[1]
    store = next(each["value"] for each in container["env"] if each["name"] == "CIFAR10_STORE")
    assert store == f"{workdir}/model_store/models"


@pytest.mark.parametrize("name", JOBS)
def test_jobs_run_commands_that_the_training_module_accepts_on_mounted_folders(name, rendered):
    assert 'ENTRYPOINT ["python", "-m", "training"]' in STAGES["training"]
    for container in containers(rendered[name].one("Job")["spec"]["template"]["spec"]):
        options = vars(_parser().parse_args(container["args"]))
        mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
        paths = [Path(value) for value in container["args"] if value.startswith("/")]
        assert all(f"/{path.parts[1]}" in mounts for path in paths)
        if container["name"] == "train":
            assert options["resume"] and not mounts["/runs"] and mounts["/models"]
        if container["name"] == "publish":
            assert not mounts["/models"] and options["name"] == "fast"
        if container["name"] == "activate":
            assert not mounts["/models"] and options["name"] == Settings.model_fields["model_name"].default


def test_a_training_job_replaces_its_pod_only_when_the_old_one_has_ended(rendered):
    job = rendered[TRAIN].one("Job")["spec"]
    assert (job["podReplacementPolicy"], job["template"]["spec"]["restartPolicy"]) == ("Failed", "Never")


def test_the_published_model_is_the_run_that_was_trained(rendered):
    train, publish = (
        containers(rendered[name].one("Job")["spec"]["template"]["spec"])[-1]["args"] for name in (TRAIN, PUBLISH)
    )
    assert train[train.index("--out") + 1] == publish[1]


def test_no_folder_has_two_autoscalers_or_an_autoscaler_and_a_number_of_replicas(rendered):
    scalers = {
        name: len(folder.all("HorizontalPodAutoscaler") + folder.all("ScaledObject"))
        for name, folder in rendered.items()
    }
    assert scalers == {name: int(name in ("overlays/hpa", "overlays/keda")) for name in NAMES}
    for name in SERVING:
        assert ("replicas" in rendered[name].one("Deployment")["spec"]) == (not scalers[name])


@pytest.mark.parametrize(
    ("name", "kind"), [("overlays/hpa", "HorizontalPodAutoscaler"), ("overlays/keda", "ScaledObject")]
)
def test_an_autoscaler_scales_the_deployment_on_the_same_share_of_the_processor(name, kind, rendered):
    spec, deployment = rendered[name].one(kind)["spec"], rendered[name].one("Deployment")
    names = spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]
    assert names == (deployment["kind"], deployment["metadata"]["name"])
    if kind == "ScaledObject":
        share = next(trigger["metadata"]["value"] for trigger in spec["triggers"] if trigger["type"] == "cpu")
    else:
        share = spec["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert int(share) == rendered[KSERVE].one("InferenceService")["spec"]["predictor"]["scaleTarget"]


def test_keda_asks_prometheus_for_metrics_and_labels_that_exist(rendered):
    triggers = [each["metadata"] for each in rendered["overlays/keda"].one("ScaledObject")["spec"]["triggers"]]
    values = dict(re.findall(r"^(\w+)=(.+)$", (MANIFESTS / "overlays/keda/thresholds.env").read_text(), re.M))
    queries = [trigger for trigger in triggers if "query" in trigger]
    metrics = Metrics()
    metrics.count_refusal("overloaded")
    exposed = set(re.findall(r"^(\w+)(?:\{| )", metrics.render().decode(), re.M))
    service = rendered["overlays/keda"].one("Service")["metadata"]["name"]
    for query in queries:
        assert set(re.findall(r"cifar10_\w+", query["query"])) <= exposed
        assert f'namespace="{values["NAMESPACE"]}",service="{service}"' in query["query"]
        assert query["serverAddress"] == values["PROMETHEUS"]
    assert [query["threshold"] for query in queries] == [
        values["IN_FLIGHT_PER_REPLICA"],
        values["REFUSALS_PER_SECOND_AND_REPLICA"],
    ]
    assert set(re.findall(r'code="(\w+)"', queries[1]["query"])) <= set(CODES)
    assert "-" not in {value for trigger in triggers for value in trigger.values()}


def test_prometheus_and_the_network_policy_find_the_pods_and_their_port(rendered):
    folder = rendered["base"]
    service, deployment = folder.one("Service"), folder.one("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    (exposed,) = service["spec"]["ports"]
    (endpoint,) = (monitor := rendered[PROMETHEUS].one("ServiceMonitor"))["spec"]["endpoints"]
    assert service["spec"]["selector"] == labels
    assert exposed["targetPort"] == port["name"]
    assert endpoint["port"] == exposed["name"]
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert TestClient(create_app(Settings())).get(endpoint["path"]).status_code == 200
    policy = folder.one("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == folder.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": port["name"]}]}]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


@pytest.mark.parametrize("name", JOBS)
def test_every_job_has_a_network_policy_and_only_training_may_dial_out(name, rendered):
    policy, job = rendered[name].one("NetworkPolicy")["spec"], rendered[name].one("Job")["spec"]
    assert policy["podSelector"]["matchLabels"] == job["template"]["metadata"]["labels"]
    assert (policy["policyTypes"], policy["ingress"]) == (["Ingress", "Egress"], [])
    assert bool(policy["egress"]) == (name == TRAIN)


def test_an_update_never_goes_below_the_number_of_replicas(rendered):
    for name in SERVING:
        strategy = rendered[name].one("Deployment")["spec"]["strategy"]["rollingUpdate"]
        assert strategy == {"maxSurge": 1, "maxUnavailable": 0}

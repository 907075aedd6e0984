"""The files for Ray agree with the service and each other; tests/cluster has Ray read them."""

import re

import pytest
import yaml

from app.settings import variables
from tests.deploy.rendering import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first run installs an environment

CONFIGURATION = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "deploy" / "ray" / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def service(rendered) -> dict:
    return rendered["examples/ray"].one("RayService")["spec"]


@pytest.fixture
def pods(service) -> list[dict]:
    cluster = service["rayClusterConfig"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_kubernetes_gets_the_configuration_but_for_the_number_of_replicas(service):
    given, (application,) = yaml.safe_load(service["serveConfigV2"]), CONFIGURATION["applications"]
    (other,) = given["applications"]
    assert other["args"].keys() == application["args"].keys() and other["args"]["min_replicas"] == 2
    assert given | {"applications": [other | {"args": application["args"]}]} == CONFIGURATION


def test_the_configuration_names_the_code_and_settings_of_the_service():
    (application,) = CONFIGURATION["applications"]
    module, _, function = application["import_path"].partition(":")
    code = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert f"\ndef {function}(" in code
    assert set(application["runtime_env"]["env_vars"]) <= set(variables().values())


def test_pods_run_confined_as_the_user_of_the_image_with_the_locked_ray(service, pods):
    (locked,) = re.findall(r"^ray==(\S+) ", (ROOT / "requirements" / "ray.txt").read_text(), re.M)
    assert service["rayClusterConfig"]["rayVersion"] == locked
    user, group = map(int, re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M).groups())
    for pod in pods:
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (user, group, True)
        for container in pod["containers"]:
            assert container["image"] == "cifar10:ray"
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] == container["resources"]["limits"]
            ports = {port["containerPort"] for port in container["ports"]}
            assert CONFIGURATION["http_options"]["port"] in ports


def test_a_pod_has_the_time_that_its_requests_have(pods):
    assert pods[1]["terminationGracePeriodSeconds"] > CONFIGURATION["http_options"]["request_timeout_s"]

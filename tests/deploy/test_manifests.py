"""Every manifest of deploy/kubernetes renders, and validates against the schemas of its kind."""

import shutil

import pytest

from tests.deploy.rendering import MANIFESTS, containers, folders, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first run installs an environment

NAMES = list(folders())


@pytest.mark.parametrize("name", NAMES)
def test_every_manifest_validates(name, rendered):
    assert rendered[name].documents
    assert rendered[name].problems == []


@pytest.mark.parametrize(
    ("folder", "file", "old", "new", "problem"),
    [
        ("base", "deployment.yaml", "minReadySeconds:", "minReadySecond:", "minReadySecond"),
        ("base", "service.yaml", "port: 80", "port: http", "Service cifar10, Kubernetes 1.31"),
        ("overlays/keda", "scaled-object.yaml", "metricType: Utilization", "metricKind: Utilization", "metricKind"),
        ("overlays/jobs/train", "job.yaml", ', status: "True"', "", "Kubernetes 1.31: 'status' is a required property"),
        ("examples/prometheus", "service-monitor.yaml", "port: http", "ports: http", "ports"),
        ("examples/prometheus", "service-monitor.yaml", "path: /metrics", "path: 1", "path"),
        ("examples/kserve", "inference-service.yaml", "readinessProbe:", "readyProbe:", "readyProbe"),
        ("examples/ray", "ray-service.yaml", "containerPort: 6379", "containerPort: gcs", "RayService cifar10: Pod"),
    ],
)
def test_the_validation_finds_fields_that_do_not_exist_and_values_of_the_wrong_type(
    folder, file, old, new, problem, tmp_path
):
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    path = tmp_path / "kubernetes" / folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    (broken,) = render([tmp_path / "kubernetes" / folder])
    assert problem in " ".join(broken.problems)


def test_another_registry_is_named_in_one_line_of_each_folder(tmp_path):
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    for file in (tmp_path / "kubernetes").rglob("kustomization.yaml"):
        file.write_text(file.read_text().replace("newName: cifar10 ", "newName: registry.example/team/cifar10 "))
    for folder in render(folders(tmp_path / "kubernetes").values()):
        for pod in folder.pods():
            assert {each["image"].partition(":")[0] for each in containers(pod)} == {"registry.example/team/cifar10"}

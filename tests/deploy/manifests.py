"""Render folders with kustomize and validate what comes out: python manifests.py FOLDER... > documents.json.

Runs in an environment of its own, that of requirements/kubernetes.txt. Prints an object with the keys `documents` (a
list of manifests for each folder) and `problems` (a list of texts for each folder).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import yaml

RELEASES = "1.31", "1.37"  # of Kubernetes: the oldest that these manifests are for, and the newest with a schema here
# Fields of KServe's predictor; the others are those of a pod.
PREDICTOR = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}


def main() -> None:
    documents = {folder: render(folder) for folder in sys.argv[1:]}
    problems = {folder: [text for each in found for text in validate(each)] for folder, found in documents.items()}
    print(json.dumps({"documents": documents, "problems": problems}))


def render(folder: str) -> list[dict]:
    kubectl = Path(sys.executable).with_name("kubectl")
    process = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    if process.returncode:
        sys.exit(process.stderr)
    return list(yaml.safe_load_all(process.stdout))


def validate(document: dict) -> Iterator[str]:
    """Unknown fields count as errors: the API server would drop them with a warning."""
    kind, label = document["kind"], f"{document['kind']} {document['metadata']['name']}"
    if kind == "InferenceService":
        predictor = document["spec"].pop("predictor")
        pod = {name: value for name, value in predictor.items() if name not in PREDICTOR}
        document["spec"]["predictor"] = predictor
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": pod}
    if kind == "RayService":  # its pods; no package has a schema of its own fields
        for number, group in enumerate(ray_groups(document)):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"ray-{number}"}} | group["template"]
            yield from (f"{label}: {text}" for text in validate(pod))
        return
    if kind in ("ScaledObject", "ServiceMonitor"):
        yield from (f"{label}: {text}" for text in validate_custom(document))
        return
    for release in RELEASES:
        try:
            kubernetes_validate.validate(document, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{label}, Kubernetes {release}: {error}"


def ray_groups(document: dict) -> list[dict]:
    cluster = document["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def validate_custom(document: dict) -> Iterator[str]:
    """Compare a document with what the models that were generated from its CRD make of it: they drop unknown fields."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject  # seconds each
    from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

    model = {"ScaledObject": ScaledObject, "ServiceMonitor": ServiceMonitor}[document["kind"]]
    try:
        read = model.model_validate(document, strict=True)
    except ValueError as error:
        yield str(error)
    else:
        yield from differences(document, read.model_dump(mode="json", by_alias=True, exclude_unset=True), "")


def differences(given: object, read: object, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(read, dict):
        for name in given.keys() | read.keys():
            yield from differences(given.get(name), read.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, pair in enumerate(zip(given, read, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif given != read:
        yield f"{path} is {given!r}, which the schema reads as {read!r}"


if __name__ == "__main__":
    main()

"""The manifests of deploy/kubernetes, rendered and validated by the tools of requirements/kubernetes.txt."""

import fcntl
import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import make_environment

ROOT = Path(__file__).parent.parent.parent
MANIFESTS = ROOT / "deploy" / "kubernetes"
LOCK = ROOT / "requirements" / "kubernetes.txt"
HOME = Path.home() / ".cache" / "cifar10-kubernetes"


@dataclass(frozen=True)
class Rendered:
    """What one folder renders to."""

    documents: list[dict]
    problems: list[str]  # that the schemas find

    def all(self, kind: str) -> list[dict]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> dict:
        (document,) = self.all(kind)
        return document

    def pods(self) -> list[dict]:
        """The specs of the pods that its workloads make."""
        templates = [document["spec"]["template"]["spec"] for document in self.all("Deployment") + self.all("Job")]
        return templates + [document["spec"]["predictor"] for document in self.all("InferenceService")]


def containers(pod: dict) -> list[dict]:
    """Containers, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def folders(root: Path = MANIFESTS) -> dict[str, Path]:
    """The folders that can be applied, by their path below `root`; components change others."""
    files = sorted(root.rglob("kustomization.yaml"))
    found = [file.parent for file in files if "\nkind: Kustomization\n" in file.read_text(encoding="utf-8")]
    return {folder.relative_to(root).as_posix(): folder for folder in found}


def render(paths: Iterable[Path]) -> list[Rendered]:
    """Render and validate folders."""
    names = list(map(str, paths))
    command = [install() / "python", Path(__file__).with_name("manifests.py"), *names]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    output = json.loads(process.stdout)
    return [Rendered(output["documents"][name], output["problems"][name]) for name in names]


def install() -> Path:
    """Return the bin directory of the environment, installed on first use, and anew when its lock has changed."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:  # test processes take turns
        fcntl.flock(lock, fcntl.LOCK_EX)
        return make_environment(HOME / digest, ["--only-binary=:all:", "--require-hashes", "--requirement", str(LOCK)])

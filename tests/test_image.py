"""The container images hold every module that they need, and nothing of tests, benchmarks or caches."""

import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath

import pytest

from app.access.startup import access_problem
from app.settings import Settings
from model_store.store import SHIPPED_STORE

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
STAGES = {
    name: (base, instructions)
    for base, name, instructions in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
}
WORKDIR = PurePosixPath(re.search(r"^WORKDIR (\S+)", DOCKERFILE, re.M)[1])

IMPORT_ALL = """
import importlib, json, pkgutil, sys
root, packages, absent = sys.argv[1], *map(json.loads, sys.argv[2:])
sys.path.insert(0, root)
sys.modules.update(dict.fromkeys(absent))  # an import of None raises ImportError
failed = {}
for package in packages:
    names = [module.name for module in pkgutil.walk_packages([f"{root}/{package}"], f"{package}.")]
    for name in [package, *names]:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            failed[name] = str(error)
        else:
            assert module.__file__.startswith(f"{root}/"), module.__file__
loaded = [name for name, module in sys.modules.items() if module]
print(json.dumps([failed, loaded]))
"""


def is_ignored(path: PurePosixPath, patterns: list[str]) -> bool:
    """Docker's rule: the last pattern that matches the path or one of its parents decides."""
    ignored = False
    for pattern in patterns:
        expression = re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(expression, str(part)) for part in (path, *path.parents)):
            ignored = not pattern.startswith("!")
    return ignored


def ignore_patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def context() -> dict[PurePosixPath, Path]:
    """Files that `docker build .` sends, by their path in the context."""
    patterns = ignore_patterns()
    folders = [path for path in ROOT.iterdir() if not is_ignored(PurePosixPath(path.name), patterns)]
    files = [path for folder in folders for path in (folder.rglob("*") if folder.is_dir() else [folder])]
    relative = {PurePosixPath(path.relative_to(ROOT)): path for path in files if path.is_file()}
    return {PurePosixPath("/") / name: path for name, path in relative.items() if not is_ignored(name, patterns)}


def copies(stage: str) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """The stage to copy from, "" for the context; the source; the destination."""
    for line in re.findall(r"^COPY (.+)", STAGES[stage][1], re.M):
        words = line.split()
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, destination = [word for word in words if not word.startswith("--")]
        for source in sources:
            yield options.get("from", ""), PurePosixPath("/", source), WORKDIR / destination


def copied_files(stage: str) -> dict[PurePosixPath, Path]:
    """The files of the checkout that COPY puts into a stage, by their path in it."""
    base = STAGES[stage][0]
    files = copied_files(base) if base in STAGES else {}
    for source_stage, source, destination in copies(stage):
        available = copied_files(source_stage) if source_stage else context()
        matching = {path: file for path, file in available.items() if path.is_relative_to(source)}
        assert matching or source_stage, f"{source} is not in the context"  # other stages also have files made by RUN
        for path, file in matching.items():
            files[destination / (path.relative_to(source) if path != source else path.name)] = file
    return files


@pytest.mark.parametrize("stage", ["serve", "training"])
def test_an_image_has_the_licence_and_no_test_benchmark_or_cache(stage):
    paths = copied_files(stage)
    assert WORKDIR / "LICENSE" in paths
    others = {"app", "training"} - {"app" if stage == "serve" else "training"} | {"tests", "benchmarks", "docs"}
    assert not [path for path in paths if others & set(path.parts)]
    assert not [path for path in paths if path.suffix == ".pyc" or "cache" in str(path) or "/." in str(path)]


@pytest.mark.parametrize("stage", ["serve", "training"])
def test_an_image_has_the_package_list_of_its_own_environment_and_not_the_tools_that_made_it(stage):
    sources = {str(source): name for name, source, _ in copies(stage)}
    base, instructions = STAGES[sources["/sbom"]]
    assert base == sources["/venv"]
    assert set(re.findall(r" (/sbom/\S+)", instructions)) == {"/sbom/sbom.cdx.json", "/sbom/licences.txt"}
    assert not {"/", "/tools"} & set(sources)


def test_the_service_listens_on_every_address_and_says_who_may_use_it():
    settings = dict(re.findall(r"(CIFAR10_\w+)=(\S+)", " ".join(re.findall(r"^ENV .+", STAGES["serve"][1], re.M))))
    assert access_problem(Settings(bind_host=settings["CIFAR10_BIND_HOST"]), settings["CIFAR10_BIND_HOST"])
    assert settings == {"CIFAR10_BIND_HOST": "0.0.0.0", "CIFAR10_ACCESS": "open"}
    assert access_problem(Settings(access=settings["CIFAR10_ACCESS"]), settings["CIFAR10_BIND_HOST"]) is None


def test_compose_publishes_the_open_service_on_this_machine_only():
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert 'ports: ["127.0.0.1:' in compose and "CIFAR10_ACCESS" in compose


def test_the_service_has_its_pages_and_templates():
    assert {WORKDIR / path for path in ("app/page/index.html", "app/card/card.html")} <= set(copied_files("serve"))


@pytest.mark.parametrize("stage", ["serve", "training"])
def test_an_image_has_its_models_where_volumes_are_filled_from_and_where_the_service_looks_for_what_shipped(stage):
    paths, package = copied_files(stage), WORKDIR / SHIPPED_STORE.relative_to(ROOT)
    volume, shipped = (
        {path.relative_to(folder): file for path, file in paths.items() if path.is_relative_to(folder)}
        for folder in (PurePosixPath("/models"), package)
    )
    assert any(path.match("cifar10/*/manifest.json") for path in volume)
    assert volume == shipped


@pytest.mark.parametrize(
    "path",
    [
        "app/__pycache__/main.cpython-311.pyc",
        "model_store/network/__pycache__/layers.cpython-311.pyc",
        "tests/test_image.py",
        "benchmarks/service.py",
        ".venv/bin/python",
        ".git/config",
        "runs/fast/run.json",
        "data/cifar-10-batches-bin/test_batch.bin",
    ],
)
def test_caches_tests_and_data_are_not_sent_to_the_builder(path):
    assert is_ignored(PurePosixPath(path), ignore_patterns())


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "packages"), [("serve", ["app", "model_store"]), ("training", ["model_store", "training"])]
)
def test_every_module_of_an_image_can_be_imported_in_it(stage, packages, tmp_path):
    for path, file in copied_files(stage).items():
        target = tmp_path / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    others = [line for name in ("bulk", "training") for line in groups[name] if isinstance(line, str)]
    absent = [*(re.match(r"\w+", line)[0] for line in others), "opentelemetry.sdk"] if stage == "serve" else []
    root = tmp_path / WORKDIR.relative_to("/")
    command = [sys.executable, "-I", "-B", "-c", IMPORT_ALL, str(root), json.dumps(packages), json.dumps(absent)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    failed, loaded = json.loads(process.stdout.splitlines()[-1])
    needs_more = {name for name in failed if not name.startswith("app.bulk.")}  # which serve does not import
    optional = (
        {"model_store.network.tensorflow", "app.monitoring.spans", "app.cluster.serving"} if stage == "serve" else set()
    )
    assert needs_more == optional, failed
    assert {*packages} <= {*loaded}
    assert ({"keras", "tensorflow"} <= {*loaded}) == (stage == "training")


class Readiness(BaseHTTPRequestHandler):
    """Answers /health/ready as a service that is ready, and everything else with 503."""

    def do_GET(self):
        self.send_response(200 if self.path == "/health/ready" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


def check_health(**environment) -> int:
    _, instructions = STAGES["serve"]
    _, code, script = json.loads(re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", instructions, re.M)[1])
    return subprocess.run([sys.executable, code, script], env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize("variable", ["CIFAR10_BIND_PORT", "PORT"])
def test_the_health_check_asks_the_services_port_and_no_proxy(variable):
    with HTTPServer(("127.0.0.1", 0), Readiness) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert check_health(**{variable: str(server.server_port), "HTTP_PROXY": "http://127.0.0.1:1"}) == 0
        finally:
            server.shutdown()
            thread.join()
    assert check_health(**{variable: str(server.server_port)}) != 0  # nothing listens any more

"""Commands and requests of each peer, as its own documentation shows."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.harness.server import ROOT, free_port
from benchmarks.load.bodies import FORM, Body, Picture, multipart
from benchmarks.peers import triton

SERVERS = Path(__file__).with_name("servers")
JSON, OCTETS = "application/json", "application/octet-stream"
NO_TELEMETRY = {"BENTOML_DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
Prepare = Callable[[Path, int, Path, int], dict[str, str]]
PLAIN, TUNED = {"PROCESSES": "1", "THREADS": "2"}, {"PROCESSES": "2", "THREADS": "1"}


@dataclass(frozen=True)
class Peer:
    """One server.

    Args:
        packages: packages to install for it, in addition to those it shares with others.
        arguments: its command; {bin}, {site}, {port}, {servers}, {folder} and {processes} are replaced.
        path: URL path of a request.
        mime: content type of a request.
        wrap: makes a request's body from a picture.
        prepare: takes the environment's bin directory, the port, an empty folder and the number of processes; writes
            the peer's files into the folder and returns environment variables.
        variables: further environment variables; PROCESSES and THREADS are those of the network.
        runs_ours: runs our decoder and classifier instead of Pillow and the exported network.
    """

    packages: tuple[str, ...]
    arguments: str
    path: str
    mime: str
    wrap: Callable[[Picture], bytes]
    prepare: Prepare = lambda bin_, port, folder, processes: {}
    variables: dict[str, str] = field(default_factory=lambda: dict(PLAIN))
    runs_ours: bool = False

    def command(self, bin_: Path, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Prepare the folder; return the command and its environment variables."""
        processes = int(self.variables["PROCESSES"])
        replacements = {"bin": bin_, "site": _site(bin_), "port": port, "servers": SERVERS, "folder": folder}
        replacements["processes"] = processes
        command = [word.format(**replacements) for word in self.arguments.split()]
        imports = {"PYTHONPATH": str(ROOT if self.runs_ours else SERVERS)}
        return command, NO_TELEMETRY | imports | self.variables | self.prepare(bin_, port, folder, processes)

    def body(self, picture: Picture) -> Body:
        """Make a request to this server with the picture."""
        return Body(picture.name, self.path, self.mime, self.wrap(picture), picture)


def _site(bin_: Path) -> Path:
    """Return the site-packages of an environment, or its folder if it is not installed yet."""
    return next((bin_.parent / "lib").glob("python*/site-packages"), bin_.parent)


def _prepare_mlserver(bin_: Path, port: int, folder: Path, processes: int) -> dict[str, str]:
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    model = {"name": "c", "implementation": "mlserver_peer.Cifar", "max_batch_size": 32, "max_batch_time": 0.002}
    (folder / "settings.json").write_text(json.dumps(ports | {"parallel_workers": processes if processes > 1 else 0}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return {}


def _prepare_triton(bin_: Path, port: int, folder: Path, processes: int) -> dict[str, str]:
    return triton.prepare(bin_, _site(bin_), folder, SERVERS, processes)


def _raw(picture: Picture) -> bytes:
    return picture.data


def _field(name: str) -> Callable[[Picture], bytes]:
    return lambda picture: multipart([picture], name)


def _tensor(name: str, **parameters: object) -> Callable[[Picture], bytes]:
    """Encode pictures in base64 as a tensor of the Open Inference Protocol."""

    def wrap(picture: Picture) -> bytes:
        text = base64.b64encode(picture.data).decode()
        tensor = {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [text], **parameters}
        return json.dumps({"inputs": [tensor]}).encode()

    return wrap


UVICORN = "{bin}/uvicorn fastapi_naive:app --port {port} --workers {processes} --log-level warning --no-access-log"
INFER = "/v2/models/c/infer"
BARE = "{bin}/python {servers}/bare.py {port}"
MOSEC = "{bin}/python {servers}/mosec_peer.py --address 127.0.0.1 --port {port}"
LITSERVE, RAYSERVE = "{bin}/python {servers}/litserve_peer.py {port}", "{bin}/python {servers}/rayserve_peer.py {port}"
BENTOML, MLSERVER = "{bin}/bentoml serve bentoml_peer:Cifar --port {port}", "{bin}/mlserver start {folder}"
BASE64 = {"content_type": "base64"}
RAY = ("ray[serve]==2.60.0",)
# Its further processes ask for an event loop before there is one, which newer releases of uvloop do not make.
MLSERVER_PACKAGES = "mlserver", "uvloop<0.22"


def _ours_behind(packages: tuple[str, ...], script: str, **variables: str) -> Peer:
    """Make a peer that is our whole application in two processes, behind a proxy."""
    arguments = f"{{bin}}/python {{servers}}/{script} {{port}} {{folder}}"
    variables = PLAIN | {"CIFAR10_ACCESS": "open"} | variables
    return Peer(packages, arguments, "/predict", OCTETS, _raw, variables=variables, runs_ours=True)


PLAIN_PEERS = {
    "triton": Peer(("nvidia-pytriton",), triton.ARGUMENTS, INFER, JSON, _tensor("image"), _prepare_triton),
    "litserve": Peer(("litserve", "python-multipart"), LITSERVE, "/predict", FORM, _field("file")),
    "bentoml": Peer(("bentoml",), BENTOML, "/predict", FORM, _field("images")),
    "rayserve": Peer(("ray[serve]", "python-multipart"), RAYSERVE, "/predict", FORM, _field("file")),
    "mlserver": Peer(MLSERVER_PACKAGES, MLSERVER, INFER, JSON, _tensor("x", parameters=BASE64), _prepare_mlserver),
    "naive": Peer(("fastapi", "uvicorn[standard]", "python-multipart"), UVICORN, "/predict", FORM, _field("file")),
    "bare": Peer((), BARE, "/predict", OCTETS, _raw, runs_ours=True),
    "mosec": Peer(("mosec",), MOSEC, "/inference", OCTETS, _raw, runs_ours=True),
}
TUNED_PEERS = {f"{name}-tuned": replace(peer, variables=peer.variables | TUNED) for name, peer in PLAIN_PEERS.items()}
OURS_BEHIND = {
    "ours-haproxy": _ours_behind((), "ours_haproxy.py"),
    "ours-ray": _ours_behind(RAY, "ours_ray.py"),
    "ours-ray-haproxy": _ours_behind(RAY, "ours_ray.py", RAY_SERVE_ENABLE_HA_PROXY="1"),
}
PEERS = PLAIN_PEERS | TUNED_PEERS | OURS_BEHIND

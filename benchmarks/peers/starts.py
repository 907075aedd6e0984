"""Commands and requests of each peer, as its own documentation shows."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import FORM, Body, Picture, multipart
from benchmarks.peers import triton
from benchmarks.server import ROOT, free_port

SERVERS = Path(__file__).with_name("servers")
JSON, OCTETS = "application/json", "application/octet-stream"
Command = tuple[list[str], dict[str, str]]  # and its environment variables


@dataclass(frozen=True)
class Peer:
    """One server.

    Args:
        packages: what to install for it, beside what it shares with others.
        command: takes the environment's bin directory, a port and an empty folder; returns the command and its
            environment variables.
        path: of a request.
        mime: of a request.
        wrap: makes a request's body of a picture.
        runs_ours: whether it runs our decoder and classifier, not Pillow and the exported network.
    """

    packages: tuple[str, ...]
    command: Callable[[Path, int, Path], Command]
    path: str
    mime: str
    wrap: Callable[[Picture], bytes]
    runs_ours: bool = False

    def body(self, picture: Picture) -> Body:
        """The picture as this server takes it."""
        return Body(picture.name, self.path, self.mime, self.wrap(picture), picture)


def _naive(bin_: Path, port: int, folder: Path) -> Command:
    options = ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    return [str(bin_ / "uvicorn"), "fastapi_naive:app", *options], {"PYTHONPATH": str(SERVERS)}


def _litserve(bin_: Path, port: int, folder: Path) -> Command:
    return [str(bin_ / "python"), str(SERVERS / "litserve_peer.py"), str(port)], {}


def _bentoml(bin_: Path, port: int, folder: Path) -> Command:
    command = [str(bin_ / "bentoml"), "serve", "bentoml_peer:Cifar", "--port", str(port)]
    return command, {"PYTHONPATH": str(SERVERS), "BENTOML_DO_NOT_TRACK": "1"}


def _rayserve(bin_: Path, port: int, folder: Path) -> Command:
    command = [str(bin_ / "python"), str(SERVERS / "rayserve_peer.py"), str(port)]
    return command, {"PYTHONPATH": str(SERVERS), "RAY_USAGE_STATS_ENABLED": "0"}


def _mlserver(bin_: Path, port: int, folder: Path) -> Command:
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    batching = {"max_batch_size": 32, "max_batch_time": 0.002}
    model = {"name": "c", "implementation": "mlserver_peer.Cifar"} | batching
    (folder / "settings.json").write_text(json.dumps(ports | {"parallel_workers": 0}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(bin_ / "mlserver"), "start", str(folder)], {"PYTHONPATH": str(SERVERS)}


def _triton(bin_: Path, port: int, folder: Path) -> Command:
    return triton.command(bin_, port, folder, SERVERS)


def _bare(processes: int, threads: int) -> Peer:
    """Our decoder and classifier in a bare ASGI application, with so many processes and network threads in each."""

    def command(bin_: Path, port: int, folder: Path) -> Command:
        return [str(bin_ / "python"), str(SERVERS / "bare.py"), str(port)], _ours(processes, threads)

    return Peer((), command, "/predict", OCTETS, _raw, runs_ours=True)


def _mosec(processes: int, threads: int) -> Peer:
    """The same in mosec."""

    def command(bin_: Path, port: int, folder: Path) -> Command:
        options = ["--address", "127.0.0.1", "--port", str(port)]
        return [str(bin_ / "python"), str(SERVERS / "mosec_peer.py"), *options], _ours(processes, threads)

    return Peer(("mosec",), command, "/inference", OCTETS, _raw, runs_ours=True)


def _ours(processes: int, threads: int) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "PROCESSES": str(processes), "THREADS": str(threads)}


def _raw(picture: Picture) -> bytes:
    return picture.data


def _field(name: str) -> Callable[[Picture], bytes]:
    return lambda picture: multipart([picture], name)


def _tensor(name: str, parameters: dict[str, object]) -> Callable[[Picture], bytes]:
    """The picture in base64 as a tensor of the Open Inference Protocol."""

    def wrap(picture: Picture) -> bytes:
        text = base64.b64encode(picture.data).decode()
        tensor = {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [text]} | parameters
        return json.dumps({"inputs": [tensor]}).encode()

    return wrap


BASE64: dict[str, object] = {"parameters": {"content_type": "base64"}}
INFER = "/v2/models/c/infer"
PEERS = {
    "triton": Peer(("nvidia-pytriton",), _triton, INFER, JSON, _tensor("image", {})),
    "litserve": Peer(("litserve", "python-multipart"), _litserve, "/predict", FORM, _field("file")),
    "bentoml": Peer(("bentoml",), _bentoml, "/predict", FORM, _field("images")),
    "rayserve": Peer(("ray[serve]", "python-multipart"), _rayserve, "/predict", FORM, _field("file")),
    "mlserver": Peer(("mlserver",), _mlserver, INFER, JSON, _tensor("x", BASE64)),
    "naive": Peer(("fastapi", "uvicorn[standard]", "python-multipart"), _naive, "/predict", FORM, _field("file")),
    # One process with two network threads, and tuned to a machine of two cores: one such thread in each of two.
    "bare": _bare(1, 2),
    "bare-tuned": _bare(2, 1),
    "mosec": _mosec(1, 2),
    "mosec-tuned": _mosec(2, 1),
}

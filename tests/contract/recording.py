"""Records what users of the project rely on, from outside: HTTP, metrics, command lines and the files of a job.

    python -m tests.contract.recording CHECKOUT FOLDER

writes `service.json` and `command_lines.json` for the code in CHECKOUT. Commit 40509f2 made those in `recorded/`, and
the run directory, whose documents' keys are in `files.json`; `test_contract.py` compares today's code with all of them.
Only subprocesses and sockets are used here, so the recorder does not depend on the layout of the code.
"""

import argparse
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
RECORDED = Path(__file__).parent / "recorded"
CAT = (ROOT / "docs/cat.png").read_bytes()
PATIENCE_SECONDS = 60
FIXED_ID = "recorded"
VOLATILE = ("date", "etag", "last-modified", "content-length", "server-timing")  # recorded as present, without values
JOBS_HELP = re.compile(r"^    ([a-z][a-z-]*)(?: .*)?$", re.MULTILINE)
SERVICE_COMMANDS = ("", "serve", "classify", "check")


def form(field: str, *files: bytes, boundary: str = "edge") -> tuple[dict[str, str], bytes]:
    """Headers and body of a multipart form with several files of one name."""
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\nContent-Type: image/png\r\n\r\n%s\r\n'
        % (boundary.encode(), field.encode(), file)
        for file in files
    ]
    body = b"".join(parts) + b"--%s--\r\n" % boundary.encode()
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body


PNG = {"Content-Type": "image/png"}
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
# name -> method, path, headers, body
REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "predict, raw": ("POST", "/predict", PNG, CAT),
    "predict, form": ("POST", "/predict", *form("file", CAT)),
    "predict, top 3": ("POST", "/predict?top_k=3", PNG, CAT),
    "predict, top 0": ("POST", "/predict?top_k=0", PNG, CAT),
    "predict, no image": ("POST", "/predict", PNG, b'{"no": "image"}'),
    "predict, empty": ("POST", "/predict", PNG, b""),
    "predict, cut short": ("POST", "/predict", PNG, CAT[:1000]),
    "predict, form without a file": ("POST", "/predict", *form("other", CAT)),
    "predict, form cut short": ("POST", "/predict", FORM, form("file", CAT)[1][:1000]),
    "predict, two files": ("POST", "/predict", *form("file", CAT, CAT)),
    "predict, too large": ("POST", "/predict", PNG | {"Content-Length": "99999999"}, b""),
    "predict, wrong method": ("DELETE", "/predict", {}, b""),
    "batch": ("POST", "/predict/batch", *form("files", CAT, b"no image")),
    "batch, top 1": ("POST", "/predict/batch?top_k=1", *form("files", CAT)),
    "batch, too many": ("POST", "/predict/batch", *form("files", *[b"x"] * 257)),
    "explain": ("POST", "/explain", PNG, CAT),
    "explain, json": ("POST", "/explain?format=json", PNG, CAT),
    "explain, a class": ("POST", "/explain?format=json&class=dog", PNG, CAT),
    "explain, unknown class": ("POST", "/explain?class=unicorn", PNG, CAT),
    "explain, unknown format": ("POST", "/explain?format=gif", PNG, CAT),
    "health": ("GET", "/health", {}, b""),
    "health, ready": ("GET", "/health/ready", {}, b""),
    "health, live": ("GET", "/health/live", {}, b""),
    "model": ("GET", "/model", {}, b""),
    "model card": ("GET", "/model/card", {}, b""),
    "model drift": ("GET", "/model/drift", {}, b""),
    "model report, json": ("GET", "/model/report/evaluation.json", {}, b""),
    "model report, plot": ("GET", "/model/report/confusion.png", {}, b""),
    "model report, absent": ("GET", "/model/report/nothing.png", {}, b""),
    "metrics": ("GET", "/metrics", {}, b""),
    "index": ("GET", "/", {}, b""),
    "docs": ("GET", "/docs", {}, b""),
    "nothing": ("GET", "/nothing", {}, b""),
}
UNLOADED = {name: REQUESTS[name] for name in ("health", "health, ready", "health, live", "predict, raw", "model")}

# name -> arguments; exit codes and what programs read of their output
APP_COMMANDS: dict[str, list[str]] = {
    "no command": [],
    "unknown command": ["fly"],
    "port out of range": ["serve", "--port", "65536"],
    "address of nobody": ["serve", "--host", "192.0.2.1", "--port", "0"],
    "check": ["check"],
    "classify": ["classify", "docs/cat.png"],
    "classify, csv": ["classify", "--format", "csv", "docs/cat.png"],
    "classify, csv, top 2": ["classify", "--format", "csv", "--top-k", "2", "docs/cat.png"],
    "classify, absent": ["classify", "docs/absent.png"],
    "classify, top 0": ["classify", "--top-k", "0", "docs/cat.png"],
}
TRAINING_COMMANDS: dict[str, list[str]] = {
    "no job": [],
    "unknown job": ["fly"],
    "versions": ["versions"],
    "evaluate, absent": ["evaluate", "absent"],
    "publish, absent": ["publish", "absent"],
    "train, unknown recipe": ["train", "--recipe", "unheard-of", "--out", "absent"],
    "train, no data": ["train", "--recipe", "fast", "--data", "absent", "--out", "absent"],
    "export, existing": ["export", "model_store/models/cifar10/8", "--format", "openvino", "--out", "docs/cat.png"],
    "prune, absent": ["prune", "--name", "unheard-of", "--keep", "1"],
    "compare, absent": ["compare", "absent"],
}


def main() -> None:
    """Record the code of one checkout."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.recording", description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    recorders = {"service": record_service, "command_lines": record_command_lines}
    for name, record in recorders.items():
        text = json.dumps(record(options.checkout.resolve()), indent=1, ensure_ascii=False)
        (options.folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def record_service(checkout: Path) -> dict[str, Any]:
    """The OpenAPI document, the answer to every request, and the metrics' names, types and labels."""
    with serving(checkout) as port:
        answers = {name: ask(port, *request) for name, request in REQUESTS.items()}
        openapi = json.loads(exchange(port, "GET", "/openapi.json", {}, b"")[2])
        metrics = metric_names(exchange(port, "GET", "/metrics", {}, b"")[2].decode())
    with serving(checkout, CIFAR10_MODEL_NAME="unheard-of", ready=False) as port:
        answers |= {f"no model: {name}": ask(port, *request) for name, request in UNLOADED.items()}
    with serving(checkout, CIFAR10_MAX_REQUESTS="1") as port:
        answers["overloaded"] = ask_beside_an_explanation(port)
    with serving(checkout, CIFAR10_TIMEOUT_SECONDS="0.02") as port:
        answers["timeout"] = when_in_time(lambda: ask(port, *REQUESTS["explain"]))
        answers["slow upload"] = when_in_time(lambda: ask_half(port))
    return {"openapi": openapi, "answers": answers, "metrics": metrics}


def record_command_lines(checkout: Path) -> dict[str, Any]:
    """Usage, exit codes and machine-readable output of both command lines."""
    jobs = JOBS_HELP.findall(run(checkout, "training", "--help").stdout)
    return {
        "settings": re.findall(r"^(CIFAR10_\w+)=", run(checkout, "app", "check").stdout, re.MULTILINE),
        "usage": {f"app {name}".strip(): usage(checkout, "app", *name.split()) for name in SERVICE_COMMANDS}
        | {"training": usage(checkout, "training")}
        | {f"training {job}": usage(checkout, "training", job) for job in jobs},
        "jobs": jobs,
        "app": {name: outcome(run(checkout, "app", *arguments)) for name, arguments in APP_COMMANDS.items()},
        "training": {
            name: outcome(run(checkout, "training", *arguments)) for name, arguments in TRAINING_COMMANDS.items()
        },
        "wrong setting": run(checkout, "app", "check", CIFAR10_WORKERS="0").returncode,
        "model absent": run(checkout, "app", "check", CIFAR10_MODEL_NAME="unheard-of").returncode,
        "stopped": {name: stopped(checkout, getattr(signal, name)) for name in ("SIGTERM", "SIGINT")},
    }


def run(checkout: Path, package: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """One command to its end, on wide lines."""
    command = [sys.executable, "-m", package, *arguments]
    environment = os.environ | {"COLUMNS": "10000", "CIFAR10_PRECISION": "float32"} | settings
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS
    )


def usage(checkout: Path, package: str, *arguments: str) -> str:
    """The options of a command: what its help says before the first sentence."""
    return run(checkout, package, *arguments, "--help").stdout.split("\n\n")[0]


def outcome(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The exit code, and of the output the lines that programs read: JSON objects, and the header of CSV."""
    first = finished.stdout.partition("\n")[0].rstrip("\r")
    if first.startswith("{"):
        return {"exit_code": finished.returncode, "object": json.loads(first)}
    return {"exit_code": finished.returncode} | ({"header": first} if first.startswith("file,") else {})


def stopped(checkout: Path, signal_: signal.Signals) -> int:
    """The exit code of a service that is told to stop."""
    with started(checkout, {}) as (process, port):
        wait_for_status(process, port, "/health/ready", 200)
        process.send_signal(signal_)
        return process.wait(PATIENCE_SECONDS)


@contextmanager
def serving(checkout: Path, ready: bool = True, **settings: str) -> Iterator[int]:
    """The port of a service in one process, once it is ready or has found that it cannot be."""
    with started(checkout, settings) as (process, port):
        wait_for_status(process, port, "/health/ready", 200 if ready else 503)
        if not ready:
            wait_for_reason(port)
        yield port


@contextmanager
def started(checkout: Path, settings: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A service in one process, killed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"CIFAR10_WORKERS": "1", "CIFAR10_PRECISION": "float32", **settings}
    command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=checkout, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def wait_for_status(process: subprocess.Popen[bytes], port: int, path: str, status: int) -> None:
    """Until the service answers so. Its own socket's refusals pace this loop."""
    while process.poll() is None:
        try:
            if exchange(port, "GET", path, {}, b"")[0] == status:
                return
        except OSError:
            pass
    raise AssertionError(f"the service ended with exit code {process.returncode}")


def wait_for_reason(port: int) -> None:
    """Until /health no longer says that the model is being loaded."""
    while b"being loaded" in exchange(port, "GET", "/health", {}, b"")[2]:
        pass


def when_in_time(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, asked again while a busy machine lets even the request's head come too late for one."""
    for _ in range(100):
        with suppress(http.client.RemoteDisconnected, ConnectionResetError):
            return question()
    raise AssertionError("the service closes every connection before the head of a request has arrived")


def ask_half(port: int) -> dict[str, Any]:
    """The answer to half of an image."""
    with unfinished(port) as client:
        return answer(*read_response(client))


@contextmanager
def unfinished(port: int) -> Iterator[socket.socket]:
    """A client that has sent half of its image, once the service has taken the request in."""
    with closing(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-ID: recorded\r\nExpect: 100-continue\r\n"
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(CAT))
        assert client.recv(1000).startswith(b"HTTP/1.1 100"), "the service does not ask for the body"
        client.sendall(CAT[:100])
        yield client


def exchange(
    port: int, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of one request on a connection of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request(method, path, body or None, {"X-Request-ID": FIXED_ID, **headers})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()


def read_response(client: socket.socket) -> tuple[int, list[tuple[str, str]], bytes]:
    """The answer on a raw connection."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.getheaders(), response.read()


def ask(port: int, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """One request's answer as it is recorded."""
    return answer(*exchange(port, method, path, headers, body))


def ask_beside_an_explanation(port: int) -> dict[str, Any]:
    """The answer to a prediction while an explanation, which takes 0.1 s, is in flight."""
    for _ in range(100):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as other:
            other.request("POST", "/explain", CAT, PNG)
            received = ask(port, *REQUESTS["predict, raw"])
            other.getresponse().read()
        if received["status"] != 200:
            return received
    raise AssertionError("the service answers a prediction beside every explanation")


def answer(status: int, headers: list[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """Status, headers without what differs each time, and the body where it is JSON, else its length."""
    fields = {name.lower(): value for name, value in headers}
    stages = re.findall(r"(\w+);dur", fields.get("server-timing", ""))
    known = {name: "" if name in VOLATILE else value for name, value in sorted(fields.items())}
    content: Any = json.loads(body) if "json" in fields.get("content-type", "") else None
    if isinstance(content, dict):
        content = {key: shortened(value) for key, value in content.items()}
    return {"status": status, "headers": known, "stages": stages, "body": content}


def shortened(value: Any) -> Any:
    """A picture in JSON is recorded by its media type, and a large table by its first row."""
    if isinstance(value, str) and value.startswith("data:"):
        return value.partition(",")[0]
    if isinstance(value, list) and value and isinstance(value[0], list):
        return {"rows": len(value), "first": value[0]}
    return value


def metric_names(text: str) -> dict[str, dict[str, Any]]:
    """Type and label names of each of the service's own metrics."""
    types = dict(re.findall(r"^# TYPE (cifar10_\w+) (\w+)$", text, re.MULTILINE))
    names: dict[str, dict[str, Any]] = {name: {"type": kind, "labels": {}} for name, kind in types.items()}
    for metric, series in re.findall(r"^(cifar10_\w+?)(?:_bucket|_count|_sum|_total)?\{(.*)\} ", text, re.MULTILINE):
        name = metric if metric in names else f"{metric}_total"
        for label, value in re.findall(r'(\w+)="([^"]*)"', series):
            values = names[name]["labels"].setdefault(label, [])
            if label in ("stage", "route", "code") and value not in values:
                values.append(value)
    for described in names.values():
        described["labels"] = {label: sorted(values) for label, values in sorted(described["labels"].items())}
    return names


if __name__ == "__main__":
    main()

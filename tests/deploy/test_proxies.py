"""deploy/proxies with its commented lines for TLS in force, in real proxies, with a certificate made here."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from benchmarks.harness.processes import running
from benchmarks.harness.server import free_port
from benchmarks.rolling import PROXIES
from benchmarks.sizing import largest_body
from tests.app.conftest import png
from tests.app.service import ROOT, serving
from tests.waiting import DEADLINE_SECONDS, wait_until

FOLDER = ROOT / "deploy" / "proxies"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate of localhost with its key, as nginx and HAProxy want them: apart and in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", "cifar10.key", "-out", "cifar10.crt"]
    subprocess.run([*command.split(), *files], cwd=folder, check=True, capture_output=True)
    both = (folder / "cifar10.crt").read_text() + (folder / "cifar10.key").read_text()
    (folder / "cifar10.pem").write_text(both)
    return folder / "cifar10.crt"


@contextmanager
def behind_tls(proxy: str, port: int, certificate: Path, folder: Path) -> Iterator[int]:
    """Start a proxy in front of one instance; the result is its port for TLS."""
    tls = free_port()
    text = (FOLDER / PROXIES[proxy]).read_text()
    text = re.sub(r"# (listen 443 ssl;|ssl_certificate)|# With a certificate: (bind :443)", r"\1\2", text)
    text = text.replace("/etc/ssl", str(certificate.parent))
    text = re.sub(r"(listen |bind :)443", lambda found: f"{found[1]}{tls}", text)
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{free_port()}")
    text = re.sub(r"127\.0\.0\.1:800[12]", f"127.0.0.1:{port}", text)
    path = folder / PROXIES[proxy]
    path.write_text(text)
    command = ["nginx", "-p", str(folder), "-c", str(path)] if proxy == "nginx" else ["haproxy", "-f", str(path)]
    log = folder / "proxy.log"
    with running(command, log, {}, folder) as process:

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with client(tls, certificate) as https:
                    return https.get("/health/ready").status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(is_ready, log.read_text)
        yield tls


def client(port: int, certificate: Path) -> httpx2.Client:
    context = ssl.create_default_context(cafile=str(certificate))
    return httpx2.Client(base_url=f"https://localhost:{port}", verify=context, timeout=DEADLINE_SECONDS)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("proxy", PROXIES)
def test_predictions_and_the_largest_bodies_pass_through_tls(tmp_path, certificate, proxy):
    if not shutil.which(proxy):
        pytest.skip(f"needs {proxy}")
    with (
        serving(tmp_path, workers="1", drain_seconds="0") as server,
        behind_tls(proxy, server.port, certificate, tmp_path) as port,
        client(port, certificate) as https,
    ):
        assert https.post("/predict", content=png()).status_code == 200
        assert https.post("/predict", content=largest_body().data).status_code == 200
        assert https.post("/predict", content=bytes(Settings().max_body_bytes + 1_000_000)).status_code == 413
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx2.get(f"https://localhost:{port}/health")


@pytest.mark.parametrize("proxy", PROXIES)
def test_proxies_close_idle_connections_before_the_service_does(proxy):
    text = (FOLDER / PROXIES[proxy]).read_text()
    (kept,) = re.findall(r"(?:keepalive_timeout|pool-purge-delay) (\d+)s", text)
    assert int(kept) < Settings().keep_alive_seconds
    (waited,) = re.findall(r"(?:proxy_read_timeout|timeout server) +(\d+)s", text)
    assert int(waited) > Settings().timeout_seconds

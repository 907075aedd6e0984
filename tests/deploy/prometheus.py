"""A real Prometheus with the rules and scrape configuration of deploy/monitoring."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.app.service import ROOT, default_signals
from tests.waiting import wait_until

MONITORING = ROOT / "deploy" / "monitoring"
INTERVAL = "1s"  # between two scrapes, and between two evaluations of the rules
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool is installed")
needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="no Prometheus is installed")

METRIC = re.compile(r"\b(cifar10_\w+)(?:{([^}]*)})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    """A metric in an expression, with its matchers: label, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if a series with these labels, and any other ones that a scrape adds, is selected."""
        return all(_matches(operator, value, labels[label]) for label, operator, value in self.matchers)


def _matches(operator: str, pattern: str, value: str) -> bool:
    equal = bool(re.fullmatch(pattern, value)) if "~" in operator else pattern == value
    return equal != operator.startswith("!")


def selectors(expression: str) -> list[Selector]:
    """The service's metrics in an expression."""
    return [Selector(name, tuple(MATCHER.findall(matchers))) for name, matchers in METRIC.findall(expression)]


def grouping_labels(expression: str) -> set[str]:
    """The labels by which an expression groups or joins series."""
    return {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",")}


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    address: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that the expression has now, without those that are not a number."""
        response = httpx2.get(f"{self.address}/api/v1/query", params={"query": expression})
        assert response.status_code == 200, f"{expression}: {response.text}"
        return [series for series in response.json()["data"]["result"] if series["value"][1] != "NaN"]

    def rules(self) -> list[dict[str, Any]]:
        """The rules, each with its health."""
        (group,) = httpx2.get(f"{self.address}/api/v1/rules").json()["data"]["groups"]
        return group["rules"]

    def alerts(self, state: str) -> list[dict[str, Any]]:
        """The alerts in this state: `pending` or `firing`."""
        alerts = httpx2.get(f"{self.address}/api/v1/alerts").json()["data"]["alerts"]
        return [alert for alert in alerts if alert["state"] == state]


@contextmanager
def scraping(folder: Path, port: int) -> Iterator[Prometheus]:
    """Start Prometheus, which scrapes 127.0.0.1:`port`, with its files below `folder`; kill it at the end."""
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    configuration["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
    configuration["rule_files"] = [str(MONITORING / file) for file in configuration["rule_files"]]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with log.open("w") as out, default_signals():
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=out, stderr=out)
    try:
        wait_until(lambda: _is_ready(process, address, log), log.read_text)
        yield Prometheus(f"http://{address}")
    finally:
        process.kill()
        process.wait()


def _is_ready(process: subprocess.Popen, address: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return httpx2.get(f"http://{address}/-/ready").status_code == 200
    except httpx2.TransportError:
        return False

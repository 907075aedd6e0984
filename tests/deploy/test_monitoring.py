"""deploy/monitoring: rules and dashboard ask for metrics that exist, and a real Prometheus answers them."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from tests.app.conftest import png, running
from tests.app.published import put
from tests.app.service import ROOT, serving, stop
from tests.deploy.prometheus import (
    MONITORING,
    Prometheus,
    grouping_labels,
    needs_prometheus,
    needs_promtool,
    scraping,
    selectors,
)
from tests.waiting import wait_until

SCRAPED = {"job": "cifar10", "instance": "127.0.0.1:8000"}  # labels that a scrape adds
BATCH = [("files", png(seed)) for seed in range(250)]
(GROUP,) = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']}, {target['refId']}": (target["expr"], target.get("legendFormat", ""))
    for panel in PANELS
    for target in panel["targets"]
} | {annotation["name"]: (annotation["expr"], "") for annotation in DASHBOARD["annotations"]["list"]}
EXPRESSIONS = {name: rule["expr"] for name, rule in ALERTS.items()} | {
    name: expr for name, (expr, _) in QUERIES.items()
}


@pytest.fixture(scope="module")
def series() -> dict[str, list[dict[str, str]]]:
    """The labels of every series of /metrics by name, once 500 images have been compared for drift."""
    with running(Settings()) as client:
        for _ in range(2):
            assert client.post("/predict/batch", files=BATCH).status_code == 200
        text = wait_until(lambda: with_drift(client.get("/metrics").text))
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append({**SCRAPED, **sample.labels})
    return found


def with_drift(metrics: str) -> str:
    return metrics if "cifar10_drift_psi{" in metrics else ""


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_label_and_value_in_an_expression_is_in_metrics(series, name):
    expression = EXPRESSIONS[name].replace("$instance", ".*")
    labels = {"alertname"}
    for selector in selectors(expression):
        assert selector.metric in series, f"/metrics has no {selector.metric}"
        known = series[selector.metric]
        labels |= set().union(*known)
        for label, operator, value in selector.matchers:
            assert all(label in labels_ for labels_ in known), f"{selector.metric} has no label {label}"
            if operator == "=~" and "*" not in value:  # a list: each alternative occurs
                assert set(value.split("|")) <= {labels_[label] for labels_ in known}
        assert any(selector.matches(labels_) for labels_ in known), f"nothing is like {selector}"
    assert grouping_labels(expression) <= labels


def test_the_search_for_metrics_would_find_a_misspelt_one():
    (selector,) = selectors('sum by (job, code) (rate(cifar10_refusals_total{code=~"internal|timeout", job!="x"}[5m]))')
    assert selector.metric == "cifar10_refusals_total"
    assert selector.matchers == (("code", "=~", "internal|timeout"), ("job", "!=", "x"))
    assert selector.matches({"code": "timeout", "job": "y"})
    assert not selector.matches({"code": "timeouts", "job": "y"})
    assert not selector.matches({"code": "timeout", "job": "x"})
    assert grouping_labels("sum by (job, code) (a / on (x) b)") == {"job", "code", "x"}


def test_a_legend_names_only_labels_that_its_query_keeps():
    for name, (expression, legend) in QUERIES.items():
        assert set(re.findall(r"{{(\w+)}}", legend)) <= grouping_labels(expression), name


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_every_panel_uses_the_data_source_that_is_chosen_on_the_page():
    sources = [*PANELS, *DASHBOARD["annotations"]["list"]]
    assert all(source["datasource"]["uid"] == "${datasource}" for source in sources)
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert set(re.findall(r"\$(\w+)", " ".join(EXPRESSIONS.values()))) <= {*variables, "__rate_interval"}


def test_every_alert_has_a_severity_and_its_section_in_operations():
    sections = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert [name for name in sections if name.startswith("Cifar10")] == list(ALERTS)


@needs_promtool
@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["check rules rules.yml", "check config prometheus.yml", "test rules rules_test.yml"],
)
def test_promtool_accepts(command):
    done = subprocess.run(["promtool", *command.split()], cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.slow
@pytest.mark.parametrize(
    "expression", ["vector(0) > 1", "up or cifar10_build_info or vector(1)"], ids=["never", "always"]
)
@pytest.mark.parametrize("alert", ALERTS)
def test_the_tests_of_the_rules_notice_an_alert_that_never_or_always_fires(tmp_path, alert, expression):
    rules = [rule | {"expr": expression} if rule["alert"] == alert else rule for rule in GROUP["rules"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [GROUP | {"rules": rules}]}), encoding="utf-8")
    (tmp_path / "rules_test.yml").write_bytes((MONITORING / "rules_test.yml").read_bytes())
    done = subprocess.run(["promtool", "test", "rules", "rules_test.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) == {alert}


@needs_prometheus
@pytest.mark.process
@pytest.mark.slow
def test_prometheus_has_data_for_every_panel_and_fires_for_a_bad_version(tmp_path):
    store = tmp_path / "store"
    put(store, 1)
    with (
        serving(tmp_path, store=str(store), workers="1", drain_seconds="0") as server,
        scraping(tmp_path, server.port) as prometheus,
    ):
        wait_until(lambda: prometheus.query("cifar10_build_info"))
        put(store, 2, "cifar10", hidden=True).rename(store / "cifar10" / "2")
        wait_until(lambda: served_version(server) == "2", server.log.read_text)
        for _ in range(2):
            assert httpx2.post(server.url("/predict/batch"), files=BATCH, timeout=60).status_code == 200
        (put(store, 3) / "golden.npz").write_bytes(b"damaged")
        empty = set(QUERIES)

        def all_have_data() -> bool:
            assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
            assert httpx2.post(server.url("/predict"), content=b"no image").status_code == 415
            empty.difference_update([name for name in empty if prometheus.query(concrete(QUERIES[name][0]))])
            return not empty

        wait_until(all_have_data, lambda: f"no data for {empty}")
        assert {rule["name"] for rule in prometheus.rules()} == set(ALERTS)
        wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), prometheus.rules)
        (alert,) = wait_until(lambda: prometheus.alerts("firing"), prometheus.rules)
        assert alert["labels"]["alertname"] == "Cifar10VersionRefused"
        address = f"127.0.0.1:{server.port}"
        assert alert["annotations"]["summary"] == f"{address} cannot serve 1 of the published versions"
        wait_until(lambda: "Cifar10Drifted" in pending_alerts(prometheus), prometheus.rules)  # the images are noise
        assert stop(server) == 0
        wait_until(lambda: "Cifar10Down" in pending_alerts(prometheus), prometheus.rules)


@needs_prometheus
@pytest.mark.process
@pytest.mark.slow
def test_the_alerts_of_a_service_in_trouble_are_pending_until_their_time_is_up(tmp_path):
    tight = {"max_connections": "8", "max_requests": "1", "max_memory_mb": "150"}
    expected = {"Cifar10Overloaded", "Cifar10MemoryNearLimit", "Cifar10TooManyConnections"}
    with (
        serving(tmp_path, workers="1", drain_seconds="0", **tight) as server,
        scraping(tmp_path, server.port) as prometheus,
        ExitStack() as idle,
        ThreadPoolExecutor(4) as clients,
    ):

        def make_trouble() -> bool:
            idle.enter_context(server.connect())
            answers = clients.map(lambda _: httpx2.post(server.url("/explain"), content=png(), timeout=60), range(4))
            assert {answer.status_code for answer in answers} <= {200, 503}
            return expected <= pending_alerts(prometheus)

        wait_until(make_trouble, prometheus.rules)
        assert not {"Cifar10NotReady", "Cifar10ServerErrors", "Cifar10VersionRefused"} & pending_alerts(prometheus)
        assert not prometheus.alerts("firing")


def pending_alerts(prometheus: Prometheus) -> set[str]:
    return {alert["labels"]["alertname"] for alert in prometheus.alerts("pending")}


def served_version(server: Any) -> str:
    return httpx2.get(server.url("/health")).json()["model"]["version"]


def concrete(expression: str) -> str:
    """Fill in what Grafana does."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", "20s")


def test_compose_starts_prometheus_and_grafana_from_files_that_are_here():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    services = {
        name: service for name, service in compose["services"].items() if "monitoring" in service.get("profiles", [])
    }
    assert set(services) == {"prometheus", "grafana"}
    for service in services.values():
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["logging"]["options"]["max-size"]
        assert service["mem_limit"] and service["pids_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            source, _, target = volume.partition(":")
            here = ROOT / source if source.startswith(".") else None
            assert here.exists() if here else source in compose["volumes"], volume
            assert not here or target.endswith(":ro")
    (scrape,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose["services"]
    sources = yaml.safe_load((MONITORING / "grafana" / "datasources.yml").read_text(encoding="utf-8"))["datasources"]
    assert [source["url"] for source in sources] == ["http://prometheus:9090"]
    (provider,) = yaml.safe_load((MONITORING / "grafana" / "dashboards.yml").read_text(encoding="utf-8"))["providers"]
    (mounted,) = [volume for volume in services["grafana"]["volumes"] if "dashboard.json" in volume]
    assert Path(mounted.split(":")[1]).parent == Path(provider["options"]["path"])

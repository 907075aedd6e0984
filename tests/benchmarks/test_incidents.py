import asyncio
import shutil

import pytest

from benchmarks.incidents import Incident, start, version

pytestmark = [pytest.mark.slow, pytest.mark.process]


def rehearsed(incident, name: str) -> Incident:
    record = Incident(name)
    asyncio.run(incident(record, 4))
    return record


def test_a_start_under_full_load_loses_and_refuses_nothing_it_accepted():
    record = rehearsed(start, "start")
    assert record.outcomes[200] > 0 and record.outcomes.keys() <= {200, 503}  # 503 only if loading takes over 5 s
    assert list(record.seconds) == ["first prediction", "all processes ready"]


def test_bad_versions_are_noticed_in_order_and_cost_no_request():
    if not shutil.which("prometheus"):
        pytest.skip("needs prometheus")
    record = rehearsed(version, "version")
    assert record.outcomes.keys() == {200}
    events = ["log", "health", "Cifar10VersionRefused", "versions removed", "Cifar10VersionRefused ended"]
    assert list(record.seconds) == events
    assert record.row()["lost"] == 0 and record.row()["others"] == "–"

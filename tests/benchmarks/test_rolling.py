import asyncio
import shutil

import pytest

from benchmarks.rolling import PROXIES, behind, by_sighup

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.mark.parametrize("proxy", PROXIES)
def test_no_request_fails_while_instances_behind_a_proxy_are_replaced(proxy):
    if not shutil.which(proxy):
        pytest.skip(f"needs {proxy}")
    trial = asyncio.run(behind(proxy, replacements=2, connections=4, min_requests=100))
    assert trial.replacements == 2 and trial.statuses.keys() == {200}
    assert trial.row()["failed"] == 0


def test_no_request_fails_while_processes_are_replaced_by_sighup():
    trial = asyncio.run(by_sighup(replacements=1, connections=4, min_requests=100))
    assert trial.statuses.keys() == {200} and trial.statuses.total() >= 100

import sys

import pytest

from benchmarks import BenchmarkError
from benchmarks.harness.processes import cpu_seconds, family, relations, resident_megabytes, running, wait_for

# A process with a child in a session of its own, as the service's workers are, which says so and waits.
PARENT = '''
import subprocess, sys, time
CHILD = """
import time
while time.process_time() < 0.1: pass
print(1, flush=True)
time.sleep(99)
"""
child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(99)
'''


@pytest.fixture
def parent(tmp_path):
    log = tmp_path / "log"
    with running([sys.executable, "-c", PARENT], log, {}, tmp_path) as process:
        wait_for(process, log, lambda: log.read_text().endswith("\n"))
        yield process, int(log.read_text())


def test_a_family_has_the_children_in_other_sessions(parent):
    process, child = parent
    assert family(process.pid) == {process.pid, child}
    assert len(resident_megabytes(process.pid)) == 2
    assert all(1 < megabytes < 1_000 for megabytes in resident_megabytes(process.pid))
    assert cpu_seconds(process.pid) >= cpu_seconds(child) > 0


def test_at_the_end_all_of_a_family_have_ended(tmp_path):
    log = tmp_path / "log"
    with running([sys.executable, "-c", PARENT], log, {}, tmp_path) as process:
        wait_for(process, log, lambda: log.read_text().endswith("\n"))
        child = int(log.read_text())
    assert process.returncode is not None
    while child in relations():  # until the kernel is done with it
        pass


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", "raise SystemExit('port taken')"]
    with (
        running(command, log, {}, tmp_path) as process,
        pytest.raises(BenchmarkError, match=r"(?s)ended with code 1; .*port taken"),
    ):
        wait_for(process, log, lambda: False)


def test_the_environment_is_added_to(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import os; print(os.environ['ADDED'], 'PATH' in os.environ)"]
    with running(command, log, {"ADDED": "yes"}, tmp_path) as process:
        process.wait()
    assert log.read_text() == "yes True\n"

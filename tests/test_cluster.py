"""One test of tests/cluster, in the environment that has Ray; `make cluster` runs them all."""

import os
import subprocess

import pytest

from tests.cluster.environment import ROOT, SECONDS, pytest_command

SMOKE = "tests/cluster/test_training.py::test_smoke_seeds_are_trained_on_a_cluster_of_this_machine"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(2 * SECONDS)  # the first run installs an environment
def test_seeds_are_trained_on_a_cluster():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    tested = subprocess.run(pytest_command(SMOKE), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr

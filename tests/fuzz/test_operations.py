"""Every operation of /openapi.json gets what it documents and worse, and answers as it documents."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.service import ROOT
from tests.fuzz.profiles import examples

COMMAND = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(Path(__file__).parent / "schemathesis.toml")]


# schemathesis' command, not its plugin for pytest: that prepares its requests whenever pytest looks for tests.
@pytest.mark.process
@pytest.mark.timeout(1_800)
def test_answers_are_as_documented(service):
    run = ["run", service.url("/openapi.json"), "--max-examples", str(examples(short=5, fuzz=1_000))]
    run += examples(short=["--generation-deterministic"], fuzz=["--generation-database", "none"])
    ended = subprocess.run([*COMMAND, *run], cwd=ROOT)
    assert ended.returncode == 0, "schemathesis found answers that are not documented; its output names them"

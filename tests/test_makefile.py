"""`make run` passes on what its command line names, and leaves the environment to the service."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("arguments", "environment", "options"),
    [
        ([], {}, []),
        ([], {"PORT": "8123", "HOST": "machine", "CIFAR10_BIND_PORT": "8124"}, []),
        (["PORT=8125"], {"PORT": "8123"}, ["--port", "8125"]),
        (["HOST=0.0.0.0"], {}, ["--host", "0.0.0.0"]),
    ],
)
def test_only_options_of_make_become_options_of_the_service(arguments, environment, options):
    command = ["make", "--dry-run", "run", *arguments]
    made = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in made.stdout.splitlines() if "app serve" in line]
    assert line.partition("app serve")[2].split() == options

"""Training on another backend than TensorFlow, in a process of its own: a process has one."""

import math
import os
import subprocess
import sys

import pytest

from training.fit.run.directory import Run

pytestmark = pytest.mark.slow

NARROW = """
import dataclasses, sys
from training.recipes import RECIPES
fast = RECIPES["fast"]
RECIPES["fast"] = dataclasses.replace(fast, network=dataclasses.replace(fast.network, widths=(8, 8, 8)))
from training.__main__ import main
sys.exit(main())
"""


def test_a_run_on_jax(data_folder, tmp_path):
    options = ["--data", str(data_folder), "--out", str(tmp_path / "run"), "--epochs", "2", "--batch-size", "64"]
    process = subprocess.run(
        [sys.executable, "-c", NARROW, "train", "--recipe", "fast", *options],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    run = Run(tmp_path / "run").require_finished()
    assert (run.info.environment["backend"], run.info.environment["device"]) == ("jax", "cpu")
    assert len(run.history) == 2 and math.isfinite(run.history[-1]["loss"])

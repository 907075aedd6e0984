"""Training speed of our layers, of Keras's own and of the same network in PyTorch, in turns on the same machine.

    python -m benchmarks.training_speed --data data --pytorch PATH/TO/python

The other Python has PyTorch: `python3 -m venv torch && torch/bin/pip install torch numpy`. Ours is the whole loop of
`train --recipe fast`: augmentation, batches, bfloat16, optimizer. It runs once more with Keras's layers instead of
`training.fit.tensorflow_layers`. PyTorch has its batches ready in memory, which favours it: see
`harness/pytorch_step.py`.
Compare ratios within one run; absolute figures depend on the machine more than on the code.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

BATCHES, EPOCHS, ROUNDS = 6, 2, 3
PEER = Path(__file__).parent / "harness" / "pytorch_step.py"


def keras_rates(data: Path) -> list[float]:
    """Measure images/s in each epoch except the first, which compiles."""
    from training.data.load import load_dataset
    from training.fit.loop import train
    from training.fit.run.directory import Run
    from training.fit.start import new_info
    from training.recipes import get_recipe

    timed_recipe = dataclasses.replace(get_recipe("fast"), epochs=EPOCHS + 1)
    dataset = load_dataset(data)
    count = BATCHES * timed_recipe.batch_size
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder, "run"))
        run.start(new_info("fast", timed_recipe, dataset, 0, False, None))
        train(run, dataset.trainval[:count])
        return [count / record["seconds"] for record in run.history[1:]]


def stock_rates(data: Path) -> list[float]:
    """Measure `keras_rates` with Keras's own layers."""
    from training.fit import tensorflow_layers

    with patch.object(tensorflow_layers, "accelerate", lambda network: network):
        return keras_rates(data)


def pytorch_rates(python: Path) -> list[float]:
    """Measure images/s in each epoch of PyTorch."""
    command = [str(python), str(PEER), str(BATCHES), str(EPOCHS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(rate) for rate in json.loads(output)]


def main() -> None:
    """Measure in turns, and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--pytorch", type=Path, required=True, metavar="PYTHON")
    options = parser.parse_args()
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        rates["ours"] += keras_rates(options.data)
        rates["Keras's layers"] += stock_rates(options.data)
        rates["PyTorch"] += pytorch_rates(options.pytorch)
    cores, ours = len(os.sched_getaffinity(0)), statistics.median(rates["ours"])
    for name, values in rates.items():
        median = statistics.median(values)
        spread, ratio = f"from {min(values):.0f} to {max(values):.0f}", f"ours {ours / median:.2f} times"
        print(f"{name:15} {median:6.0f} images/s, {median / cores:5.0f} a core, {spread}; {ratio}")


if __name__ == "__main__":
    main()

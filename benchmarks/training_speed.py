"""Training speed of our Keras code beside the same network in PyTorch, in turns on the same machine.

    python -m benchmarks.training_speed --data data --pytorch PATH/TO/python

The other Python has PyTorch: `python3 -m venv torch && torch/bin/pip install torch numpy`. Ours is the whole loop of
`train --recipe fast`: augmentation, batches, bfloat16, optimizer. PyTorch's has ready batches, so it is the harder
mark: see `pytorch_step.py`. Read the ratio of one run; these figures alone say more of the machine than of the code.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

BATCHES, EPOCHS, ROUNDS = 8, 3, 3
PEER = Path(__file__).with_name("pytorch_step.py")


def keras_rates(data: Path) -> list[float]:
    """Images a second in each epoch but the first, which compiles."""
    from training import fit
    from training.data import load
    from training.recipes import recipe
    from training.run import Run

    chosen = dataclasses.replace(recipe("fast"), epochs=EPOCHS + 1)
    dataset = load(data)
    count = BATCHES * chosen.batch_size
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder, "run"))
        run.start(fit.new_info("fast", chosen, dataset, 0, False, None))
        fit.train(run, dataset.train[:count])
        return [count / record["seconds"] for record in run.history[1:]]


def pytorch_rates(python: Path) -> list[float]:
    """The same of the peer."""
    said = subprocess.run([python, PEER, str(BATCHES), str(EPOCHS)], check=True, capture_output=True, text=True).stdout
    return [float(rate) for rate in json.loads(said)]


def main() -> None:
    """Measure in turns and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--pytorch", type=Path, required=True, metavar="PYTHON")
    options = parser.parse_args()
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours += keras_rates(options.data)
        theirs += pytorch_rates(options.pytorch)
    cores = len(os.sched_getaffinity(0))
    for name, rates in (("Keras on TensorFlow", ours), ("PyTorch", theirs)):
        middle, spread = statistics.median(rates), f"from {min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:20} {middle:6.0f} images/s, {middle / cores:6.0f} per core, {spread}")
    print(f"Keras / PyTorch      {statistics.median(ours) / statistics.median(theirs):.2f}")


if __name__ == "__main__":
    main()

"""Command line of the offline jobs: `python -m training JOB --help`.

Owns arguments, exit codes and what is printed; every job itself is a function elsewhere.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from training.errors import TrainingError
from training.recipes import RECIPES, recipe
from training.run import Run


def main(argv: list[str] | None = None) -> int:
    """Run one job. Returns 0, 1 for a job that failed, 2 for a wrong command line, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        options.job(options)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Offline jobs: fetch, train, publish.")
    jobs = parser.add_subparsers(required=True, metavar="JOB")
    train = jobs.add_parser("train", help="train a recipe", description="Train a recipe and write a run directory.")
    train.add_argument("--recipe", required=True, choices=RECIPES)
    train.add_argument("--data", type=Path, default=os.environ.get("CIFAR10_DATA"))
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--from", dest="start", type=Path)
    train.add_argument("--epochs", type=int)
    train.add_argument("--batch-size", type=int)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--hold-out", action="store_true")
    train.add_argument("--resume", action="store_true")
    train.set_defaults(job=_train)
    return parser


def _train(options: argparse.Namespace) -> None:
    from training import fit, jobs

    jobs.train(options)


if __name__ == "__main__":
    sys.exit(main())

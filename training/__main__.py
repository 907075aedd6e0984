"""Command line of the offline jobs: `python -m training JOB --help`.

Defines exit codes and prints errors; the jobs and their arguments are in `training.commands`.
"""

import argparse
import signal
import sys

from model_store.errors import ModelError
from training.commands.evaluate import add_compare, add_evaluate, add_foreign
from training.commands.export import add_export
from training.commands.fetch import add_fetch
from training.commands.own import add_own
from training.commands.publish import add_import, add_publish
from training.commands.store import add_activate, add_prune, add_versions
from training.commands.train import add_train
from training.errors import TrainingError
from training.fit.run_directory import Run

# In the order of --help.
JOBS = (
    add_own,
    add_fetch,
    add_train,
    add_compare,
    add_evaluate,
    add_foreign,
    add_publish,
    add_import,
    add_versions,
    add_activate,
    add_prune,
    add_export,
)
OUR_PACKAGES = "training", "model_store"
INSTALL = "run `make jobs` to install the packages of all jobs into .venv, `make jobs GPU=1` to include JAX and CUDA"


def main(argv: list[str] | None = None) -> int:
    """Run one job. Return 0, 1 if it failed, 2 if the command line was invalid, 130 if it was interrupted."""
    options = _parser().parse_args(argv)
    try:
        options.job(options)
    except (TrainingError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        print(f"error: {path}{error.strerror or error}; check its permissions and the free space", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] in OUR_PACKAGES:
            raise
        print(f"error: this job needs {error.name}, which is not installed; {INSTALL}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted{_how_to_resume(options)}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train, evaluate and publish image classifiers."
    )
    jobs = parser.add_subparsers(required=True, metavar="JOB")
    for add_job in JOBS:
        add_job(jobs)
    return parser


def _how_to_resume(options: argparse.Namespace) -> str:
    if "again" not in options or not options.out or not Run(options.out).begun:
        return ""
    return f"; {options.again} to continue from the last saved epoch"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # containers and systemd stop processes with it
    sys.exit(main())

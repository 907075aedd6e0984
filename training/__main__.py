"""Command line of the offline jobs: `python -m training JOB --help`.

Defines exit codes and prints errors; the jobs and their arguments are in `training.commands`.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from model_store.command_line import python_command
from model_store.errors import ModelError
from model_store.os_errors import BROKEN_PIPE, discard_output, explain, naming
from training.errors import TrainingError
from training.termination import report, write_termination_log

OUR_PACKAGES = "training", "model_store"
INSTALL = "`make jobs` installs it for .venv/bin/python, `make jobs GPU=1` with JAX and CUDA"
INTERRUPTED = 130  # exit code, the shell's for SIGINT


def main(argv: list[str] | None = None) -> int:
    """Run one job.

    Returns:
        The exit code: 0, 1 if the job failed, 2 if the command line was invalid, 130 if it was interrupted, 141 if the
        program that read its output has ended.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 open for as long as the process
    try:
        parser = _parser()
    except ModuleNotFoundError as error:
        return _report_missing_package(error)
    options = parser.parse_args(argv)
    code = _run(options)
    try:
        with naming("the output"):
            sys.stdout.flush()
    except OSError as error:
        code = code or _report_os_error(error, options)
        discard_output(sys.stdout, sys.stderr)
    return code


def _run(options: argparse.Namespace) -> int:
    """Run the job, and report its errors."""
    try:
        options.job(options)
    except (TrainingError, ModelError) as error:
        report(f"error: {error}")
        return 1
    except OSError as error:
        return _report_os_error(error, options)
    except ModuleNotFoundError as error:
        return _report_missing_package(error)
    except KeyboardInterrupt:
        report(f"\ninterrupted{_how_to_resume(options)}")
        return INTERRUPTED
    except Exception as error:
        write_termination_log(f"{type(error).__name__}: {error}")  # Python prints it with a traceback
        raise
    return 0


def _report_missing_package(error: ModuleNotFoundError) -> int:
    """Name a package that is not installed; one of ours that is missing is a fault of the code."""
    if not error.name or error.name.split(".")[0] in OUR_PACKAGES:
        raise error
    report(f"error: {sys.executable} has no {error.name}; {INSTALL}")
    return 1


def _report_os_error(error: OSError, options: argparse.Namespace) -> int:
    if isinstance(error, BrokenPipeError):  # the reader of the output wants no more
        return BROKEN_PIPE
    report(f"error: {explain(error, python_command(f'training {options.job_name}'))}")
    return 1


class _Parser(argparse.ArgumentParser):
    """A parser whose errors also go to the termination log."""

    def error(self, message: str) -> NoReturn:
        write_termination_log(f"{self.prog}: error: {message}")
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    from training.commands.jobs import JOBS  # here, so that a package that is not installed is one sentence

    parser: argparse.ArgumentParser = _Parser(
        prog="python -m training", description="Train, evaluate and publish image classifiers."
    )
    jobs = parser.add_subparsers(required=True, metavar="JOB", dest="job_name")
    for add_job in JOBS:
        add_job(jobs)
    return parser


def _how_to_resume(options: argparse.Namespace) -> str:
    from training.fit.run.directory import Run

    if "unfinished" in options:
        return options.unfinished and f"; {options.unfinished}"
    if "again" not in options or not options.out or not Run(options.out).begun:
        return ""
    return f"; {options.again} to continue from the last saved epoch"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # containers and systemd stop processes with it
    sys.exit(main())

"""One seed: the job `train` in a process of its own, started again from its checkpoint if it fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from training.commands.lock import locked
from training.errors import TrainingError
from training.fit.run.directory import Run

ATTEMPTS = 3
END_SECONDS = 30.0  # that an interrupted process has to end by itself: a step of a large network takes seconds
POLL_SECONDS = 1.0
INVALID = 2  # exit code of a command line that argparse refuses


@dataclass(frozen=True)
class SeedJob:
    """The arguments of `train` for one seed.

    Args:
        folder: the run directory.
        directory: the working directory, from which relative paths count.
        arguments: of every attempt.
        new_run: further arguments, which only a run that has not begun accepts.
        environment: variables to set in the process.
        lock_seconds: how long to wait for a lock that another node left behind.
    """

    seed: int
    folder: Path
    directory: Path
    arguments: Sequence[str]
    new_run: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    lock_seconds: float = 0.0

    def say(self, line: str) -> None:
        """Print a line of this seed."""
        print(f"seed {self.seed}: {line}", flush=True)


def train_seed(job: SeedJob) -> str:
    """Train one seed to its end. Returns the reason if it failed, else an empty text.

    A run that has begun is tried again: what stops it then is not its options. A failure before that would repeat.
    """
    run = Run(job.directory / job.folder)
    reason = ""
    for attempt in range(ATTEMPTS):
        if run.finished:
            return ""
        _wait_for_lock(job, run.folder)
        if run.begun:
            job.say(f"continuing after epoch {len(run.history)} of {run.info.epochs}")
        code, reason = _run(job, run)
        if code == 0:
            return ""
        job.say(f"attempt {attempt + 1} of {ATTEMPTS} failed: {reason}")
        if code == INVALID or not run.begun:
            break
    return reason


def _wait_for_lock(job: SeedJob, folder: Path) -> None:
    """Wait until no job writes to a run. `train` itself reports a job that is still there after `lock_seconds`."""
    deadline, told = time.monotonic() + job.lock_seconds, False
    while time.monotonic() < deadline:
        try:
            with locked(folder):
                return
        except TrainingError as error:
            if not told:
                job.say(f"waiting: {error}")
            told = True
        except OSError:  # the folder cannot be made, which `train` reports
            return
        time.sleep(POLL_SECONDS)


def _run(job: SeedJob, run: Run) -> tuple[int, str]:
    """Run `train` and pass its lines on. Returns its exit code and, if that is not 0, the reason."""
    arguments = [*job.arguments, *(() if run.begun else job.new_run)]
    with subprocess.Popen(
        [sys.executable, "-m", "training.commands.seeds.watched", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=job.directory,
        env=os.environ | job.environment | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C reaches it through this process only, once
    ) as process:
        assert process.stdout
        last = ""
        try:
            for line in map(str.rstrip, process.stdout):
                job.say(line)
                last = line or last
        except BaseException:
            _end(process)
            raise
    if process.returncode < 0:
        return process.returncode, f"it was ended by {signal.Signals(-process.returncode).name}"
    return process.returncode, last.removeprefix("error: ")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=END_SECONDS)
        return
    process.kill()

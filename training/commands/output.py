"""Tables, JSON and progress bars of the jobs."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from training.pace import Clock, Pace, format_duration

WIDTH_WITHOUT_TERMINAL = 1000  # columns: a row in a file or a pipe stays one line


def add_json(job: argparse.ArgumentParser) -> None:
    """Add --json."""
    text = "print one JSON document to stdout and everything else to stderr; docs/training.md lists its keys"
    job.add_argument("--json", action="store_true", help=text)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document of finite numbers to stdout."""
    print(json.dumps(document, indent=1, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout; columns whose name ends with `>` are right-aligned.

    On a terminal, cells wrap to its width; elsewhere every row is one line.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name.removesuffix(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    with console.capture() as text:
        console.print(table)
    print(text.get(), end="", flush=True)  # rich would end the process with status 1 if the pipe is closed


@contextmanager
def progress_line(clock: Clock = time.monotonic) -> Iterator[Callable[[str, float], None]]:
    """Show the current measurement and its progress: live on a terminal, else a line at first and then one a minute."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description:<27}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task, pace, began, steps = progress.add_task("", total=1.0), Pace(clock), clock(), 0

        def show(step: str, share: float) -> None:
            nonlocal steps
            progress.update(task, description=f"measuring {step}", completed=share)
            if not console.is_terminal and (pace.due() or not steps):
                left = f", {format_duration((clock() - began) * (1 / share - 1))} left" if share else ""
                print(f"{share:4.0%} done, measuring {step}{left}", file=sys.stderr, flush=True)
            steps += 1

        yield show

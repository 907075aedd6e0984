"""Tables and progress bars of the jobs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

WIDTH_WITHOUT_TERMINAL = 1000  # columns: a row in a file or a pipe stays one line


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
    console.print(table)


@contextmanager
def progress_line() -> Iterator[Callable[[str, float], None]]:
    """Show the current measurement and its progress: live on a terminal, else one line per step."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description:<27}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task, printed = progress.add_task("", total=1.0), set[str]()

        def show(step: str, share: float) -> None:
            progress.update(task, description=f"measuring {step}", completed=share)
            if not console.is_terminal and step not in printed:
                printed.add(step)
                console.print(f"{share:4.0%} done, measuring {step}")

        yield show

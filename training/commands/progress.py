"""Progress line of long measurements."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

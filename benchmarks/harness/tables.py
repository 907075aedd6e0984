"""Markdown tables, for the terminal and docs/performance.md, and JSON files of the same figures."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Cell = str | int | float | None
Row = dict[str, Cell]


def table(rows: Sequence[Row]) -> str:
    """Format rows under the keys of the first; the first column is left-aligned, the others right-aligned."""
    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    others = [text.rjust(width) for text, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"


def cell(value: Cell) -> str:
    """Format a value: a float with three significant digits, or all those before the point; None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.{max(0, 3 - len(str(int(abs(value)))))}f}"
    return f"{value:,}" if isinstance(value, int) else value


def percent(part: float, whole: float) -> str:
    """Format a share in percent, or a dash if `whole` is 0."""
    return f"{part / whole:.0%}" if whole else cell(None)


def ratio(value: float | None) -> str:
    """Format a ratio with two decimals, or None as a dash."""
    return cell(None) if value is None else f"{value:.2f}"


def write_json(results: Any, path: Path) -> None:
    """Write dataclasses, or lists and dicts of them, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, default=dataclasses.asdict, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")

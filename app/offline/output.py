"""Output of `classify`: predictions as a table, JSON lines or CSV on stdout, errors and progress on stderr.

Lines are written whole, so the output is valid even if the command is interrupted.
"""

import csv
import io
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.prediction import Prediction, largest, prediction_json, to_json
from model_store.manifest import Manifest

FormatName = Literal["table", "jsonl", "csv"]
MAX_NAME_WIDTH = 60  # terminal columns of the table's first column; longer names overflow
TABLE_TOP_K = 3
REFRESH_SECONDS = 0.2
CLEAR = "\r\x1b[K"


@dataclass(frozen=True)
class LineFormat:
    """An output format."""

    header: str  # first line; empty for none
    line: Callable[[str, Prediction], str]  # formats a file's name and prediction


class Console:
    """Writes to stdout and stderr. Shows progress only on a terminal, and clears it before each line."""

    def __init__(self, kind: FormatName) -> None:
        self._live, self._refreshed, self._visible, self._began = sys.stderr.isatty(), 0.0, False, time.monotonic()
        if isinstance(sys.stdout, io.TextIOWrapper):  # UTF-8 for programs; odd file names raise no error
            sys.stdout.reconfigure(encoding=None if kind == "table" else "utf-8", errors="backslashreplace")

    def write(self, line: str) -> None:
        """Write a line to stdout and flush it: a pipe accepts lines of up to 4 kB whole or not at all."""
        self.clear()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def report(self, text: str) -> None:
        """Write a line to stderr."""
        self.clear()
        print(printable(text), file=sys.stderr, flush=True)

    def show_progress(self, done: int, total: int) -> None:
        """Refresh the progress line, a few times a second."""
        now = time.monotonic()
        if not self._live or now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed, self._visible = now, True
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        sys.stderr.write(f"{CLEAR}{done:,} of {total:,} files, {rate:,.0f} a second{left}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the progress line."""
        if self._visible:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
            self._visible = False


def default_format() -> FormatName:
    """Return "table" on a terminal, "jsonl" elsewhere."""
    return "table" if sys.stdout.isatty() else "jsonl"


def new_format(kind: FormatName, manifest: Manifest, top_k: int | None, names: Sequence[str]) -> LineFormat:
    """Create a format; a table needs the files' names to fit its first column."""
    if kind == "jsonl":
        return LineFormat(
            "", lambda name, row: to_json({"file": name} | prediction_json(manifest, row, top_k)).decode()
        )
    return _csv(manifest.labels, top_k) if kind == "csv" else _table(manifest.labels, top_k or TABLE_TOP_K, names)


def printable(text: str) -> str:
    """Escape characters that move the cursor or cannot be encoded."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _csv(labels: Sequence[str], top_k: int | None) -> LineFormat:
    ranks = range(2, min(top_k, len(labels)) + 1) if top_k else []
    further = [f"{column}_{rank}" for rank in ranks for column in ("label", "confidence")]
    columns = further if top_k else [f"probability_{label}" for label in labels]

    def line(name: str, row: Prediction) -> str:
        first, *rest = _largest_labels(labels, row, top_k or 1)
        further = [cell for pair in rest for cell in pair] if top_k else row.probabilities
        return _record(name, *first, row.verdict, row.rounded_novelty, *further)

    return LineFormat(_record("file", "label", "confidence", "verdict", "novelty", *columns), line)


def _record(*cells: object) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # csv quotes cells that contain a character of it
    return buffer.getvalue().removesuffix("\r\n")


def _table(labels: Sequence[str], top_k: int, names: Sequence[str]) -> LineFormat:
    name_width = min(MAX_NAME_WIDTH, max((_width(printable(name)) for name in names), default=0))
    label_width = max(5, *(_width(printable(label)) for label in labels))

    def line(name: str, row: Prediction) -> str:
        (label, share), *rest = _largest_labels(labels, row, top_k)
        others = ", ".join(f"{other} {value:.1%}" for other, value in rest)
        verdict = (row.verdict or "").replace("_", " ")
        return _cells(printable(name), printable(label), f"{share:.1%}", verdict, printable(others))

    def _cells(name: str, label: str, share: str, verdict: str, others: str) -> str:
        return f"{_pad(name, name_width)}  {_pad(label, label_width)}  {share:>10}  {verdict:<13}  {others}".rstrip()

    return LineFormat(_cells("file", "label", "confidence", "verdict", "then" if top_k > 1 else ""), line)


def _largest_labels(labels: Sequence[str], row: Prediction, count: int) -> list[tuple[str, np.float32]]:
    """Return the most probable labels with their probabilities, largest first."""
    return [(labels[index], row.probabilities[index]) for index in largest(row.probabilities, count)]


def _width(text: str) -> int:
    """Count terminal columns: two for a wide character, zero for a combining one."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))

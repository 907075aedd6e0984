"""What `classify` prints: answers as a table, JSON lines or CSV on stdout, errors and a live line on stderr.

Knows nothing of where images come from. A line is always written whole, so whatever stops the command, what has been
printed is valid.
"""

import csv
import io
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from app.prediction import Prediction, largest, prediction, to_json
from model_store.manifest import Manifest

FormatName = Literal["table", "jsonl", "csv"]
WIDEST = 60  # columns for names in a table; longer ones stick out
TABLE_TOP_K = 3
REFRESH_SECONDS = 0.2
CLEAR = "\r\x1b[K"


@dataclass(frozen=True)
class Format:
    """The first line, if there is one, and how a file's name and its row become a line."""

    header: str
    line: Callable[[str, Prediction], str]


class Console:
    """The two streams. The live line is there only while stderr is a terminal, and never in another line's way."""

    def __init__(self, kind: FormatName) -> None:
        self._live, self._shown, self._there, self._began = sys.stderr.isatty(), 0.0, False, time.monotonic()
        if isinstance(sys.stdout, io.TextIOWrapper):  # programs are owed UTF-8, and people no error over an odd name
            sys.stdout.reconfigure(encoding=None if kind == "table" else "utf-8", errors="backslashreplace")

    def answer(self, line: str) -> None:
        """Write to stdout; at once, since a pipe takes lines of up to 4 kB whole or not at all."""
        self.clear()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Write a line to stderr."""
        self.clear()
        print(printable(text), file=sys.stderr, flush=True)

    def progress(self, done: int, total: int) -> None:
        """Refresh the live line, a few times a second."""
        now = time.monotonic()
        if not self._live or now - self._shown < REFRESH_SECONDS:
            return
        self._shown, self._there = now, True
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        sys.stderr.write(f"{CLEAR}{done:,} of {total:,} files, {rate:,.0f} a second{left}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the live line away."""
        if self._there:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
            self._there = False


def default_format() -> FormatName:
    """For people where they read, for programs where they do."""
    return "table" if sys.stdout.isatty() else "jsonl"


def new_format(kind: FormatName, manifest: Manifest, top_k: int | None, names: Sequence[str]) -> Format:
    """One of the three, for files of these names."""
    if kind == "jsonl":
        return Format("", lambda name, row: to_json({"file": name} | prediction(manifest, row, top_k)).decode())
    return _csv(manifest.labels, top_k) if kind == "csv" else _table(manifest.labels, top_k or TABLE_TOP_K, names)


def file_name(path: Path) -> str:
    """A path as Unicode: bytes that are none of it are written in hexadecimal."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text without what moves a cursor or cannot be encoded."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _csv(labels: Sequence[str], top_k: int | None) -> Format:
    ranks = range(2, min(top_k, len(labels)) + 1) if top_k else []
    further = [f"{what}_{rank}" for rank in ranks for what in ("label", "confidence")]
    columns = further if top_k else [f"probability_{label}" for label in labels]

    def line(name: str, row: Prediction) -> str:
        first, *rest = _best(labels, row, top_k or 1)
        further = [cell for pair in rest for cell in pair] if top_k else row.probabilities
        return _record(name, *first, row.verdict, row.rounded_novelty, *further)

    return Format(_record("file", "label", "confidence", "verdict", "novelty", *columns), line)


def _record(*cells: object) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # what ends a line is what it quotes within one
    return buffer.getvalue().removesuffix("\r\n")


def _table(labels: Sequence[str], top_k: int, names: Sequence[str]) -> Format:
    wide = min(WIDEST, max((_width(printable(name)) for name in names), default=0))
    label_wide = max(5, *(_width(printable(label)) for label in labels))

    def line(name: str, row: Prediction) -> str:
        (label, share), *rest = _best(labels, row, top_k)
        others = ", ".join(f"{other} {value:.1%}" for other, value in rest)
        said = (row.verdict or "").replace("_", " ")
        return _cells(printable(name), printable(label), f"{share:.1%}", said, printable(others))

    def _cells(name: str, label: str, share: str, said: str, others: str) -> str:
        return f"{_padded(name, wide)}  {_padded(label, label_wide)}  {share:>10}  {said:<13}  {others}".rstrip()

    return Format(_cells("file", "label", "confidence", "verdict", "then" if top_k > 1 else ""), line)


def _best(labels: Sequence[str], row: Prediction, count: int) -> list[tuple[str, np.float32]]:
    """The most probable labels, largest first."""
    return [(labels[index], row.probabilities[index]) for index in largest(row.probabilities, count)]


def _width(text: str) -> int:
    """How many columns of a terminal it takes: two for each wide character, none for a combining one."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each) for each in text)


def _padded(text: str, wide: int) -> str:
    return text + " " * (wide - _width(text))

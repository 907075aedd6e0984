"""Figures out of documents that no schema describes: a manifest's metrics, an `evaluation.json`.

What is absent, or of another type than is asked for, is None or empty: versions differ in what was measured of them.
"""

from typing import Any

import orjson

LARGEST = 1e15  # beyond it no figure of a network is; JSON's integers have no end
LONGEST = 300


def read_document(content: bytes) -> dict[str, Any]:
    """A JSON object; empty where the bytes are none."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def number(document: object, *path: str) -> float | None:
    """The number at the end of a path of keys."""
    found = _found(document, path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if abs(found) < LARGEST else None


def numbers(document: object, *path: str) -> list[float]:
    """The numbers of a list; empty if one of them is none."""
    found = _found(document, path)
    values = [number({"": value}, "") for value in found] if isinstance(found, list) else []
    return [value for value in values if value is not None] if None not in values else []


def words(document: object, *path: str) -> str | None:
    """The text at the end of a path of keys, cut where it is too long to be read."""
    found = _found(document, path)
    if not isinstance(found, str) or not found.strip():
        return None
    return found if len(found) <= LONGEST else found[: LONGEST - 1] + "…"


def items(document: object, *path: str) -> list[tuple[str, Any]]:
    """Keys and values of the object at the end of a path."""
    found = _found(document, path)
    return list(found.items()) if isinstance(found, dict) else []


def percent(share: float, digits: int = 2) -> str:
    """0.9368 → 93.68 %, which no line's end divides."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def points(share: float, digits: int = 1) -> str:
    """0.097 → 9.7 points."""
    return f"{100 * share:.{digits}f} points"


def duration(seconds: float) -> str:
    """3484.9 → 58 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _found(document: object, path: tuple[str, ...]) -> object:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document

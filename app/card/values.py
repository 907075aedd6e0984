"""Look up and format figures in the parts of a manifest that have no schema: its metrics and its training.

A missing value, or one of another type, is None or empty: not every version has every measurement.
"""

from typing import Any

MAX_NUMBER = 1e15  # larger than any figure of a network; JSON's integers have no limit
MAX_TEXT_LENGTH = 300


def number(document: object, *path: str) -> float | None:
    """Return the number at a path of keys."""
    value = _value_at(document, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < MAX_NUMBER else None


def text(document: object, *path: str) -> str | None:
    """Return the text at a path of keys, cut to `MAX_TEXT_LENGTH`."""
    value = _value_at(document, path)
    if not isinstance(value, str) or not value.strip():
        return None
    return value if len(value) <= MAX_TEXT_LENGTH else value[: MAX_TEXT_LENGTH - 1] + "…"


def items(document: object, *path: str) -> list[tuple[str, Any]]:
    """Return keys and values of the object at a path of keys."""
    value = _value_at(document, path)
    return list(value.items()) if isinstance(value, dict) else []


def joined(between: str, *parts: str | None) -> str | None:
    """Join the parts that are not None or empty; None if all are."""
    return between.join(part for part in parts if part) or None


def percent(share: float, digits: int = 2) -> str:
    """Format 0.9368 as 93.68 %, with a no-break space."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def points(share: float, digits: int = 1) -> str:
    """Format 0.097 as 9.7 points."""
    return f"{100 * share:.{digits}f} points"


def duration(seconds: float) -> str:
    """Format 3484.9 seconds as 58 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _value_at(document: object, path: tuple[str, ...]) -> object:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document

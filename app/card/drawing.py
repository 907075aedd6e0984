"""Plots as lines, dots and texts in a box 340 units wide, about the pixels that a phone has for it.

Knows no report; `plot.html` turns a drawing into SVG, and `card.css` colours it by the kinds named here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10

from app.card.values import percent

WIDTH = 340
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 28, 44  # margins of a chart's axes
HEIGHT = 250
LINE_HEIGHT = 15
ROW_HEIGHT = 36
MAX_NAME_LENGTH = 20  # characters, of any script

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A polyline."""

    kind: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Dot:
    """A circle, or a diamond with the same radius."""

    kind: str
    x: float
    y: float
    radius: float = 5
    is_diamond: bool = False


@dataclass(frozen=True)
class Text:
    """A text; `anchor` is SVG's text-anchor."""

    text: str
    x: float
    y: float
    anchor: str = "start"
    kind: str = ""


@dataclass
class Drawing:
    """Marks in the order in which they are drawn: lines, dots, texts."""

    height: float
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    width: int = WIDTH


@dataclass(frozen=True)
class Axis:
    """A range of values. `step` is the smallest distance between two ticks."""

    name: str
    low: float
    high: float
    format: Callable[[float], str] = "{:g}".format
    step: float = 0.0

    def place(self, start: float, end: float) -> Callable[[float], float]:
        """Return the function from values to units that maps `low` to `start` and `high` to `end`."""
        return lambda value: round(start + (value - self.low) / (self.high - self.low) * (end - start), 1)

    def ticks(self, count: int = 5) -> list[float]:
        """Return at most `count + 1` round values."""
        span = (self.high - self.low) / count
        power = 10.0 ** floor(log10(span))
        step = max(self.step, next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span * 0.999))
        first, last = ceil(self.low / step - 1e-6), floor(self.high / step + 1e-6)
        return [number * step for number in range(first, last + 1)]


@dataclass(frozen=True)
class Series:
    """A named line; its colour follows from its kind."""

    name: str
    kind: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Row:
    """A named value with its interval, and another value beside it, if there are any."""

    name: str
    value: float
    interval: Point | None = None
    other: float | None = None


def axis(name: str, values: Sequence[float], format_value: Callable[[float], str] = "{:g}".format) -> Axis:
    """Return an axis for the values, which must be finite; with one value only, that is in the middle."""
    low, high = min(values), max(values)
    if high - low < 1e-6 * max(1, abs(low)):
        low, high = low - 0.5, high + 0.5
    return Axis(name, low, high, format_value)


def share_axis(name: str, values: Sequence[float]) -> Axis:
    """Return an axis in percent for shares, from a tenth below the lowest to a tenth above the highest."""
    low, high = floor(10 * min(values)), ceil(10 * max(values))
    return Axis(name, low / 10, max(high, low + 1) / 10, lambda share: percent(share, 0))


def draw_axes(x: Axis, y: Axis, right: float = RIGHT) -> Drawing:
    """Draw two axes, with a grid line for each tick of the vertical one."""
    across, up = x.place(LEFT, WIDTH - right), y.place(HEIGHT - BOTTOM, TOP)
    drawing = Drawing(HEIGHT)
    for tick in y.ticks():
        drawing.lines.append(Line("grid", [(LEFT, up(tick)), (WIDTH - right, up(tick))]))
        drawing.texts.append(Text(y.format(tick), LEFT - 6, up(tick) + 4, "end", "tick"))
    for tick in x.ticks():
        drawing.texts.append(Text(x.format(tick), across(tick), HEIGHT - BOTTOM + 18, "middle", "tick"))
    middle = (LEFT + WIDTH - right) / 2
    drawing.texts += [Text(y.name, 0, 12, kind="tick"), Text(x.name, middle, HEIGHT - 6, "middle", "tick")]
    return drawing


def draw_series(x: Axis, y: Axis, series: Sequence[Series], right: float) -> Drawing:
    """Draw lines with their names beside their ends, `right` units wide; names that would overlap are moved apart."""
    across, up = x.place(LEFT, WIDTH - right), y.place(HEIGHT - BOTTOM, TOP)
    drawing = draw_axes(x, y, right)
    named = sorted((one for one in series if one.points), key=lambda one: up(one.points[-1][1]))
    bottom: float = TOP - LINE_HEIGHT
    for rest, one in zip(range(len(named), 0, -1), named, strict=True):
        points = [(across(a), up(b)) for a, b in one.points]
        end_x, end_y = points[-1]
        bottom = max(bottom + LINE_HEIGHT, min(end_y, HEIGHT - BOTTOM - LINE_HEIGHT * (rest - 1)))
        label_x = WIDTH - right + 10
        drawing.lines.append(Line(one.kind, points))
        drawing.lines.append(Line("lead", [(end_x + 2, end_y), (label_x - 3, bottom)]))
        drawing.dots.append(Dot(one.kind, end_x, end_y, 3))
        drawing.texts.append(Text(shorten(one.name), label_x, bottom + 4))
    return drawing


def draw_rows(name: str, rows: Sequence[Row], reference: Row | None = None) -> Drawing:
    """Draw a dot on a line of its own for each row, under its name and its figure; `reference` is a line across."""
    values = [bound for row in rows for bound in (row.value, *(row.interval or ()), row.other) if bound is not None]
    shares = _near(name, values + ([reference.value] if reference else []))
    head = LINE_HEIGHT + 7 if reference else 0
    bottom = head + ROW_HEIGHT * len(rows)
    across = shares.place(6, WIDTH - 6)
    drawing = Drawing(bottom + 38)
    for number, row in enumerate(rows):
        top = head + ROW_HEIGHT * number
        line = top + 25
        drawing.texts.append(Text(shorten(row.name), 0, top + 14))
        drawing.texts.append(Text(percent(row.value, 1), WIDTH, top + 14, "end", "figure"))
        drawing.lines.append(Line("grid", [(6, line), (WIDTH - 6, line)]))
        if row.interval:
            drawing.lines.append(Line("interval", [(across(bound), line) for bound in row.interval]))
        drawing.dots.append(Dot("network", across(row.value), line))
        if row.other is not None:
            drawing.dots.append(Dot("people", across(row.other), line, 6, is_diamond=True))
    if reference:
        place = across(reference.value)
        drawing.lines.append(Line("reference", [(place, head), (place, bottom)]))
        anchor = "end" if place > WIDTH / 2 else "start"
        drawing.texts.append(Text(f"{reference.name} {percent(reference.value, 1)}", place, 12, anchor, "tick"))
    for place, tick in ((across(tick), tick) for tick in shares.ticks(7)):
        if 18 <= place <= WIDTH - 18:  # else its text would not fit
            drawing.texts.append(Text(shares.format(tick), place, bottom + 16, "middle", "tick"))
    drawing.texts.append(Text(name, WIDTH / 2, bottom + 33, "middle", "tick"))
    return drawing


def shorten(name: str) -> str:
    """Cut a name to the length that fits beside a figure."""
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def _near(name: str, shares: Sequence[float]) -> Axis:
    """Return an axis in percent that reaches little beyond the shares."""
    low, high = min(shares), max(shares)
    margin = max(0.005, 0.05 * (high - low))
    return Axis(name, max(0, low - margin), min(1, high + margin), lambda share: f"{100 * share:g}\N{NO-BREAK SPACE}%")

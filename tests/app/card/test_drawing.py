"""Drawings stay in their box, and their axes have round ticks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.card.drawing import WIDTH, Axis, Drawing, Row, Series, axis, draw_rows, draw_series, share_axis

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("low", "high", "step", "expected"),
    [
        (0, 1, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.83, 0.99, 0, [0.85, 0.9, 0.95]),
        (0, 300, 1, [0, 100, 200, 300]),
        (0, 1, 1, [0, 1]),
    ],
    ids=["shares", "a part", "epochs", "one epoch"],
)
def test_ticks_are_round(low, high, step, expected):
    assert Axis("", low, high, step=step).ticks() == pytest.approx(expected)


@given(st.lists(st.floats(-1e15, 1e15), min_size=1))
def test_any_values_have_an_axis_with_few_ticks(values):
    drawn = axis("", values)
    assert drawn.low < drawn.high and len(drawn.ticks()) <= 6


def marks(drawing: Drawing) -> list[tuple[float, float]]:
    points = [point for line in drawing.lines for point in line.points]
    return points + [(mark.x, mark.y) for mark in (*drawing.dots, *drawing.texts)]


def inside(drawing: Drawing) -> bool:
    return all(0 <= x <= WIDTH and 0 <= y <= drawing.height for x, y in marks(drawing))


@given(st.lists(st.lists(shares, min_size=1, max_size=6), min_size=1, max_size=10))
def test_names_of_lines_do_not_overlap(ends):
    series = [Series(str(number), "line-0", list(enumerate(values))) for number, values in enumerate(ends)]
    drawing = draw_series(Axis("", 0, 6), share_axis("", [0, 1]), series, 100)
    heights = sorted(text.y for text in drawing.texts if not text.kind)
    assert len(heights) == len(ends) and inside(drawing)
    assert all(below - above >= 14.9 for above, below in pairwise(heights))


@given(st.lists(st.tuples(shares, shares, shares, st.none() | shares), min_size=1, max_size=40), st.none() | shares)
def test_rows_stay_in_their_box(figures, reference):
    rows = [Row("name", value, (min(a, b), max(a, b)), other) for value, a, b, other in figures]
    assert inside(draw_rows("recall", rows, None if reference is None else Row("all", reference)))

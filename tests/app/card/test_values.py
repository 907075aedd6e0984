import pytest

from app.card.values import duration, items, number, text


@pytest.mark.parametrize("value", [None, True, "1", [1], {}, float("nan"), float("inf"), 10**400], ids=repr)
def test_what_is_no_figure_is_none(value):
    assert number({"a": {"b": value}}, "a", "b") is None


def test_paths_lead_to_what_is_there_and_past_what_is_not():
    document = {"a": {"b": 1, "c": [1, 2.5], "d": "text"}}
    assert number(document, "a", "b") == 1 and number(document, "a", "c") is None
    assert text(document, "a", "d") == "text" and items(document, "a")[0] == ("b", 1)
    assert number(document, "a", "b", "c") is None and items(document, "x") == [] and text(document, "a", "b") is None


def test_a_text_without_end_is_cut():
    cut = text({"a": "x" * 1_000_000}, "a")
    assert cut.endswith("x…") and len(cut) == 300


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3484.9, "58 min 5 s"), (7325, "2 h 2 min")]
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said

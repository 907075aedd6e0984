import pytest

from app.card.values import duration, items, number, numbers, read_document, text


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"NaN", b"[" * 100_000, b"\xff"], ids=repr)
def test_bytes_that_are_no_object_are_an_empty_document(content):
    assert read_document(content) == {}


@pytest.mark.parametrize("value", [None, True, "1", [1], {}, float("nan"), float("inf"), 10**400], ids=repr)
def test_what_is_no_figure_is_none(value):
    assert number({"a": {"b": value}}, "a", "b") is None
    assert numbers({"a": [1, value]}, "a") == []


def test_paths_lead_to_what_is_there_and_past_what_is_not():
    document = {"a": {"b": 1, "c": [1, 2.5], "d": "text"}}
    assert number(document, "a", "b") == 1 and numbers(document, "a", "c") == [1, 2.5]
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

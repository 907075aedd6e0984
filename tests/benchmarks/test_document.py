import pytest

from benchmarks.document import DOCUMENT, FOLDER, filled, made
from benchmarks.errors import BenchmarkError

LIMIT_BYTES = 200_000  # of a plot, which everybody clones


def test_the_documents_tables_are_those_of_the_results_beside_it():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text, made(FOLDER)) == text, "run python -m benchmarks.document"


def test_plots_are_small():
    plots = list(FOLDER.glob("*.png"))
    assert {plot.name for plot in plots} == {"latency.png", "cores.png", "sizes.png", "batches.png"}
    assert all(plot.stat().st_size < LIMIT_BYTES for plot in plots)


def test_every_table_is_shown():
    assert all(f"<!-- table: {name} -->" in DOCUMENT.read_text(encoding="utf-8") for name in made(FOLDER))


def test_a_table_is_replaced_and_nothing_else():
    text = "before\n<!-- table: a -->\nold\n<!-- end -->\nafter\n<!-- table: b -->\n<!-- end -->\n"
    once = filled(text, {"a": "| new \\1 |", "b": "B"})
    assert once == (
        "before\n<!-- table: a -->\n\n| new \\1 |\n\n<!-- end -->\nafter\n<!-- table: b -->\n\nB\n\n<!-- end -->\n"
    )
    assert filled(once, {"a": "| new \\1 |", "b": "B"}) == once


def test_an_unknown_table_is_named():
    with pytest.raises(BenchmarkError, match="has a table 'c'; there are a, b"):
        filled("<!-- table: c -->\n<!-- end -->", {"a": "", "b": ""})

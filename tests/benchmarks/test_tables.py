import dataclasses

import pytest

from benchmarks import tables
from benchmarks.tables import number, table
from tests.benchmarks.made import LOAD, RESULTS


def cells(text: str) -> list[dict[str, str]]:
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_table_is_markdown_whose_columns_line_up():
    text = table(["name", "n"], [["a", "1,000"], ["longer", "2"]])
    assert text == "| name   |     n |\n| ------ | ----: |\n| a      | 1,000 |\n| longer |     2 |"


def test_a_row_with_a_cell_too_few_is_a_mistake():
    with pytest.raises(ValueError, match="argument"):
        table(["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (0.123, "0.12"),
        (1.234, "1.23"),
        (45.67, "45.7"),
        (678.9, "679"),
        (12345.6, "12,346"),
    ],
    ids=str,
)
def test_numbers_have_three_digits_or_more(value, text):
    assert number(value) == text


def test_a_closed_loop_is_shown_with_its_share_of_the_cores():
    first, second = cells(tables.closed_table(RESULTS))
    assert (first["connections"], first["requests/s"], first["of the cores"], first["errors"]) == (
        "8",
        "2,000",
        "50%",
        "100",
    )
    assert second["of the cores"] == "75%"
    explained = dataclasses.replace(LOAD, body="PNG 32×32, explained")
    (row,) = cells(tables.closed_table(dataclasses.replace(RESULTS, closed=[explained])))
    assert (row["requests/s"], row["of the cores"]) == ("2,000", "–")


def test_overload_is_shown_with_its_share_of_the_peak_and_of_refusals():
    (row,) = cells(tables.overload_table(RESULTS))
    assert (row["of the peak"], row["refused"], row["probes failed"]) == ("90%", "55%", "1 of 40")
    assert (row["MB before"], row["MB after"]) == ("400", "410")


def test_offered_rates_limits_and_stages_are_shown():
    assert cells(tables.opened_table(RESULTS))[0]["good/s"] == "450"
    assert cells(tables.limits_table(RESULTS))[0]["core ms an image"] == "0.50"
    assert cells(tables.stages_table(RESULTS))[0]["infer"] == "0.30"
    assert "180, 175 MB" in tables.start_line(RESULTS)

import json

import pytest

from benchmarks.harness.tables import cell, percent, ratio, table, write_json
from tests.benchmarks.samples import LOAD


def test_a_table_is_markdown_whose_columns_line_up():
    text = table([{"name": "a", "n": 1_000}, {"name": "longer", "n": 2}])
    assert text == "| name   |     n |\n| ------ | ----: |\n| a      | 1,000 |\n| longer |     2 |"


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match="argument"):
        table([{"a": 1, "b": 2}, {"a": 1}])


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
        (1_234, "1,234"),
        ("text", "text"),
    ],
    ids=str,
)
def test_numbers_have_three_digits_or_more(value, text):
    assert cell(value) == text


def test_shares_and_ratios_of_nothing_are_dashes():
    assert [percent(1, 2), percent(1, 0), ratio(1.005), ratio(None)] == ["50%", "–", "1.00", "–"]


def test_results_are_written_as_json(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_json({"loads": [LOAD]}, path)
    assert json.loads(path.read_text(encoding="utf-8"))["loads"][0]["body"] == "PNG 32×32"

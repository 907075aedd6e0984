import pytest

from training.commands.output import print_json, progress_line


def test_without_a_terminal_a_measurement_prints_its_first_step_and_then_a_line_a_minute(capsys):
    now = 0.0
    with progress_line(lambda: now) as show:
        show("blur", 0.0)
        now = 59.0
        show("blur", 0.2)
        now = 61.0
        show("contrast", 0.25)
        now = 70.0
        show("noise", 0.3)
    assert capsys.readouterr().err.splitlines() == [
        "  0% done, measuring blur",
        " 25% done, measuring contrast, 3:03 left",
    ]


def test_a_number_that_json_has_not_is_an_error():
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"loss": float("nan")})

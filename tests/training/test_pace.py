import pytest

from training.pace import Pace, format_duration


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3_599, "59:59"), (3_723, "1:02:03")])
def test_durations_are_read_as_on_a_clock(seconds, text):
    assert format_duration(seconds) == text


def test_a_line_is_due_a_minute_after_the_last():
    now = 1_000.0
    pace = Pace(lambda: now)
    due = []
    for now in (1_059.0, 1_060.0, 1_061.0, 1_119.0, 1_125.0):  # noqa: B007 the clock reads it
        due.append(pace.due())
    assert due == [False, True, False, False, True]
    now = 1_180.0
    pace.restart()
    now = 1_190.0
    assert not pace.due()

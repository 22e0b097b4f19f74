import pytest

from jaxhw.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9412, "0.94 s"),
        (5.25, "5.2 s"),
        (60, "60 s"),
        (90, "1.5 min"),
        (490, "8.2 min"),
        (1740, "29 min"),
        (5400, "1 h 30 min"),
        (3600 * 25 + 60, "25 h 01 min"),
    ],
)
def test_two_digits_or_hours_and_minutes(seconds, text):
    assert duration(seconds) == text


def test_what_was_measured_has_three():
    assert [duration(x, digits=3) for x in (39.62, 1747, 5400)] == ["39.6 s", "29.1 min", "1 h 30 min"]

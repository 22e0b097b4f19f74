"""How long a run will take is told."""

from jaxhw.progress import Forecast


def told(forecast, paces, start=0):
    """[(step, line)] of a run whose steps take so many seconds each."""
    now, lines = 0.0, []
    for step, seconds in enumerate(paces, start + 1):
        now += seconds
        if line := forecast.after_step(step, now):
            lines.append((step, line))
    return lines


def test_the_time_left_is_told_after_the_first_steps_without_the_compilation():
    lines = told(Forecast(1000, ()), [30.0, *[0.5] * 999])
    assert lines == [(21, "step 21 of 1000: 2 steps a second, 8.2 min left")]


def test_it_is_told_again_when_a_stage_changes_it_and_only_then():
    """The second stage's steps take as long as the first one's, the third's four times as long; each compiles first."""
    paces = [9.0, *[0.5] * 99, 9.0, *[0.55] * 99, 9.0, *[2.0] * 799]
    lines = told(Forecast(1000, (100, 200)), paces)
    assert [step for step, _ in lines] == [21, 221]
    assert lines[0][1].endswith("8.2 min left at this stage's speed") and lines[1][1].endswith("26 min left")


def test_an_evaluation_is_not_counted_as_training():
    forecast = Forecast(10_000, ())
    told(forecast, [1.0] * 10)
    forecast.pause()  # it took, say, an hour
    lines = []
    for step in range(11, 60):
        if line := forecast.after_step(step, 3600.0 + step):
            lines.append(line)
    assert lines == ["step 31 of 10000: 1 steps a second, 2 h 46 min left"]


def test_quick_steps_are_measured_for_seconds():
    assert [step for step, _ in told(Forecast(100_000, ()), [0.01] * 2000)] in ([301], [302])

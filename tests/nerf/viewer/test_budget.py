import pytest

from jaxhw.nerf.viewer.budget import SAVED, Budget
from tests.nerf.viewer.fakes import Clock


def spent(share, step, chunk, steps=20_000):
    """The share of the time that chunks take which are rendered between steps whenever the budget allows it."""
    clock = Clock()
    budget, rendering = Budget(share, clock), 0.0
    for _ in range(steps):
        clock.now += step
        while budget.has_some():
            with budget.spending():
                clock.now += chunk
                rendering += chunk
    return rendering / clock.now


@pytest.mark.parametrize(("step", "chunk"), [(0.05, 0.03), (0.5, 0.03), (0.01, 0.4)])
def test_rendering_takes_its_share_of_the_time_and_no_more(step, chunk):
    assert 0.09 < spent(0.1, step, chunk) <= 0.1 + 1e-3


def test_without_a_share_nothing_is_rendered():
    assert spent(0.0, 0.05, 0.03, steps=100) == 0


def test_a_still_camera_saves_little_for_later():
    clock = Clock()
    budget = Budget(0.1, clock)
    clock.now += 1e6
    assert budget.has_some() and budget.left == SAVED


def test_what_fails_is_paid_for():
    clock = Clock()
    budget = Budget(0.5, clock)
    clock.now += 1
    assert budget.has_some()
    with pytest.raises(RuntimeError), budget.spending():
        clock.now += 10
        raise RuntimeError
    assert not budget.has_some()

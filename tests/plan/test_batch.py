"""The search for the largest batch."""

import pytest

from jaxhw import config as configs
from jaxhw.plan.batch import PRECISION, largest
from jaxhw.plan.planning import with_batch


@pytest.mark.parametrize("limit", [8, 64, 1000, 4097, 70_000])
@pytest.mark.parametrize("first", [1, 128, 100_000])
def test_it_is_found_to_an_eighth_and_each_batch_is_tried_once(first, limit):
    tried = []

    def room(size):
        tried.append(size)
        return (limit + 500) / (size + 500)  # variables take the place of 500 examples

    found = largest(room, first, unit=8, most=10**6)
    assert found <= limit and limit - found <= max(8, found / PRECISION) and found % 8 == 0
    assert len(tried) == len(set(tried)) < 20 and all(size % 8 == 0 for size in tried)


def test_no_batch_and_all_batches():
    assert largest(lambda size: 0.5, 128, 8, 1000) == 0
    assert largest(lambda size: 2.0, 128, 8, 1003) == 1000
    assert largest(lambda size: 2.0, 128, 256, 200) == 0  # an epoch has too few


@pytest.mark.parametrize(("size", "warmup"), [(4096, 122), (512, 980), (8, 980)])
def test_a_larger_batch_has_a_shorter_warm_up(size, warmup):
    """Whose 980 steps of 512 images are more than a run in batches of 16,000 has."""
    config, _ = configs.parse(["--config=configs/vit.py:accelerator"], "task")
    found = with_batch(config, size)
    assert (found.batch_size, found.optim.warmup_steps) == (size, warmup)

"""The search for the largest batch."""

import pytest

from jaxhw.plan.batch import PRECISION, largest


@pytest.mark.parametrize("limit", [8, 64, 1000, 4097, 70_000])
@pytest.mark.parametrize("first", [1, 128, 100_000])
def test_it_is_found_to_an_eighth_and_each_batch_is_tried_once(first, limit):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= limit

    found = largest(fits, first, unit=8, most=10**6)
    assert found <= limit and limit - found <= max(8, found / PRECISION) and found % 8 == 0
    assert len(tried) == len(set(tried)) and all(size % 8 == 0 for size in tried)


def test_no_batch_and_all_batches():
    assert largest(lambda size: False, 128, 8, 1000) == 0
    assert largest(lambda size: True, 128, 8, 1003) == 1000
    assert largest(lambda size: True, 128, 256, 200) == 0  # an epoch has too few

import threading
import time

import pytest

from jaxhw.prefetch import Prefetcher


def threads():
    return [t for t in threading.enumerate() if t.name == "prefetch"]


def test_it_yields_in_order_and_ends_its_thread():
    with Prefetcher(lambda i: i * i, 3, 9) as batches:
        assert list(batches) == [9, 16, 25, 36, 49, 64]
    assert not threads()


def test_it_stays_at_most_depth_ahead():
    made = []
    with Prefetcher(lambda i: made.append(i) or i, 0, 100, depth=2) as batches:
        iterator = iter(batches)
        assert next(iterator) == 0
        time.sleep(0.1)
        assert len(made) <= 1 + 2 + 1  # taken, queued, in the making
    assert not threads()


def test_an_error_arrives_where_its_batch_would():
    def make(i):
        if i == 2:
            raise OSError("torn")
        return i

    with Prefetcher(make, 0, 5) as batches:
        iterator = iter(batches)
        assert [next(iterator), next(iterator)] == [0, 1]
        with pytest.raises(OSError, match="torn"):
            next(iterator)
    assert not threads()


def test_leaving_early_ends_the_thread():
    with pytest.raises(KeyboardInterrupt), Prefetcher(lambda i: i, 0, 10**9) as batches:
        for i in batches:
            if i == 5:
                raise KeyboardInterrupt
    assert not threads()

import numpy as np
import pytest

from jaxhw.vision.data.loader import batch_indices, distinct_indices, padded_batches


@pytest.mark.parametrize(("n", "batch_size"), [(10, 5), (10, 3), (7, 7), (3, 8), (1, 4)])
def test_every_example_once_an_epoch(n, batch_size):
    epochs = 6
    steps = -(-n * epochs // batch_size)
    batches = [batch_indices(3, step, batch_size, n) for step in range(steps)]
    assert all(batch.shape == (batch_size,) and batch.dtype == np.int64 for batch in batches)
    stream = np.concatenate(batches)[: n * epochs].reshape(epochs, n)
    np.testing.assert_array_equal(np.sort(stream), np.tile(np.arange(n), (epochs, 1)))


@pytest.mark.parametrize(("n", "batch_size"), [(10, 5), (10, 3), (7, 7), (11, 6)])
def test_no_example_twice_in_a_batch_or_an_epoch(n, batch_size):
    whole, left_out = n // batch_size, set()
    for epoch in range(40):
        steps = [epoch * whole + i for i in range(whole)]
        batches = [distinct_indices(3, step, batch_size, n) for step in steps[::-1]]
        assert all(batch.shape == (batch_size,) and batch.dtype == np.int64 for batch in batches)
        seen = set(np.concatenate(batches))
        assert len(seen) == whole * batch_size
        left_out |= set(range(n)) - seen
    assert len(left_out) == (n if n % batch_size else 0)


def test_epochs_and_seeds_differ():
    first, second = batch_indices(0, 0, 50, 50), batch_indices(0, 1, 50, 50)
    other = batch_indices(1, 0, 50, 50)
    assert not np.array_equal(first, second) and not np.array_equal(first, other)
    assert not np.array_equal(first, np.arange(50))


def test_any_step_in_any_order_gives_the_same():
    forwards = [batch_indices(5, step, 16, 50) for step in range(20)]
    backwards = [batch_indices(5, step, 16, 50) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forwards, backwards)


def test_a_batch_that_is_changed_does_not_change_the_next():
    for indices in (batch_indices, distinct_indices):
        indices(0, 0, 10, 10)[:] = 0
        assert len(set(indices(0, 0, 10, 10))) == 10


def test_positions_of_an_example_are_uniform():
    # Example 0's place in the epoch over 2000 epochs of 4: chi-square with 3 degrees of freedom, 16.3 at p = 0.001.
    places = [int(np.flatnonzero(batch_indices(7, epoch, 4, 4) == 0)[0]) for epoch in range(2000)]
    counts = np.bincount(places, minlength=4)
    assert ((counts - 500) ** 2 / 500).sum() < 16.3


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (8, 4), (3, 5)])
def test_padded_batches_cover_in_order(n, batch_size):
    batches = list(padded_batches(n, batch_size))
    assert all(i.shape == m.shape == (batch_size,) and m.dtype == bool for i, m in batches)
    np.testing.assert_array_equal(np.concatenate([i[m] for i, m in batches]), np.arange(n))
    assert all((i[~m] == 0).all() for i, m in batches)
    assert len(batches) == -(-n // batch_size)

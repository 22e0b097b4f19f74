"""Which pairs of pictures are matched."""

import numpy as np

from jaxhw.nerf.capture import pairs


def test_a_frame_is_matched_with_the_next_ones_and_at_doubling_distances():
    found = pairs.sequential(100, 10)
    assert {j - i for i, j in found} == {*range(1, 11), 16, 32, 64}
    assert {j for i, j in found if i == 90} == set(range(91, 100))
    assert pairs.sequential(3, 10) == {(0, 1), (0, 2), (1, 2)}


def test_all_pairs():
    assert len(pairs.exhaustive(50)) == 50 * 49 // 2 and all(i < j for i, j in pairs.exhaustive(50))


def test_frames_now_and_then_are_matched_with_those_that_look_most_like_them():
    """A video that comes back after 60 frames: frame i looks like i + 60."""
    where = np.arange(90) % 60
    alike = np.exp(-np.abs(where[:, None] - where) / 5)
    found = pairs.loops(alike)
    assert {(0, 60), (10, 70), (20, 80)} <= found and all(i < j for i, j in found)
    assert {i for pair in found for i in pair if i % 10 == 0} >= set(range(0, 90, 10))
    assert len(found) <= 9 * pairs.LOOP_COUNT


def test_each_picture_is_matched_with_those_most_like_it_and_never_with_itself():
    alike = np.eye(4) + 0.5 * (np.arange(4)[:, None] // 2 == np.arange(4) // 2)
    assert pairs.retrieval(alike, 1) == {(0, 1), (2, 3)}
    assert pairs.retrieval(alike, 99) == pairs.exhaustive(4)

"""Depth and errors in colour; the four panels of a picture."""

import numpy as np

from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results import panels


def rendered(depth, opacity=None):
    depth = np.asarray(depth)
    opacity = np.ones(depth.shape) if opacity is None else np.asarray(opacity)
    return Rendered(colour=np.zeros((*depth.shape, 3)), depth=depth, opacity=opacity)


def test_four_panels_side_by_side():
    truth = np.ones((4, 3, 3))
    both = panels.beside_truth(truth, rendered(np.ones((4, 3)), np.zeros((4, 3))))
    assert both.shape == (4, 12, 3) and both.dtype == np.uint8
    assert (both[:, :3] == 255).all() and (both[:, 3:6] == 0).all()  # truth, picture
    assert both[:, 6:9].max() > 200 and (both[:, 9:] == 255).all()  # the worst of errors, no depth


def test_a_picture_lies_in_the_middle_of_white():
    picture = panels.on_white(np.zeros((2, 3, 3), np.uint8), 7, 6)
    assert picture.shape == (6, 7, 3) and (picture[2:4, 2:5] == 0).all() and (picture == 0).sum() == 2 * 3 * 3


def test_depth_is_white_where_there_is_nothing_and_ordered_elsewhere():
    picture = panels.depth_picture(rendered([[1.0, 2.0, 4.0, 3.0]], [[1.0, 1.0, 1.0, 0.0]]), (1.0, 4.0))
    assert (picture[0, 3] == 255).all()
    assert len({tuple(pixel) for pixel in picture[0]}) == 4
    same = panels.depth_picture(rendered([[0.5, 9.0]]), (1.0, 4.0))
    np.testing.assert_array_equal(same[0], picture[0, [0, 2]])  # what is outside the range has the colours of its ends


def test_depth_range_ignores_the_empty():
    depth = np.concatenate([np.linspace(2, 3, 100), np.full(100, 50.0)])
    near, far = panels.depth_range(rendered(depth, np.repeat([1.0, 0.0], 100)))
    assert 2 <= near < 2.05 and 2.95 < far <= 3
    assert panels.depth_range(rendered(depth, np.zeros(200)))[0] > 0


def test_errors_are_black_where_there_are_none():
    truth = np.full((2, 2, 3), 0.5)
    picture = truth.copy()
    picture[0, 0] += panels.WORST
    picture[1, 1, 0] += panels.WORST
    errors = panels.error_picture(picture, truth).astype(int).sum(-1)
    assert errors[0, 0] > errors[1, 1] > errors[0, 1] == errors[1, 0]
    assert errors[0, 1] < 10

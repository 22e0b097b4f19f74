import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.capture import sharpness
from tests.nerf.capture.made import blurred, picture


def of(image):
    return sharpness.measure(sharpness.small_grey(Image.fromarray(image)))


def test_a_laplacian_of_hand():
    grey = np.zeros((3, 4), np.uint8)
    grey[1, 1] = 10  # Laplacians -40 and 10 at the two inner pixels
    assert sharpness.measure(grey) == pytest.approx(625)


def test_blur_lowers_it_and_what_cannot_be_measured_is_0():
    values = [of(blurred(picture(300, 200), radius)) for radius in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[1] < 0.4 * values[0]
    assert of(np.full((20, 30, 3), 90, np.uint8)) == 0
    assert of(picture(2, 2)) == 0


@pytest.mark.parametrize("size", [(2000, 1000), (1000, 2000)])
def test_large_pictures_are_measured_on_a_small_copy(size):
    grey = sharpness.small_grey(Image.fromarray(picture(*size)))
    assert grey.shape == ((240, 480) if size[0] > size[1] else (480, 240)) and grey.dtype == np.uint8


def test_a_frame_is_compared_with_those_around_it():
    values = [100.0] * 30 + [10.0] * 30  # the camera turns to a white wall
    assert not any(sharpness.blurry(values))
    values[10] = 39.0
    values[50] = 3.9
    assert [i for i, found in enumerate(sharpness.blurry(values)) if found] == [10, 50]
    assert sum(sharpness.blurry(values, nearest=None)) == 1  # the median of all lies between both


@pytest.mark.parametrize("ends", [0, -1])
def test_few_pictures_and_both_ends(ends):
    values = [5.0, 5.0, 5.0, 5.0]
    values[ends] = 1.0
    assert sharpness.blurry(values)[ends] and sum(sharpness.blurry(values)) == 1
    assert sharpness.blurry([]) == []

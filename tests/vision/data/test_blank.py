"""Sets of images that hold nothing."""

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.vision.data import datasets


def test_a_set_of_any_size_takes_no_memory():
    images = datasets.load("blank:100000:7", "train", 224)
    assert len(images) == 100_000 and len(images.names) == 7 and images.image_size == 224
    taken = images.take(np.arange(4096))
    assert taken.shape == (4096, 224, 224, 3) and taken.dtype == np.uint8 and taken.strides == (0, 0, 0, 0)
    np.testing.assert_array_equal(np.bincount(images.labels) // 1000, 14)


@pytest.mark.parametrize("spec", ["blank:", "blank:10", "blank:0:3", "blank:ten:3"])
def test_what_is_no_such_set_is_one_line(spec):
    with pytest.raises(UserError, match="blank:"):
        datasets.load(spec, "train", 8)


def test_the_size_must_be_said():
    with pytest.raises(UserError, match=r"config\.image_size"):
        datasets.load("blank:10:3", "train")


@pytest.mark.parametrize(("spec", "count"), [("digits", 1438), ("tfds:imagenet2012", 1_281_167), ("blank:9:3", None)])
def test_how_many_images_a_set_has(spec, count, tmp_path):
    assert datasets.count(spec, str(tmp_path)) == count

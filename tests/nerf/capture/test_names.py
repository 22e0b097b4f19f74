import re
from pathlib import PurePath

import pytest

from jaxhw.nerf.capture.names import Names, plain


def stems(*paths):
    names = Names()
    return [names.stem(PurePath(path)) for path in paths]


@pytest.mark.parametrize(
    "name", ["IMG_1", "a b", "日本", "a\nb", "\udcff", "-rf", ".a", "a.", "x" * 300, "a/b", "%03d"]
)
def test_only_plain_characters(name):
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", plain(name)) and not plain(name).endswith(".")
    assert len(plain(name)) <= 100


def test_plain_names_stay():
    assert stems("IMG_1.jpg", "phone/IMG-2.b.png") == ["IMG_1", "phone/IMG-2.b"]


def test_no_two_are_alike():
    assert stems("IMG_1.HEIC", "IMG_1.JPG", "img_1.png", "IMG_1_2.jpg") == ["IMG_1", "IMG_1_2", "img_1_3", "IMG_1_2_2"]
    assert stems("a b.jpg", "a_b.jpg") == ["a_b", "a_b_2"]


def test_folders_that_become_alike_stay_apart():
    found = stems("a b/1.jpg", "a_b/1.jpg", "A_B/1.jpg", "a b/2.jpg")
    assert found == ["a_b/1", "a_b_2/1", "A_B_3/1", "a_b/2"]


def test_a_folder_is_not_in_the_way_of_a_picture():
    assert stems("1.jpg", "1.jpg.d/2.jpg", "3.jpg/4.jpg", "3.jpg") == ["1", "1.jpg_d/2", "3_jpg/4", "3"]

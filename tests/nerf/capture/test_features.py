"""Which pictures share a camera."""

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from jaxhw.nerf.capture import features


def save(path, size, focal=None):
    exif = Image.Exif()
    if focal:
        exif.get_ifd(IFD.Exif)[Base.FocalLength] = focal
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.zeros((*size[::-1], 3), np.uint8)).save(path, exif=exif.tobytes())


@pytest.fixture
def images(tmp_path):
    """Two cameras, a portrait among landscapes, and one that zoomed."""
    for name in ("a/1.jpg", "a/3.jpg", "b/1.jpg"):
        save(tmp_path / name, (40, 30), 4.2)
    save(tmp_path / "a/2.jpg", (30, 40), 4.2)
    save(tmp_path / "b/2.jpg", (40, 30), 9.0)
    return tmp_path


@pytest.mark.parametrize(
    ("shared", "groups"),
    [
        ("one", [["a/2.jpg"], ["a/1.jpg", "a/3.jpg", "b/1.jpg"], ["b/2.jpg"]]),
        ("folder", [["a/2.jpg"], ["a/1.jpg", "a/3.jpg"], ["b/1.jpg"], ["b/2.jpg"]]),
        ("picture", [["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg"]]),
    ],
)
def test_who_shares_a_camera(images, shared, groups):
    found = features._groups(images, ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg"], shared)
    assert [group["names"] for group in found] == groups
    assert all(group["shared"] == (shared != "picture") for group in found)

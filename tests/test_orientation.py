"""Pictures of every EXIF orientation, upright and as they are stored, whatever Pillow does by itself."""

import numpy as np
import pytest
from PIL import Image

from jaxhw import decoding
from jaxhw.nerf.scenes.decoding import picture_size, read_picture
from jaxhw.vision.data.images import to_rgb

FILES = {
    "a.png": {},
    "a.tif": {},
    "packed.tif": {"compression": "tiff_lzw"},
    "a.jpg": {"quality": 100, "subsampling": 0},
}
# What the upright picture is of the stored pixels [h, w, 3], by the letter F of EXIF's standard.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@pytest.fixture(params=[(name, held) for name in FILES for held in UPRIGHT], ids=str)
def made(request, tmp_path):
    """(file, stored pixels, upright pixels): 16 x 8 blocks of grey, which JPEG keeps."""
    name, held = request.param
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 1), dtype=np.uint8)
    stored = np.kron(blocks, np.ones((8, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = held
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **FILES[name])
    return tmp_path / name, stored, UPRIGHT[held](stored)


def test_scenes_have_either(made):
    path, stored, upright = made
    for turned, wanted in ((False, stored), (True, upright)):
        np.testing.assert_allclose(read_picture(path, 1, turned), wanted, atol=2)
        assert picture_size(path, turned) == wanted.shape[1::-1]


def test_the_other_wing_has_them_upright(made):
    path, _, upright = made
    seen = decoding.open_picture(path, lambda image: np.asarray(to_rgb(image, decoding.Levels())))
    np.testing.assert_allclose(seen, upright, atol=2)


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA"])
def test_tiffs_on_their_side_whose_pixels_pillow_would_map_into_memory(tmp_path, mode):
    stored, opaque = np.arange(6, dtype=np.uint8).reshape(2, 3), np.full((2, 3), 255, np.uint8)
    pixels = {"L": stored, "I;16": stored.astype(np.uint16) << 8, "RGBA": np.stack([stored] * 3 + [opaque], -1)}[mode]
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    assert Image.open(tmp_path / "a.tif").mode == mode
    for turned, wanted in ((False, stored), (True, UPRIGHT[6](stored))):
        np.testing.assert_array_equal(read_picture(tmp_path / "a.tif", 1, turned)[..., 0], wanted)

"""Pictures of more than 8 bits."""

import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.scenes.test_scenes import load_fails, stacked

VALUES = np.random.default_rng(3).integers(0, 65536, (9, folders.HEIGHT, folders.WIDTH), dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_upper_bits(tmp_path, suffix):
    content = folders.transforms()
    (tmp_path / "images").mkdir()
    for i, (entry, values) in enumerate(zip(content["frames"], VALUES, strict=True)):
        Image.fromarray(values).save(tmp_path / "images" / f"{i:03d}.{suffix}")
        entry["file_path"] = f"images/{i:03d}.{suffix}"
    folders.write_json(tmp_path / "transforms.json", content)
    images = stacked(scenes.load(str(tmp_path), split="every:8"))
    np.testing.assert_array_equal(images, np.repeat((VALUES >> 8).astype(np.uint8)[..., None], 3, -1))
    half = stacked(scenes.load(str(tmp_path), 2, "every:8"))
    mean = (VALUES >> 8).reshape(9, folders.HEIGHT // 2, 2, folders.WIDTH // 2, 2).mean((2, 4))
    assert np.abs(half[..., 0] - mean).max() < 0.6


def test_masks_of_16_bits_count_what_is_not_black(tmp_path):
    folder = folders.write_transforms(tmp_path)
    mask = np.full((folders.HEIGHT, folders.WIDTH), 7, np.uint16)
    mask[3:] = 0
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks" / "004.png")
    assert (scenes.load(str(folder), split="every:8").pictures.mask(4) == (mask > 0)).all()


def test_floats_are_refused(tmp_path):
    folder = folders.write_transforms(tmp_path)
    Image.fromarray(np.zeros((folders.HEIGHT, folders.WIDTH), np.float32)).save(folder / "images" / "a.tif")
    (folder / "images" / "a.tif").rename(folder / "images" / "002.png")
    load_fails(folder, "cannot read image .*002.png: its pixels are floating-point numbers")

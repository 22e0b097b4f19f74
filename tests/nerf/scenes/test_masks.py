import numpy as np
import pytest
from PIL import Image

from jaxhw.errors import UserError
from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.folders import HEIGHT, WIDTH, N


def mask_of(i):
    """uint8 [h, w]: 0 where pixels are left out; of picture number i."""
    return np.random.default_rng((3, i)).choice([0, 1, 255], (HEIGHT, WIDTH)).astype(np.uint8)


def load(folder, downscale=1, split="every:8"):
    return scenes.load(str(folder), downscale, split).pictures


def load_fails(folder, match, **options):
    with pytest.raises(UserError, match=match) as raised:
        load(folder, **options)
    assert "\n" not in str(raised.value)


def check(pictures, masked):
    """Pictures number `masked` have the masks of `mask_of`, the others none."""
    for i in range(len(pictures)):
        expected = mask_of(i) > 0 if i in masked else np.ones((HEIGHT, WIDTH), bool)
        np.testing.assert_array_equal(pictures.mask(i), expected, err_msg=str(i))


def with_mask_paths(folder, which):
    """A transforms.json that names masks for the pictures `which`."""
    content = folders.transforms()
    for i in which:
        content["frames"][i]["mask_path"] = f"./left_out/{i}.png"
    folders.save(folder / "left_out", [f"{i}.png" for i in which], [mask_of(i) for i in which])
    return folders.write_transforms(folder, **content)


def test_masks_that_a_transforms_json_names(tmp_path):
    check(load(with_mask_paths(tmp_path, [2, 3, 8])), [2, 3, 8])


@pytest.mark.parametrize("name", ["{0}.png", "{0}.png.png"])
@pytest.mark.parametrize("place", ["masks", "masks/images"])
@pytest.mark.parametrize("write", [folders.write_transforms, folders.write_llff, folders.write_colmap])
def test_a_folder_of_masks(tmp_path, write, place, name):
    if write is folders.write_colmap:
        pytest.importorskip("pycolmap")
    folder = write(tmp_path)
    folders.save(folder / place, [name.format("001"), name.format("005")], [mask_of(1), mask_of(5)])
    check(load(folder), [1, 5])


def test_masks_of_pictures_in_several_folders(tmp_path):
    """Blender's splits have pictures of one name: a mask says of which it is by its folder."""
    folder = folders.write_blender(tmp_path)
    folders.save(folder / "masks" / "test", ["r_1.png"], [mask_of(7)])
    folders.save(folder / "masks" / "train", ["r_1.png.png"], [mask_of(1)])
    check(load(folder, split="given"), [1, 7])
    folders.save(folder / "masks", ["r_0.png"], [mask_of(0)])
    load_fails(folder, "masks/r_0.png could be the mask of train/r_0.png and of val/r_0.png", split="given")


def test_masks_beside_the_folder_of_a_cameras_pictures(tmp_path):
    content = folders.transforms()
    for entry, name in zip(content["frames"], folders.names(), strict=True):
        entry["file_path"] = f"images/left/{name}"
    folder = folders.write_transforms(tmp_path, **content)
    folders.save(folder / "images" / "left", folders.names(), folders.pictures())
    folders.save(folder / "images" / "masks", ["004.png"], [mask_of(4)])
    folders.save(folder / "masks" / "left", ["006.png.png"], [mask_of(6)])
    check(load(folder), [4, 6])


def test_a_named_mask_comes_before_the_folders(tmp_path):
    folder = with_mask_paths(tmp_path, [2])
    folders.save(folder / "masks", ["002.png", "003.png"], [mask_of(8), mask_of(3)])
    check(load(folder), [2, 3])


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "RGB", "RGBA", "LA"])
def test_masks_of_every_kind_of_picture(tmp_path, mode):
    folder = folders.write_transforms(tmp_path)
    grey = Image.fromarray(mask_of(3) // 255 * 255)
    if mode == "I;16":
        grey = Image.fromarray((mask_of(3) // 255).astype(np.uint16))  # 1 of 65535 is not black
    (folder / "masks").mkdir()
    (grey if mode == "I;16" else grey.convert(mode)).save(folder / "masks" / "003.png")
    np.testing.assert_array_equal(load(folder).mask(3), mask_of(3) == 255)


def test_a_smaller_pixel_counts_if_all_its_pixels_do(tmp_path):
    folder = folders.write_transforms(tmp_path)
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[4, 7] = mask[HEIGHT - 1, WIDTH - 1] = 0  # the last is cut off
    folders.save(folder / "masks", ["000.png"], [mask])
    expected = np.ones((2, 3), bool)
    expected[0, 1] = False
    np.testing.assert_array_equal(load(folder, downscale=5).mask(0), expected)


def test_masks_of_mixed_sizes(tmp_path):
    folder = folders.write_mixed(tmp_path)
    portrait = mask_of(0).T
    folders.save(folder / "masks", ["001.png"], [portrait])
    pictures = load(folder)
    np.testing.assert_array_equal(pictures.mask(1), portrait > 0)
    assert pictures.count == len(pictures.table) - (portrait == 0).sum()


def test_masks_that_mask_nothing(tmp_path):
    folder = folders.write_transforms(tmp_path)
    folders.save(folder / "masks", folders.names(), np.ones((N, HEIGHT, WIDTH), np.uint8))
    assert load(folder).kept is None


def test_damaged_masks(tmp_path):
    folder = with_mask_paths(tmp_path, [2])
    mask = folder / "left_out" / "2.png"
    mask.write_bytes(b"no picture")
    load_fails(folder, "cannot read image .*left_out/2.png")
    Image.new("L", (HEIGHT, WIDTH)).save(mask)
    load_fails(folder, "mask .*left_out/2.png is 12 x 16, but its picture images/002.png is 16 x 12")
    mask.unlink()
    load_fails(folder, "cannot read image .*left_out/2.png: .*No such file")
    content = folders.transforms()
    content["frames"][2]["mask_path"] = 3
    folders.write_json(folder / "transforms.json", content)
    load_fails(folder, "transforms.json is not a transforms.json")


def test_a_scene_all_masked(tmp_path):
    folder = folders.write_transforms(tmp_path)
    folders.save(folder / "masks", folders.names()[1:8], np.zeros((7, HEIGHT, WIDTH), np.uint8))
    load_fails(folder, "the masks leave no pixel to train on; .*masks/001.png")  # every:8 trains on these

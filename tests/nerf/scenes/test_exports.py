"""Folders as other programs really write them: names that are nearly right, sizes off by a pixel, more distortion."""

import sys

import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.cameras import cameras as cams
from jaxhw.nerf.scenes import saved
from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.folders import CENTRE, FOCAL, HEIGHT, WIDTH
from tests.nerf.scenes.test_scenes import load_fails, stacked


def rename(content, change):
    for entry in content["frames"]:
        entry["file_path"] = change(entry["file_path"])
    return content


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f".\\{name}".replace("/", "\\"),
        lambda name: name.replace(".png", ".JPG"),
        lambda name: name.replace(".png", ".jpeg"),
        lambda name: name.upper().replace("IMAGES", "images"),
        lambda name: name.replace(".png", ""),
    ],
    ids=["backslashes", "dot", "suffix", "jpeg", "case", "none"],
)
def test_names_that_are_nearly_right(tmp_path, capsys, change):
    folder = folders.write_transforms(tmp_path, **rename(folders.transforms(), change))
    scene = scenes.load(str(folder), split="every:8")
    assert scene.names == [f"images/{name}" for name in folders.names()]
    np.testing.assert_array_equal(stacked(scene), folders.pictures())
    assert len(capsys.readouterr().err.strip().split("\n")) == 1


def test_a_name_that_two_pictures_nearly_have_is_none(tmp_path):
    content = rename(folders.transforms(), lambda name: name.replace("000.png", "000.webp"))
    folder = folders.write_transforms(tmp_path, **content)
    folders.save(folder / "images", ["000.jpg"], folders.pictures(1))
    assert len(scenes.load(str(folder), split="every:8").names) == 8


def test_colmaps_names_may_have_another_suffix_or_backslashes(tmp_path):
    listed = [f"{name.removesuffix('.png')}.JPG" for name in folders.names()]
    scene = scenes.load(str(folders.write_colmap_text(tmp_path / "a", listed)), split="every:8")
    np.testing.assert_array_equal(stacked(scene), folders.pictures())
    folder = folders.write_colmap_text(tmp_path / "b", [f"cam\\{name}" for name in folders.names()])
    (folder / "images").rename(folder / "cam")
    (folder / "images").mkdir()
    (folder / "cam").rename(folder / "images" / "cam")
    assert len(scenes.load(str(folder), split="every:8").names) == 9


def test_names_with_spaces_in_colmaps_text(tmp_path):
    listed = [f"my photo {name}" for name in folders.names()]
    folder = folders.write_colmap_text(tmp_path, listed)
    for name in folders.names():
        (folder / "images" / name).rename(folder / "images" / f"my photo {name}")
    scene = scenes.load(str(folder), split="every:8")
    assert scene.names == listed


def test_names_that_are_no_utf_8(tmp_path):
    if sys.platform != "linux":
        pytest.skip("other systems' file names are text")
    listed = [f"{i}\udcff\udce9.png" for i in range(9)]
    folder = folders.write_colmap_text(tmp_path, listed)
    for name, odd in zip(folders.names(), listed, strict=True):
        (folder / "images" / name).rename(folder / "images" / odd)
    scene = scenes.load(str(folder), split="every:8")
    assert scene.names == listed
    saved.write(scene, tmp_path / "scene.json")
    assert saved.read(tmp_path / "scene.json").names == listed


@pytest.mark.parametrize("size", [(WIDTH + 1, HEIGHT), (WIDTH, HEIGHT - 1), (WIDTH - 1, HEIGHT + 1)])
def test_pictures_that_differ_by_a_pixel(tmp_path, size):
    folder = folders.write_colmap_text(tmp_path)
    Image.new("RGB", size).save(folder / "images" / "004.png")
    scene = scenes.load(str(folder), split="every:8")
    assert scene.cameras.size[4].tolist() == list(size)
    np.testing.assert_allclose(scene.cameras.focal[4], FOCAL, rtol=0.1)


def test_metashapes_third_radial_term(tmp_path):
    """Points are projected with COLMAP's FULL_OPENCV, whose k4 to k6 are 0, and have to be found again."""
    k1, k2, p1, p2, k3 = distortion = [-0.05, 0.02, 0.002, -0.001, -0.01]
    folder = folders.write_transforms(tmp_path, k1=k1, k2=k2, k3=k3, p1=p1, p2=p2)
    scene = scenes.load(str(folder), split="every:8")
    assert scene.cameras.model == "BROWN" and scene.cameras.distortion.shape == (9, 5)
    x, y = np.random.default_rng(0).uniform(-0.4, 0.4, (2, 50))
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    pixels = (np.stack([xd, yd], -1) * FOCAL + CENTRE).astype(np.float32)
    rays = np.asarray(cams.unproject(scene.cameras[0], pixels))
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], np.stack([x, y], -1), atol=1e-5)
    saved.write(scene, tmp_path / "scene.json")
    np.testing.assert_allclose(saved.read(tmp_path / "scene.json").cameras.distortion[3], distortion, rtol=1e-6)


def test_frames_with_and_without_the_third_term_go_together(tmp_path):
    content = folders.transforms(k1=0.1)
    content["frames"][2]["k3"] = 0.01
    scene = scenes.load(str(folders.write_transforms(tmp_path, **content)), split="every:8")
    assert scene.cameras.model == "BROWN"
    np.testing.assert_allclose(scene.cameras.distortion[1:3], [[0.1, 0, 0, 0, 0], [0.1, 0, 0, 0, 0.01]], rtol=1e-6)


def test_colmaps_full_model_is_read_where_it_has_no_more_than_three_radial_terms(tmp_path):
    parameters = "20 20 8.5 5.5 0.1 0.02 0.001 0.002 0.03"
    folder = folders.write_colmap_text(tmp_path / "a", camera=f"FULL_OPENCV 16 12 {parameters} 0 0 0")
    scene = scenes.load(str(folder), split="every:8")
    np.testing.assert_allclose(scene.cameras.distortion[0], [0.1, 0.02, 0.001, 0.002, 0.03], rtol=1e-6)
    folder = folders.write_colmap_text(tmp_path / "b", camera=f"FULL_OPENCV 16 12 {parameters} 0 0 0.1")
    load_fails(folder, f"FULL_OPENCV.*image_undistorter --image_path {folder}/images --input_path {folder}/sparse/0 --")


def test_a_path_to_the_file_itself(tmp_path):
    folder = folders.write_transforms(tmp_path / "a")
    by_folder, by_file = (scenes.load(str(p), split="every:8") for p in (folder, folder / "transforms.json"))
    np.testing.assert_array_equal(by_file.cameras.pose, by_folder.cameras.pose)
    blender = folders.write_blender(tmp_path / "b")
    assert len(scenes.load(str(blender / "transforms_train.json")).names) == 9
    folders.write_json(tmp_path / "cameras.json", {})
    load_fails(tmp_path / "cameras.json", "cameras.json is no folder: name the folder, with the file called transforms")
    load_fails(folder / "images" / "000.png", "000.png is not a folder")


def test_heic_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    content = rename(folders.transforms(), lambda name: name.replace(".png", ".HEIC"))
    folder = folders.write_transforms(tmp_path, **content)
    for name in folders.names():
        (folder / "images" / name).rename(folder / "images" / name.replace(".png", ".HEIC"))
    load_fails(folder, r"cannot read image .*000\.HEIC: .*pip install pillow-heif")

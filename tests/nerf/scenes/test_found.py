"""What of a folder is used, and that nothing of it is left out without a word."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.scenes.test_scenes import load_fails


def load(folder, capsys, split="every:8"):
    """(the scene, the lines that it says)."""
    scene = scenes.load(str(folder), split=split)
    return scene, capsys.readouterr().err.strip().split("\n")


def test_pictures_found_posed_used_and_held_out(tmp_path, capsys):
    folder = folders.write_transforms(tmp_path)
    folders.save(folder / "images", ["x.png", "y.jpg"], folders.pictures(2))
    _, lines = load(folder, capsys)
    assert lines == [
        f"{folder}: 11 pictures found, 9 posed, 9 used: 7 train, 0 val, 2 test; without a pose are 2: x.png, y.jpg"
    ]


def test_colmaps_pictures_are_counted_at_any_depth(tmp_path, capsys):
    folder = folders.write_colmap_text(tmp_path)
    folders.save(folder / "images" / "cam2", folders.names(), folders.pictures())
    _, lines = load(folder, capsys)
    assert len(lines) == 1 and "18 pictures found, 9 posed, 9 used" in lines[0] and "without a pose are 9" in lines[0]


def test_frames_listed_twice_are_used_once(tmp_path, capsys):
    content = folders.transforms()
    content["frames"] = [dict(entry) for entry in content["frames"] for _ in range(2)]
    folder = folders.write_transforms(tmp_path, **content)
    scene, lines = load(folder, capsys, "every:2")
    assert len(scene.names) == 9 and len(lines) == 2 and lines[0].startswith("9 frames show a picture that another")
    assert not {scene.names[i] for i in scene.split["train"]} & {scene.names[i] for i in scene.split["test"]}


def test_copies_of_a_file_are_used_once(tmp_path, capsys):
    folder = folders.write_transforms(tmp_path)
    content = folders.transforms()
    copy = content["frames"][3] | {"file_path": "images/copy.png"}
    shutil.copy(folder / "images" / "003.png", folder / "images" / "copy.png")
    folders.write_json(folder / "transforms.json", content | {"frames": [*content["frames"], copy]})
    scene, lines = load(folder, capsys)
    assert len(scene.names) == 9 and "1 frames show a picture" in lines[0] and lines[0].endswith("images/copy.png")


def test_equal_pictures_from_different_places_are_no_copies(tmp_path, capsys):
    """Views of a rendered scene may show nothing but the background."""
    folder = folders.write_transforms(tmp_path)
    for name in folders.names()[:4]:
        Image.new("RGB", (folders.WIDTH, folders.HEIGHT)).save(folder / "images" / name)
    scene, lines = load(folder, capsys)
    assert len(scene.names) == 9 and len(lines) == 1


def test_what_is_trained_on_is_not_held_out(tmp_path, capsys):
    folder = folders.write_blender(tmp_path)
    shutil.copy(folder / "transforms_train.json", folder / "transforms_test.json")
    shutil.copy(folder / "transforms_train.json", folder / "transforms_val.json")
    scene, lines = load(folder, capsys, "given")
    assert {name: len(rows) for name, rows in scene.split.items()} == {"train": 5, "val": 0, "test": 0}
    assert len(lines) == 3 and lines[0].startswith("10 frames show a picture")


def test_one_picture_may_be_in_val_and_test(tmp_path, capsys):
    folder = folders.write_blender(tmp_path)
    shutil.copy(folder / "transforms_test.json", folder / "transforms_val.json")
    scene, lines = load(folder, capsys, "given")
    assert {name: len(rows) for name, rows in scene.split.items()} == {"train": 5, "val": 3, "test": 3}
    assert len(lines) == 2 and lines[0].startswith("near 1.51 and far 4.53 were taken from the cameras' distances")


@pytest.mark.parametrize("written", ["./images/{}", "images\\{}", "images/../images/{}"])
def test_names_in_a_split_may_be_written_otherwise(tmp_path, capsys, written):
    names = folders.names()
    test = [written.format(name) for name in names[:2]]
    train = [f"images/{name}" for name in names[2:]]
    folder = folders.write_transforms(tmp_path, train_filenames=train, test_filenames=test)
    scene, lines = load(folder, capsys, "given")
    assert scene.split["test"].tolist() == [0, 1] and len(scene.split["train"]) == 7 and len(lines) == 1


def test_names_that_no_frame_has_and_frames_in_no_split_are_told(tmp_path, capsys):
    train = [f"images/{name}" for name in folders.names()[2:]]
    folder = folders.write_transforms(tmp_path, train_filenames=train, test_filenames=["photos/000.png"])
    _, lines = load(folder, capsys, "given")
    assert len(lines) == 2
    assert "its splits name 1 files that none of its frames has: photos/000.png" in lines[0]
    assert "9 posed, 7 used: 7 train, 0 val, 0 test; in no split are 2: images/000.png, images/001.png" in lines[1]


def test_one_mask_path_for_all(tmp_path, capsys):
    mask = np.full((folders.HEIGHT, folders.WIDTH), 255, np.uint8)
    mask[:, :4] = 0
    folder = folders.write_transforms(tmp_path, mask_path="mask.png")
    load_fails(folder, "cannot read image .*mask.png")
    Image.fromarray(mask).save(folder / "mask.png")
    capsys.readouterr()
    scene, lines = load(folder, capsys)
    assert all((scene.pictures.mask(i) == (mask > 0)).all() for i in range(9))
    assert len(lines) == 1 and lines[0].endswith("2 test; 9 with a mask")


def test_the_smaller_of_several_models_is_told(tmp_path, capsys):
    folders.write_colmap_text(tmp_path, folders.names()[:2])
    (tmp_path / "sparse" / "0").rename(tmp_path / "small")
    folder = folders.write_colmap_text(tmp_path)
    (tmp_path / "small").rename(tmp_path / "sparse" / "1")
    _, lines = load(folder, capsys)
    sparse = folder / "sparse"
    assert lines[0] == f"{folder} has 2 models: used is {sparse}/0 with 9 images, left out {sparse}/1 with 2"
    assert len(lines) == 2


def test_a_held_out_set_without_pictures_is_none(tmp_path, capsys):
    folder = folders.write_blender(tmp_path)
    shutil.rmtree(folder / "test")
    scene, lines = load(folder, capsys, "given")
    assert len(scene.split["test"]) == 0 and len(scene.split["train"]) == 5
    assert len(lines) == 3 and "transforms_test.json: skipping 3 of 3 frames" in lines[0]
    shutil.rmtree(folder / "train")
    load_fails(folder, "transforms_train.json has no images", split="given")

import json

import numpy as np
import pytest
from PIL import Image

from jaxhw.errors import UserError
from jaxhw.nerf.cameras import cameras as cams
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.nerf.scenes.splits import split_frames
from tests.nerf import folders
from tests.nerf.folders import CENTRE, FOCAL, HEIGHT, WIDTH


def in_capture(scene):
    """Camera to capture's frame: positions and rotations, [n, 3, 4]."""
    size = np.cbrt(np.linalg.det(scene.to_capture[:3, :3]))
    rotation = scene.to_capture[:3, :3] @ scene.cameras.pose[:, :, :3] / size
    position = scene.cameras.pose[:, :, 3] @ scene.to_capture[:3, :3].T + scene.to_capture[:3, 3]
    return np.concatenate([rotation, position[:, :, None]], 2)


def stacked(scene):
    """The pictures of a scene of one size: [n, h, w, c]."""
    return np.stack([scene.pictures[i] for i in range(len(scene.pictures))])


def load_fails(folder, match, **options):
    with pytest.raises(UserError, match=match) as raised:
        scenes.load(str(folder), **{"split": "every:8", **options})
    assert "\n" not in str(raised.value)


def test_blender(tmp_path):
    scene = scenes.load(str(folders.write_blender(tmp_path)))
    assert {k: v.tolist() for k, v in scene.split.items()} == {"train": [0, 1, 2, 3, 4], "val": [5], "test": [6, 7, 8]}
    np.testing.assert_allclose(scene.cameras.pose, folders.poses()[:, :3], atol=1e-6)
    np.testing.assert_array_equal(stacked(scene), folders.pictures(channels=4))
    np.testing.assert_allclose(scene.cameras.focal, FOCAL, rtol=1e-6)
    np.testing.assert_allclose(scene.cameras.centre[0], [WIDTH / 2, HEIGHT / 2])
    assert (scene.unbounded, scene.cameras.model) == (False, "PINHOLE")
    np.testing.assert_array_equal(scene.to_capture, np.eye(4))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_colmap(tmp_path, binary):
    pytest.importorskip("pycolmap")
    scene = scenes.load(str(folders.write_colmap(tmp_path, binary)), split="every:8")
    np.testing.assert_allclose(in_capture(scene), folders.poses()[:, :3], atol=1e-5)
    np.testing.assert_array_equal(stacked(scene), folders.pictures())
    assert scene.names == folders.names()
    assert scene.cameras.model == "OPENCV"
    np.testing.assert_allclose(scene.cameras.distortion[3], [0.1, 0.02, 0.001, 0.0], rtol=1e-6)
    np.testing.assert_allclose(scene.cameras.centre[3], CENTRE)


def test_colmap_takes_the_largest_model(tmp_path):
    pytest.importorskip("pycolmap")
    folders.write_colmap(tmp_path, count=2)
    (tmp_path / "sparse" / "0").rename(tmp_path / "small")
    folders.write_colmap(tmp_path)
    (tmp_path / "sparse" / "0").rename(tmp_path / "sparse" / "1")
    (tmp_path / "small").rename(tmp_path / "sparse" / "0")
    assert len(scenes.load(str(tmp_path), split="every:8").names) == len(folders.names())


def test_transforms(tmp_path):
    applied = np.array([[0.0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 2]])
    folder = folders.write_transforms(
        tmp_path, k1=0.1, k2=-0.02, p1=0.003, applied_transform=applied.tolist(), camera_model="OPENCV"
    )
    scene = scenes.load(str(folder), split="every:8")
    np.testing.assert_allclose(scene.cameras.distortion[0], [0.1, -0.02, 0.003, 0], rtol=1e-6)
    np.testing.assert_allclose(scene.cameras.focal[0], FOCAL)
    # COLMAP's frame is what nerfstudio moved with `applied`
    positions = in_capture(scene)[:, :, 3] @ applied[:, :3].T + applied[:, 3]
    np.testing.assert_allclose(positions, folders.poses()[:, :3, 3], atol=1e-5)
    assert scene.split["test"].tolist() == [0, 8] and scene.split["train"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert scene.unbounded


def test_transforms_with_intrinsics_for_each_frame(tmp_path):
    content = folders.transforms(is_fisheye=True)
    for i, entry in enumerate(content["frames"]):
        entry.update(fl_x=FOCAL + i, k1=0.01 * i, k4=0.001)
    scene = scenes.load(str(folders.write_transforms(tmp_path, **content)), split="fraction:0.5")
    assert scene.cameras.model == "OPENCV_FISHEYE"
    np.testing.assert_allclose(scene.cameras.focal[:, 0], FOCAL + np.arange(9))
    np.testing.assert_allclose(scene.cameras.distortion[4], [0.04, 0, 0, 0.001], rtol=1e-6)


def test_transforms_may_name_their_splits(tmp_path):
    files = [f"images/{name}" for name in folders.names()]
    folder = folders.write_transforms(tmp_path, train_filenames=files[2:], val_filenames=files[:1], test_filenames=[])
    scene = scenes.load(str(folder))
    assert scene.split["train"].tolist() == list(range(2, 9)) and scene.split["val"].tolist() == [0]


def test_llff(tmp_path):
    scene = scenes.load(str(folders.write_llff(tmp_path)), split="every:8")
    np.testing.assert_allclose(in_capture(scene), folders.poses()[:, :3], atol=1e-5)
    size = np.cbrt(np.linalg.det(scene.to_capture[:3, :3]))
    assert scene.near == pytest.approx(0.9 / size) and scene.far == pytest.approx(10 / size)


def test_captures_are_centred_upright_and_of_unit_size(tmp_path):
    content = folders.transforms()
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn[:3, :3] *= np.sign(np.linalg.det(turn[:3, :3]))
    for entry in content["frames"]:
        entry["transform_matrix"] = (turn @ entry["transform_matrix"]).tolist()
    scene = scenes.load(str(folders.write_transforms(tmp_path, **content)), split="every:8")
    position = scene.cameras.pose[:, :, 3]
    assert np.abs(position).max() == pytest.approx(1)
    np.testing.assert_allclose(position[:, 2], np.linalg.norm(position[:, :2], axis=1) / 6, atol=1e-6)
    # the point that all look at is the origin
    np.testing.assert_allclose(np.cross(position, scene.cameras.pose[:, :, 2]), 0, atol=1e-6)


def test_an_outward_looking_capture_is_centred_between_its_cameras(tmp_path):
    content = folders.transforms()
    for entry in content["frames"]:  # half a turn about the cameras' own up axes
        entry["transform_matrix"] = (np.array(entry["transform_matrix"]) @ np.diag([-1.0, 1, -1, 1])).tolist()
    scene = scenes.load(str(folders.write_transforms(tmp_path, **content)), split="every:8")
    np.testing.assert_allclose(scene.cameras.pose[:, :, 3].mean(0), 0, atol=1e-6)


def test_downscaling_averages_areas_and_keeps_the_rays(tmp_path):
    folder = folders.write_transforms(tmp_path)
    full, half = scenes.load(str(folder), 1, "every:8"), scenes.load(str(folder), 2, "every:8")
    assert half.pictures[0].shape == (HEIGHT // 2, WIDTH // 2, 3)
    mean = stacked(full).reshape(9, HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((2, 4))
    assert np.abs(stacked(half) - mean).max() <= 0.5 + 1e-6
    fifth = scenes.load(str(folder), 5, "every:8")  # of 16 x 12 pixels 3 x 2 are left
    assert fifth.pictures[8].shape == (2, 3, 3) and fifth.cameras.size.tolist() == [[3, 2]] * 9
    np.testing.assert_allclose(fifth.cameras.focal, FOCAL / 5)
    corners = np.array([[1.0, 1.0], [3.0, 5.0]], np.float32)
    expected = cams.rays_through(full.cameras[2], 2 * corners)[1]
    np.testing.assert_allclose(cams.rays_through(half.cameras[2], corners)[1], expected, atol=1e-6)


def test_downscaling_weighs_colours_with_alpha(tmp_path):
    folder = folders.write_blender(tmp_path)
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[:, ::2] = [200, 100, 50, 255]  # every other column is empty, and black in the file
    Image.fromarray(picture).save(folder / "train" / "r_0.png")
    small = scenes.load(str(folder), 2).pictures[0]
    assert np.abs(small.astype(int) - [200, 100, 50, 128]).max() <= 1


def test_transparency_that_hides_nothing_is_dropped(tmp_path):
    folder = folders.write_transforms(tmp_path)
    for name, image in zip(folders.names(), folders.pictures(), strict=True):
        Image.fromarray(image).convert("RGBA").save(folder / "images" / name)
    assert stacked(scenes.load(str(folder), split="every:8")).shape[-1] == 3
    Image.fromarray(folders.pictures(channels=4)[1]).save(folder / "images" / "001.png")
    images = stacked(scenes.load(str(folder), split="every:8"))
    assert images.shape[-1] == 4 and (images[0, ..., 3] == 255).all()


def test_pictures_smaller_than_calibrated(tmp_path):
    folder = folders.write_transforms(tmp_path, w=4 * WIDTH, h=4 * HEIGHT, fl_x=4 * FOCAL, fl_y=4 * FOCAL, cx=4 * 8.0)
    scene = scenes.load(str(folder), split="every:8")
    np.testing.assert_allclose(scene.cameras.focal, FOCAL)
    np.testing.assert_allclose(scene.cameras.centre[:, 0], 8.0)


def test_missing_frames_are_listed_and_skipped(tmp_path, capsys):
    folder = folders.write_transforms(tmp_path)
    (folder / "images" / "004.png").unlink()
    scene = scenes.load(str(folder), split="every:8")
    assert len(scene.names) == len(scene.pictures) == len(scene.cameras) == 8
    line, summary = capsys.readouterr().err.strip().split("\n")
    assert "skipping 1 of 9 frames" in line and "004.png" in line
    assert summary.endswith("8 pictures found, 8 posed, 8 used: 7 train, 0 val, 1 test")


def test_fraction_is_nerfstudios():
    split = split_frames([""] * 50, "fraction:0.9")
    assert split["test"].tolist() == [9, 19, 29, 39, 48]  # where int(i * 49 / 44) jumps by two
    assert sorted([*split["train"], *split["test"]]) == list(range(50))


@pytest.mark.parametrize("split", ["every:1", "every:x", "fraction:1.5", "fraction:", "often", "given"])
def test_bad_splits(tmp_path, split):
    load_fails(folders.write_transforms(tmp_path), "split", split=split)


def test_unknown_folders(tmp_path):
    load_fails(tmp_path / "nowhere", "not a folder")
    load_fails(tmp_path, "no known format")


def test_no_images_and_one_image(tmp_path):
    folder = folders.write_transforms(tmp_path, frames=[])
    load_fails(folder, "no images")
    folders.write_transforms(tmp_path, frames=folders.transforms()["frames"][:1])
    load_fails(folder, "one image")
    folders.write_json(tmp_path / "transforms.json", folders.transforms())
    for name in folders.names():
        (tmp_path / "images" / name).unlink()
    load_fails(folder, "no images: not even .*000.png exists")


def test_mixed_sizes(tmp_path):
    scene = scenes.load(str(folders.write_mixed(tmp_path)), split="every:8")
    size = folders.mixed_sizes()
    np.testing.assert_array_equal(scene.cameras.size, size)
    np.testing.assert_array_equal(scene.pictures.size, size)
    np.testing.assert_allclose(scene.cameras.focal, size[:, :1].repeat(2, 1))
    np.testing.assert_allclose(scene.cameras.centre, size / 2)
    for i, picture in enumerate(folders.mixed_pictures()):
        np.testing.assert_array_equal(scene.pictures[i], picture)


def test_mixed_sizes_are_downscaled_each(tmp_path):
    folder = folders.write_mixed(tmp_path)
    scene, size = scenes.load(str(folder), 5, "every:8"), folders.mixed_sizes()
    np.testing.assert_array_equal(scene.cameras.size, size // 5)
    np.testing.assert_allclose(scene.cameras.focal, size[:, :1].repeat(2, 1) / 5, rtol=1e-6)
    expected = folders.mixed_pictures()[1][:15, :10].reshape(3, 5, 2, 5, 3).mean((1, 3))
    assert np.abs(scene.pictures[1] - expected).max() < 0.55  # PIL rounds by fixed point
    load_fails(folder, "config.downscale=7 leaves nothing of images/002.png, which is 8 x 6 pixels", downscale=7)


def test_one_picture_at_another_resolution(tmp_path):
    """One lens for all: it is fitted to each picture's pixels."""
    folder = folders.write_transforms(tmp_path)
    Image.new("RGB", (2 * WIDTH, 2 * HEIGHT)).save(folder / "images" / "005.png")
    scene = scenes.load(str(folder), split="every:8")
    np.testing.assert_allclose(scene.cameras.focal[4:7, 0], [FOCAL, 2 * FOCAL, FOCAL])
    assert scene.cameras.size[5].tolist() == [2 * WIDTH, 2 * HEIGHT] and not scene.pictures[5].any()


def test_colmap_with_several_cameras(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    folder = folders.write_colmap(tmp_path, cameras=2)
    folders.save(folder / "images", folders.names()[1::2], np.zeros((4, WIDTH, HEIGHT, 3), np.uint8))
    scene = scenes.load(str(folder), split="every:8")
    assert pycolmap.Reconstruction(str(folder / "sparse" / "0")).num_cameras() == 2
    assert scene.cameras.size.tolist() == ([[WIDTH, HEIGHT], [HEIGHT, WIDTH]] * 5)[:9]
    np.testing.assert_allclose(scene.cameras.centre[:2], [CENTRE, CENTRE[::-1]])


def bad_frame(**changes):
    content = folders.transforms()
    content["frames"][3].update(changes)
    return content


@pytest.mark.parametrize(
    "content, match",
    [
        (bad_frame(transform_matrix=np.diag([2.0, 1, 1, 1]).tolist()), "003.png has a pose that is not a rotation"),
        (bad_frame(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()), "003.png .* it mirrors"),
        (bad_frame(transform_matrix=[[float("nan")] * 4] * 4), "003.png .*not finite"),
        (bad_frame(transform_matrix=[[1, 0], [0, 1]]), "transforms.json"),
        (bad_frame(fl_x=0.0), "003.png has a focal length of 0"),
        (bad_frame(w=0), "003.png .*0 x 12"),
        (bad_frame(w=2 * WIDTH), "003.png is 16 x 12, but its camera is for 32 x 12"),
        (bad_frame(camera_model="EQUIRECTANGULAR"), "003.png has camera model EQUIRECTANGULAR"),
        (bad_frame(camera_model="OPENCV_FISHEYE"), "mixes fisheye"),
        (bad_frame(k4=0.1), "k4"),
        (folders.transforms(applied_transform=[[1, 2], [3, 4]]), "applied_transform"),
        (folders.transforms(applied_scale=0), "applied_transform"),
        ({**folders.transforms(), "w": float("inf")}, "transforms.json"),
        ({"frames": 3}, "transforms.json"),
        ({"w": 3}, "transforms.json.*no 'frames'"),
        ([], "transforms.json"),
    ],
)
def test_bad_transforms(tmp_path, content, match):
    folder = folders.write_transforms(tmp_path)
    folders.write_json(tmp_path / "transforms.json", content)
    load_fails(folder, match)


def test_damaged_files(tmp_path):
    folder = folders.write_transforms(tmp_path)
    (folder / "images" / "002.png").write_bytes(b"no picture")
    load_fails(folder, "cannot read image .*002.png")
    (folder / "transforms.json").write_text("{")
    load_fails(folder, "cannot read .*transforms.json")


def test_damaged_llff(tmp_path):
    folder = folders.write_llff(tmp_path)
    (folder / "images" / "002.png").unlink()
    load_fails(folder, "9 poses for the 8 images")
    np.save(folder / "poses_bounds.npy", np.full((9, 17), np.nan))
    (folder / "images" / "002.png").write_bytes((folder / "images" / "001.png").read_bytes())
    load_fails(folder, "not finite")
    np.save(folder / "poses_bounds.npy", np.zeros((9, 12)))
    load_fails(folder, r"shape \(9, 12\)")
    (folder / "poses_bounds.npy").write_bytes(b"nothing")
    load_fails(folder, "cannot read .*poses_bounds.npy")


def test_bad_colmap(tmp_path):
    pytest.importorskip("pycolmap")
    parameters = (FOCAL, FOCAL, *CENTRE, *[0.0] * 7, 0.1)
    fails = "FULL_OPENCV.*colmap image_undistorter --image_path .*/images --input_path .*/sparse/0 --output_path"
    load_fails(folders.write_colmap(tmp_path / "a", model="FULL_OPENCV", parameters=parameters), fails)
    folder = folders.write_colmap(tmp_path / "b")
    path = folder / "sparse" / "0" / "images.bin"
    whole = path.read_bytes()
    for length in (2, 8 + 64 + 2, len(whole) - 1):  # cut in a name, pycolmap would wait for ever
        path.write_bytes(whole[:length])
        load_fails(folder, r"cannot read COLMAP's model .*images\.bin is cut off")


def test_downscale_must_leave_something(tmp_path):
    folder = folders.write_transforms(tmp_path)
    load_fails(folder, "config.downscale=0 must be a whole number of at least 1", downscale=0)
    load_fails(folder, "config.downscale=100 leaves nothing of images/000.png", downscale=100)


def test_lego(shared_data):
    folder = shared_data / "lego_400"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    scene = scenes.load(str(folder), downscale=8)
    assert stacked(scene).shape == (135, 50, 50, 4)
    assert [len(scene.split[name]) for name in ("train", "val", "test")] == [100, 10, 25]
    angle = json.loads((folder / "transforms_train.json").read_text())["camera_angle_x"]
    np.testing.assert_allclose(scene.cameras.focal[0], 25 / np.tan(angle / 2), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scene.cameras.pose[:, :, 3], axis=1), 4.03, atol=0.01)


def test_fox(shared_data):
    folder = shared_data / "fox"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    scene = scenes.load(str(folder), downscale=8, split="every:8")
    assert stacked(scene).shape == (50, 120, 67, 3) and scene.cameras.model == "OPENCV"
    assert len(scene.split["test"]) == 7
    assert np.abs(scene.cameras.pose[:, :, 3]).max() == pytest.approx(1)
    towards = -(scene.cameras.pose[:, :, 3] * scene.cameras.pose[:, :, 2]).sum(1)
    assert (towards > 0).all()  # the origin is in front of every camera

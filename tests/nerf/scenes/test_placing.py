"""The frame of training, from folders: odd frames, cameras held on their side, EXIF, parallel cameras."""

import struct

import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.results import trajectories
from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.folders import HEIGHT, WIDTH, N
from tests.nerf.scenes.test_scenes import in_capture, load_fails

# From the axes of an upright picture to those of the stored pixels, a quarter turn, as a pose's right factor [4, 4].
TO_STORED = {
    6: np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    8: np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
}
TO_PIXELS = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # what EXIF's turn undoes


def write(folder, poses, images=None, exif=None, **changes):
    """A transforms.json of poses [n, 4, 4] in OpenCV's axes, with PNGs that may have an EXIF orientation."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = images if images is not None else [Image.fromarray(p) for p in folders.pictures(len(poses))]
    frames = []
    for i, (pose, image) in enumerate(zip(poses, images, strict=True)):
        options = {}
        if exif:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = exif
        image.save(folder / "images" / f"{i:03d}.png", **options)
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": (pose @ folders.OPENGL).tolist()})
    width, height = changes.pop("size", images[0].size)
    content = {"w": width, "h": height, "fl_x": 20.0, "fl_y": 20.0, "frames": frames}
    folders.write_json(folder / "transforms.json", content | changes)
    return folder


def test_odd_frames_are_named_and_used(tmp_path, capsys):
    poses = folders.poses(20)
    poses[4] = poses[4] @ np.diag([-1.0, 1, -1, 1])
    poses[6, :3, 3] = 12 * poses[6, :3, 3]
    scene = scenes.load(str(write(tmp_path, poses)), split="every:8")
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(scene.names) == 20 and len(lines) == 3
    assert lines[0].startswith("1 of 20 cameras look elsewhere") and lines[0].endswith("images/004.png")
    assert lines[1].startswith("1 of 20 cameras are much farther away") and lines[1].endswith("images/006.png")
    np.testing.assert_allclose(scene.to_capture[:3, 3], [0.3, -0.2, 0.5], atol=0.02)


def test_the_orbit_of_a_capture_with_one_camera_turned_round_looks_at_its_subject(tmp_path):
    poses = folders.poses(40)
    poses[9] = poses[9] @ np.diag([-1.0, 1, -1, 1])
    scene = scenes.load(str(write(tmp_path, poses)), split="every:8")
    path = trajectories.make("orbit", scene.cameras[scene.split["train"]], 12)
    position, axis = path.pose[:, :, 3], path.pose[:, :, 2]
    assert np.abs(np.cross(position, axis)).max() < 1e-5  # the subject is the origin
    assert (np.linalg.norm(position, axis=1) > 0.5).all()


@pytest.mark.parametrize("exif", [6, 8])
def test_portraits_calibrated_with_their_stored_pixels(tmp_path, capsys, exif):
    """Pixels stay as they are; up and the pictures of paths are those of the upright pictures."""
    scene = scenes.load(str(write(tmp_path, folders.poses() @ TO_STORED[exif], exif=exif)), split="every:8")
    assert "0 are turned upright" in capsys.readouterr().err
    assert scene.cameras.size.tolist() == [[WIDTH, HEIGHT]] * N
    np.testing.assert_array_equal(scene.pictures[2], folders.pictures()[2])
    np.testing.assert_allclose(scene.to_capture[:3, :3] / scene.to_capture[2, 2], np.eye(3), atol=1e-6)
    cameras = scene.cameras[scene.split["train"]]
    for name in trajectories.PATHS:
        path = trajectories.make(name, cameras, 8)
        np.testing.assert_allclose(path.pose[:, 2, 0], 0, atol=0.2 if name == "spiral" else 1e-5)  # level
        assert (path.pose[:, 2, 1] < 0).all() and path.size.tolist() == [[HEIGHT, WIDTH]] * 8


def test_portraits_before_a_wall_know_up_by_exif_alone(tmp_path):
    poses = np.tile(np.eye(4), (N, 1, 1))
    poses[:, :3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    poses[:, :3, 3] = np.random.default_rng(0).random((N, 3)) * [1, 0, 1]
    scene = scenes.load(str(write(tmp_path, poses @ TO_STORED[6], exif=6)), split="every:8")
    up = scene.to_capture[:3, 2] / np.linalg.norm(scene.to_capture[:3, 2])
    np.testing.assert_allclose(up, [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (16, 16)], ids=["oblong", "square"])
@pytest.mark.parametrize("exif", [6, 8])
def test_upright_calibrations_of_turned_pixels(tmp_path, capsys, exif, shape):
    """Loaded upright, squares too: their cameras' right axes are level."""
    rng = np.random.default_rng(0)
    upright = [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for _ in range(N)]
    stored = [image.transpose(TO_PIXELS[exif]) for image in upright]
    mask = np.full(shape, 255, np.uint8)
    mask[:2] = 0
    folder = write(tmp_path, folders.poses(), stored, exif, size=shape[::-1])
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks" / "003.png")
    scene = scenes.load(str(folder), split="every:8")
    assert "9 pictures have an EXIF orientation: 9 are turned upright" in capsys.readouterr().err
    assert scene.cameras.size.tolist() == [list(shape[::-1])] * N
    for i in range(N):
        np.testing.assert_array_equal(scene.pictures[i], np.asarray(upright[i]))
    assert (scene.pictures.mask(3) == (mask > 0)).all()
    np.testing.assert_allclose(in_capture(scene), folders.poses()[:, :3], atol=1e-5)


def test_a_shape_that_exif_does_not_explain(tmp_path):
    folder = write(tmp_path, folders.poses(), exif=6, size=(30, 12))
    load_fails(folder, "000.png is .*, but its camera is for 30 x 12 pixels, another shape .*EXIF")


def wall(n=N):
    """[n, 4, 4] parallel cameras before a wall, in a frame whose z is forward."""
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :2, 3] = np.random.default_rng(0).random((n, 2))
    return poses


def test_the_bounds_of_parallel_cameras_say_where_their_subject_is(tmp_path, capsys):
    folders.save(tmp_path / "images", folders.names(), folders.pictures())
    rows = []
    for pose in wall():
        right, down, forward, position = pose[:3].T
        rows.append([*np.stack([down, right, -forward, position, [HEIGHT, WIDTH, 20.0]], 1).ravel(), 4.0, 12.0])
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    scene = scenes.load(str(tmp_path), split="every:8")
    assert scene.to_capture[2, 3] == pytest.approx(2 / (1 / 3.6 + 1 / 12))
    assert len(capsys.readouterr().err.strip().split("\n")) == 1


def test_colmaps_points_say_where_the_subject_of_parallel_cameras_is(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "poses", wall)
    folder = folders.write_colmap_text(tmp_path)
    model = folder / "sparse" / "0"
    depths = [7.0, 8.0, 9.0, -3.0]
    (model / "points3D.txt").write_text(
        "# Points\n" + "".join(f"{i} 0 0 {z} 1 2 3 0.5 1 2\n" for i, z in enumerate(depths))
    )
    assert scenes.load(str(folder), split="every:8").to_capture[2, 3] == pytest.approx(8)
    record = [struct.pack("<Q3d3BdQ2I", i, 0, 0, z + 1, 1, 2, 3, 0.5, 1, 1, 1) for i, z in enumerate(depths)]
    (model / "points3D.bin").write_bytes(struct.pack("<Q", len(record)) + b"".join(record))
    assert scenes.load(str(folder), split="every:8").to_capture[2, 3] == pytest.approx(9)


def test_parallel_cameras_without_either_are_told(tmp_path, capsys):
    scene = scenes.load(str(write(tmp_path, wall())), split="every:8")
    assert "how far the subject is was guessed" in capsys.readouterr().err
    for name in trajectories.PATHS:
        path = trajectories.make(name, scene.cameras[scene.split["train"]], 6)
        assert np.isfinite(path.pose).all()


def test_all_cameras_at_one_place(tmp_path):
    poses = folders.poses()
    poses[:, :3, 3] = [1, 2, 3]
    load_fails(write(tmp_path, poses), "all 9 cameras are at one place")


def test_a_blender_scene_at_one_place(tmp_path, monkeypatch):
    poses = folders.poses()
    poses[:, :3, 3] = [1, 2, 3]
    monkeypatch.setattr(folders, "poses", lambda n=N: poses[:n])
    load_fails(folders.write_blender(tmp_path), "all 9 cameras are at one place", split="given")


def synthetic(folder, distance, monkeypatch, change=lambda poses: poses):
    """Blender's format, of a ring whose cameras are `distance` from its middle."""
    poses = folders.poses(20)
    middle = np.array([0.3, -0.2, 0.5])
    away = poses[:, :3, 3] - middle
    poses[:, :3, 3] = middle + away / np.linalg.norm(away, axis=1, keepdims=True) * distance
    poses = change(poses)
    monkeypatch.setattr(folders, "poses", lambda n=20: poses[:n])
    return scenes.load(str(folders.write_blender(folder, (16, 1, 3))))


@pytest.mark.parametrize("distance, factor", [(4.0311, 1), (4.05, 1), (8.0622, 2), (0.40311, 0.1), (40.311, 10)])
def test_near_and_far_of_synthetic_scenes_go_with_the_cameras_distance(tmp_path, monkeypatch, distance, factor):
    scene = synthetic(tmp_path, distance, monkeypatch)
    assert (scene.near, scene.far) == pytest.approx((2 * factor, 6 * factor))
    assert factor != 1 or (scene.near, scene.far) == (2.0, 6.0)


def test_near_and_far_are_those_of_nearly_all_cameras(tmp_path, monkeypatch):
    def change(poses):
        middle = np.array([0.3, -0.2, 0.5])
        poses[3, :3, 3] = middle + 10 * (poses[3, :3, 3] - middle)
        poses[5] = poses[5] @ np.diag([-1.0, 1, -1, 1])
        return poses

    scene = synthetic(tmp_path, 8.0622, monkeypatch, change)
    assert (scene.near, scene.far) == pytest.approx((4, 12))


def test_a_synthetic_room_is_told_what_was_taken(tmp_path, monkeypatch, capsys):
    scene = synthetic(tmp_path, 3.0, monkeypatch, lambda poses: poses @ np.diag([-1.0, 1, -1, 1]))
    assert (scene.near, scene.far) == (2.0, 6.0)
    assert "the cameras look at no common point: near 2 and far 6 were taken" in capsys.readouterr().err

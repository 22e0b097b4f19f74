"""Exported cameras are read back by the scene formats as the same cameras, in the capture's frame."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.cameras import alignment
from jaxhw.nerf.cameras.cameras import image_rays, pixel_centres
from jaxhw.nerf.results import pose_files
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.nerf.scenes.formats import colmap, transforms
from tests.nerf import folders

LENSES = {
    "PINHOLE": [0, 0, 0, 0],
    "RADIAL": [0.03, -0.01, 0, 0],
    "OPENCV": [0.03, -0.01, 0.002, -0.001],
    "BROWN": [0.03, -0.01, 0.002, -0.001, 0.004],
    "OPENCV_FISHEYE": [0.03, -0.01, 0.002, -0.001],
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A capture whose frame is not that of training, with pictures of several sizes."""
    matrix = np.eye(4)
    matrix[:3, 3] = [3, -1, 2]
    folder = folders.write_mixed(tmp_path_factory.mktemp("scene"), scale=2)
    scene = scenes.load(str(folder), split="every:4")
    return dataclasses.replace(scene, to_capture=matrix @ scene.to_capture)


@pytest.mark.parametrize("format", [colmap, transforms])
@pytest.mark.parametrize("model", LENSES)
def test_cameras_are_read_back(scene, tmp_path, model, format):
    rng = np.random.default_rng(0)
    cameras = scene.cameras.replace(
        pose=alignment.perturbed(scene.cameras.pose, 3.0, 0.02, 0),
        focal=(scene.cameras.focal * rng.uniform(0.9, 1.1, scene.cameras.focal.shape)).astype(np.float32),
        distortion=np.tile(np.float32(LENSES[model]), (len(scene.cameras), 1)),
        model=model,
    )
    written = pose_files.write(tmp_path, cameras, scene)
    assert all(path.is_file() for path in written) and len(written) == 4
    for name, size in zip(folders.names(), scene.pictures.size, strict=True):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", tuple(size.tolist())).save(tmp_path / "images" / name)
    read = format.read(tmp_path)
    frames = read.frames
    wanted = alignment.moved_poses(cameras.pose, scene.to_capture)
    np.testing.assert_allclose(np.stack([f.pose for f in frames]), wanted, atol=1e-5)
    np.testing.assert_allclose([f.lens.focal for f in frames], cameras.focal, rtol=1e-6)
    np.testing.assert_allclose([f.lens.centre for f in frames], cameras.centre, rtol=1e-6)
    np.testing.assert_array_equal([f.lens.size for f in frames], cameras.size)
    np.testing.assert_allclose([f.lens.distortion for f in frames], cameras.distortion, atol=1e-6)
    assert all(f.lens.model in (model, "OPENCV") for f in frames)
    if format is transforms:
        assert [i for i, f in enumerate(frames) if f.split == "test"] == scene.split["test"].tolist()
        assert (read.to_capture == np.eye(4)).all()


def test_the_folder_is_a_scene_again(scene, tmp_path):
    """With the poses that it was written with, but for the similarity that brings any capture to training's frame."""
    pose_files.write(tmp_path, scene.cameras, scene)
    for name, size in zip(folders.names(), scene.pictures.size, strict=True):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(
            tmp_path / "images" / name
        )
    again = scenes.load(str(tmp_path), split="given")
    there = alignment.moved_poses(again.cameras.pose, again.to_capture)
    np.testing.assert_allclose(there, alignment.moved_poses(scene.cameras.pose, scene.to_capture), atol=1e-5)
    assert {k: v.tolist() for k, v in again.split.items()} == {k: v.tolist() for k, v in scene.split.items()}


# A process of its own, as COLMAP has for captures: of each image, the pixels that show points on given rays.
PROJECT = """
import json, sys
import numpy as np
import pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
found = {}
for image in model.images.values():
    world = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
    points = np.array(json.load(open(sys.argv[2]))[image.name])
    local = points @ world.rotation.matrix().T + world.translation
    found[image.name] = [model.cameras[image.camera_id].img_from_cam(p).tolist() for p in local]
print(json.dumps(found))
"""


@pytest.mark.parametrize("model", LENSES)
def test_colmap_reads_the_same_rays(scene, tmp_path, model):
    """Points along our rays fall on their pixels' centres by pycolmap, to 1e-6 of the focal length."""
    cameras = scene.cameras.replace(distortion=np.tile(np.float32(LENSES[model]), (len(scene.cameras), 1)), model=model)
    pose_files.write(tmp_path, cameras, scene)
    points, names = {}, folders.names()
    for i, name in enumerate(names):
        rays = image_rays(cameras[i])
        at = np.asarray(rays.origins, np.float64) + 2 * np.asarray(rays.directions, np.float64)
        points[name] = (at @ scene.to_capture[:3, :3].T + scene.to_capture[:3, 3]).tolist()
    (tmp_path / "points.json").write_text(json.dumps(points))
    command = [sys.executable, "-c", PROJECT, str(tmp_path / pose_files.MODEL), str(tmp_path / "points.json")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for i, name in enumerate(names):
        off = np.array(found[name]) - pixel_centres(cameras[i].width, cameras[i].height)
        assert np.abs(off / cameras.focal[i]).max() < 1e-6


def test_our_own_loader_reads_the_same_rays(scene, tmp_path):
    pose_files.write(tmp_path, scene.cameras, scene)
    folders.save(tmp_path / "images", folders.names(), folders.mixed_pictures(scale=2))
    again = scenes.load(str(tmp_path), split="given")
    for i in range(len(scene.cameras)):
        before, after = image_rays(scene.cameras[i]), image_rays(again.cameras[i])
        for ours, theirs in (
            (directions(before, scene), directions(after, again)),
            (origins(before, scene), origins(after, again)),
        ):
            np.testing.assert_allclose(ours, theirs, atol=2e-6)


def directions(rays, scene):
    """In the capture's frame."""
    return np.asarray(rays.directions) @ (scene.to_capture[:3, :3] / alignment.scale_of(scene.to_capture)).T


def origins(rays, scene):
    """In the capture's frame, in units of the cameras' extent."""
    at = np.asarray(rays.origins) @ scene.to_capture[:3, :3].T + scene.to_capture[:3, 3]
    return at / (alignment.scale_of(scene.to_capture) * alignment.extent(scene.cameras.pose[:, :, 3]))

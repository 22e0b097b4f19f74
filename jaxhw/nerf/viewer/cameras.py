"""The browser's camera and ours: both have OpenCV's axes, and viser's rotations are quaternions (w, x, y, z)."""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.results.camera_path import pinhole_cameras
from jaxhw.nerf.results.trajectories import UP

UPRIGHT = 0.05  # cosine between the vertical and a picture's own up, from which on a browser turns about the vertical


def from_browser(camera: Any, height: int) -> Cameras:
    """What a browser (viser's `client.camera`) shows, as one pinhole of so many rows and the window's shape."""
    pose = np.concatenate([to_matrix(camera.wxyz), np.asarray(camera.position)[:, None]], 1)
    aspect = camera.image_width / max(camera.image_height, 1)
    focal = height / 2 / np.tan(camera.fov / 2)
    size = np.array([max(1, round(height * aspect)), height])
    return pinhole_cameras(pose[None], np.full((1, 2), focal), size)[0]


def put_browser(client: Any, camera: Cameras) -> None:
    """Moves a browser to where one of our cameras is; its window keeps its shape, and shows the picture's height.

    What a moving browser says of itself comes in between two settings, and late. So all that is set is of our camera
    (viser's own `wxyz` turns it where the browser said last that it is); of the browser's, the distance at which it
    turns is kept.
    """
    pose = np.asarray(camera.pose, np.float64)
    right, down, ahead = pose[:, :3].T
    distance = np.linalg.norm(client.camera.look_at - client.camera.position)
    # The browser turns about an axis as near to the vertical as the picture's roll allows.
    up = UP - (UP @ right) * right
    with client.atomic():
        client.camera.position = pose[:, 3]
        client.camera.look_at = pose[:, 3] + distance * ahead
        client.camera.up_direction = up if up @ -down > UPRIGHT else -down
        client.camera.fov = vertical_fov(camera)


def vertical_fov(camera: Cameras) -> float:
    """The angle in radians that a camera's picture spans from top to bottom, without its distortion."""
    return float(2 * np.arctan(camera.height / 2 / camera.focal[1]))


def to_wxyz(rotation: np.ndarray) -> np.ndarray:
    """[4] of a rotation [3, 3]."""
    return Rotation.from_matrix(rotation).as_quat(scalar_first=True)


def to_matrix(wxyz: np.ndarray) -> np.ndarray:
    """[3, 3] of a quaternion [4]."""
    return Rotation.from_quat(np.asarray(wxyz, float), scalar_first=True).as_matrix()

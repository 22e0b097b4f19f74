"""Camera paths that are written are read as they were."""

import json

import numpy as np

from jaxhw.nerf.results import camera_path, trajectories
from tests.nerf.fields.dvgo.made import ring


def test_a_path_comes_back_through_the_captures_frame(tmp_path):
    cameras = trajectories.make("orbit", ring(n=8).resized((24, 24)), 5)
    to_capture = np.eye(4)
    to_capture[:3] = [[0, -3, 0, 1], [3, 0, 0, 2], [0, 0, 3, 4]]  # turned, three times as large, moved
    camera_path.write(tmp_path / "path.json", cameras, to_capture, fps=24)
    again = camera_path.read(tmp_path / "path.json", to_capture)
    for name in ("pose", "focal", "centre", "size"):
        np.testing.assert_allclose(getattr(again, name), getattr(cameras, name), atol=1e-5)


def test_the_file_is_as_nerfstudio_writes_it(tmp_path):
    cameras = trajectories.make("orbit", ring(n=8).resized((32, 24)), 5)
    camera_path.write(tmp_path / "path.json", cameras, np.eye(4), fps=10)
    content = json.loads((tmp_path / "path.json").read_text())
    assert content["camera_type"] == "perspective" and content["seconds"] == 0.5
    assert (content["render_width"], content["render_height"]) == (32, 24)
    stop = content["camera_path"][0]
    assert len(stop["camera_to_world"]) == 16 and stop["aspect"] == 32 / 24
    # OpenGL's axes: the camera looks along -z, and its y is up.
    matrix = np.reshape(stop["camera_to_world"], (4, 4))
    np.testing.assert_allclose(matrix[:3, 2], -cameras.pose[0, :, 2], atol=1e-6)
    assert matrix[2, 1] > 0

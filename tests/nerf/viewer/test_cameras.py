"""Where a browser is led to: its picture lies as the camera's, however that was held."""

import contextlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxhw.nerf.viewer.cameras import put_browser
from tests.nerf.fields.dvgo.made import ring
from tests.nerf.viewer.fakes import namespace


@pytest.mark.parametrize("roll", [0, 20, 80, 100, 180, -90])
def test_a_camera_is_met_with_its_roll(roll):
    camera = ring(n=3)[1]
    turned = camera.pose[:, :3] @ Rotation.from_euler("z", roll, degrees=True).as_matrix()
    camera = camera.replace(pose=np.concatenate([turned, camera.pose[:, 3:]], 1))
    browser = namespace(position=np.zeros(3), look_at=np.array([0.0, 3.0, 4.0]))
    put_browser(namespace(camera=browser, atomic=contextlib.nullcontext), camera)
    right, down, ahead = turned.T
    np.testing.assert_allclose(browser.position, camera.pose[:, 3])
    np.testing.assert_allclose(browser.look_at - browser.position, 5 * ahead, atol=1e-5)
    # Rows are level: nothing of the axis that the page takes for up points along them.
    up = browser.up_direction
    assert abs(up @ right) < 1e-6 and up @ down < 0

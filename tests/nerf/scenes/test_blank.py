"""Scenes that show nothing."""

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.scenes import scene


@pytest.mark.parametrize(("spec", "distance"), [("blank:9:16", 4.0), ("blank:9:16:unbounded", 1.0)])
def test_cameras_stand_around_the_origin_and_look_at_it(spec, distance):
    made = scene.load(spec)
    assert len(made.split["train"]) == len(made.names) == 9 and made.unbounded == spec.endswith("unbounded")
    assert made.pictures.size.tolist() == [[16, 16]] * 9
    rotation, centre = made.cameras.pose[:, :, :3], made.cameras.pose[:, :, 3]
    np.testing.assert_allclose(np.linalg.norm(centre, axis=1), distance, rtol=1e-5)
    np.testing.assert_allclose(rotation[:, :, 2], -centre / distance, atol=1e-5)
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (9, 3, 3)), atol=1e-5)
    assert (centre[:, 2] > 0).all() and made.near < distance < made.far


@pytest.mark.parametrize("spec", ["blank:9", "blank:0:16", "blank:9:16:indoors"])
def test_what_is_no_such_scene_is_one_line(spec):
    with pytest.raises(UserError, match="must be blank:IMAGES:SIZE"):
        scene.load(spec)

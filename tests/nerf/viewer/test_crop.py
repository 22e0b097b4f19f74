"""Cropping against a field whose picture is known: a wall in front of another."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.viewer.crop import EVERYWHERE, cropped, crossing

WALLS = (2.0, 5.0)  # at x, red and green


class Walls:
    """Rays along x end at the first wall that is farther than `rendered_near`."""

    rendered_near = 0.5

    def render(self, variables, rays, background):
        ahead = jnp.stack([wall - rays.origins[:, 0] for wall in WALLS], -1)
        ahead = jnp.where(ahead > self.rendered_near, ahead, jnp.inf)
        depth, which = ahead.min(-1), ahead.argmin(-1)
        hit = jnp.isfinite(depth)
        colour = jnp.where(hit[:, None], jnp.eye(3)[which], background)
        return Rendered(colour, jnp.where(hit, depth, 0), hit.astype(jnp.float32))


def see(box, origin=(0.0, 0.0, 0.0), direction=(1.0, 0.0, 0.0)):
    rays = Rays(jnp.array([origin]), jnp.array([direction]), jnp.zeros(1, jnp.int32))
    found = cropped(Walls())(({}, jnp.float32(box)), rays, jnp.full(3, 0.5))
    return np.asarray(found.colour[0]).tolist(), float(found.depth[0]), float(found.opacity[0])


RED, GREEN, NOTHING = ([1, 0, 0], 2.0, 1.0), ([0, 1, 0], 5.0, 1.0), ([0.5, 0.5, 0.5], 0.0, 0.0)


def box(low, high):
    return [[low, -1, -1], [high, 1, 1]]


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        (EVERYWHERE, RED),
        (box(1, 3), RED),
        (box(3, 6), GREEN),  # what is before the box does not hide what is in it
        (box(3, 4), NOTHING),  # what is beyond it is not there
        (box(-6, -3), NOTHING),  # behind the camera
        (box(-1, 3), RED),  # the camera is inside
        ([[1, 2, 2], [3, 3, 3]], NOTHING),  # a ray that misses it
    ],
)
def test_only_the_box_is_seen(corners, expected):
    colour, depth, opacity = see(corners)
    assert colour == expected[0] and (depth, opacity) == pytest.approx(expected[1:])


def test_crossing_is_where_a_slanted_ray_meets_the_box():
    rays = Rays(jnp.array([[0.0, 0.0, 0.0]]), jnp.array([[0.6, 0.8, 0.0]]), jnp.zeros(1, jnp.int32))
    entry, leaving = crossing(jnp.array([[0.6, -9.0, -9.0], [9.0, 2.4, 9.0]]), rays)
    assert float(entry[0]) == pytest.approx(1.0) and float(leaving[0]) == pytest.approx(3.0)

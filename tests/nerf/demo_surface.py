"""The demo's solids by closed form, written apart from the ray tracer that draws them; a run that has learnt them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import image_rays
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes import demo
from jaxhw.nerf.scenes.pictures import Pictures
from jaxhw.nerf.scenes.scene import Scene

# The solids of jaxhw.nerf.scenes.demo: centre, turn about z, and the distance to its surface, negative inside.
SOLIDS = (
    ((0.0, 0.0, -0.5), 0.0, lambda p: cylinder(p, 1.25, 0.06)),
    ((-0.45, 0.3, -0.02), 0.0, lambda p: jnp.linalg.norm(p, axis=-1) - 0.42),
    ((0.5, 0.35, -0.09), 0.5, lambda p: box(jnp.abs(p) - jnp.array([0.33, 0.33, 0.35]))),
    ((0.1, -0.6, 0.03), 0.0, lambda p: cylinder(p, 0.2, 0.47)),
)
WIDTH, THICK = 0.01, 400.0  # of the zone in which density rises, and density inside


def distance(points):
    """[k] signed distance of points [k, 3] to the surface of the union, positive outside (where it is exact)."""
    points = jnp.asarray(points, jnp.float32)
    return jnp.min(jnp.stack([signed(_in_frame(points, centre, turn)) for centre, turn, signed in SOLIDS]), 0)


def normal(points):
    """[k, 3] the direction in which the distance grows fastest."""
    return np.asarray(jax.grad(lambda points: distance(points).sum())(jnp.asarray(points, jnp.float32)))


def colour(points):
    """[k, 3] a colour for each place."""
    return 0.5 + 0.3 * jnp.sin(2 * jnp.asarray(points))


def depth(origins, directions):
    """[r] where rays [r, 3] meet the surface, by sphere tracing; more than 10 where they don't."""
    step = lambda _, t: jnp.minimum(t + distance(origins + directions * t[:, None]), 20.0)
    return jax.lax.fori_loop(0, 80, step, jnp.full(len(directions), 2.0))


def _in_frame(points, centre, turn):
    c, s = np.cos(turn), np.sin(turn)
    return (points - jnp.array(centre)) @ jnp.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], jnp.float32)


def cylinder(p, radius, half):
    return box(jnp.stack([jnp.sqrt(p[..., 0] ** 2 + p[..., 1] ** 2 + 1e-12) - radius, jnp.abs(p[..., 2]) - half], -1))


def box(beyond):
    """From how far points are beyond each of a convex solid's faces, [k, faces]."""
    outside = jnp.sqrt((jnp.maximum(beyond, 0) ** 2).sum(-1) + 1e-12)
    return outside + jnp.minimum(beyond.max(-1), 0)


class Solid:
    """A field that is the solids."""

    def radiance(self, variables, points, directions):
        return THICK * jax.nn.sigmoid(-distance(points) / WIDTH), colour(points)

    def density(self, variables, points):
        return self.radiance(variables, points, points)[0]


class Traced:
    """A renderer of the solids."""

    def __init__(self, devices):
        self.mesh = meshes.make_mesh(devices)
        self.trace = jax.jit(depth)

    def __call__(self, variables, camera):
        rays, shape = image_rays(camera), (camera.height, camera.width)
        t = self.trace(rays.origins, rays.directions)
        hit = np.asarray(t < 10)
        seen = np.where(hit[:, None], colour(rays.origins + rays.directions * t[:, None]), 1)
        return Rendered(seen.reshape(*shape, 3), np.asarray(t).reshape(shape), hit.reshape(shape) * 1.0)


def run(size=32, to_capture=None, devices=1):
    """A run that has learnt the solids exactly, of pictures of size x size pixels."""
    cameras = demo.make_cameras(size)
    n = demo.VIEWS["train"]
    scene = Scene(
        cameras=cameras,
        pictures=Pictures.without_pixels(cameras.size),
        names=[f"view/{i}.jpg" for i in range(len(cameras))],
        split={"train": np.arange(n), "val": np.arange(0), "test": np.arange(n, len(cameras))},
        near=demo.NEAR,
        far=demo.FAR,
        bounds=demo.BOUNDS,
        unbounded=False,
        to_capture=np.eye(4) if to_capture is None else to_capture,
    )
    return Run(None, scene, Solid(), {}, Traced(devices), cameras)

"""A procedural scene that needs no file: a few textured solids on a plate, ray-traced by closed form.

The solids are convex, so a ray is inside each along one interval: the intersection of its intervals inside slabs and
round columns. Light comes from one direction, with shadows and a highlight, so that colours depend on the direction of
view. Points and directions are [3, r] here (r rays), which a CPU runs three times as fast as [r, 3].

Short names: o and d are the rays' origins and directions in a solid's frame, p points on its surface in that frame, t
distances along rays.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras, pixel_centres, rays_through
from jaxhw.nerf.cameras.circling import circling, hemisphere
from jaxhw.nerf.scenes.pictures import Pictures

SIZE = 256  # pixels a side
NEAR, FAR = 2.0, 6.0
BOUNDS = np.array([[-1.3, -1.3, -0.6], [1.3, 1.3, 0.9]], np.float32)
DISTANCE, ANGLE = 4.0, 0.691  # of the cameras from the origin, and their field of view in radians: Blender's
VIEWS = {"train": 60, "val": 4, "test": 12}
SAMPLES = 3  # rays a pixel and axis
LIGHT = np.array([0.48, -0.36, 0.8], np.float32)  # unit vector towards it
CREAM, INK, RED, TEAL, OCHRE, BLUE = np.array(
    [
        [0.93, 0.89, 0.8],
        [0.16, 0.17, 0.22],
        [0.82, 0.23, 0.17],
        [0.1, 0.55, 0.53],
        [0.93, 0.66, 0.16],
        [0.2, 0.34, 0.7],
    ],
    np.float32,
)


class Interval(NamedTuple):
    """Where rays are inside a solid: enter < leave if they are at all, and the normals [3, r] where they enter."""

    enter: jax.Array
    leave: jax.Array
    normal: jax.Array


Inside = Callable[[jax.Array, jax.Array], Interval]  # (o [3, r], d [3, r]) -> where rays are inside a solid
Colour = Callable[[jax.Array], jax.Array]  # p [3, r] -> colours [3, r]


class Solid(NamedTuple):
    """A solid around `centre`, turned by `turn` radians about z; both functions work in the solid's frame."""

    centre: tuple[float, float, float]
    turn: float
    inside: Inside
    colour: Colour


def render_pictures(size: int) -> tuple[Cameras, Pictures, list[str]]:
    """The scene's cameras, its pictures of size x size pixels with alpha, and to which split each belongs."""
    cameras = make_cameras(size)
    # The rays of each pixel are those of SAMPLES x SAMPLES smaller ones.
    samples = cameras.resized((SAMPLES * size, SAMPLES * size))
    render = jax.jit(lambda cameras: jax.lax.map(functools.partial(render_picture, size=size), cameras))
    splits = [name for name, count in VIEWS.items() for _ in range(count)]
    return cameras, Pictures.from_arrays(np.asarray(render(samples))), splits


def make_cameras(size: int) -> Cameras:
    """Training cameras spread over the upper hemisphere, then validation and test cameras on a ring between them."""
    # The ring is evenly around at 30 degrees, every fourth for validation.
    j = np.arange(VIEWS["val"] + VIEWS["test"])
    ring = np.stack([2 * np.pi * j / len(j), np.full(len(j), np.pi / 6)], 1)
    every = len(j) // VIEWS["val"]
    ring = np.concatenate([ring[j % every == 0], ring[j % every != 0]])
    return circling(np.concatenate([hemisphere(VIEWS["train"]), ring]), DISTANCE, size, ANGLE)


def render_picture(samples: Cameras, size: int) -> jax.Array:
    """uint8 [size, size, 4] from one camera of SAMPLES x size pixels a side; colours not multiplied by alpha."""
    origins, directions = rays_through(samples, pixel_centres(SAMPLES * size, SAMPLES * size))
    colour, hit = trace(origins, directions)
    # Averaged multiplied by alpha, so that samples beside a solid add nothing to its edge's colour; then divided again.
    multiplied = jnp.concatenate([colour * hit[:, None], hit[:, None]], -1)
    mean = multiplied.reshape(size, SAMPLES, size, SAMPLES, 4).mean((1, 3))
    alpha = mean[..., 3:]
    straight = jnp.concatenate([mean[..., :3] / jnp.maximum(alpha, 1e-6), alpha], -1)
    return jnp.round(255 * straight).astype(jnp.uint8)


def trace(origins: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Renders rays [r, 3]: (colours [r, 3] in [0, 1], whether they hit anything [r])."""
    origins, directions = origins.T, directions.T

    # The first surface that each ray meets.
    t, normal, colour = _nearest(origins, directions)
    hit = jnp.isfinite(t)
    point = origins + directions * jnp.where(hit, t, 0)

    # Shadow rays towards the light, from a little above the surface lest they meet it again.
    light = jnp.broadcast_to(jnp.array(LIGHT)[:, None], point.shape)
    lit = jnp.isinf(_nearest(point + 1e-4 * normal, light)[0])

    # Phong's model: ambient light, diffuse light by the angle to the normal, a highlight about the mirror's direction.
    facing = jnp.maximum(dot(normal, light), 0)
    mirrored = 2 * facing * normal - light
    gloss = jnp.maximum(-dot(directions, mirrored), 0) ** 24
    shaded = colour * (0.42 + 0.58 * facing * lit) + 0.3 * gloss * lit * (facing > 0)
    return jnp.clip(shaded, 0, 1).T, hit


def _nearest(origins: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(distances [r], infinite where nothing is hit, normals [3, r], colours [3, r]) of the first surface."""
    best = jnp.full(origins.shape[1], jnp.inf), jnp.zeros_like(origins), jnp.zeros_like(origins)
    for solid in SOLIDS:
        o = _turned(origins - jnp.array(solid.centre)[:, None], -solid.turn)
        d = _turned(directions, -solid.turn)
        enter, leave, normal = solid.inside(o, d)
        t = jnp.where((enter < leave) & (enter > 0), enter, jnp.inf)
        colour = solid.colour(o + d * jnp.where(jnp.isfinite(t), t, 0))
        found = t, _turned(normal, solid.turn), colour
        closer = t < best[0]
        best = tuple(jnp.where(closer, new, old) for new, old in zip(found, best, strict=True))
    return best


def _turned(p: jax.Array, angle: float) -> jax.Array:
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return jnp.stack([c * p[0] - s * p[1], s * p[0] + c * p[1], p[2]])


def slab(o: jax.Array, d: jax.Array, axis: int, half: float) -> Interval:
    """|x_axis| < half."""
    step = jnp.where(jnp.abs(d[axis]) < 1e-9, 1e-9, d[axis])
    a, b = (-half - o[axis]) / step, (half - o[axis]) / step
    return Interval(jnp.minimum(a, b), jnp.maximum(a, b), -jnp.sign(step) * jnp.eye(3)[axis][:, None])


def ball(o: jax.Array, d: jax.Array, radius: float, axes: int) -> Interval:
    """Within `radius` of the origin along the first `axes` axes: a sphere for 3, a round column along z for 2."""
    a = jnp.maximum(dot(d, d, axes), 1e-12)
    b = dot(o, d, axes) / a
    root = b * b - (dot(o, o, axes) - radius**2) / a
    half = jnp.sqrt(jnp.maximum(root, 0))
    enter = jnp.where(root > 0, -b - half, jnp.inf)
    leave = jnp.where(root > 0, -b + half, -jnp.inf)
    at = (o + d * (-b - half)) / radius
    return Interval(enter, leave, at if axes == 3 else at.at[2].set(0))


def dot(a: jax.Array, b: jax.Array, axes: int = 3) -> jax.Array:
    return sum(a[i] * b[i] for i in range(axes))  # on a CPU ten times as fast as a reduction over the first axis


def intersection(first: Interval, second: Interval) -> Interval:
    """The interval inside two solids."""
    normal = jnp.where(first.enter > second.enter, first.normal, second.normal)
    return Interval(jnp.maximum(first.enter, second.enter), jnp.minimum(first.leave, second.leave), normal)


def box(*half: float) -> Inside:
    return lambda o, d: functools.reduce(intersection, [slab(o, d, axis, h) for axis, h in enumerate(half)])


def cylinder(radius: float, half: float) -> Inside:
    return lambda o, d: intersection(ball(o, d, radius, 2), slab(o, d, 2, half))


def sphere(radius: float) -> Inside:
    return lambda o, d: ball(o, d, radius, 3)


def pattern(which: Callable[[jax.Array], jax.Array], one: np.ndarray, other: np.ndarray) -> Colour:
    """Two colours, by the sign of a function of the point."""
    return lambda p: jnp.where(which(p) > 0, jnp.array(one)[:, None], jnp.array(other)[:, None])


def rings(p: jax.Array) -> jax.Array:
    return jnp.sin(17 * jnp.hypot(p[0], p[1]))


def segments(p: jax.Array) -> jax.Array:
    return jnp.sin(6 * jnp.arctan2(p[1], p[0])) * jnp.sin(15 * p[2])


def spiral(p: jax.Array) -> jax.Array:
    return jnp.sin(2 * jnp.arctan2(p[1], p[0]) + 14 * p[2])


def checks(p: jax.Array) -> jax.Array:
    return jnp.prod(jnp.sin(p * np.pi / 0.22 + 0.7), 0)


SOLIDS = (
    Solid((0.0, 0.0, -0.5), 0.0, cylinder(1.25, 0.06), pattern(rings, CREAM, TEAL)),
    Solid((-0.45, 0.3, -0.02), 0.0, sphere(0.42), pattern(segments, RED, CREAM)),
    Solid((0.5, 0.35, -0.09), 0.5, box(0.33, 0.33, 0.35), pattern(checks, OCHRE, BLUE)),
    Solid((0.1, -0.6, 0.03), 0.0, cylinder(0.2, 0.47), pattern(spiral, INK, OCHRE)),
)

"""The frame in which nerfacto learns: a box around a bounded scene, or all of space contracted around the cameras."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.cameras.normalise import centre_of
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.fields.near import near as near_of
from jaxhw.nerf.fields.nerfacto.options import Options
from jaxhw.nerf.networks.contraction import contract


class Place(flax.struct.PyTreeNode):
    """A cube of the world: centre [3] and half edge []. It is part of the state: it stays when pictures are added."""

    centre: jax.Array
    half_edge: jax.Array


def place(options: Options, setting: Setting) -> Place:
    """Where the unit cube of a scene lies.

    Of an unbounded one it holds the cameras, around their mean as in nerfstudio ("poses", scaled by the largest
    coordinate) or around what they look at. Of a bounded one it holds the content.
    """
    poses = np.asarray(setting.cameras.pose, np.float64)
    if setting.bounds is not None:
        centre, half_edge = setting.bounds.mean(0), np.ptp(setting.bounds, axis=0).max() / 2
    elif not setting.unbounded:
        centre, half_edge = centre_of(poses)[0], options.box * setting.distance
    else:
        centre = poses[:, :, 3].mean(0) if options.centre == "cameras" else np.zeros(3)
        half_edge = options.extent * np.abs(poses[:, :, 3] - centre).max()
    return Place(np.asarray(centre, np.float32), np.float32(half_edge))


class Region(NamedTuple):
    """What of a scene is learnt, in the frame of its cube, in which the half edge is 1.

    Attributes:
      near, far: distances between which rays are sampled.
      rendered_near: where rays begin that are only rendered.
      unbounded: whether all of space is contracted into twice the cube; else there is nothing outside of it.
      clips: whether rays are sampled inside the cube only.
    """

    near: float
    far: float
    rendered_near: float
    unbounded: bool
    clips: bool

    def limits(self, rays: Rays, rendered: bool) -> tuple[jax.Array, jax.Array]:
        """Distances [r, 1] between which rays are sampled. No gradient flows through them."""
        near = jnp.full((len(rays), 1), self.rendered_near if rendered else self.near)
        far = jnp.full((len(rays), 1), self.far)
        if not self.clips:
            return near, far
        origins, directions = jax.lax.stop_gradient((rays.origins, rays.directions))
        safe = jnp.where(jnp.abs(directions) < 1e-9, 1e-9, directions)
        a, b = (-1 - origins) / safe, (1 - origins) / safe
        near = jnp.maximum(near, jnp.minimum(a, b).max(-1, keepdims=True))
        return near, jnp.maximum(jnp.minimum(far, jnp.maximum(a, b).min(-1, keepdims=True)), near + 1e-3)

    def to_unit(self, points: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Points [..., 3] in [0, 1]^3, and whether they are inside [...]; those outside are 0."""
        unit = (contract(points, 1.0) + 2) / 4 if self.unbounded else (points + 1) / 2
        inside = ((unit > 0) & (unit < 1)).all(-1)
        return jnp.where(inside[..., None], unit, 0), inside


def region_of(options: Options, setting: Setting) -> tuple[Region, tuple[str, ...]]:
    """(what is learnt, lines for the user).

    Raises:
      UserError: rays would end before they begin.
    """
    unit, notes = float(place(options, setting).half_edge), ()
    far = setting.far / unit if setting.near_from == "format" else options.far
    if setting.near_from == "format" or not options.near:
        near, notes = near_of(setting)
        near = rendered_near = near / unit
    else:
        near, rendered_near = options.near, 0.0 if options.reset_near else options.near
    if near >= far:
        raise UserError(f"config.model.near={near:g} must be less than config.model.far={far:g}")
    clips = options.clip_to_box and not setting.unbounded
    return Region(near, far, rendered_near, setting.unbounded, clips), notes


def to_place(place: Place, rays: Rays) -> Rays:
    """Rays in the frame of a cube, in which its half edge is 1."""
    return rays.replace(origins=(rays.origins - place.centre) / place.half_edge)

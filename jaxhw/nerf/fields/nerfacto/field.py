"""nerfacto (Tancik et al., SIGGRAPH 2023): nerfstudio's own radiance field for captures.

A multiresolution hash grid and shallow networks give density and colour; proposal networks, learnt beside them, find
where along a ray that is worth computing (mip-NeRF 360). All of space is contracted into a cube. With the defaults of
`options.py` it is nerfstudio's torch implementation, number by number. What makes it fast without CUDA is in the
options too: a "column" layout of the hash grid, one dense "grid" as the proposal, few samples, and colours only where
there is weight.
"""

import dataclasses
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import NO_CAMERA, Rays
from jaxhw.nerf.fields.field import Field, Setting, Target
from jaxhw.nerf.fields.nerfacto import loss, normals, shade, space
from jaxhw.nerf.fields.nerfacto.march import march
from jaxhw.nerf.fields.nerfacto.networks import Networks
from jaxhw.nerf.fields.nerfacto.options import Options, check
from jaxhw.nerf.fields.nerfacto.space import Place
from jaxhw.nerf.rendering import volume
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any

MOST_LEFT_OUT = 0.1  # share of rays without a place in a step above which a run is told


class State(flax.struct.PyTreeNode):
    """What a step changes beside the parameters.

    Attributes:
      place: the cube that the scene is learnt in.
      since: [] int32, steps since the proposals last learnt.
      anneal: [] the exponent of the proposals' weights, as in the last step.
      shares: [levels] of the hash grid in use, as in the last step.
      left_out: [] running mean of the share of rays that find no place in the bucket of colours.
    """

    place: Place
    since: jax.Array
    anneal: jax.Array
    shares: jax.Array
    left_out: jax.Array


@dataclasses.dataclass(frozen=True)
class Nerfacto(Field):
    """The field.

    Attributes:
      networks: what is learnt, with the options.
      setting: the scene.
      notes: lines on what was taken from the scene.
    """

    networks: Networks
    setting: Setting
    notes: tuple[str, ...] = ()

    Options = Options
    metric_names = ("loss", "psnr", "interlevel", "distortion", "overflow", "shaded")
    chunk = 16384
    moves_samples = True

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        check(options)
        region, notes = space.region_of(options, setting)
        return cls(Networks(options, region), setting, notes)

    @property
    def options(self) -> Options:
        return self.networks.options

    @property
    def per_picture(self) -> tuple[str, ...]:
        return ("appearance",) if self.options.appearance else ()

    def start(self, rng: jax.Array) -> Variables:
        state = State(
            place=space.place(self.options, self.setting),
            since=np.int32(0),
            anneal=np.float32(0),
            shares=np.ones(self.options.hash.levels, np.float32),
            left_out=np.float32(0),
        )
        params = self.networks.start(rng, len(self.setting.cameras))
        if self.options.normals:
            params["normals"] = normals.start(jax.random.fold_in(rng, 1), self.options.geometry)
        return Variables(params, state)

    def from_saved(self, saved: Variables) -> Variables:
        """See `Field.from_saved`.

        Raises:
          UserError: the checkpoint has embeddings of other pictures than the scene's.
        """
        found, pictures = len(saved.params.get("appearance", ())), len(self.setting.cameras)
        if self.options.appearance and found != pictures:
            raise UserError(
                f"the checkpoint has the appearance of {found} pictures, and the scene {pictures} to train on: put its "
                "pictures back, or go on in a new workdir with config.init_from"
            )
        state = dict(saved.model_state)
        return Variables(saved.params, State(**state | {"place": Place(**state["place"])}))

    def loss(
        self, params: PyTree, state: State, rays: Rays, target: Target, context: Context
    ) -> tuple[jax.Array, tuple[State, dict[str, jax.Array]]]:
        return loss.loss(self.networks, self.setting.steps, Variables(params, state), rays, target, context)

    @property
    def rendered_near(self) -> float:
        return self.networks.region.rendered_near * float(space.place(self.options, self.setting).half_edge)

    def render(self, variables: Variables, rays: Rays, background: jax.Array) -> Rendered:
        o, networks, state = self.options, self.networks, variables.model_state
        # Samples where the proposals say, in the frame of the scene's cube.
        rays = space.to_place(state.place, rays)
        limits = networks.region.limits(rays, rendered=True)
        _, samples = march(networks, variables.params, rays, limits, state.anneal, None)
        # Composite them.
        composited = shade.composite(networks, variables.params, rays, samples, state.shares)
        colours = (shade.colour_heavy if o.shaded else shade.colour_all)(networks, variables.params, rays, composited)
        behind = colours.last if o.background == "last_sample" else background
        find = volume.median_depth if o.depth == "median" else volume.expected_depth
        depth = find(composited.weights, samples.middles) * state.place.half_edge
        return Rendered(colours.colour + composited.transmittance[:, None] * behind, depth, composited.weights.sum(-1))

    def radiance(self, variables: Variables, points: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        networks, params, state = self.networks, variables.params, variables.model_state
        unit, inside = networks.region.to_unit((points - state.place.centre) / state.place.half_edge)
        shares = state.shares if self.options.coarse_to_fine else None
        density, geometry = networks.density(params, unit, shares)
        by_ray = networks.by_ray(params, directions, jnp.full(len(points), NO_CAMERA, jnp.int32))
        return density * inside / state.place.half_edge, networks.colours(params, geometry, by_ray)

    def warning(self, state: State) -> str:
        if state.left_out <= MOST_LEFT_OUT:
            return ""
        return (
            f"{state.left_out:.0%} of the rays have no place in a step and are left out: raise "
            f"config.model.shaded={self.options.shaded:g}"
        )

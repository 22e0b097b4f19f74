"""A voxel grid of DVGO: what is learnt in it, what is known of free space, and its values at samples.

Names: v rows of the tables (voxels that are not known to be free), k samples, x, y, z vertices along the axes. The
"shift" is the bias of the post-activation, tau = interval * softplus(raw + shift), which is DVGO's
alpha = 1 - (1 + exp(raw + shift))^-interval: raw values are interpolated first and activated then.
"""

import dataclasses
import math
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.fields.dvgo import automatic
from jaxhw.nerf.fields.dvgo.options import Options, StageOptions
from jaxhw.nerf.fields.dvgo.space import Box, Contracted, Space
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.networks.encodings import positional_encoding
from jaxhw.nerf.networks.mlp import ColourMLP
from jaxhw.nerf.networks.tables import interpolate
from jaxhw.state import Variables

PyTree = Any

FREQUENCIES = 4  # of the directions' encoding


class CoarseParams(flax.struct.PyTreeNode):
    """Raw density [v, 1] and raw colours [v, 3]."""

    density: jax.Array
    features: jax.Array


class FineParams(flax.struct.PyTreeNode):
    """Raw density [v, 1], features [v, channels], and the network that makes colours of them."""

    density: jax.Array
    features: jax.Array
    colour: PyTree


class FineState(flax.struct.PyTreeNode):
    """What belongs to a grid beside what is learnt.

    Attributes:
      box: [2, 3] its corners in the world.
      mask: [x, y, z] bool, the vertices near which samples count: what is not known to be free space.
      cells: [x / 4, y / 4, z / 4] bool, where blocks of samples may hold one that counts.
      rows: [x, y, z] int32, which vertex has which row of the tables; -1 for none.
      shift: [] of the density's activation.
      left_out: [4] running means of the shares of rays that a step leaves out, by what is too small for them: the
        stage's `blocks`, `samples` and `shaded`, and `longest`.
      unmet: [] running mean of the share of rays that show something and meet nothing that can be learnt.
      following: [v, 3] int32, the next row along each axis, for the total variation; None where that is not used.
    """

    box: jax.Array
    mask: jax.Array
    cells: jax.Array
    rows: jax.Array
    shift: jax.Array
    left_out: jax.Array
    unmet: jax.Array
    following: jax.Array | None


class CoarseState(FineState):
    """A coarse grid's state.

    Attributes:
      learning_rate: [v, 1] per-voxel learning rate of the density, relative to that of the voxel that most cameras see.
    """

    learning_rate: jax.Array


Params = CoarseParams | FineParams
State = CoarseState | FineState


def from_saved(saved: Variables) -> Variables:
    """Typed variables out of a checkpoint's nested dicts, also of versions before these types."""
    params, state = dict(saved.params), dict(saved.model_state)
    state.setdefault("following", None)
    state.setdefault("left_out", np.zeros(4, np.float32))
    state.setdefault("unmet", np.float32(0))
    if "rate" in state:
        state["learning_rate"] = state["rate"]
    cls = FineState if "colour" in params else CoarseState
    if cls is CoarseState and "learning_rate" not in state:  # unbounded scenes had none
        density = params["density"]
        state["learning_rate"] = jax.tree.map(jnp.ones_like, density)
    fields = {field.name: state[field.name] for field in dataclasses.fields(cls)}
    return Variables(FineParams(**params) if "colour" in params else CoarseParams(**params), cls(**fields))


@dataclasses.dataclass(frozen=True)
class Grid:
    """One stage's grid with its values, as marching, losses, rendering and growth use it.

    Attributes:
      options: of its stage, with the sizes of all buckets.
      network: makes colours of features; None in the coarse stage, whose features are colours.
    """

    options: StageOptions
    space: Space
    params: Params
    state: State
    network: ColourMLP | None

    @classmethod
    def of(cls, options: Options, variables: Variables) -> Self:
        """The grid of a field's variables; `options.shell` is 0 for bounded scenes."""
        params, state = variables.params, variables.model_state
        fine = isinstance(params, FineParams)
        stage = options.fine if fine else options.coarse
        network = colour_network(options) if fine else None
        space = place(options.shell, stage.stride, state.box, state.mask.shape)
        live = len(params.density) / math.prod(space.shape) if fine else None
        stage = automatic.with_buckets(stage, space.count, live)
        return cls(stage, space, params, state, network)

    @property
    def interval(self) -> float:
        """Length of a voxel, in voxels of the stage's final grid."""
        return (self.options.voxels / np.prod(self.state.mask.shape)) ** (1 / 3)

    @property
    def raw_density(self) -> jax.Array:
        """[v, 1]. In the coarse stage q = density / rate is what the optimiser steps.

        Adam's steps do not depend on the gradient's scale, so a voxel's density then moves by rate * lr: the per-voxel
        learning rate of DVGO (section 4.2) without an optimiser of its own.
        """
        if isinstance(self.state, CoarseState):
            return self.params.density * self.state.learning_rate
        return self.params.density

    def thickness(self, coordinates: jax.Array) -> jax.Array:
        """Optical thickness [k] of samples a stride long at [k, 3]; meaningless where there are no voxels."""
        raw = self._interpolate(self.raw_density, coordinates)[:, 0]
        return self.options.stride * self.interval * jax.nn.softplus(raw + self.state.shift)

    def of_directions(self, directions: jax.Array) -> jax.Array | None:
        """What `colours` needs of directions [r, 3]: [r, first width]; nothing in the coarse stage."""
        if self.network is None:
            return None
        encoded = positional_encoding(directions, FREQUENCIES)
        return self.network.apply({"params": self.params.colour}, encoded, method="of_rays")

    def colours(self, coordinates: jax.Array, directions: jax.Array | None, ray: jax.Array) -> jax.Array:
        """Colours [k, 3] of samples at [k, 3] on rays `ray` [k]; `directions` is what `of_directions` made."""
        features = self._interpolate(self.params.features, coordinates)
        if self.network is None:
            return jax.nn.sigmoid(features)
        return self.network.apply({"params": self.params.colour}, features, directions[ray])

    def radiance(self, points: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Densities [k] per unit length and colours [k, 3] at points [k, 3] of the world; see `Field.radiance`."""
        coordinates = self.space.locate(points)
        live = self.space.holds(points) & voxel_grid.nearest(self.state.mask, coordinates)
        density = self.thickness(coordinates) * self.space.strides(points)
        colours = self.colours(coordinates, self.of_directions(directions), jnp.arange(len(points)))
        return jnp.where(live, density, 0), colours

    def _interpolate(self, table: jax.Array, coordinates: jax.Array) -> jax.Array:
        index, fraction = voxel_grid.corners(coordinates, self.state.rows.shape)
        rows = self.state.rows.ravel().at[index].get(mode="promise_in_bounds")
        return interpolate(table, jnp.clip(rows, 0, len(table) - 2), fraction)

    def opacity(self) -> jax.Array:
        """Opacity of a voxel's length at each vertex, [x, y, z]; 0 where there are no voxels."""
        density, rows = jnp.asarray(self.raw_density[:, 0]), jnp.asarray(self.state.rows)
        return self.activate(voxel_grid.scatter_rows(density, rows, -jnp.inf), self.interval)

    def activate(self, raw: jax.Array, interval: float) -> jax.Array:
        """Opacity of raw densities over a length of `interval`."""
        return -jnp.expm1(-interval * jax.nn.softplus(raw + self.state.shift))


def colour_network(options: Options) -> ColourMLP:
    return ColourMLP(options.channels, 3 * (1 + 2 * FREQUENCIES), options.widths)


def place(shell: float, stride: float, box: jax.Array, shape: tuple[int, int, int]) -> Space:
    """A grid of a shape in a box, or in all of space around it where there is a shell."""
    return Contracted(box, shape, stride, shell) if shell else Box(box, shape, stride)

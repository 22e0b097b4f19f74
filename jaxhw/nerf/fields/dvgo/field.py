"""Direct voxel grid optimisation (Sun, Sun and Chen, CVPR 2022; DVGO v2: arXiv 2206.05085): a radiance field in grids.

A coarse grid with plain colours finds where something is; a fine one in its box, with features and a shallow network
for the colour, starts small and grows. `stages.py` has these transitions, this file what happens between them.

Density is post-activated: the grid's raw values are interpolated, then tau = interval * softplus(raw + shift), which
is DVGO's alpha = 1 - (1 + exp(raw + shift))^-interval. Where free space is known, no voxel is stored and no sample
looked at, and samples of small opacity or weight have no colour computed: all of it in buckets of static size
(`march.py`).

Unbounded scenes are those of DVGO v2, contracted into a cube, but with a coarse stage, as bounded ones. v2 learns what
is free while it learns the rest, in 40,000 steps of samples everywhere; buckets for those would cost as much all
through the run. Nor is there v2's schedule for the threshold on opacity (5e-6 at first, 1e-4 from step 6,500): it keeps
the samples of an empty grid above the threshold while it grows, and here the fine grid starts with what was found.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxhw.nerf.fields.dvgo import render as dvgo_render
from jaxhw.nerf.fields.dvgo import stages
from jaxhw.nerf.fields.dvgo.march import Samples, march
from jaxhw.nerf.fields.dvgo.space import Box, Contracted, Rays, Space
from jaxhw.nerf.networks import voxel_grid as grids
from jaxhw.nerf.networks.mlp import ColourMLP
from jaxhw.nerf.rendering import losses, volume
from jaxhw.nerf.sampling import strata as sampling

PyTree = Any

OVERFLOW_DECAY = 0.99  # of the running share of rays that are left out


@dataclasses.dataclass(frozen=True)
class Phase:
    """What differs between the coarse and the fine grid.

    Attributes:
      voxels: of the grid (at its final size).
      stride: voxels between samples.
      alpha: opacity of a voxel-long sample at the start.
      threshold: samples of a smaller opacity, and then of a smaller weight, are dropped.
      entropy, per_point: weights of the two losses.
      blocks, samples, shaded: sizes of the buckets as averages per ray: blocks of 8 samples near something, samples in
        what is not known to be free, samples that get a colour.
    """

    voxels: int
    stride: float
    alpha: float
    threshold: float
    entropy: float
    per_point: float
    blocks: float
    samples: float
    shaded: float


@dataclasses.dataclass(frozen=True)
class DVGO:
    """The field; see `jaxhw.nerf.fields.registry` for what a field promises.

    Attributes:
      start: params and state before the first step, which `stages.with_start` makes; None where only `render` is
        needed.
      coarse_steps: length of the coarse stage; 0: none, which only unbounded scenes can do without.
      grow_at: fine steps at which the number of voxels doubles; decay: what the density's shift then loses.
      tighten_every: steps between updates of the known free space.
      channels: of the features.
      widths: of the colour network's hidden layers.
      longest: samples that a ray keeps for compositing.
      total_variation: weights for density and features, in the first half of the run as in DVGO v2 (20,000 of 40,000
        steps); distortion: that of `losses.distortion`.
      inherit: whether the fine grid starts with the coarse one's density (DVGO: only with its free space and its box).
      min_opacity: of voxels that count as occupied by the coarse grid.
      shell: thickness of what is outside in an unbounded scene, in radii of what is inside; 0: bounded.
    """

    coarse: Phase
    fine: Phase
    start: tuple[PyTree, PyTree] | None
    near: float
    far: float
    steps: int
    coarse_steps: int
    grow_at: tuple[int, ...]
    tighten_every: int
    channels: int = 12
    widths: tuple[int, ...] = (128, 128)
    longest: int = 128
    decay: float = 1.0
    total_variation: tuple[float, float] = (0.0, 0.0)
    distortion: float = 0.0
    inherit: bool = False
    min_opacity: float = 1e-3
    shell: float = 0.0
    seed: int = 0

    metric_names = ("loss", "psnr", "overflow", "samples", "shaded")
    chunk = 65536

    @property
    def stages(self) -> tuple[int, ...]:
        return tuple(step for step, _ in stages.plan(self))

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        return jax.tree.map(jnp.asarray, self.start)

    def grow(self, params: PyTree, state: PyTree, stage: int) -> tuple[PyTree, PyTree]:
        return stages.grow(self, params, state, stages.plan(self)[stage - 1][1])

    def phase(self, params: PyTree) -> Phase:
        return self.fine if "colour" in params else self.coarse

    def space(self, params: PyTree, state: PyTree) -> Space:
        shape, stride = state["mask"].shape, self.phase(params).stride
        return Contracted(state["box"], shape, stride, self.shell) if self.shell else Box(state["box"], shape, stride)

    def interval(self, params: PyTree, state: PyTree) -> float:
        """Length of a voxel, in voxels of the phase's final grid."""
        return (self.phase(params).voxels / np.prod(state["mask"].shape)) ** (1 / 3)

    def loss(
        self,
        params: PyTree,
        state: PyTree,
        rays: tuple[jax.Array, jax.Array],
        colours: jax.Array,
        background: jax.Array,
        rng: jax.Array,
        mesh: Mesh,
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """Each device marches its own rays into its own buckets; sums over rays are added up.

        Args:
          rays: origins and unit directions, [r, 3] each.
          colours: [r, 3] of the pixels, background: [r, 3] behind the scene.
        """
        offset = jax.random.uniform(rng, (len(colours),))

        def local(params, state, *rows):
            params, state = jax.tree.map(lambda x: jax.lax.pcast(x, "data", to="varying"), (params, state))
            return jax.tree.map(lambda x: jax.lax.psum(x, "data"), self._sums(params, state, *rows))

        all_rows, rows = PartitionSpec(), PartitionSpec("data")
        sums = jax.shard_map(local, mesh=mesh, in_specs=(all_rows, all_rows, *[rows] * 5), out_specs=all_rows)(
            params, state, *rays, colours, background, offset
        )
        phase = self.phase(params)
        n = jnp.maximum(sums["counted"], 1)
        mse = sums["error"] / (3 * n)
        loss = mse + (phase.entropy * sums["entropy"] + phase.per_point * sums["per_point"]) / n
        loss += self.distortion * sums["distortion"] / n
        if any(self.total_variation):
            early = state["step"] < self.steps // 2
            none = lambda *_: jnp.zeros(())
            loss += jax.lax.cond(early, self._total_variation, none, params, state) / len(colours)
        shares = {name: sums[name] / len(colours) for name in ("overflow", "samples", "shaded")}
        overflow = OVERFLOW_DECAY * state["overflow"] + (1 - OVERFLOW_DECAY) * shares["overflow"]
        new = {**state, "step": state["step"] + 1, "overflow": overflow}
        return loss, (new, {"loss": loss, "psnr": losses.psnr(mse), **shares})

    def _sums(self, params, state, origins, directions, colours, background, offset) -> dict[str, jax.Array]:
        """Sums over the rays that fit, those without a live sample left out in the fine stage, as DVGO samples them."""
        phase, space, r = self.phase(params), self.space(params, state), len(origins)
        rays = Rays.through(space, origins, directions, self.near, self.far, offset)
        sizes = math.ceil(phase.blocks * r), math.ceil(phase.samples * r)
        samples = march(space, state["mask"], state["cells"], rays, *sizes)
        live = samples.ray < r
        own = rays[jnp.minimum(samples.ray, r - 1)]
        length = space.lengths(own.origins, own.directions, own.start, samples.number)
        tau = jnp.where(live, self.thickness(params, state, samples.coordinates) * length, 0)
        tau = jnp.where(tau > phase.threshold, tau, 0)  # as good as the opacity where it matters
        slots = jnp.zeros((r, self.longest)).at[samples.ray, samples.slot].set(tau, mode="drop")
        weights, behind = volume.weights_from_thickness(slots)
        weight = weights.at[samples.ray, samples.slot].get(mode="fill", fill_value=0)
        chosen, over = sampling.select(weight > phase.threshold, math.ceil(phase.shaded * r))
        seen = chosen < live.size
        chosen = jnp.minimum(chosen, live.size - 1)
        ray = jnp.where(seen, samples.ray[chosen], r)
        weight = jnp.where(seen, weight[chosen], 0)
        own_ray = jnp.minimum(ray, r - 1)
        rgb = self.colours(params, state, samples.coordinates[chosen], self.views(params, directions), own_ray)
        total = jax.ops.segment_sum(weight[:, None] * rgb, ray, r, indices_are_sorted=True)
        total += behind[:, None] * background

        complete = jnp.minimum(samples.complete, jnp.where(over > 0, ray[-1], r))
        fits = jnp.arange(r) < complete
        hit = jnp.zeros(r, bool).at[samples.ray].set(True, mode="drop")
        counted = fits if phase is self.coarse else fits & hit
        share = counted.at[ray].get(mode="fill", fill_value=False)
        of_points = losses.per_point_colour(weight, rgb, colours[own_ray])
        return {
            "counted": counted.sum(),
            "error": (counted * ((total - colours) ** 2).sum(-1)).sum(),
            "entropy": (counted * losses.background_entropy(behind)).sum(),
            "per_point": (share * of_points).sum(),
            "distortion": (counted * self._spread(samples, weights, space)).sum() if self.distortion else jnp.zeros(()),
            "overflow": r - complete + (live & (samples.slot >= self.longest)).sum() / self.longest,
            "samples": live.sum(),
            "shaded": seen.sum(),
        }

    def density(self, params: PyTree, state: PyTree) -> jax.Array:
        """Raw density [v, 1]; see `stages._coarse` for the rate."""
        return params["density"] * state["rate"] if "rate" in state else params["density"]

    def thickness(self, params: PyTree, state: PyTree, coordinates: jax.Array) -> jax.Array:
        """Optical thickness [k] of samples of the phase's stride at [k, 3]; nonsense where there are no voxels."""
        raw = self._interpolate(self.density(params, state), state, coordinates)[:, 0]
        return self.phase(params).stride * self.interval(params, state) * jax.nn.softplus(raw + state["shift"])

    def views(self, params: PyTree, directions: jax.Array) -> jax.Array | None:
        """What `colours` needs of directions [r, 3]: [r, first width], nothing in the coarse stage."""
        if "colour" not in params:
            return None
        return self.network.apply({"params": params["colour"]}, directions, method="by_ray")

    def colours(
        self, params: PyTree, state: PyTree, coordinates: jax.Array, views: jax.Array | None, ray: jax.Array
    ) -> jax.Array:
        """Colours [k, 3] of samples at [k, 3] on rays `ray` [k] of those that `views` were made of."""
        features = self._interpolate(params["features"], state, coordinates)
        if views is None:
            return jax.nn.sigmoid(features)
        return self.network.apply({"params": params["colour"]}, features, views, ray)

    @property
    def network(self) -> ColourMLP:
        return ColourMLP(self.channels, self.widths)

    def _interpolate(self, table: jax.Array, state, coordinates: jax.Array) -> jax.Array:
        index, weights = grids.corners(coordinates, state["rows"].shape)
        rows = state["rows"].ravel().at[index].get(mode="promise_in_bounds")
        return grids.interpolate(table, jnp.clip(rows, 0, len(table) - 2), weights)

    def _spread(self, samples: Samples, weights: jax.Array, space: Space) -> jax.Array:
        """The distortion loss of rays, [r], with distances in radii of the box normalised as t / (1 + t)."""
        t = samples.distance / space.radius
        middles = jnp.zeros_like(weights).at[samples.ray, samples.slot].set(t / (1 + t), mode="drop")
        return losses.distortion(weights, middles, jnp.full_like(weights, 1 / space.count))

    def _total_variation(self, params: PyTree, state: PyTree) -> jax.Array:
        tables = zip(self.total_variation, (self.density(params, state), params["features"]), strict=True)
        total = sum(weight * losses.total_variation(table, state["following"]) for weight, table in tables if weight)
        return max(state["mask"].shape) / 128 * total

    def render(
        self, params: PyTree, state: PyTree, origins: jax.Array, directions: jax.Array, background: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(colours [r, 3], expected depths [r], opacities [r]) of rays [r, 3]; see `dvgo_render.render`."""
        return dvgo_render.render(self, params, state, origins, directions, background)

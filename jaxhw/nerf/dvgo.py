"""Direct voxel grid optimisation (Sun, Sun and Chen, CVPR 2022; DVGO v2: arXiv 2206.05085): a radiance field in grids.

A coarse grid with plain colours finds where something is; a fine one in its box, with features and a shallow network
for the colour, starts small and grows. `stages.py` has these transitions, this file what happens between them.

Density is post-activated: the grid's raw values are interpolated, then tau = interval * softplus(raw + shift), which
is DVGO's alpha = 1 - (1 + exp(raw + shift))^-interval. Where free space is known, no voxel is stored and no sample
looked at, and samples of small opacity or weight have no colour computed: all of it in buckets of static size
(`march.py`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxhw.nerf import grids, losses, sampling, stages, volume
from jaxhw.nerf.march import Samples, live_blocks, march
from jaxhw.nerf.mlp import ColourMLP
from jaxhw.nerf.space import BLOCK, Box, Contracted, Rays, Space

PyTree = Any


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
    """The field; see `jaxhw.nerf.fields` for what a field promises.

    Attributes:
      start: params and state before the first step, which `stages.with_start` makes; None where only `render` is
        needed.
      coarse_steps: length of the coarse stage; 0: none (unbounded scenes).
      grow_at: fine steps at which the number of voxels doubles.
      tighten_every: steps between updates of the known free space.
      channels: of the features.
      widths: of the colour network's hidden layers.
      longest: samples that a ray keeps for compositing.
      total_variation: weights for density and features; distortion: that of `losses.distortion`.
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
    total_variation: tuple[float, float] = (0.0, 0.0)
    distortion: float = 0.0
    inherit: bool = False
    min_opacity: float = 1e-3
    shell: float = 0.0
    seed: int = 0

    metric_names = ("loss", "psnr", "overflow", "samples", "shaded")

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
        for name, weight in zip(("density", "features"), self.total_variation, strict=True):
            if weight:
                scale = weight * max(state["mask"].shape) / 128 / len(colours)
                loss += scale * losses.total_variation(params[name], state["following"])
        numbers = {
            "loss": loss,
            "psnr": losses.psnr(mse),
            "overflow": sums["overflow"] / len(colours),
            "samples": sums["samples"] / len(colours),
            "shaded": sums["shaded"] / len(colours),
        }
        return loss, ({**state, "step": state["step"] + 1}, numbers)

    def _sums(self, params, state, origins, directions, colours, background, offset) -> dict[str, jax.Array]:
        """Sums over the rays that fit, those without a live sample left out in the fine stage, as DVGO samples them."""
        phase, space, r = self.phase(params), self.space(params, state), len(origins)
        rays = Rays.through(space, origins, directions, self.near, self.far, offset)
        sizes = round(phase.blocks * r), round(phase.samples * r)
        samples = march(space, state["mask"], state["cells"], rays, *sizes)
        live = samples.ray < r
        own = rays[jnp.minimum(samples.ray, r - 1)]
        length = space.lengths(own.origins, own.directions, own.start, samples.number)
        tau = jnp.where(live, self._thickness(params, state, samples.coordinates) * length, 0)
        tau = jnp.where(tau > phase.threshold, tau, 0)  # as good as the opacity where it matters
        slots = jnp.zeros((r, self.longest)).at[samples.ray, samples.slot].set(tau, mode="drop")
        weights, behind = volume.weights_from_thickness(slots)
        weight = weights.at[samples.ray, samples.slot].get(mode="fill", fill_value=0)
        chosen, over = sampling.select(weight > phase.threshold, round(phase.shaded * r))
        seen = chosen < live.size
        chosen = jnp.minimum(chosen, live.size - 1)
        ray = jnp.where(seen, samples.ray[chosen], r)
        weight = jnp.where(seen, weight[chosen], 0)
        rgb = self._colours(params, state, samples.coordinates[chosen], directions, jnp.minimum(ray, r - 1))
        total = jax.ops.segment_sum(weight[:, None] * rgb, ray, r, indices_are_sorted=True)
        total += behind[:, None] * background

        complete = jnp.minimum(samples.complete, jnp.where(over > 0, ray[-1], r))
        fits = jnp.arange(r) < complete
        hit = jnp.zeros(r, bool).at[samples.ray].set(True, mode="drop")
        counted = fits if phase is self.coarse else fits & hit
        share = counted.at[ray].get(mode="fill", fill_value=False)
        of_points = losses.per_point_colour(weight, rgb, colours[jnp.minimum(ray, r - 1)])
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

    def _thickness(self, params, state, coordinates: jax.Array) -> jax.Array:
        """Optical thickness [k] of samples of the phase's stride at [k, 3]; nonsense where there are no voxels."""
        density = params["density"] * state["rate"] if "rate" in state else params["density"]
        raw = self._interpolate(density, state, coordinates)[:, 0]
        return self.phase(params).stride * self.interval(params, state) * jax.nn.softplus(raw + state["shift"])

    def _colours(self, params, state, coordinates: jax.Array, directions: jax.Array, ray: jax.Array) -> jax.Array:
        """Colours [k, 3] of samples at [k, 3] on rays `ray` [k] with `directions` [r, 3]."""
        features = self._interpolate(params["features"], state, coordinates)
        if "colour" not in params:
            return jax.nn.sigmoid(features)
        return ColourMLP(self.widths).apply({"params": params["colour"]}, features, directions, ray)

    def _interpolate(self, table: jax.Array, state, coordinates: jax.Array) -> jax.Array:
        index, weights = grids.corners(coordinates, state["rows"].shape)
        rows = state["rows"].ravel().at[index].get(mode="promise_in_bounds")
        return grids.interpolate(table, jnp.clip(rows, 0, len(table) - 2), weights)

    def _spread(self, samples: Samples, weights: jax.Array, space: Space) -> jax.Array:
        """The distortion loss of rays, [r], with distances normalised as t / (1 + t)."""
        normalised = samples.distance / (1 + samples.distance)
        middles = jnp.zeros_like(weights).at[samples.ray, samples.slot].set(normalised, mode="drop")
        return losses.distortion(weights, middles, jnp.full_like(weights, 1 / space.count))

    def render(
        self, params: PyTree, state: PyTree, origins: jax.Array, directions: jax.Array, background: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(colours [r, 3], expected depths [r], opacities [r]) of rays [r, 3]; every sample counts, however many.

        Each round takes the next block of up to a quarter of the rays, of those that have one and let light through.
        """
        phase, space, r = self.phase(params), self.space(params, state), len(origins)
        rays = Rays.through(space, origins, directions, self.near, self.far, jnp.full(r, 0.5))
        live = live_blocks(space, state["cells"], rays)
        count = live.shape[1]
        following = jax.lax.cummin(jnp.where(live, jnp.arange(count), count), axis=1, reverse=True)
        following = jnp.pad(following, ((0, 0), (0, 1)), constant_values=count)
        queue = max(1, r // 4)

        def wants(carry):
            through, _, _, cursor = carry
            return (through > phase.threshold) & (following[jnp.arange(r), cursor] < count)

        def advance(carry):
            through, colour, distance, cursor = carry
            index, _ = sampling.select(wants(carry), queue)
            there, own = index < r, jnp.minimum(index, r - 1)
            block = following[own, cursor[own]]
            tau, t, coordinates = self._block(params, state, space, rays[own], block)
            weights, behind = volume.weights_from_thickness(jnp.where(there[:, None], tau, 0))
            weights *= through[own][:, None]

            def shade(chosen, colour):
                point = jnp.minimum(chosen, weights.size - 1)
                rgb = self._colours(params, state, coordinates[point], directions[own], point // BLOCK)
                weight = jnp.where(chosen < weights.size, weights.ravel()[point], 0)
                return colour.at[own[point // BLOCK]].add(weight[:, None] * rgb)

            colour = sampling.work_off(weights.ravel() > phase.threshold, max(1, weights.size // 4), shade, colour)
            return (
                through.at[index].multiply(behind, mode="drop"),
                colour,
                distance.at[index].add((weights * t).sum(-1), mode="drop"),
                cursor.at[index].set(block + 1, mode="drop"),
            )

        first = jnp.ones(r), jnp.zeros((r, 3)), jnp.zeros(r), jnp.zeros(r, jnp.int32)
        through, colour, distance, _ = jax.lax.while_loop(lambda carry: wants(carry).any(), advance, first)
        opacity = 1 - through
        return colour + through[:, None] * background, volume.depth_from_sums(distance, opacity), opacity

    def _block(self, params, state, space: Space, rays: Rays, block: jax.Array):
        """Thickness and distance [q, 8] and coordinates [q * 8, 3] of block [q] of each of q rays."""
        k = block[:, None] * float(BLOCK) + jnp.arange(BLOCK)
        t, coordinates, inside = rays.at(space, k)
        inside &= grids.lookup(state["mask"], coordinates)
        spread = lambda a: jnp.repeat(a, BLOCK, 0)
        length = space.lengths(
            spread(rays.origins), spread(rays.directions), spread(rays.start), (k + rays.offset[:, None]).ravel()
        )
        coordinates = coordinates.reshape(-1, 3)
        tau = (self._thickness(params, state, coordinates) * length).reshape(k.shape)
        return jnp.where(inside & (tau > self.phase(params).threshold), tau, 0), t, coordinates

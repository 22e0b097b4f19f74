"""DVGO's training loss: each device marches its own rays into its own buckets; sums over rays are added up.

Names: r rays, s slots of a ray (its live samples, front to back), k places in the bucket of samples, j places in the
bucket of samples that get a colour.
"""

import math
from typing import Any

import flax
import jax
import jax.numpy as jnp

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo.grid import Grid
from jaxhw.nerf.fields.dvgo.march import Samples, march
from jaxhw.nerf.fields.dvgo.options import Options
from jaxhw.nerf.fields.dvgo.space import Segments, Space
from jaxhw.nerf.fields.field import Setting, Target
from jaxhw.nerf.rendering import losses, volume
from jaxhw.nerf.sampling import buckets
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any

DECAY = 0.99  # of the running shares of rays that are left out or meet nothing
SHOWS = 0.1  # a pixel shows something that differs from its background by more than this in any channel


def loss(
    options: Options, setting: Setting, variables: Variables, rays: Rays, target: Target, context: Context
) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
    """See `Field.loss`. The mean is over the rays that count; see `ray_sums`."""
    count = len(rays)
    offset = jax.random.uniform(context.rng, (count,))
    local = lambda variables, *rows: ray_sums(options, setting, variables, *rows)
    sums = meshes.summed(local, context.mesh, variables, rays, target, offset)
    n = jnp.maximum(sums["counted"], 1)
    # What every stage has: the error of the pixels, and the two losses of DVGO's section 5.2.
    grid = Grid.of(options, variables)
    mse = sums["error"] / (3 * n)
    total = mse + (grid.options.entropy * sums["entropy"] + grid.options.per_point * sums["per_point"]) / n
    # What real captures take from DVGO v2; the total variation in the first half of the run only, as there.
    total += options.distortion * sums["distortion"] / n
    if any(options.total_variation):
        early = context.step < setting.steps // 2
        penalty = lambda variables: _total_variation(options, variables)
        total += jax.lax.cond(early, penalty, lambda _: jnp.zeros(()), variables) / count
    # How full the buckets were, and what was left out.
    shares = {name: sums[name] / count for name in ("overflow", "samples", "shaded")}
    running = lambda old, new: DECAY * old + (1 - DECAY) * new / count
    state = grid.state.replace(
        left_out=running(grid.state.left_out, sums["left_out"]), unmet=running(grid.state.unmet, sums["unmet"])
    )
    return total, (state, {"loss": total, "psnr": losses.psnr(mse), **shares})


def ray_sums(
    options: Options, setting: Setting, variables: Variables, rays: Rays, target: Target, offset: jax.Array
) -> dict[str, jax.Array]:
    """Sums over the rays that count: those that find a place and, in the fine stage, meet a live sample, as in DVGO.

    Args:
      offset: [r] in [0, 1), where in its stride every sample of a ray lies.

    Returns:
      [] each: "counted" rays; of them the squared "error", and the losses "entropy", "per_point" and "distortion";
      "overflow", the rays left out; "samples" and "shaded", the places filled in the buckets; "unmet", the rays that
      show something and meet no live sample. [4]: "left_out", see `FineState`.
    """
    grid, r = Grid.of(options, variables), len(rays)
    segments = Segments.through(grid.space, rays, setting.near, setting.far, offset)
    # March: only samples that may meet something go on, and of them only those that are thick enough to see.
    sizes = math.ceil(grid.options.blocks * r), math.ceil(grid.options.samples * r)
    samples = march(grid.space, grid.state.mask, grid.state.cells, segments, *sizes)
    live = samples.ray < r
    tau = _thickness(grid, segments, samples, live)
    # Composite: rays as rows, their samples front to back, give each sample's weight.
    slots = jnp.zeros((r, options.longest)).at[samples.ray, samples.slot].set(tau, mode="drop")
    weights, transmittance = volume.weights_from_thickness(slots)
    weight = weights.at[samples.ray, samples.slot].get(mode="fill", fill_value=0)
    # Shade: colours are dear, so only samples that weigh something get one.
    shaded = _shade(grid, rays, samples, weight)
    colour = jax.ops.segment_sum(shaded.weight[:, None] * shaded.colour, shaded.ray, r, indices_are_sorted=True)
    colour += transmittance[:, None] * target.background
    # Count: a ray that a full bucket has cut is left out.
    fitting = jnp.append(samples.fitting, jnp.where(shaded.overflow > 0, shaded.ray[-1], r))
    counted = jnp.arange(r) < fitting.min()
    met = jnp.zeros(r, bool).at[samples.ray].set(True, mode="drop")
    shows = jnp.abs(target.colour - target.background).max(-1) > SHOWS
    unmet = counted & shows & ~met
    if grid.network is not None:
        counted &= met
    too_long = (live & (samples.slot >= options.longest)).sum() / options.longest
    left_out = jnp.append((r - fitting).astype(jnp.float32), too_long)
    share = counted.at[shaded.ray].get(mode="fill", fill_value=False)
    wanted = target.colour[jnp.minimum(shaded.ray, r - 1)]
    spread = _distortion(samples, weights, grid.space) if options.distortion else jnp.zeros(r)
    return {
        "counted": counted.sum(),
        "error": (counted * ((colour - target.colour) ** 2).sum(-1)).sum(),
        "entropy": (counted * losses.background_entropy(transmittance)).sum(),
        "per_point": (share * losses.per_point_colour(shaded.weight, shaded.colour, wanted)).sum(),
        "distortion": (counted * spread).sum(),
        "overflow": r - fitting.min() + too_long,
        "left_out": left_out,
        "unmet": unmet.sum(),
        "samples": live.sum(),
        "shaded": shaded.filled.sum(),
    }


def _thickness(grid: Grid, segments: Segments, samples: Samples, live: jax.Array) -> jax.Array:
    """Optical thickness [k] of samples, 0 where they are none or below the threshold on opacity.

    The threshold is compared with tau, which is as good as the opacity where it matters.
    """
    own = segments[jnp.minimum(samples.ray, len(segments) - 1)]
    length = own.lengths(grid.space, samples.number)
    tau = jnp.where(live, grid.thickness(samples.coordinates) * length, 0)
    return jnp.where(tau > grid.options.threshold, tau, 0)


@flax.struct.dataclass
class _Shaded:
    """The samples that get a colour: colour [j, 3], weight [j] (0 where the bucket is not filled), ray [j] (r there),
    filled [j] bool, and how many found no place, [].
    """

    colour: jax.Array
    weight: jax.Array
    ray: jax.Array
    filled: jax.Array
    overflow: jax.Array


def _shade(grid: Grid, rays: Rays, samples: Samples, weight: jax.Array) -> _Shaded:
    """Colours of the samples whose weight [k] is above the threshold."""
    r, k = len(rays), len(weight)
    chosen, overflow = buckets.select(weight > grid.options.threshold, math.ceil(grid.options.shaded * r))
    filled = chosen < k
    chosen = jnp.minimum(chosen, k - 1)
    ray = jnp.where(filled, samples.ray[chosen], r)
    weight = jnp.where(filled, weight[chosen], 0)
    directions = grid.of_directions(rays.directions)
    colour = grid.colours(samples.coordinates[chosen], directions, jnp.minimum(ray, r - 1))
    return _Shaded(colour, weight, ray, filled, overflow)


def _distortion(samples: Samples, weights: jax.Array, space: Space) -> jax.Array:
    """The distortion loss of rays, [r], with distances in radii of the box normalised as t / (1 + t)."""
    t = samples.distance / space.radius
    middles = jnp.zeros_like(weights).at[samples.ray, samples.slot].set(t / (1 + t), mode="drop")
    return losses.distortion_loss(weights, middles, jnp.full_like(weights, 1 / space.count))


def _total_variation(options: Options, variables: Variables) -> jax.Array:
    """[] the total variation loss of density and features, by their weights."""
    grid = Grid.of(options, variables)
    tables = zip(options.total_variation, (grid.raw_density, grid.params.features), strict=True)
    total = sum(weight * losses.total_variation(table, grid.state.following) for weight, table in tables if weight)
    return max(grid.state.mask.shape) / 128 * total

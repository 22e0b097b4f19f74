"""nerfacto's training loss: colours, proposals and distortion; each device has its own rays, and sums are added up."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.field import Target
from jaxhw.nerf.fields.nerfacto import normals, shade, space
from jaxhw.nerf.fields.nerfacto.march import Samples, march, proposed_weights
from jaxhw.nerf.fields.nerfacto.networks import Networks
from jaxhw.nerf.fields.nerfacto.options import in_steps
from jaxhw.nerf.rendering import losses
from jaxhw.nerf.sampling import proposal
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any

DECAY = 0.99  # of the running share of rays that are left out


def loss(
    networks: Networks, steps: float, variables: Variables, rays: Rays, target: Target, context: Context
) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
    """See `Field.loss`; `steps` is the length of the run."""
    o, r = networks.options, len(rays)
    # What this step is like: how sharp proposals are, which levels are in use, and whether proposals learn.
    state = variables.model_state.replace(
        anneal=proposal.anneal(context.step, in_steps(o.proposal.anneal, steps)),
        shares=level_shares(context.step, in_steps(o.coarse_to_fine, steps), o.hash.levels),
    )
    state = jax.tree.map(lambda new, old: new.astype(old.dtype), state, variables.model_state)
    learns = proposal.due(context.step, state.since, o.proposal.every, in_steps(o.proposal.warmup, steps))
    # Sums over all rays.
    jitter = jax.random.uniform(context.rng, (r, len(o.proposal.samples) + 1))
    local = lambda shared, *rows: ray_sums(networks, *shared, *rows)
    sums = meshes.summed(local, context.mesh, (variables.replace(model_state=state), learns), rays, target, jitter)
    # Their means.
    mse = sums["error"] / (3 * jnp.maximum(sums["counted"], 1))
    interlevel, distortion = sums["interlevel"] / r, sums["distortion"] / r
    total = mse + o.interlevel * interlevel + o.distortion * distortion
    if o.normals:
        total += sums["normals"] / r
    overflow = r - sums["counted"]
    state = state.replace(
        since=jnp.where(learns, 0, state.since) + 1,
        left_out=DECAY * state.left_out + (1 - DECAY) * overflow / r,
    )
    numbers = {"loss": total, "psnr": losses.psnr(mse), "interlevel": interlevel, "distortion": distortion}
    return total, (state, numbers | {"overflow": overflow, "shaded": sums["shaded"] / r})


def ray_sums(
    networks: Networks, variables: Variables, learns: jax.Array, rays: Rays, target: Target, jitter: jax.Array
) -> Mapping[str, jax.Array]:
    """Sums over rays, [] each: "counted", the rays that found a place, and of them the squared "error"; of all rays the
    losses "interlevel", "distortion" and, where they are predicted, "normals"; "shaded", the samples that got a colour.
    """
    o, params, state = networks.options, variables.params, variables.model_state
    # Samples, in the frame of the scene's cube.
    rays = space.to_place(state.place, rays)
    limits = networks.region.limits(rays, rendered=False)
    rounds, samples = march(networks, params, rays, limits, state.anneal, jitter)
    # Composite.
    composited = shade.composite(networks, params, rays, samples, state.shares)
    colours = (shade.colour_bucket if o.shaded else shade.colour_all)(networks, params, rays, composited)
    behind = colours.last if o.background == "last_sample" else target.background
    colour = colours.colour + composited.transmittance[:, None] * behind
    # Proposals learn to cover the weights, in some steps only.
    bound = lambda own, origins, directions: _interlevel(
        networks, own, Rays(origins, directions, rays.camera), rounds, samples, composited.weights
    )
    middles = 0.5 * (samples.u[:, 1:] + samples.u[:, :-1])
    sums = {
        "counted": colours.fits.sum().astype(jnp.float32),
        "error": (colours.fits * ((colour - target.colour) ** 2).sum(-1)).sum(),
        "interlevel": sometimes(learns, bound, params["proposals"], rays.origins, rays.directions),
        "distortion": losses.distortion_loss(composited.weights, middles, jnp.diff(samples.u)).sum(),
        "shaded": colours.shaded,
    }
    if o.normals:
        points, _ = samples.unit_points(rays, networks.region)
        geometry = composited.geometry.reshape(len(points), -1)
        sums["normals"] = normals.loss(networks, params, points, geometry, composited.weights, rays.directions)
    return sums


def _interlevel(
    networks: Networks, params: PyTree, rays: Rays, rounds: list[Samples], samples: Samples, weights: jax.Array
) -> jax.Array:
    """[] the sum over rays of all rounds' proposal losses."""
    total = 0.0
    for i, outer in enumerate(rounds):
        proposed = proposed_weights(networks, params, i, rays, outer)
        total += proposal.interlevel_loss(samples.u, weights, outer.u, proposed).sum()
    return total


def sometimes(learns: jax.Array, function: Callable[..., jax.Array], *arguments: PyTree) -> jax.Array:
    """[] function(*arguments), differentiable, where `learns` [] holds; else 0, at no cost.

    The gradient is taken with the value, within the condition: what a backward pass of its own needs would be written
    in every step.

    Args:
      arguments: floats only.
    """
    fixed = jax.lax.stop_gradient(arguments)
    both = jax.value_and_grad(function, argnums=tuple(range(len(fixed))))
    zero = jnp.where(learns, 0.0, 0.0)  # a constant, but one that varies over the devices where the others do
    neither = lambda *fixed: (zero, jax.tree.map(lambda x: jnp.broadcast_to(zero, x.shape), fixed))
    value, gradients = jax.lax.cond(learns, both, neither, *fixed)
    # A plane through the value, with these gradients.
    rise = jax.tree.map(lambda g, x, x0: (g * (x - x0)).sum(), gradients, arguments, fixed)
    return value + sum(jax.tree.leaves(rise))


def level_shares(step: jax.Array, steps: float, levels: int) -> jax.Array:
    """[levels] in [0, 1]: how much of each level is in use, from the two coarsest to all of them after so many steps.

    The window of BARF (Lin et al., ICCV 2021, eq. 14), which keeps fine detail from pulling at cameras that are wrong.
    """
    if not steps:
        return jnp.ones(levels)
    open_ = 2 + (levels - 2) * jnp.clip(step / steps, 0, 1)
    return (1 - jnp.cos(jnp.pi * jnp.clip(open_ - jnp.arange(levels), 0, 1))) / 2

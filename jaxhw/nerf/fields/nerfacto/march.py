"""Samples of nerfacto's rays: rounds of proposals, then the field's own.

Names: r rays, s samples of a ray, u their edges in [0, 1], t their edges as distances. All is in the frame of
`space.Place`, in which the half edge of the scene's cube is 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.nerfacto.networks import Networks, PyTree
from jaxhw.nerf.fields.nerfacto.space import Region
from jaxhw.nerf.rendering import volume
from jaxhw.nerf.sampling import proposal
from jaxhw.nerf.sampling.proposal import Spacing


class Samples(NamedTuple):
    """Intervals of rays: edges u and t, both [r, s + 1]."""

    u: jax.Array
    t: jax.Array

    @property
    def middles(self) -> jax.Array:
        return 0.5 * (self.t[:, 1:] + self.t[:, :-1])

    @property
    def lengths(self) -> jax.Array:
        return jnp.diff(self.t)

    def unit_points(self, rays: Rays, region: Region) -> tuple[jax.Array, jax.Array]:
        """The middles in [0, 1]^3, [r s, 3], and whether they are inside, [r, s]; see `Region.to_unit`."""
        points = rays.origins[:, None] + rays.directions[:, None] * self.middles[..., None]
        unit, inside = region.to_unit(points)
        return unit.reshape(-1, 3), inside


def march(
    networks: Networks,
    params: PyTree,
    rays: Rays,
    limits: tuple[jax.Array, jax.Array],
    anneal: jax.Array,
    jitter: jax.Array | None,
) -> tuple[list[Samples], Samples]:
    """(the samples of each round of proposals, the field's). No gradient flows through where they lie.

    Args:
      params: of all networks.
      limits: distances [r, 1] between which rays are sampled.
      anneal: [] exponent of the weights that are resampled.
      jitter: [r, rounds + 1] in [0, 1), of each round's edges and the field's; None: nothing is random.
    """
    o = networks.options
    own, rays, limits = jax.lax.stop_gradient((params["proposals"], rays, limits))
    spacing, rounds = Spacing(o.spacing, *limits), []
    of_round = lambda i: None if jitter is None else jitter[:, i]
    u = proposal.first(len(rays), o.proposal.samples[0], of_round(0))
    for i, count in enumerate((*o.proposal.samples[1:], o.samples)):
        rounds.append(Samples(u, spacing.distances(u)))
        weights = proposed_weights(networks, own, i, rays, rounds[-1])
        u = proposal.resample(u, weights**anneal, count, of_round(i + 1))
    return rounds, Samples(u, spacing.distances(u))


def proposed_weights(networks: Networks, params: PyTree, round_: int, rays: Rays, samples: Samples) -> jax.Array:
    """The weights [r, s] that a round's proposal gives its samples; `params` is the part "proposals"."""
    points, inside = samples.unit_points(rays, networks.region)
    density = networks.propose(params, round_, points).reshape(inside.shape) * inside
    return volume.weights_from_density(density, samples.lengths)[0]

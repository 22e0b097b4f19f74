"""Proposal sampling: against scipy and brute force; nerfstudio's own numbers are in test_nerfacto_golden.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.sampling import proposal
from jaxhw.nerf.sampling.proposal import Spacing


def histogram(rays=6, count=9, seed=0):
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.uniform(size=(rays, count + 1)), 1).astype(np.float32)
    edges[:, 0], edges[:, -1] = 0, 1
    return edges, rng.uniform(size=(rays, count)).astype(np.float32)


def test_piecewise_spacing_and_its_inverse():
    t = np.geomspace(1e-3, 1e3, 200).astype(np.float32)
    s = proposal.piecewise(jnp.asarray(t))
    np.testing.assert_allclose(s, np.where(t < 1, t / 2, 1 - 0.5 / t), rtol=1e-6)
    np.testing.assert_allclose(proposal.piecewise_inverse(s), t, rtol=1e-3)
    assert jnp.isfinite(jax.grad(lambda t: proposal.piecewise(t).sum())(jnp.zeros(3))).all()


@pytest.mark.parametrize("kind", proposal.SPACINGS)
def test_distances_go_from_near_to_far(kind):
    near, far = jnp.array([[0.1], [0.05]]), jnp.array([[8.0], [1000.0]])
    t = Spacing(kind, near, far).distances(proposal.first(2, 32, None))
    np.testing.assert_allclose(t[:, 0], near[:, 0], rtol=1e-4)
    np.testing.assert_allclose(t[:, -1], far[:, 0], rtol=1e-2)
    assert (np.diff(t) > 0).all()


def test_first_edges_move_within_half_an_interval():
    edges = proposal.first(3, 8, jnp.array([0.0, 0.5, 0.999]))
    even = np.linspace(0, 1, 9)
    assert (np.abs(np.asarray(edges) - even) <= 0.5 / 8 + 1e-6).all() and (np.diff(edges) > 0).all()
    np.testing.assert_allclose(edges[1, 1:-1], even[1:-1], atol=1e-6)


def test_resampling_inverts_the_distribution():
    edges, weights = histogram()
    u = np.asarray(proposal.resample(jnp.asarray(edges), jnp.asarray(weights), 20, None))
    for ray in range(len(edges)):
        padded = weights[ray] + proposal.PADDING
        cdf = np.concatenate([[0], np.cumsum(padded) / padded.sum()])
        np.testing.assert_allclose(u[ray], np.interp((np.arange(21) + 0.5) / 21, cdf, edges[ray]), atol=2e-6)
    jittered = np.asarray(proposal.resample(jnp.asarray(edges), jnp.asarray(weights), 20, jnp.zeros(6)))
    assert (np.diff(jittered) >= 0).all() and (jittered < u).all()


def test_samples_follow_the_weights():
    edges = jnp.linspace(0, 1, 11)[None]
    weights = jnp.zeros((1, 10)).at[0, 7].set(1.0)
    u = proposal.resample(edges, weights, 100, None)
    inside = ((u > 0.7) & (u < 0.8)).mean()
    assert 0.88 < inside < 0.95  # the rest is the padding's: a tenth of a weight of 1.1


def test_no_gradient_goes_through_where_samples_lie():
    edges, weights = histogram()
    gradient = jax.grad(lambda w: proposal.resample(jnp.asarray(edges), w, 5, None).sum())(jnp.asarray(weights))
    assert not gradient.any()


def bound(edges, outer_edges, outer_weights):
    """Weights of all outer intervals that an interval overlaps, by looking at each."""
    wanted = np.zeros((len(edges), edges.shape[1] - 1))
    for r in range(len(edges)):
        for i in range(edges.shape[1] - 1):
            for j in range(outer_weights.shape[1]):
                if outer_edges[r, j] <= edges[r, i + 1] and outer_edges[r, j + 1] >= edges[r, i]:
                    wanted[r, i] += outer_weights[r, j]
    return wanted


def test_interlevel_loss_is_what_the_bound_fails_to_cover():
    (outer, proposed), (edges, weights) = histogram(seed=1), histogram(count=14, seed=2)
    weights /= weights.sum(1, keepdims=True)
    proposed *= 0.5 / proposed.sum(1, keepdims=True)
    excess = np.maximum(weights - bound(edges, outer, proposed), 0)
    wanted = (excess**2 / (weights + 1e-7)).mean(1)
    assert (wanted > 0).any()
    ours = proposal.interlevel_loss(*map(jnp.asarray, (edges, weights, outer, proposed)))
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-8)
    by_weights = jax.grad(lambda w: proposal.interlevel_loss(edges, w, outer, proposed).sum())(jnp.asarray(weights))
    assert not by_weights.any()


def test_a_proposal_that_covers_the_weights_costs_nothing():
    edges, weights = histogram()
    assert proposal.interlevel_loss(*map(jnp.asarray, (edges, weights, edges, weights))).max() < 1e-9


def test_anneal_rises_from_0_to_1():
    values = [float(proposal.anneal(jnp.int32(step), 1000)) for step in (0, 100, 1000, 5000)]
    np.testing.assert_allclose(values, [0, 10 * 0.1 / (9 * 0.1 + 1), 1, 1], atol=1e-6)


def test_proposals_learn_ever_more_seldom():
    def learns(begin, count):
        since, found = 0, []
        for step in range(begin, begin + count):
            found.append(bool(proposal.due(jnp.int32(step), jnp.int32(since), 5.0, 5000.0)))
            since = 1 if found[-1] else since + 1
        return np.array(found)

    assert learns(0, 10).all()
    gaps = np.diff(np.flatnonzero(learns(6000, 60)))
    assert (gaps == gaps[0]).all() and gaps[0] in (5, 6)

"""Where samples fall, and buckets of static size."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxhw.nerf.sampling import buckets, strata


def test_strata_hold_one_sample_each():
    near, far = jnp.array([2.0, 0.5]), jnp.array([6.0, 1.0])
    t = np.asarray(strata.stratified(jax.random.key(0), near, far, 16))
    stratum = np.floor((t - near[:, None]) / (far - near)[:, None] * 16)
    np.testing.assert_array_equal(stratum, np.arange(16)[None].repeat(2, 0))
    np.testing.assert_allclose(strata.stratified(None, near, far, 2), [[3, 5], [0.625, 0.875]])


def test_importance_samples_follow_the_histogram():
    edges = jnp.array([[0.0, 1.0, 2.0, 4.0]]).repeat(200, 0)
    weights = jnp.array([[1.0, 0.0, 3.0]]).repeat(200, 0)
    t = np.asarray(strata.importance(jax.random.key(1), edges, weights, 64))
    assert (np.diff(t) >= 0).all() and t.min() >= 0 and t.max() <= 4
    wanted = lambda x: np.interp(x, [0, 1, 2, 4], [0, 0.25, 0.25, 1])
    assert stats.kstest(t.ravel(), wanted).statistic < 0.02
    assert ((t > 1.001) & (t < 1.999)).mean() < 1e-3


def test_a_ray_that_saw_nothing_is_sampled_evenly_and_no_gradient_flows():
    edges = jnp.linspace(0.0, 1.0, 5)[None]
    np.testing.assert_allclose(
        strata.importance(None, edges, jnp.zeros((1, 4)), 8)[0], (np.arange(8) + 0.5) / 8, atol=1e-6
    )
    gradient = jax.grad(lambda w: strata.importance(None, edges, w, 8).sum())(jnp.ones((1, 4)))
    np.testing.assert_array_equal(gradient, 0)


def test_select_keeps_the_first_and_counts_the_rest():
    wanted = jnp.array([0, 1, 1, 0, 1, 1], bool)
    index, over = buckets.select(wanted, 3)
    np.testing.assert_array_equal(index, [1, 2, 4])
    assert over == 1
    index, over = buckets.select(wanted, 6)
    np.testing.assert_array_equal(index, [1, 2, 4, 5, 6, 6])
    assert over == 0


def test_for_each_bucket_visits_every_wanted_place_once():
    wanted = jax.random.bernoulli(jax.random.key(0), 0.3, (100,))
    visit = lambda index, visits: visits.at[index].add(1, mode="drop")
    visits = jax.jit(lambda w: buckets.for_each_bucket(w, 7, visit, jnp.zeros(100, int)))(wanted)
    np.testing.assert_array_equal(visits, wanted)

"""What features look like while they form: how near views of an image are, how far images spread, whether all is one.

Features count by their direction: every function divides them by their length.
"""

import jax
import jax.numpy as jnp

from jaxhw.vision.ssl.losses import normalise

COLLAPSED = 0.02  # of `spread`, of which a tiny ViT that has learnt nothing yet has as little as 0.04


@jax.jit
def alignment(z: jax.Array) -> jax.Array:
    """Mean squared distance of views of an image, z [b, v, d] -> [] in [0, 4].

    Lower is better (Wang and Isola 2020, with their alpha = 2).
    """
    z, v = normalise(z), z.shape[1]
    squared = jnp.sum(jnp.square(z[:, :, None] - z[:, None]), -1)
    return jnp.sum(squared) / (len(z) * v * (v - 1))


@jax.jit
def uniformity(z: jax.Array) -> jax.Array:
    """log mean exp(-2 |z_i - z_j|^2) over pairs of images, z [n, d] -> [] in [-8, 0], 0 where all are one.

    Lower is better (Wang and Isola 2020, with their t = 2).
    """
    z, n = normalise(z), len(z)
    cosines = jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST)
    kernel = jnp.where(jnp.eye(n, dtype=bool), 0.0, jnp.exp(4 * (cosines - 1)))
    return jnp.log(jnp.sum(kernel) / (n * (n - 1)))


@jax.jit
def spread(z: jax.Array) -> jax.Array:
    """Standard deviation of the features over images, z [n, d] -> [] times sqrt(d).

    1 where directions spread evenly over the sphere, 0 where all images have the same features (collapse).
    """
    z = normalise(z)
    return jnp.mean(jnp.std(z, 0)) * z.shape[-1] ** 0.5


def collapse_line(features: float, projections: float) -> str:
    """What to tell someone whose features' or projections' `spread` is below `COLLAPSED`."""
    return (
        "collapsed: all images have nearly the same features or projections "
        f"(feature_std {features:.4f}, projection_std {projections:.4f} of 1); "
        "lower optim.lr, or look at the method's target, predictor and batch norms"
    )

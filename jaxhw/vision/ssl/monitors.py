"""Numbers that tell how features form: alignment of views, uniformity of images, collapse.

Shapes: z [n, d] are the features of n images, z [b, v, d] those of v views of b images. Features count by their
direction: every function divides them by their length.
"""

import jax
import jax.numpy as jnp

from jaxhw.vision.models.layers import l2_normalise

COLLAPSED = 0.02  # a `spread` below this is a collapse; a tiny ViT that has learnt nothing yet has as little as 0.04


@jax.jit
def alignment(z: jax.Array) -> jax.Array:
    """Alignment: mean squared distance of views of an image, z [b, v, d] -> [] in [0, 4].

    Lower is better (Wang and Isola 2020, with their alpha = 2).
    """
    z, v = l2_normalise(z), z.shape[1]
    squared = jnp.sum(jnp.square(z[:, :, None] - z[:, None]), -1)
    return jnp.sum(squared) / (len(z) * v * (v - 1))


@jax.jit
def uniformity(z: jax.Array) -> jax.Array:
    """Uniformity: log mean exp(-2 |z_i - z_j|^2) over pairs of images, z [n, d] -> [] in [-8, 0].

    Lower is better (Wang and Isola 2020, with their t = 2); 0 is the worst, the same features for all images.
    """
    # Of unit vectors |z_i - z_j|^2 = 2 - 2 cos. An image is no pair with itself.
    z, n = l2_normalise(z), len(z)
    cosines = jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST)
    kernel = jnp.where(jnp.eye(n, dtype=bool), 0.0, jnp.exp(4 * (cosines - 1)))
    return jnp.log(jnp.sum(kernel) / (n * (n - 1)))


@jax.jit
def spread(z: jax.Array) -> jax.Array:
    """Standard deviation of the features over images, times sqrt(d): z [n, d] -> [].

    1 where directions spread evenly over the sphere, 0 where all images have the same features (collapse). Between
    them it does not tell dimensional collapse, features that vary in a few directions only.
    """
    z = l2_normalise(z)
    return jnp.mean(jnp.std(z, 0)) * z.shape[-1] ** 0.5


def collapse_line(features: float, projections: float) -> str:
    """The warning for a run whose features' or projections' `spread` is below `COLLAPSED`."""
    return (
        "collapsed: all images have nearly the same features or projections "
        f"(feature_std {features:.4f}, projection_std {projections:.4f} of 1); "
        "lower optim.lr, or look at the method's target, predictor and batch norms"
    )

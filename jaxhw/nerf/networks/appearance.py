"""Appearance embeddings (Martin-Brualla et al., CVPR 2021): what exposure and white balance change, once a picture."""

import jax
import jax.numpy as jnp

UNKNOWN = ("mean", "zeros")  # what stands for a picture that was not trained on


def start(rng: jax.Array, pictures: int, width: int) -> jax.Array:
    """A row a picture, from a normal distribution as torch's embeddings start: [pictures, width]."""
    return jax.random.normal(rng, (pictures, width))


def of_rays(table: jax.Array, camera: jax.Array, unknown: str) -> jax.Array:
    """Rows [r, width] of rays' pictures [r]; the mean row or zeros for those of -1, which belong to none."""
    other = table.mean(0) if unknown == "mean" else jnp.zeros_like(table[0])
    return jnp.where((camera >= 0)[:, None], table[jnp.maximum(camera, 0)], other)

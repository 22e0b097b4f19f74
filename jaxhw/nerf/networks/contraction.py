"""All of space contracted into a cube around what the cameras look at."""

import jax
import jax.numpy as jnp
import numpy as np


def contract(x: jax.Array, shell: float) -> jax.Array:
    """The contraction of all of space [..., 3] into the cube of half edge 1 + shell, with the infinity norm.

    The cube of half edge 1 keeps its shape; outside, with n = max |x_i| > 1: x (1 + s - s / n) / n, s the `shell`.
    DVGO v2 has a shell of 0.2; nerfstudio, and mip-NeRF 360 with the Euclidean norm, one of 1.
    """
    n = jnp.maximum(infinity_norm(x), 1.0)[..., None]
    return x * (1 + shell - shell / n) / n


def infinity_norm(x: jax.Array) -> jax.Array:
    """The greatest of |x_i| of points [..., 3]: [...].

    Pairs are compared by name. The gradient of `max` along an axis divides by how many elements are equal to their
    maximum, and a compiler that computes x a second time, rounded otherwise, finds none: 0 / 0.
    """
    size = jnp.abs(x)
    return jnp.maximum(jnp.maximum(size[..., 0], size[..., 1]), size[..., 2])


def expand(x: np.ndarray, shell: float) -> np.ndarray:
    """The inverse of `contract`, with what is infinitely far away moved to 1000 radii."""
    m = np.abs(x).max(-1, keepdims=True)
    n = np.where(m > 1, shell / np.maximum(1 + shell - m, shell / 1000), np.maximum(m, 1e-9))
    return np.where(m > 1, x / np.maximum(m, 1e-9) * n, x)

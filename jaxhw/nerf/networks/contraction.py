"""All of space contracted into a cube around what the cameras look at."""

import jax
import jax.numpy as jnp
import numpy as np


def contract(x: jax.Array, shell: float) -> jax.Array:
    """The contraction of all of space [..., 3] into the cube of half edge 1 + shell, with the infinity norm.

    The cube of half edge 1 keeps its shape; outside, with n = max |x_i| > 1: x (1 + s - s / n) / n, s the `shell`.
    DVGO v2 has a shell of 0.2; nerfstudio, and mip-NeRF 360 with the Euclidean norm, one of 1.
    """
    n = jnp.maximum(jnp.abs(x).max(-1, keepdims=True), 1.0)
    return x * (1 + shell - shell / n) / n


def expand(x: np.ndarray, shell: float) -> np.ndarray:
    """The inverse of `contract`, with what is infinitely far away moved to 1000 radii."""
    m = np.abs(x).max(-1, keepdims=True)
    n = np.where(m > 1, shell / np.maximum(1 + shell - m, shell / 1000), np.maximum(m, 1e-9))
    return np.where(m > 1, x / np.maximum(m, 1e-9) * n, x)

"""Small rotations and motions of space by their logarithms (the exponential maps of SO(3) and SE(3)).

In shapes, n counts motions. Gradients are finite everywhere, also at 0, where all corrections of cameras begin.
"""

import jax
import jax.numpy as jnp

SMALLEST_ANGLE2 = 1e-4  # square of the angle below which nerfstudio's exponential map takes that of 0.01 radians
SERIES = 1e-2  # square of the angle below which a Taylor series is more exact than the quotient


def rotations(logs: jax.Array) -> jax.Array:
    """[n, 3, 3] rotations about axes [n, 3] by their lengths in radians: Rodrigues' formula as nerfstudio has it.

    R = I + sin(a) / a [w] + (1 - cos(a)) / a^2 [w]^2 with a = sqrt(max(|w|^2, 1e-4)), which has a gradient at 0.
    Below 0.01 radians R is no exact rotation, by less than 2e-7.
    """
    angle = jnp.sqrt(jnp.maximum((logs**2).sum(-1), SMALLEST_ANGLE2))
    return _rodrigues(logs, jnp.sin(angle) / angle, (1 - jnp.cos(angle)) / angle**2)


def motions(linear: jax.Array, logs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(rotations [n, 3, 3], translations [n, 3]) of twists, [n, 3] linear and [n, 3] angular.

    The translation is V u with V = I + (1 - cos(a)) / a^2 [w] + (a - sin(a)) / a^3 [w]^2.
    """
    square = (logs**2).sum(-1)
    small = square < SERIES
    safe = jnp.where(small, 1.0, square)
    angle = jnp.sqrt(safe)
    # Both forms are finite for every angle, so that neither gives the other's gradient a NaN.
    first = jnp.where(small, 1 - square / 6 * (1 - square / 20), jnp.sin(angle) / angle)
    second = jnp.where(small, 0.5 - square / 24 * (1 - square / 30), (1 - jnp.cos(angle)) / safe)
    third = jnp.where(small, 1 / 6 - square / 120 * (1 - square / 42), (angle - jnp.sin(angle)) / (safe * angle))
    turned = jnp.cross(logs, linear)
    translation = linear + second[..., None] * turned + third[..., None] * jnp.cross(logs, turned)
    return _rodrigues(logs, first, second), translation


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """[..., i, k] of matrices [..., i, 3] and [..., 3, k], summed by hand as in `cameras.rays_through`."""
    return sum(left[..., :, j, None] * right[..., None, j, :] for j in range(3))


def safe_norm(vectors: jax.Array) -> jax.Array:
    """[...] lengths of vectors [..., c], whose gradient at 0 is 0."""
    square = (vectors**2).sum(-1)
    nonzero = square > 0
    return jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, square, 1.0)), 0.0)


def _rodrigues(logs: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """I + first [w] + second [w]^2, where [w] v = w x v."""
    x, y, z = (logs[..., i] for i in range(3))
    zero = jnp.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    skew = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    first, second = first[..., None, None], second[..., None, None]
    return jnp.eye(3) + first * skew + second * product(skew, skew)

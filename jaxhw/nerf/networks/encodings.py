"""Encodings of positions and directions, from which a network can learn fine detail."""

import jax
import jax.numpy as jnp


def positional_encoding(x: jax.Array, frequencies: int) -> jax.Array:
    """The positional encoding x, sin(2^i x), cos(2^i x), i < `frequencies`: [..., c] -> [..., c (1 + 2 frequencies)].

    Mildenhall et al. 2020, eq. 4, as their code has it: with x itself and without pi. Each angle comes from the one
    before by doubling: faster, and right to 5e-5 at the tenth frequency (errors double too).
    """
    sines, cosines = [jnp.sin(x)], [jnp.cos(x)]
    for _ in range(frequencies - 1):
        s, c = sines[-1], cosines[-1]
        sines.append(2 * s * c)
        cosines.append((c - s) * (c + s))
    return jnp.concatenate([x, *sines, *cosines], -1)


def spherical_harmonics(directions: jax.Array) -> jax.Array:
    """The real spherical harmonics of degrees 0 to 3, [..., 16], of unit directions [..., 3]; those of instant-ngp."""
    x, y, z = (directions[..., i] for i in range(3))
    xx, yy, zz = x * x, y * y, z * z
    terms = (
        jnp.full_like(x, 0.28209479177387814),
        0.4886025119029199 * y,
        0.4886025119029199 * z,
        0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        1.0925484305920792 * y * z,
        0.9461746957575601 * zz - 0.31539156525251999,
        1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        0.4570457994644658 * y * (5 * zz - 1),
        0.3731763325901154 * z * (5 * zz - 3),
        0.4570457994644658 * x * (5 * zz - 1),
        1.445305721320277 * z * (xx - yy),
        0.5900435899266435 * x * (xx - 3 * yy),
    )
    return jnp.stack(terms, -1)

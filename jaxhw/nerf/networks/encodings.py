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

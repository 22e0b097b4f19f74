"""Classification by the nearest neighbours in feature space: no training, so a look at features while they form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.vision.ssl.losses import normalise

CHUNK = 256  # queries at once


def check(k: int, temperature: float) -> None:
    """Raises a UserError for config.knn_k and config.knn_temperature that cannot be meant."""
    if k < 1:
        raise UserError(f"config.knn_k={k} must be at least 1")
    if not temperature > 0:
        raise UserError(f"config.knn_temperature={temperature} must be above 0")


@partial(jax.jit, static_argnames=("classes", "k", "temperature"))
def votes(
    bank: jax.Array, labels: jax.Array, queries: jax.Array, classes: int, k: int = 200, temperature: float = 0.1
) -> jax.Array:
    """Each class's votes [q, c] for queries [q, d]: those of the k features of the bank [m, d] with the highest cosine.

    A neighbour votes for its label (``labels`` [m], in 0..c-1) with exp((cosine - 1) / temperature) (Wu et al. 2018,
    section 3.4); of equal cosines the first in the bank come first. With fewer than k features all of them vote.
    """
    bank, count = normalise(bank), len(queries)
    padded = jnp.pad(normalise(queries), ((0, -count % CHUNK), (0, 0)))

    def chunk(rows: jax.Array) -> jax.Array:
        cosines = jnp.matmul(rows, bank.T, precision=jax.lax.Precision.HIGHEST)
        best, nearest = jax.lax.top_k(cosines, min(k, len(bank)))
        weights = jnp.exp((best - 1) / temperature)
        return jnp.einsum("qk,qkc->qc", weights, jax.nn.one_hot(labels[nearest], classes))

    return jax.lax.map(chunk, padded.reshape(-1, CHUNK, padded.shape[1])).reshape(-1, classes)[:count]


def accuracy(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    labels: np.ndarray,
    k: int = 200,
    temperature: float = 0.1,
) -> float:
    """The share of queries [q, d] that their neighbours in the bank [m, d] give the right one of the labels [q]."""
    classes = 1 + int(max(np.max(bank_labels), np.max(labels)))
    called = votes(bank, jnp.asarray(bank_labels), queries, classes, k, temperature).argmax(1)
    return float(np.mean(np.asarray(called) == labels))


@partial(jax.jit, static_argnames="k")
def nearest(bank: jax.Array, queries: jax.Array, k: int) -> jax.Array:
    """The k features of the bank [m, d] with the highest cosine to each of a few queries [q, d], best first: [q, k]."""
    return jax.lax.top_k(normalise(queries) @ normalise(bank).T, k)[1]

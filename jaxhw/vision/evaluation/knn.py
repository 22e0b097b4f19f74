"""The k-nearest-neighbour classifier on features: it needs no training, so it can score features while they form.

Shapes: the bank holds m labelled features [m, d] among which neighbours are searched; q queries [q, d] are classified
into c classes.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.options import above, at_least, option
from jaxhw.vision.models.layers import l2_normalise

CHUNK = 256  # queries at once: their cosines with the whole bank are in memory together


@dataclass(frozen=True)
class Options:
    """What a config may set; tasks that use the classifier have these among their own options."""

    knn_k: int = option(200, "neighbours that vote", at_least(1))
    knn_temperature: float = option(0.1, "of their votes: the lower, the more the nearest count", above(0))


@partial(jax.jit, static_argnames=("classes", "k", "temperature"))
def votes(
    bank: jax.Array, labels: jax.Array, queries: jax.Array, classes: int, k: int, temperature: float
) -> jax.Array:
    """Each class's votes [q, c] for queries [q, d]: those of the k features of the bank [m, d] with the highest cosine.

    A neighbour votes for its label (``labels`` [m], in 0..c-1) with exp((cosine - 1) / temperature) (Wu et al. 2018,
    section 3.4); of equal cosines the first in the bank come first. With fewer than k features all of them vote.
    """
    # Queries in chunks of one size, the last of them filled up.
    bank, count = l2_normalise(bank), len(queries)
    padded = jnp.pad(l2_normalise(queries), ((0, -count % CHUNK), (0, 0)))

    def chunk(rows: jax.Array) -> jax.Array:
        cosines = jnp.matmul(rows, bank.T, precision=jax.lax.Precision.HIGHEST)
        best, nearest = jax.lax.top_k(cosines, min(k, len(bank)))
        weights = jnp.exp((best - 1) / temperature)
        return jnp.einsum("qk,qkc->qc", weights, jax.nn.one_hot(labels[nearest], classes))

    return jax.lax.map(chunk, padded.reshape(-1, CHUNK, padded.shape[1])).reshape(-1, classes)[:count]


def accuracy(
    bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, labels: np.ndarray, k: int, temperature: float
) -> float:
    """The share of queries [q, d] to which their neighbours in the bank [m, d] give the right one of ``labels`` [q]."""
    classes = 1 + int(max(np.max(bank_labels), np.max(labels)))
    predicted = votes(bank, jnp.asarray(bank_labels), queries, classes, k, temperature).argmax(1)
    return float(np.mean(np.asarray(predicted) == labels))


@partial(jax.jit, static_argnames="k")
def nearest(bank: jax.Array, queries: jax.Array, k: int) -> jax.Array:
    """The k features of the bank [m, d] with the highest cosine to each of a few queries [q, d], best first: [q, k]."""
    return jax.lax.top_k(l2_normalise(queries) @ l2_normalise(bank).T, k)[1]

"""The losses of self-supervised learning, as pure functions of projections or predictions z [b, v, d].

Shapes: b images, v views of each, d numbers a view. In index notation a and p are views of one image (anchor and
positive), n a view of another (negative); s(a, n) is a cosine similarity over the temperature.

All are written for the global batch: under jit with the batch divided over devices, the compiler gathers what a loss
compares, and gradients flow through the gathering. With more than two views each pair of views counts alike; with two,
every loss equals its original's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxhw.vision.models.layers import l2_normalise

Array = jax.Array
LEAST_TEMPERATURE = 0.025  # below, exp(-2 / temperature) is no normal float32 any more
BLOCK = 1 << 20  # similarities that a CPU computes at once: they should not leave its cache before they are summed
WIDE_BLOCK = 1 << 28  # those of other devices, all together: each block makes each of them wait for the others
_EXACT = lax.Precision.HIGHEST  # some devices would multiply float32 as bfloat16, too coarse for low temperatures


def nt_xent(z: Array, temperature: float) -> Array:
    """NT-Xent, SimCLR's loss (Chen et al. 2020, eq. 1), [], for projections z [b, v, d] of v >= 2 views.

    It is InfoNCE (van den Oord et al. 2018) on cosine similarities: cross-entropy normalised by a ``temperature``.

    Each view has v - 1 positives, the image's other views, and v (b - 1) negatives, the views of all other images. A
    positive p of a view a costs -log(e^s(a,p) / (e^s(a,p) + sum over negatives n of e^s(a,n))) with s the cosine
    over ``temperature``: positives do not compete with each other, so the loss of perfectly aligned views tends to 0
    for any v. The mean over all (a, p) is the loss.
    """
    # -log(e^p / (e^p + N)) = log(1 + e^(log N - p)) = softplus(log N - p), with N the sum over the negatives.
    z = l2_normalise(z)
    negatives = log_sum_negatives(z, temperature)
    positives = jnp.einsum("bvd,bwd->bvw", z, z, precision=_EXACT) / temperature
    return _pairs(jax.nn.softplus(negatives[:, :, None] - positives))


@jax.custom_vjp
def log_sum_negatives(z: Array, temperature: float) -> Array:
    """log of the sum of e^(z_a . z_n / temperature) over all views n of other images: z [b, v, d] unit -> [b, v].

    The similarities are made in blocks and never kept: memory is linear in b. Since they are symmetric, the gradient
    needs one matrix product more where differentiating the product would need two.
    """
    return _log_sum_negatives(z, temperature)


def _log_sum_negatives(z: Array, temperature: float) -> Array:
    def sums(rows: Array, images: Array) -> Array:
        return jnp.sum(_exp_negatives(rows, images, z, temperature), 1)

    return jnp.log(_by_block(sums, z)) + 1 / temperature


def _log_sum_fwd(z: Array, temperature: float) -> tuple[Array, tuple[Array, float, Array]]:
    result = _log_sum_negatives(z, temperature)
    return result, (z, temperature, result)


def _log_sum_bwd(saved: tuple[Array, float, Array], g: Array) -> tuple[Array, None]:
    # d result_a / d s(a, n) = e^s(a, n) / sum_a; e^s is symmetric, so rows and columns of the gradient add up at once.
    # The similarities are computed again, block by block: rematerialisation.
    z, temperature, result = saved
    share = (g * jnp.exp(1 / temperature - result)).reshape(-1)

    def gradient(rows: Array, images: Array, mine: Array) -> Array:
        weights = _exp_negatives(rows, images, z, temperature) * (mine.reshape(-1, 1) + share)
        return jnp.matmul(weights, z.reshape(-1, z.shape[-1]), precision=_EXACT)

    # The gradient's factor 1 / temperature is that of s; the temperature itself is an option and gets no gradient.
    return _by_block(gradient, z, share.reshape(g.shape)) / temperature, None


log_sum_negatives.defvjp(_log_sum_fwd, _log_sum_bwd)


def _exp_negatives(rows: Array, images: Array, z: Array, temperature: float) -> Array:
    """e^((z_a . z_n - 1) / temperature) for the views a in rows [r, v, d] of images [r] and all views n: [r v, b v].

    Views of the same image are no negatives: there it is 0. A cosine is at most 1, so that nothing overflows and no
    maximum has to be found first.
    """
    b, v, d = z.shape
    cosines = jnp.matmul(rows.reshape(-1, d), z.reshape(-1, d).T, precision=_EXACT)
    same = jnp.repeat(images, v)[:, None] == jnp.repeat(jnp.arange(b), v)
    return jnp.where(same, 0.0, jnp.exp((cosines - 1) / temperature))


def _by_block(f: Callable[..., Array], z: Array, *more: Array) -> Array:
    """f(rows [r, v, ...], image numbers [r], ...) -> [r v, ...] for all rows, a block of them at a time: [b, v, ...].

    Block k holds the images k, k + n, k + 2n...: each device then works on its own share of every block.
    """
    in_blocks = lambda size: lambda *rows: _in_blocks(f, size, *rows)
    return lax.platform_dependent(z, *more, cpu=in_blocks(BLOCK), default=in_blocks(WIDE_BLOCK))


def _in_blocks(f: Callable[..., Array], size: int, z: Array, *more: Array) -> Array:
    """`_by_block` with the fewest blocks n that divide the images and have at most so many similarities."""
    b, v = z.shape[:2]
    n = next((n for n in range(1, b) if b % n == 0 and (b * v) ** 2 <= n * size), b)
    blocks = [jnp.swapaxes(x.reshape(b // n, n, *x.shape[1:]), 0, 1) for x in (z, jnp.arange(b), *more)]
    result = lax.map(lambda block: f(*block), blocks)
    result = result.reshape(n, b // n, v, *result.shape[2:])
    return jnp.swapaxes(result, 0, 1).reshape(b, v, *result.shape[3:])


def byol(predictions: Array, targets: Array) -> Array:
    """BYOL's loss (Grill et al. 2020, eq. 2): 2 - 2 cos of each view's prediction and the other view's target.

    Both are [b, v, d], and both directions are added. Targets come from the target network and are behind a
    stop-gradient.
    """
    return 2 * _pairs(2 - 2 * _cosines(predictions, lax.stop_gradient(targets)))


def simsiam(predictions: Array, projections: Array) -> Array:
    """SimSiam's loss (Chen and He 2021, eq. 4): minus the cosine of one view's prediction and another's projection.

    Both are [b, v, d]. Projections are behind a stop-gradient, without which the network would collapse.
    """
    return -_pairs(_cosines(predictions, lax.stop_gradient(projections)))


def moco(queries: Array, keys: Array, temperature: float) -> Array:
    """MoCo v3's InfoNCE (Chen, Xie and He 2021, algorithm 1): each query finds its image among one other view's keys.

    queries, keys: [b, v, d]; keys come from the momentum encoder and are behind a stop-gradient. Both directions are
    added, each times 2 ``temperature``.
    """
    q, k = l2_normalise(queries), l2_normalise(lax.stop_gradient(keys))
    # Scores of view v of image b and view w of image c; the right answer is c = b.
    scores = jnp.einsum("bvd,cwd->vwbc", q, k, precision=_EXACT) / temperature
    cost = jax.nn.logsumexp(scores, -1) - jnp.einsum("vwbb->vwb", scores)
    return 4 * temperature * _pairs(cost.transpose(2, 0, 1))


def barlow_twins(z: Array, redundancy: float) -> Array:
    """Barlow Twins' loss (Zbontar et al. 2021, eq. 1) of z [b, v, d]: redundancy reduction.

    c is the cross-correlation matrix [d, d] of two views' features over the batch; the loss draws it to the identity:
    sum (1 - c_ii)^2, the invariance term, + ``redundancy`` sum_(i != j) c_ij^2, the redundancy reduction term, which
    keeps features from repeating one another (dimensional collapse).
    """
    # Each feature of each view to mean 0 and deviation 1 over the batch, as a batch norm without scale does it.
    centred = z - z.mean(0)
    z = centred * lax.rsqrt(jnp.mean(jnp.square(centred), 0) + 1e-5)

    def cost(x: Array, y: Array) -> Array:
        c = jnp.matmul(x.T, y, precision=_EXACT) / len(x)
        diagonal = jnp.diagonal(c)
        return jnp.sum(jnp.square(diagonal - 1)) + redundancy * (jnp.sum(jnp.square(c)) - jnp.sum(jnp.square(diagonal)))

    # The cross-correlation of views j and i is the transposed one of i and j: each pair counts once.
    views = jnp.moveaxis(z, 1, 0)
    pairs = [cost(views[i], views[j]) for j in range(len(views)) for i in range(j)]
    return jnp.mean(jnp.stack(pairs))


def vicreg(z: Array, invariance: float, variance: float, covariance: float) -> Array:
    """VICReg's loss (Bardes et al. 2022, eq. 6, with the authors' code's halved variance term) of z [b, v, d].

    Invariance draws views together; variance, a hinge, holds each feature's deviation over the batch above 1, against
    collapse to one point; covariance decorrelates features, against dimensional collapse. The arguments are their
    weights.
    """
    b, _, d = z.shape
    # Invariance: the mean squared distance of two views of an image.
    distances = jnp.mean(jnp.square(z[:, :, None] - z[:, None]), -1)
    # Variance and covariance over the batch, for each view by itself.
    z = z - z.mean(0)
    var = jnp.sum(jnp.square(z), 0) / (b - 1)
    cov = jnp.einsum("bvi,bvj->vij", z, z, precision=_EXACT) / (b - 1)
    off_diagonal = jnp.sum(jnp.square(cov), (1, 2)) - jnp.sum(jnp.square(var), 1)
    # The small constant keeps the gradient of the root finite at 0.
    hinge = jnp.mean(jax.nn.relu(1 - jnp.sqrt(var + 1e-4)))
    return invariance * _pairs(distances) + variance * hinge + covariance * 2 * jnp.mean(off_diagonal) / d


def _cosines(x: Array, y: Array) -> Array:
    """The cosine similarity of each view of x with each of y, image by image: [b, v, w]."""
    return jnp.einsum("bvd,bwd->bvw", l2_normalise(x), l2_normalise(y), precision=_EXACT)


def _pairs(costs: Array) -> Array:
    """The mean of costs [b, v, v] over all pairs of different views, in both directions."""
    v = costs.shape[1]
    return jnp.sum(jnp.where(jnp.eye(v, dtype=bool), 0.0, costs)) / (len(costs) * v * (v - 1))

"""Mixing pairs of images and their targets: mixup and CutMix, with label smoothing.

A batch is b images [b, h, w, c] with soft targets [b, k] over k classes. Each image draws its own lambda, its share in
the mixture ("share" below); its partner is the previous image of the batch, whose order is random already. Every image
has its own key, so that the result does not depend on how the batch is spread over devices.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxhw.vision.augment.geometry import box_mask

Array = jax.Array


def smooth(labels: Array, classes: int, smoothing: float = 0.0) -> Array:
    """Label smoothing (Szegedy et al. 2016): targets [b, classes] for labels [b].

    The label's class has 1 - smoothing, and all classes share the rest.
    """
    return (1.0 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes


def mixup(key: Array, images: Array, targets: Array, alpha: float) -> tuple[Array, Array]:
    """Mixup: lambda x + (1 - lambda) x', lambda ~ Beta(alpha, alpha) (Zhang et al. 2017, arXiv:1710.09412)."""
    return mix(key, images, targets, alpha, 0.0)


def cutmix(key: Array, images: Array, targets: Array, alpha: float) -> tuple[Array, Array]:
    """CutMix: paste a box of the partner (Yun et al. 2019, arXiv:1905.04899); targets follow the area really pasted.

    lambda ~ Beta(alpha, alpha) sets the box's sides, sqrt(1 - lambda) of the image's; its centre is uniform and its
    edges are clipped, which makes it smaller, and the image's own share larger, than drawn.
    """
    return mix(key, images, targets, 0.0, alpha)


def mix(
    key: Array, images: Array, targets: Array, mixup_alpha: float, cutmix_alpha: float, probability: float = 1.0
) -> tuple[Array, Array]:
    """Mixup or CutMix (evenly, if both alphas are positive) for each image with the given probability.

    Returns:
      (images [b, h, w, c], targets [b, k]).
    """
    if mixup_alpha == 0 and cutmix_alpha == 0:
        return images, targets
    box_probability = cutmix_alpha and (0.5 if mixup_alpha else 1.0)
    size = images.shape[1:3]

    def draw(key: Array) -> tuple[Array, Array]:
        """An image's own weight in each pixel [h, w] and in the target []."""
        # Whether to mix, which of the two to do, and lambda, by the quantile of its distribution.
        draw_key, box_key = jax.random.split(key)
        mixed, by_box, share = jax.random.uniform(draw_key, (3,))
        mixed, by_box = mixed < probability, by_box < box_probability
        share = jnp.where(by_box, beta_quantile(share, cutmix_alpha), beta_quantile(share, mixup_alpha))
        # CutMix has the weight 0 in the box and 1 elsewhere; mixup has lambda in every pixel.
        box = cutmix_box(box_key, share, size)
        weights = jnp.where(by_box, 1.0 - box, share)
        total = jnp.where(by_box, 1.0 - jnp.sum(box) / box.size, share)
        return jnp.where(mixed, weights, 1.0), jnp.where(mixed, total, 1.0)

    weights, totals = jax.vmap(draw)(jax.random.split(key, len(images)))
    return _combine(images, weights[..., None]), _combine(targets, totals[:, None])


def beta_quantile(probability: Array, alpha: float) -> Array:
    """Quantile of Beta(alpha, alpha), from a table of 1024 steps; of a uniform draw, a sample of the distribution.

    ``jax.random.beta`` tries until it may accept, in a loop whose end all images, and so all devices, wait for.
    """
    if alpha == 0:  # the limit of small alphas: lambda is 0 or 1
        return jnp.round(probability)
    # A table of the quantiles, a constant of the program, read with linear interpolation.
    steps = 1024
    table = jnp.asarray(stats.beta.ppf(np.linspace(0.0, 1.0, steps + 1), alpha, alpha), jnp.float32)
    position = probability * steps
    below = jnp.minimum(jnp.floor(position), steps - 1).astype(jnp.int32)
    return table[below] + (position - below) * (table[below + 1] - table[below])


def cutmix_box(key: Array, share: Array, size: tuple[int, int]) -> Array:
    """True [h, w] in a box of sides sqrt(1 - share) around a uniform centre, clipped at the image's edges."""
    height, width = size
    size = jnp.array(size)
    centre = jax.random.randint(key, (2,), 0, size)
    half = (jnp.sqrt(1.0 - share) * size).astype(jnp.int32) // 2
    low, high = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, size)
    return box_mask(*low, *(high - low), height, width)


def _combine(batch: Array, share: Array) -> Array:
    """Mixes every entry with the one before it in the batch, which is the partner of its image."""
    return share * batch + (1.0 - share) * jnp.roll(batch, 1, axis=0)

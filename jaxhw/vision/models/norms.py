"""Batch normalisation, layer normalisation and ghost batch normalisation, with PyTorch's numerics.

Shapes: x [..., c] with c channels in its last axis, of which each has a scale and an offset (bias). What comes in
bfloat16 is normalised in float32 and goes out in bfloat16.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers as init
from jax import lax

from jaxhw.vision.models.layers import column_sums, row_sums, wide

Array = jax.Array


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(x: Array, scale: Array, bias: Array, epsilon: float = 1e-5) -> tuple[Array, Array, Array]:
    """Batch normalisation in training mode: over all axes of x [..., c] but the last.

    The gradient is that of Ioffe and Szegedy (2015, section 3), which needs two sums over the batch where JAX's own
    rule takes more.

    Returns:
      (x normalised, the batch's mean [c], its biased variance [c]). Mean and variance are for running statistics: no
      gradient flows through them.
    """
    return _batch_norm_fwd(x, scale, bias, epsilon)[0]


def _batch_norm_fwd(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    exact = wide(x)
    mean, var = lax.platform_dependent(exact, tpu=moments_at_once, default=moments)
    inverse = lax.rsqrt(var + epsilon)
    y = (exact - mean) * (inverse * scale) + bias
    return (y.astype(x.dtype), mean, var), (x, scale, mean, inverse)


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over all axes of x [..., c] but the last: [c] each."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    return mean, jnp.mean(jnp.square(x - mean), axes)


def moments_at_once(x: Array) -> tuple[Array, Array]:
    """`moments` as E[x] and E[x^2] - E[x]^2, of two sums that a TPU adds up while the convolution before writes x.

    The variance is less exact, by the rounding of E[x^2]: of activations in bfloat16 that is little.
    """
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    return mean, jnp.maximum(jnp.mean(jnp.square(x), axes) - jnp.square(mean), 0.0)


def _batch_norm_bwd(
    epsilon: float, saved: tuple[Array, Array, Array, Array], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, scale, mean, inverse = saved
    narrow, axes, count = x.dtype, tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    x, dy = wide(x), wide(gradients[0])
    # The two sums over the batch are the gradients of bias and scale.
    d_bias = jnp.sum(dy, axes)
    d_scale = jnp.sum(dy * (x - mean), axes) * inverse
    # What of dy would only move the batch's mean or its variance has no effect on the output: it is taken away.
    dx = (dy - d_bias / count - (x - mean) * (inverse * d_scale / count)) * (scale * inverse)
    return dx.astype(narrow), d_scale, d_bias


batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: Array, scale: Array, bias: Array, epsilon: float = 1e-5) -> Array:
    """Layer normalisation (Ba et al. 2016) over the last axis, with PyTorch's epsilon."""
    return _layer_norm_fwd(x, scale, bias, epsilon)[0]


def _layer_norm_fwd(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    exact, share = wide(x), jnp.full(x.shape[-1], 1 / x.shape[-1])
    mean = row_sums(exact, share)
    inverse = lax.rsqrt(row_sums(jnp.square(exact - mean), share) + epsilon)
    return ((exact - mean) * inverse * scale + bias).astype(x.dtype), (x, scale, mean, inverse)


def _layer_norm_bwd(epsilon: float, saved: tuple[Array, Array, Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    x, scale, mean, inverse = saved
    dy, normal = wide(dy), (wide(x) - mean) * inverse
    product = dy * normal
    # What of dy would only move a token's mean or its variance has no effect on the output: it is taken away.
    share = scale / scale.size
    dx = (dy * scale - row_sums(dy, share) - normal * row_sums(product, share)) * inverse
    return dx.astype(x.dtype), column_sums(product), column_sums(dy)


layer_norm.defvjp(_layer_norm_fwd, _layer_norm_bwd)


class LayerNorm(nn.Module):
    """torch.nn.LayerNorm over the last axis."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        scale, bias = self.param("scale", init.ones, shape), self.param("bias", init.zeros, shape)
        return layer_norm(x, scale, bias, self.epsilon)


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm2d over all axes but the last; running statistics move by a tenth of the way each step.

    Like PyTorch, a batch is normalised with its biased variance while the running variance averages the unbiased one.
    With ``groups`` > 1 it is ghost batch normalisation (Hoffer et al. 2017): each of so many equal parts of the batch
    is normalised by itself, and running statistics move towards the mean of the parts' own.
    """

    groups: int = 1
    scale_init: Callable = init.ones
    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", init.zeros, shape) if self.use_bias else jnp.zeros(shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            y = (x - mean.value) * (jax.lax.rsqrt(var.value + self.epsilon) * scale) + bias
            return y.astype(x.dtype)
        y, batch_mean, batch_var = self._normalise(x, scale, bias)
        # The first call only makes the variables: running statistics start at 0 and 1.
        if not self.is_initializing():
            count = x.size // x.shape[-1] // self.groups
            unbiased = batch_var * (count / max(count - 1, 1))
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        return y

    def _normalise(self, x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
        """(x normalised, mean [c], biased variance [c]); with groups, the means of the parts' statistics."""
        if self.groups == 1:
            return batch_norm(x, scale, bias, self.epsilon)
        parts = x.reshape(self.groups, -1, *x.shape[1:])
        y, mean, var = jax.vmap(lambda part: batch_norm(part, scale, bias, self.epsilon))(parts)
        return y.reshape(x.shape), mean.mean(0), var.mean(0)

"""The primitives for which platforms want different programs; everything else in the models is plain JAX.

Each is one function: plain JAX on GPU and TPU, and on CPU a form measured to be faster there. Products take operands of
`dtype` and accumulate in float32.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

NHWC = ("NHWC", "HWIO", "NHWC")
CACHE_BYTES = 1 << 20  # a block that stays in a core's L2 cache while the kernel gradient reads it again and again


def _sum_type(dtype):
    """What products of `dtype` are accumulated in: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, w: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Dense product of x [..., i] and w [i, o]: float32 [..., o].

    JAX's own rule forms the gradient of w as (dy^T x)^T, for which a CPU transposes dy, often the larger operand.
    """
    return jnp.dot(x.astype(dtype), w.astype(dtype), preferred_element_type=_sum_type(dtype))


def _matmul_bwd(dtype, saved, dy):
    x, w = saved
    dy = dy.astype(dtype)
    dx = jnp.dot(dy, w.astype(dtype).T, preferred_element_type=_sum_type(dtype))
    xt = x.astype(dtype).reshape(-1, x.shape[-1]).T
    return dx, jnp.dot(xt, dy.reshape(-1, dy.shape[-1]), preferred_element_type=_sum_type(dtype))


matmul.defvjp(lambda x, w, dtype: (matmul(x, w, dtype), (x, w)), _matmul_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, dtype=jnp.float32) -> jax.Array:
    """PyTorch's Conv2d without bias, padding k // 2: x [b, h, w, i], kernel [k, k, i, o] -> float32 [b, h', w', o]."""
    return lax.platform_dependent(
        x, kernel, cpu=partial(_conv_cpu, stride, dtype), default=partial(_conv, stride, dtype)
    )


def _conv_fwd(x, kernel, stride, dtype):
    return conv(x, kernel, stride, dtype), (x, kernel)


def _conv_bwd(stride, dtype, saved, dy):
    def plain(x, kernel, dy):  # JAX's rule would bring all operands to the output's type
        rounded = partial(_conv, stride, dtype, out=dtype)
        return jax.vjp(rounded, x, kernel)[1](dy.astype(dtype))

    def cpu(x, kernel, dy):
        dx, dkernel = jax.vjp(partial(_conv_cpu, stride, dtype), x, kernel)[1](dy)
        return dx, dkernel if _few_taps(x, kernel, stride) else _kernel_gradient(x, dy, kernel.shape[0], stride)

    return lax.platform_dependent(*saved, dy, cpu=cpu, default=plain)


conv.defvjp(_conv_fwd, _conv_bwd)


def _conv(stride, dtype, x, kernel, out=None):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        (stride, stride),
        [(pad, pad)] * 2,
        dimension_numbers=NHWC,
        preferred_element_type=out or _sum_type(dtype),
    )


def _conv_cpu(stride, dtype, x, kernel):
    # XLA's CPU convolution is as fast as its matrix product, in float32, on maps larger than the kernel
    if _few_taps(x, kernel, stride):
        return _conv_taps(stride, dtype, x, kernel)
    return _conv(stride, _sum_type(dtype), x, kernel)


def _few_taps(x, kernel, stride) -> bool:
    return kernel.shape[0] == 1 or max(x.shape[1:3]) <= 2 * stride


def _conv_taps(stride, dtype, x, kernel):
    """Sum over the taps of the kernel, without those that meet only padding: on a 1x1 map 1 of 9 does any work."""
    k, (_, h, w, _) = kernel.shape[0], x.shape
    rows, columns = ([_overlap(n, tap - k // 2, stride) for tap in range(k)] for n in (h, w))
    y = 0.0
    for i, (from_i, to_i) in enumerate(rows):
        for j, (from_j, to_j) in enumerate(columns):
            part = x[:, from_i, from_j]
            if part.size:
                y += jnp.pad(matmul(part, kernel[i, j], dtype), ((0, 0), to_i, to_j, (0, 0)))
    return y


def _overlap(n: int, shift: int, stride: int) -> tuple[slice, tuple[int, int]]:
    """For outputs o that read input stride * o + shift: the inputs read that exist, and how many outputs miss theirs at
    either end."""
    outputs = -(-n // stride)
    inside = [o for o in range(outputs) if 0 <= stride * o + shift < n]
    if not inside:
        return slice(0, 0), (0, 0)
    first, last = inside[0], inside[-1]
    return slice(stride * first + shift, stride * last + shift + 1, stride), (first, outputs - 1 - last)


def _kernel_gradient(x, dy, k, stride):
    """Gradient of a convolution's kernel as a convolution over [i, h, w, b] with dy [h', w', b, o] for its kernel.

    In blocks of images that fit the cache: 1.5 to 4.7 times faster than the whole batch on maps of 8 to 32.
    """
    b = x.shape[0]
    n = next((n for n in range(1, b) if b % n == 0 and dy.nbytes <= n * CACHE_BYTES), b)
    # as many rows and columns of padding as give k x k outputs
    pads = [(k // 2, k + stride * (o - 1) - i - k // 2) for i, o in zip(x.shape[1:3], dy.shape[1:3], strict=True)]

    def block(total, images):
        xi, dyi = images
        return total + lax.conv_general_dilated(
            xi.transpose(3, 1, 2, 0),
            dyi.transpose(1, 2, 0, 3),
            (1, 1),
            pads,
            rhs_dilation=(stride, stride),
            dimension_numbers=NHWC,
        ), None

    zero = jnp.zeros((x.shape[-1], k, k, dy.shape[-1]), x.dtype)
    blocks = (x.reshape(n, b // n, *x.shape[1:]), dy.reshape(n, b // n, *dy.shape[1:]))
    return lax.scan(block, zero, blocks, unroll=min(n, 8))[0].transpose(1, 2, 0, 3)  # a loop's steps do not overlap


def max_pool(x: jax.Array) -> jax.Array:
    """PyTorch's MaxPool2d(3, stride=2, padding=1): x [b, h, w, c] -> [b, ceil(h / 2), ceil(w / 2), c].

    Of equal maxima the first in row-major order gets the gradient. On every platform it is two one-dimensional pools:
    their gradient needs only selects, where the gradient of lax.reduce_window needs a scatter.
    """
    return _pool(_pool(x, 2), 1)


def _pool_parts(x, axis):
    """What output o sees along the axis: inputs 2o - 1, 2o and 2o + 1."""
    n = x.shape[axis]
    x = lax.pad(x, -jnp.inf, [(0, n % 2 if a == axis else 0, 0) for a in range(4)])
    even, odd = (lax.slice_in_dim(x, i, None, 2, axis) for i in (0, 1))
    return _shift(odd, 1, axis, -jnp.inf), even, odd


def _shift(x, by, axis, fill):
    return lax.pad(x, fill, [(by, -by, 0) if a == axis else (0, 0, 0) for a in range(4)])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _pool(x, axis):
    before, even, odd = _pool_parts(x, axis)
    return jnp.maximum(jnp.maximum(before, even), odd)


def _pool_bwd(axis, x, dy):
    before, even, odd = _pool_parts(x, axis)
    to_before = (before >= even) & (before >= odd)
    to_even = ~to_before & (even >= odd)
    d_odd = jnp.where(to_before | to_even, 0.0, dy) + _shift(jnp.where(to_before, dy, 0.0), -1, axis, 0.0)
    dx = jnp.stack([jnp.where(to_even, dy, 0.0), d_odd], axis + 1)
    dx = dx.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return (lax.slice_in_dim(dx, 0, x.shape[axis], 1, axis),)


_pool.defvjp(lambda x, axis: (_pool(x, axis), x), _pool_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = 1e-5
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x [..., c] normalised over all axes but the last, the batch's mean [c] and its biased variance [c]).

    The gradient is that of Ioffe and Szegedy (2015, section 3), which needs two sums over the batch where JAX's own
    rule takes more; none flows through mean and variance as outputs, which are for running statistics.
    """
    return _batch_norm_fwd(x, scale, bias, epsilon)[0]


def _batch_norm_fwd(x, scale, bias, epsilon):
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    var = jnp.mean(jnp.square(x - mean), axes)
    inverse = lax.rsqrt(var + epsilon)
    return ((x - mean) * (inverse * scale) + bias, mean, var), (x, scale, mean, inverse)


def _batch_norm_bwd(epsilon, saved, gradients):
    x, scale, mean, inverse = saved
    dy, axes, count = gradients[0], tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    d_bias = jnp.sum(dy, axes)
    d_scale = jnp.sum(dy * (x - mean), axes) * inverse
    dx = (dy - d_bias / count - (x - mean) * (inverse * d_scale / count)) * (scale * inverse)
    return dx, d_scale, d_bias


batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """Layer normalisation over the last axis, with PyTorch's epsilon."""
    mean = jnp.mean(x, -1, keepdims=True)
    var = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + epsilon) * scale + bias


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, dtype=jnp.float32, dropout=lambda weights: weights
) -> jax.Array:
    """dropout(softmax(q k^T / sqrt(d))) v for q [b, h, m, d] and k, v of [b, h, n, d]: float32 [b, h, m, d]."""
    q, k, v = ((q * q.shape[-1] ** -0.5).astype(dtype), k.astype(dtype), v.astype(dtype))
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k, preferred_element_type=_sum_type(dtype))
    weights = checkpoint_name(jax.nn.softmax(scores), "weights")
    return jnp.einsum("bhqk,bhkd->bhqd", dropout(weights).astype(dtype), v, preferred_element_type=_sum_type(dtype))


def torch_linear_init(key, shape, dtype=jnp.float32, fan_in: int | None = None):
    """torch.nn.Linear's default for weight and bias: U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))."""
    bound = (fan_in or shape[0]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Linear(nn.Module):
    """torch.nn.Linear: its initialisation, float32 output."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        fan_in = x.shape[-1]
        y = matmul(x, self.param("kernel", torch_linear_init, (fan_in, self.features)), self.dtype)
        if self.use_bias:
            y += self.param("bias", partial(torch_linear_init, fan_in=fan_in), (self.features,))
        return y

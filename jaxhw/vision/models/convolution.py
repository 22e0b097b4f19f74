"""Convolution and max pooling, the primitives of a ResNet: plain JAX on GPU and TPU, faster forms on a CPU.

Shapes: b images of h rows, w columns and i input or o output channels; kernels of k x k taps. dy is the gradient of the
loss with respect to an output y.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxhw.vision.models.layers import matmul, out_type, sum_type, wide

Array = jax.Array
NHWC = ("NHWC", "HWIO", "NHWC")
CACHE_BYTES = 1 << 20  # a block that stays in a core's L2 cache while the kernel gradient reads it again and again


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: Array, kernel: Array, stride: int = 1, dtype: jnp.dtype = jnp.float32) -> Array:
    """PyTorch's Conv2d without bias, padding k // 2: x [b, h, w, i], kernel [k, k, i, o] -> [b, h', w', o]."""
    return lax.platform_dependent(
        x, kernel, cpu=partial(_conv_cpu, stride, dtype), default=partial(_conv, stride, dtype)
    )


def _conv_fwd(x: Array, kernel: Array, stride: int, dtype: jnp.dtype) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel, stride, dtype), (x, kernel)


def _conv_bwd(stride: int, dtype: jnp.dtype, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """The gradients of the input and of the kernel."""

    # JAX's own rule would bring all operands to the output's type, float32, and so leave the fast units unused.
    def plain(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
        rounded = partial(_conv, stride, dtype, out=dtype)
        return jax.vjp(rounded, x, kernel)[1](dy.astype(dtype))

    # On a CPU the kernel's gradient, a convolution by dy as a kernel, is faster in blocks of images.
    def cpu(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
        dx, dkernel = jax.vjp(partial(_conv_cpu, stride, dtype), x, kernel)[1](dy)
        if _few_taps(x, kernel, stride):
            return dx, dkernel
        return dx, _kernel_gradient(wide(x), wide(dy), kernel.shape[0], stride)

    return lax.platform_dependent(*saved, dy, cpu=cpu, default=plain)


conv.defvjp(_conv_fwd, _conv_bwd)


def _conv(stride: int, dtype: jnp.dtype, x: Array, kernel: Array, out: jnp.dtype | None = None) -> Array:
    """XLA's convolution."""
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        (stride, stride),
        [(pad, pad)] * 2,
        dimension_numbers=NHWC,
        preferred_element_type=out or out_type(x, dtype),
    )


def _conv_cpu(stride: int, dtype: jnp.dtype, x: Array, kernel: Array) -> Array:
    # On maps larger than the kernel XLA's CPU convolution, in float32, is as fast as its matrix product.
    if _few_taps(x, kernel, stride):
        return _conv_taps(stride, dtype, x, kernel)
    return _conv(stride, sum_type(dtype), x, kernel).astype(out_type(x, dtype))


def _few_taps(x: Array, kernel: Array, stride: int) -> bool:
    """Whether only a few taps of the kernel meet the image at all, so that a matrix product for each is faster."""
    return kernel.shape[0] == 1 or max(x.shape[1:3]) <= 2 * stride


def _conv_taps(stride: int, dtype: jnp.dtype, x: Array, kernel: Array) -> Array:
    """A convolution as a sum of matrix products, one for each tap of the kernel.

    Taps that meet only padding are left out: on a map of 1 x 1, one of nine is left.
    """
    # A tap that reads padding at one end gives outputs there that are 0: its product is padded to the output's size.
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
    """Which inputs a tap reads along one axis, where output o reads input stride * o + shift.

    Returns:
      (the inputs read that exist, how many outputs at either end would read padding).
    """
    outputs = -(-n // stride)
    inside = [o for o in range(outputs) if 0 <= stride * o + shift < n]
    if not inside:
        return slice(0, 0), (0, 0)
    first, last = inside[0], inside[-1]
    return slice(stride * first + shift, stride * last + shift + 1, stride), (first, outputs - 1 - last)


def _kernel_gradient(x: Array, dy: Array, k: int, stride: int) -> Array:
    """Gradient of a convolution's kernel [k, k, i, o], as a convolution over [i, h, w, b] with dy [h', w', b, o].

    In blocks of images that fit the cache: 1.5 to 4.7 times faster than the whole batch on maps of 8 to 32.
    """
    # The fewest blocks n that divide the batch and of which each one's dy fits the cache.
    b = x.shape[0]
    n = next((n for n in range(1, b) if b % n == 0 and dy.nbytes <= n * CACHE_BYTES), b)
    # As many rows and columns of padding as give k x k outputs.
    pads = [(k // 2, k + stride * (o - 1) - i - k // 2) for i, o in zip(x.shape[1:3], dy.shape[1:3], strict=True)]

    # Batch and channels change places: what is summed over, the images, must be the convolution's input channels.
    def block(total: Array, images: tuple[Array, Array]) -> tuple[Array, None]:
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
    # Unrolled, because the steps of a loop do not overlap.
    return lax.scan(block, zero, blocks, unroll=min(n, 8))[0].transpose(1, 2, 0, 3)


def max_pool(x: Array) -> Array:
    """PyTorch's MaxPool2d(3, stride=2, padding=1): x [b, h, w, c] -> [b, ceil(h / 2), ceil(w / 2), c].

    Of equal maxima the first in row-major order gets the gradient. It is two one-dimensional pools: their gradient
    needs only selects, where that of lax.reduce_window needs a scatter. But a TPU does the latter in one pass.
    """
    return lax.platform_dependent(x, tpu=pool_windows, default=pool_axes)


def pool_windows(x: Array) -> Array:
    """`max_pool` window by window."""
    pads = [(0, 0), (1, 1), (1, 1), (0, 0)]
    return lax.reduce_window(x, x.dtype.type(-jnp.inf), lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


def pool_axes(x: Array) -> Array:
    """`max_pool` axis by axis."""
    return _pool(_pool(x, 2), 1)


def _pool_parts(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """The three inputs that output o pools along the axis: 2o - 1, 2o and 2o + 1, each as an array over o."""
    n = x.shape[axis]
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, n % 2 if a == axis else 0, 0) for a in range(4)])
    even, odd = (lax.slice_in_dim(x, i, None, 2, axis) for i in (0, 1))
    return _shift(odd, 1, axis, -jnp.inf), even, odd


def _shift(x: Array, by: int, axis: int, fill: float) -> Array:
    """x moved by some places along an axis; what comes in from outside is `fill`."""
    return lax.pad(x, jnp.array(fill, x.dtype), [(by, -by, 0) if a == axis else (0, 0, 0) for a in range(4)])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _pool(x: Array, axis: int) -> Array:
    """Max pooling of width 3 and stride 2 along one axis."""
    before, even, odd = _pool_parts(x, axis)
    return jnp.maximum(jnp.maximum(before, even), odd)


def _pool_bwd(axis: int, x: Array, dy: Array) -> tuple[Array]:
    # Which of the three inputs was the maximum; of equal ones the first.
    before, even, odd = _pool_parts(x, axis)
    to_before = (before >= even) & (before >= odd)
    to_even = ~to_before & (even >= odd)
    # An odd input is pooled twice, as the last of one output and the first of the next: its gradients add up.
    d_odd = jnp.where(to_before | to_even, 0.0, dy) + _shift(jnp.where(to_before, dy, 0.0), -1, axis, 0.0)
    # Even and odd inputs take turns again.
    dx = jnp.stack([jnp.where(to_even, dy, 0.0), d_odd], axis + 1)
    dx = dx.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return (lax.slice_in_dim(dx, 0, x.shape[axis], 1, axis),)


_pool.defvjp(lambda x, axis: (_pool(x, axis), x), _pool_bwd)

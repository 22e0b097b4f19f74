"""The primitives of the models: matrix products, sums, convolution, max pooling, attention, the linear layer.

Platforms want different programs for some of them. Each is one function: plain JAX on GPU and TPU, and on CPU a form
measured to be faster there. Everything else in the models is plain JAX. Products take operands of `dtype`, accumulate
in float32 and return the type of their input x, if that is wider: so a model decides once, by the type of what enters
it, how its activations are kept in memory.

Shapes: b images of h rows, w columns and i input or o output channels; kernels of k x k taps. dy is the gradient of the
loss with respect to an output y.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint

Array = jax.Array
NHWC = ("NHWC", "HWIO", "NHWC")
# What lax.dot_general contracts, and over which axes the product is one for each: of x [b, m, k] with y [b, k, n], and
# with y [b, n, k].
BATCHED, BATCHED_TRANSPOSED = (((2,), (1,)), ((0,), (0,))), (((2,), (2,)), ((0,), (0,)))
ACTIVATIONS = ("auto", "float32", "bfloat16")
CACHE_BYTES = 1 << 20  # a block that stays in a core's L2 cache while the kernel gradient reads it again and again


def l2_normalise(z: Array) -> Array:
    """z / |z| over the last axis, by which dot products become cosine similarities; a vector of zeros stays 0."""
    return z * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(z), -1, keepdims=True), 1e-24))


def activation_type(activations: str, dtype: jnp.dtype) -> jnp.dtype:
    """The type that activations have: by "auto" that of products, but float32 on CPUs, which add bfloat16 slowly."""
    if activations != "auto":
        return jnp.dtype(activations)
    return _sum_type(dtype) if jax.default_backend() == "cpu" else jnp.dtype(dtype)


def wide(x: Array) -> Array:
    """x in float32 at least."""
    return x.astype(_sum_type(x.dtype))


def _sum_type(dtype: jnp.dtype) -> jnp.dtype:
    """The type that products of `dtype` are accumulated in: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


def _out_type(x: Array, dtype: jnp.dtype) -> jnp.dtype:
    """The type of the product of x by operands of `dtype`."""
    return jnp.promote_types(x.dtype, dtype)


def matmul(x: Array, w: Array, dtype: jnp.dtype = jnp.float32, out: jnp.dtype | None = None) -> Array:
    """Dense product of x [..., i] and w [i, o]: [..., o], of type `out` where that is given."""
    return _matmul(x, w, dtype, out or _out_type(x, dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _matmul(x: Array, w: Array, dtype: jnp.dtype, out: jnp.dtype) -> Array:
    return _product(x.astype(dtype), w.astype(dtype), (((x.ndim - 1,), (0,)), ((), ())), out)


def _matmul_bwd(dtype: jnp.dtype, out: jnp.dtype, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, w = saved
    dy = dy.astype(dtype)
    dx = _product(dy, w.astype(dtype), (((dy.ndim - 1,), (1,)), ((), ())), x.dtype)  # dy w^T
    xt = _transposed(x.astype(dtype).reshape(-1, x.shape[-1]))
    return dx, _product(xt, dy.reshape(-1, dy.shape[-1]), (((1,), (0,)), ((), ())), w.dtype)


_matmul.defvjp(lambda x, w, dtype, out: (_matmul(x, w, dtype, out), (x, w)), _matmul_bwd)


@jax.custom_vjp
def batched_matmul(x: Array, y: Array) -> Array:
    """The products of x [b, m, k] and y [b, k, n], of one type: [b, m, n] of that type."""
    return _product(x, y, BATCHED, x.dtype)


def _batched_matmul_bwd(saved: tuple[Array, Array], dz: Array) -> tuple[Array, Array]:
    x, y = saved
    return _product(dz, y, BATCHED_TRANSPOSED, x.dtype), _product(_transposed(x), dz, BATCHED, y.dtype)


batched_matmul.defvjp(lambda x, y: (batched_matmul(x, y), (x, y)), _batched_matmul_bwd)


@jax.custom_vjp
def batched_matmul_transposed(x: Array, y: Array) -> Array:
    """The products of x [b, m, k] and the transposed y [b, n, k], of one type: [b, m, n], float32 at least."""
    return _product(x, y, BATCHED_TRANSPOSED, _sum_type(x.dtype))


def _batched_matmul_transposed_bwd(saved: tuple[Array, Array], dz: Array) -> tuple[Array, Array]:
    x, y = saved
    dz = dz.astype(x.dtype)
    return _product(dz, y, BATCHED, x.dtype), _product(_transposed(dz), x, BATCHED, y.dtype)


batched_matmul_transposed.defvjp(lambda x, y: (batched_matmul_transposed(x, y), (x, y)), _batched_matmul_transposed_bwd)


def _product(x: Array, y: Array, dimensions: tuple, out: jnp.dtype) -> Array:
    """lax.dot_general of operands of one type, accumulated in float32, as type `out`.

    A CPU's fast product of bfloat16 gives float32; asked for another type it would multiply in float32.
    """
    product = partial(lax.dot_general, dimension_numbers=dimensions)
    total = _sum_type(x.dtype)
    return lax.platform_dependent(
        x,
        y,
        cpu=lambda x, y: product(x, y, preferred_element_type=total).astype(out),
        default=lambda x, y: product(x, y, preferred_element_type=out),
    )


def _transposed(x: Array) -> Array:
    """x with its last two axes exchanged: on a CPU in memory, since its products are two to four times slower else.

    But where the compiler divides a program among devices it would gather x whole for that.
    """
    turned = x.swapaxes(-1, -2)
    if jax.device_count() > 1 and not jax.sharding.get_abstract_mesh().manual_axes:
        return turned
    by_rows = Layout(tuple(range(x.ndim)))
    return lax.platform_dependent(turned, cpu=lambda t: with_layout_constraint(t, by_rows), default=lambda t: t)


def row_sums(x: Array, weights: Array) -> Array:
    """Weighted sums over the last axis of x [..., c], weights [c]: [..., 1].

    Here and in `column_sums` a CPU takes products, since XLA breaks the loop around a reduction in two there.
    """
    return lax.platform_dependent(
        x,
        weights,
        cpu=lambda x, weights: lax.dot_general(x, weights[:, None], (((x.ndim - 1,), (0,)), ((), ()))),
        default=lambda x, weights: jnp.sum(x * weights, -1, keepdims=True),
    )


def column_sums(x: Array) -> Array:
    """Sums over all axes of x [..., c] but the last: [c]."""
    rows = x.reshape(-1, x.shape[-1])
    return lax.platform_dependent(
        rows, cpu=lambda rows: jnp.ones(len(rows), rows.dtype) @ rows, default=lambda rows: jnp.sum(rows, 0)
    )


@jax.custom_vjp
def add_bias(y: Array, bias: Array) -> Array:
    """y [..., o] with bias [o] added, in the type of y."""
    return y + bias.astype(y.dtype)


add_bias.defvjp(lambda y, bias: (add_bias(y, bias), None), lambda _, dy: (dy, column_sums(wide(dy))))


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
        preferred_element_type=out or _out_type(x, dtype),
    )


def _conv_cpu(stride: int, dtype: jnp.dtype, x: Array, kernel: Array) -> Array:
    # On maps larger than the kernel XLA's CPU convolution, in float32, is as fast as its matrix product.
    if _few_taps(x, kernel, stride):
        return _conv_taps(stride, dtype, x, kernel)
    return _conv(stride, _sum_type(dtype), x, kernel).astype(_out_type(x, dtype))


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

    Of equal maxima the first in row-major order gets the gradient. On every platform it is two one-dimensional pools:
    their gradient needs only selects, where the gradient of lax.reduce_window needs a scatter.
    """
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


def attention(
    q: Array,
    k: Array,
    v: Array,
    dropout: Callable[[Array], Array] = lambda weights: weights,
) -> Array:
    """Scaled dot-product attention of h heads: dropout(softmax(q k^T / sqrt(d))) v (Vaswani et al. 2017, eq. 1).

    q: [b, h, m, d]; k, v: [b, h, n, d], of one type, the products' -> [b, h, m, d] of that type. The attention weights
    are named "weights", so that rematerialisation may keep them.
    """
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = (x.reshape(-1, *x.shape[-2:]) for x in (q * q.shape[-1] ** -0.5, k, v))
    weights = softmax(batched_matmul_transposed(q, k), q.dtype)
    return batched_matmul(dropout(weights), v).reshape(shape)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(x: Array, dtype: jnp.dtype) -> Array:
    """Softmax over the last axis, rounded to `dtype`; its gradient needs nothing else than the rounded result."""
    return jax.nn.softmax(x).astype(dtype)


def _softmax_fwd(x: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    y = checkpoint_name(softmax(x, dtype), "weights")
    return y, y


def _softmax_bwd(dtype: jnp.dtype, y: Array, dy: Array) -> tuple[Array]:
    y, dy = wide(y), wide(dy)
    return (y * (dy - jnp.sum(y * dy, -1, keepdims=True)),)


softmax.defvjp(_softmax_fwd, _softmax_bwd)


def torch_linear_init(
    key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32, fan_in: int | None = None
) -> Array:
    """torch.nn.Linear's default for weight and bias: U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)).

    It is Kaiming initialisation (He et al. 2015), uniform, with the gain that PyTorch chose: a = sqrt(5).
    """
    bound = (fan_in or shape[0]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Linear(nn.Module):
    """torch.nn.Linear, with its initialisation: x [..., i] -> [..., features], of type `out` where that is given."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    out: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        fan_in = x.shape[-1]
        y = matmul(x, self.param("kernel", torch_linear_init, (fan_in, self.features)), self.dtype, self.out)
        if not self.use_bias:
            return y
        return add_bias(y, self.param("bias", partial(torch_linear_init, fan_in=fan_in), (self.features,)))

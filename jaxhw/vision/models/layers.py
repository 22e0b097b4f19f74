"""The primitives of the models: matrix products, sums, attention, the linear layer; convolution.py has the others.

Platforms want different programs for some of them. Each is one function: plain JAX on GPU and TPU, and on CPU a form
measured to be faster there. Everything else in the models is plain JAX. Products take operands of `dtype`, accumulate
in float32 and return the type of their input x, if that is wider: so a model decides once, by the type of what enters
it, how its activations are kept in memory.

Shapes: i input and o output channels. dy is the gradient of the loss with respect to an output y.
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
# What lax.dot_general contracts, and over which axes the product is one for each: of x [b, m, k] with y [b, k, n], and
# with y [b, n, k].
BATCHED, BATCHED_TRANSPOSED = (((2,), (1,)), ((0,), (0,))), (((2,), (2,)), ((0,), (0,)))
ACTIVATIONS = ("auto", "float32", "bfloat16")


def l2_normalise(z: Array) -> Array:
    """z / |z| over the last axis, by which dot products become cosine similarities; a vector of zeros stays 0."""
    return z * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(z), -1, keepdims=True), 1e-24))


def activation_type(activations: str, dtype: jnp.dtype) -> jnp.dtype:
    """The type that activations have: by "auto" that of products, but float32 on CPUs, which add bfloat16 slowly."""
    if activations != "auto":
        return jnp.dtype(activations)
    return sum_type(dtype) if jax.default_backend() == "cpu" else jnp.dtype(dtype)


def wide(x: Array) -> Array:
    """x in float32 at least."""
    return x.astype(sum_type(x.dtype))


def sum_type(dtype: jnp.dtype) -> jnp.dtype:
    """The type that products of `dtype` are accumulated in: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


def out_type(x: Array, dtype: jnp.dtype) -> jnp.dtype:
    """The type of the product of x by operands of `dtype`."""
    return jnp.promote_types(x.dtype, dtype)


def matmul(x: Array, w: Array, dtype: jnp.dtype = jnp.float32, out: jnp.dtype | None = None) -> Array:
    """Dense product of x [..., i] and w [i, o]: [..., o], of type `out` where that is given."""
    return _matmul(x, w, dtype, out or out_type(x, dtype))


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
    return _product(x, y, BATCHED_TRANSPOSED, sum_type(x.dtype))


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
    total = sum_type(x.dtype)
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


def attention_by_head(q: Array, k: Array, v: Array) -> Array:
    """`attention` one head after the other, whose weights the backward pass computes again: nothing of them is kept.

    The weights of one head fit the memory beside a TPU's units, where those of all would pass through HBM.
    """
    heads = tuple(x.swapaxes(0, 1) for x in (q, k, v))
    return lax.map(jax.checkpoint(lambda head: attention(*head)), heads).swapaxes(0, 1)


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

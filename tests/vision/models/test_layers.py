"""Every lowering of a primitive gives the same values and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.vision.models import convolution, layers, norms


def values_and_gradients(f, *args):
    y, pullback = jax.vjp(f, *args)
    return y, *pullback(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max() + 1))


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [
        *[(8, 3, 1), (8, 3, 2), (7, 3, 2), (5, 3, 1), (4, 3, 2), (3, 3, 1), (2, 3, 1), (2, 3, 2), (1, 3, 1), (1, 3, 2)],
        *[(8, 1, 1), (8, 1, 2), (7, 1, 2), (32, 7, 2), (9, 7, 2), (2, 7, 2)],
    ],
)
def test_convolution(size, kernel, stride, monkeypatch):
    monkeypatch.setattr(convolution, "CACHE_BYTES", 1024)  # several blocks even of small maps
    keys = jax.random.split(jax.random.key(size), 2)
    x = jax.random.normal(keys[0], (4, size, size + (size > 2), 5))
    w = jax.random.normal(keys[1], (kernel, kernel, 5, 6)) / kernel
    ours = partial(convolution.conv, stride=stride)
    theirs = partial(convolution._conv, stride, jnp.float32)
    close(jax.jit(partial(values_and_gradients, ours))(x, w), jax.jit(partial(values_and_gradients, theirs))(x, w))


@pytest.mark.parametrize("size", [(8, 8), (7, 4), (1, 2)])
@pytest.mark.parametrize("form", [convolution.max_pool, convolution.pool_axes])
def test_max_pool(size, form):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    close(values_and_gradients(form, x), values_and_gradients(convolution.pool_windows, x))
    assert form(x.astype(jnp.bfloat16)).dtype == convolution.pool_windows(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("form", [convolution.pool_axes, convolution.pool_windows])
def test_max_pool_gives_the_gradient_to_the_first_of_equal_maxima(form):
    x = jnp.ones((1, 4, 4, 1))
    gradient = jax.grad(lambda x: form(x).sum())(x)[0, :, :, 0]
    # torch.nn.functional.max_pool2d(x, 3, 2, 1) of ones
    np.testing.assert_array_equal(gradient, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_matmul():
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (2, 3, 4)), jax.random.normal(keys[1], (4, 5))
    close(values_and_gradients(layers.matmul, x, w), values_and_gradients(jnp.dot, x, w))


@pytest.mark.parametrize(
    ("ours", "plain", "shapes"),
    [
        (layers.batched_matmul, jnp.matmul, ((3, 4, 5), (3, 5, 2))),
        (layers.batched_matmul_transposed, lambda x, y: x @ y.swapaxes(1, 2), ((3, 4, 5), (3, 2, 5))),
        (layers.row_sums, lambda x, w: (x * w).sum(-1, keepdims=True), ((2, 3, 4), (4,))),
        (layers.column_sums, lambda x: x.sum((0, 1)), ((2, 3, 4),)),
        (layers.add_bias, jnp.add, ((2, 3, 4), (4,))),
        (lambda x: layers.softmax(x, jnp.float32), jax.nn.softmax, ((2, 3, 4),)),
    ],
)
def test_products_and_sums(ours, plain, shapes):
    args = [jax.random.normal(key, s) for key, s in zip(jax.random.split(jax.random.key(0), 2), shapes, strict=False)]
    close(jax.jit(partial(values_and_gradients, ours))(*args), values_and_gradients(plain, *args))


@pytest.mark.parametrize("of", [layers.batched_matmul, layers.batched_matmul_transposed, layers.matmul])
def test_products_of_bfloat16_round_their_operands_alone(of):
    """Not their sums: both platforms' forms accumulate in float32."""
    x, y = jax.random.normal(jax.random.key(0), (2, 3, 40, 40)).astype(jnp.bfloat16)
    if of is layers.matmul:
        x, y, of = x[0], y[0], partial(layers.matmul, out=jnp.float32)
    exact = of(x.astype(jnp.float32), y.astype(jnp.float32))
    got = of(x, y)
    np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=1e-5, rtol=0 if got.dtype == jnp.float32 else 4e-3)


def test_layer_norm():
    def plain(x, scale, bias):
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias

    x = 3 + jax.random.normal(jax.random.key(0), (2, 5, 4))
    scale, bias = jnp.array([1.0, 0.5, -2.0, 1.0]), jnp.arange(4.0)
    ours = values_and_gradients(norms.layer_norm, x, scale, bias)
    close(ours, values_and_gradients(plain, x, scale, bias))


@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 2, 3)])
def test_batch_norm(shape):
    def plain(x, scale, bias):
        mean, var = x.mean(axes), x.var(axes)
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    axes = tuple(range(len(shape) - 1))
    x = 3 + jax.random.normal(jax.random.key(0), shape)
    scale, bias = jnp.array([1.0, 0.5, -2.0]), jnp.array([0.0, 1.0, 2.0])
    ours = values_and_gradients(lambda *args: norms.batch_norm(*args)[0], x, scale, bias)
    close(ours, values_and_gradients(plain, x, scale, bias))
    _, mean, var = norms.batch_norm(x, scale, bias)
    close((mean, var), (x.mean(axes), x.var(axes)))


def test_moments():
    x = 3 + jax.random.normal(jax.random.key(0), (4, 5, 6, 7))
    for ours, theirs in zip(norms.moments_at_once(x), norms.moments(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    _, var = norms.moments_at_once(jnp.full((1000, 1), 12345.678))
    assert var == 0  # not below, whatever rounding says


def test_attention():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 2, 5, 4))

    def plain(q, k, v):
        return jax.nn.softmax(q @ k.swapaxes(-1, -2) / 2) @ v

    for form in (layers.attention, layers.attention_by_head):
        close(values_and_gradients(form, q, k, v), values_and_gradients(plain, q, k, v))


@pytest.mark.parametrize("kernel", [1, 3])
def test_accelerators_convolve_bfloat16_forwards_and_backwards(kernel):
    """float32 operands would run at a fraction of the speed; what is compiled for a TPU can be read anywhere."""
    loss = lambda x, w: jnp.sum(jnp.square(convolution.conv(x, w, 1, jnp.bfloat16)))
    shapes = (
        jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.float32),
        jax.ShapeDtypeStruct((kernel, kernel, 16, 32), jnp.float32),
    )
    text = jax.jit(jax.grad(loss, (0, 1))).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(lines) == 3
    assert all("xf32" not in line.split(" : (")[1].split(" -> ")[0] for line in lines)

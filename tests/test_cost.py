"""Operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxhw import cost
from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import NO_CAMERA, Rays
from jaxhw.nerf.fields.vanilla import Options, Vanilla
from jaxhw.vision.models import registry

A, B = jnp.zeros((8, 16)), jnp.zeros((16, 32))
PRODUCT = 2 * 8 * 16 * 32


def test_products_in_loops_branches_and_on_devices():
    scanned = lambda a: lax.scan(lambda c, _: (c + (a @ B).sum(), None), 0.0, length=5)
    assert cost.flops(scanned, A) == 5 * PRODUCT
    assert cost.flops(lambda a: lax.cond(a[0, 0] > 0, lambda a: a @ B, lambda a: a @ B + a @ B, a), A) == 2 * PRODUCT
    assert cost.flops(jax.jit(jax.checkpoint(lambda a: a @ B)), A) == PRODUCT
    assert cost.flops(lambda a: meshes.summed(lambda b, a: a @ b, meshes.make_mesh(1), B, a), A) == PRODUCT


def test_the_form_of_the_platform_counts():
    both = lambda a: lax.platform_dependent(a, tpu=lambda a: a @ B, default=lambda a: (a @ B) @ B.T @ B)
    assert cost.flops(both, A, platform="tpu") == PRODUCT
    assert cost.flops(both, A, platform="cuda") == 3 * PRODUCT


def test_a_strided_convolution_costs_its_gradients_as_much_as_itself():
    convolve = lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x, w = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    forward = 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert cost.flops(convolve, x, w) == forward
    loss = lambda x, w: convolve(x, w).sum()
    assert cost.flops(jax.value_and_grad(loss, (0, 1)), x, w) == 3 * forward  # the function and its two gradients
    assert cost.flops(jax.grad(loss, (0, 1)), x, w) == 2 * forward  # nobody asks for the function's value


def test_resnet50_has_the_published_operations():
    """4.09 billion multiplications and additions for a picture of 224 px (torchvision's documentation)."""
    model = registry.create({"name": "resnet50"}, 1000, 224)
    shapes, image = registry.shapes(model, 224), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    count = cost.flops(lambda v, x: model.apply(v, x, train=False), shapes, image, platform="cuda")
    assert count / 2 == pytest.approx(4.09e9, rel=0.01)


def test_a_resnets_step_has_three_times_the_operations_of_its_layers():
    """But for the gradient of the images, which nobody asks for."""
    model = registry.create({"name": "resnet50"}, 1000, 224)
    shapes, image = registry.shapes(model, 224), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    loss = lambda params, v, x: model.apply({**v, "params": params}, x, train=True, mutable=["batch_stats"])[0].sum()
    count = cost.flops(jax.value_and_grad(loss), shapes["params"], shapes, image, platform="cuda")
    stem = 112 * 112 * 64 * 7 * 7 * 3
    assert count / 2 == pytest.approx(3 * 4.09e9 - stem, rel=0.01)


def test_the_vit_has_the_operations_of_its_layers():
    width, tokens, depth, inner, mlp = 192, 65, 25, 384, 384
    model = registry.create({"name": "vit"}, 100, 32)
    shapes, image = registry.shapes(model, 32), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    block = tokens * width * (4 * inner + 2 * mlp) + 2 * tokens * tokens * inner
    spared = (tokens - 1) * width * (2 * inner + 2 * mlp) + 2 * (tokens - 1) * tokens * inner  # only the class token
    expected = depth * block - spared + 64 * 48 * width + width * 100
    count = cost.flops(lambda v, x: model.apply(v, x, train=False), shapes, image, platform="cuda")
    assert count / 2 == pytest.approx(expected, rel=0.001)


def test_a_nerf_has_the_operations_of_its_two_networks():
    field = Vanilla(Options(), near=2.0, far=6.0)
    variables = jax.eval_shape(lambda: field.start(jax.random.key(0)))
    rays = Rays(jnp.zeros((10, 3)), jnp.ones((10, 3)), jnp.full(10, NO_CAMERA))
    kernels = [k for k in jax.tree.leaves(variables.params["fine"]) if len(k.shape) == 2]
    network = 2 * sum(k.shape[0] * k.shape[1] for k in kernels)
    colours = 2 * (256 * 256 + 283 * 128 + 128 * 3)  # the layers after the density, for colours alone
    samples = 64 + (64 + 128)
    count = cost.flops(lambda v, r: field.render(v, r, jnp.ones(3)), variables, rays)
    # Of the coarse network a picture needs the densities.
    assert count == pytest.approx(10 * (samples * network - 64 * colours), rel=0.01)

"""A model normalised by parts of the batch gives the same on one device, where each has whole parts, and where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.vision.models import parts
from jaxhw.vision.models.resnet import ResNet


@pytest.mark.parametrize("axes", [(2, 1), (4, 1), (8, 1), (2, 2), (4, 2)])
def test_devices_do_not_change_outputs_statistics_and_gradients(axes):
    model = ResNet((1, 1), bottleneck=False, width=4, stem="cifar", num_classes=3, norm_groups=4)
    images = jax.random.normal(jax.random.key(0), (16, 8, 8, 3))
    variables = model.init(jax.random.key(1), images, train=False)

    def measure(data, fsdp):
        mesh = meshes.make_mesh(data, fsdp=fsdp)
        apply = parts.in_training(model, mesh)

        def loss(params, images):
            logits, new = apply({**variables, "params": params}, images, jax.random.key(2))
            return jnp.square(logits - 1).mean(), (logits, new)

        value = jax.jit(jax.value_and_grad(loss, has_aux=True))
        put = jax.device_put(images, meshes.by_row(mesh))
        (_, aux), grads = value(jax.device_put(variables["params"], meshes.replicated(mesh)), put)
        return jax.device_get((aux, grads))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), measure(1, 1), measure(*axes))


def test_devices_with_whole_parts_meet_at_the_gradient_alone():
    """A normalisation over the devices would need an all-reduce in the forward pass."""
    images = jnp.zeros((8, 8, 8, 3))
    mesh = meshes.make_mesh(2)
    counts = []
    for groups in (1, 2):
        model = ResNet((1,), bottleneck=False, width=4, stem="cifar", num_classes=3, norm_groups=groups)
        variables = model.init(jax.random.key(1), images, train=False)
        apply = parts.in_training(model, mesh)
        forward = jax.jit(lambda v, x, apply=apply: apply(v, x, jax.random.key(2))[0])
        shapes = jax.ShapeDtypeStruct(images.shape, images.dtype, sharding=meshes.by_row(mesh))
        counts.append(forward.lower(variables, shapes).compile().as_text().count("all-reduce("))
    assert counts[1] == 0 < counts[0]

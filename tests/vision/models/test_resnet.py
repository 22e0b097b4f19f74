"""What torchvision's values don't show: initialisation, statistics over a sharded batch, features without a head."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxhw.vision.models.norms import BatchNorm
from jaxhw.vision.models.resnet import ResNet


def tiny(**options):
    return ResNet((1,), bottleneck=False, width=4, stem="cifar", **options)


def test_features_are_pooled_maps_and_feed_the_head():
    x = jnp.ones((2, 8, 8, 3))
    variables = tiny(num_classes=5).init(jax.random.key(0), x, train=False)
    features = tiny(num_classes=5).apply(variables, x, False, method="features")
    head = variables["params"]["head"]
    assert features.shape == (2, 4)
    logits = tiny(num_classes=5).apply(variables, x, train=False)
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], atol=1e-6)
    assert tiny().apply(tiny().init(jax.random.key(0), x, train=False), x, train=False).shape == (2, 4)


def test_zero_init_residual_starts_blocks_as_their_shortcuts():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = tiny(zero_init_residual=True).init(jax.random.key(0), x, train=False)
    assert not variables["params"]["layer1_0"]["bn2"]["scale"].any()
    assert variables["params"]["layer1_0"]["bn1"]["scale"].all()


def test_convolutions_start_with_kaiming_fan_out():
    x = jnp.zeros((1, 8, 8, 3))
    kernel = ResNet((), False, width=64).init(jax.random.key(0), x, train=False)["params"]["conv1"]["kernel"]
    assert float(kernel.std()) == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)


def test_batch_statistics_are_global_over_a_sharded_batch():
    devices = jax.devices()
    x = jax.random.normal(jax.random.key(0), (2 * len(devices), 2, 2, 3)) + 1
    variables = BatchNorm().init(jax.random.key(0), x, True)
    apply = jax.jit(partial(BatchNorm().apply, train=True, mutable=["batch_stats"]))
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    y, new = apply(variables, sharded)
    axes = (0, 1, 2)
    np.testing.assert_allclose(y, (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5), atol=1e-5)
    # PyTorch averages the unbiased variance
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.9 + 0.1 * x.var(axes, ddof=1), rtol=1e-5)


def test_groups_are_normalised_by_themselves():
    x = jax.random.normal(jax.random.key(0), (6, 2, 2, 3)) * jnp.arange(1.0, 7.0)[:, None, None, None]
    norm = BatchNorm(groups=3)
    variables = norm.init(jax.random.key(0), x, True)
    y, new = norm.apply(variables, x, True, mutable=["batch_stats"])
    halves = [BatchNorm().apply(variables, part, True, mutable=["batch_stats"]) for part in jnp.split(x, 3)]
    np.testing.assert_allclose(y, jnp.concatenate([y for y, _ in halves]), atol=1e-6)
    for name in ("mean", "var"):
        want = np.mean([new["batch_stats"][name] for _, new in halves], 0)
        np.testing.assert_allclose(new["batch_stats"][name], want, rtol=1e-6)

"""The registry: options, counts and complaints. Nothing here compiles a model."""

import jax
import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.vision.models import registry


def count(config, classes, size=32):
    shapes = registry.shapes(registry.create(config, classes, size), size)
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("config", "classes", "expected"),
    [
        ({"name": "resnet18"}, 100, 11_227_812),
        ({"name": "resnet18", "stem": "cifar"}, 100, 11_220_132),
        ({"name": "resnet34"}, 1000, 21_797_672),
        ({"name": "resnet50"}, 1000, 25_557_032),
        ({"name": "resnet50"}, None, 23_508_032),
        ({"name": "vit"}, 100, 11_139_844),
    ],
)
def test_parameter_counts_of_torchvision_and_vit_pytorch(config, classes, expected):
    assert count(config, classes) == expected


def test_options_are_the_defaults_and_create_takes_them():
    defaults = {"head": "linear", "stem": "torchvision", "width": 64, "zero_init_residual": False, "norm_groups": 1}
    assert registry.options("resnet18") == defaults | {"activations": "auto"}
    assert registry.options("vit")["depth"] == 25
    for name in registry.MODELS:
        assert registry.create({"name": name, **registry.options(name)}, 10, 32) == registry.create(
            {"name": name}, 10, 32
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "resnet19"}, "resnet18, resnet34, resnet50, vit"),
        (
            {"name": "resnet18", "depth": 3},
            "depth is no option of resnet18; choose from head, stem, width, zero_init_residual",
        ),
        ({"name": "resnet18", "stem": "imagenet"}, "torchvision, cifar"),
        ({"name": "vit", "patch": 5}, "does not divide"),
        ({"name": "vit", "pool": "max"}, "cls, mean"),
        ({"name": "vit", "head": "mpl"}, "linear, mlp"),
        ({"name": "vit", "style": "torch"}, "vit-pytorch, timm"),
        ({"name": "vit", "depth": 0}, r"config\.model\.depth=0 must be a whole number of at least 1"),
        ({"name": "vit", "dropout": 1.0}, r"config\.model\.dropout=1\.0 must be a number of at least 0 and below 1"),
    ],
)
def test_bad_options_are_user_errors_of_one_line(config, message):
    with pytest.raises(UserError, match=message) as error:
        registry.create(config, 10, 32)
    assert "\n" not in str(error.value)


def test_unknown_dtype_is_a_user_error():
    with pytest.raises(UserError, match="float32, bfloat16"):
        registry.create({"name": "vit"}, 10, 32, "float16")

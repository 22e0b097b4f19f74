"""What vit-pytorch's values don't show: dropout, stochastic depth, token order, features."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.vision.models.vit import ViT, drop, patches

TINY = {"image_size": 8, "width": 8, "depth": 2, "heads": 2, "head_dim": 4, "mlp": 8, "patch": 4}


@pytest.fixture(scope="module")
def variables():
    init = jax.jit(partial(ViT(**TINY, num_classes=3).init, train=False))
    return init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_patches_keep_rows_columns_channels_in_this_order():
    image = jnp.arange(8 * 8 * 3).reshape(1, 8, 8, 3)
    tokens = patches(image, 4)
    np.testing.assert_array_equal(tokens[0, 1], image[0, :4, 4:].ravel())
    np.testing.assert_array_equal(tokens[0, 2], image[0, 4:, :4].ravel())


@pytest.mark.parametrize("option", ["dropout", "emb_dropout", "drop_path"])
def test_dropouts_act_in_training_only_and_follow_the_key(variables, option):
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    plain = ViT(**TINY, num_classes=3).apply(variables, x, train=True)
    model = ViT(**TINY, num_classes=3, **{option: 0.5})
    train = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={"dropout": key}))
    np.testing.assert_allclose(model.apply(variables, x, train=False), plain, atol=1e-6)
    assert not np.allclose(train(jax.random.key(0)), plain)
    assert not np.allclose(train(jax.random.key(0)), train(jax.random.key(1)))
    np.testing.assert_array_equal(train(jax.random.key(0)), train(jax.random.key(0)))


def test_rematerialisation_changes_what_is_kept_and_nothing_else():
    x, kept, grads = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3)), {}, {}
    params = jax.jit(partial(ViT(**{**TINY, "depth": 5}).init, train=False))(jax.random.key(0), x)["params"]
    for remat in ("none", "products", "heads", "full"):
        model = ViT(**{**TINY, "depth": 5}, remat=remat)
        loss = lambda params, model=model: jnp.square(model.apply({"params": params}, x, train=True)).mean()
        residuals = jax.eval_shape(lambda params, loss=loss: jax.vjp(loss, params)[1], params)
        kept[remat] = sum(leaf.size for leaf in jax.tree.leaves(residuals))
        grads[remat] = jax.grad(loss)
    assert kept["none"] > 1.1 * kept["products"] > 1.1 * 1.05 * kept["heads"] > 1.1 * 1.2 * kept["full"]
    some, less, least = (jax.jit(grads[remat])(params) for remat in ("products", "heads", "full"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), some, less)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), some, least)


def test_drop_keeps_the_mean_and_drops_whole_images():
    x = jnp.ones((4000, 2, 2))
    y = jax.jit(partial(drop, per_image=True))(x, jnp.float32(0.25), jax.random.key(0))
    assert float(y.mean()) == pytest.approx(1, abs=0.05)
    assert set(np.unique(y.sum((1, 2)).round(3))) == {0.0, np.float32(5.333)}


def test_features_feed_the_head(variables):
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    model, head = ViT(**TINY, num_classes=3), variables["params"]["head"]
    features = model.apply(variables, x, False, method="features")
    assert features.shape == (4, 8)
    expected = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(model.apply(variables, x, train=False), expected, atol=1e-6)


@pytest.mark.parametrize("style", ["vit-pytorch", "timm"])
@pytest.mark.parametrize("remat", ["products", "heads", "full"])
def test_what_is_computed_again_changes_no_gradient(style, remat):
    """ "none" unrolls the blocks, the others scan over them; dropout and stochastic depth draw the same numbers."""
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    options = {**TINY, "depth": 3, "num_classes": 3, "style": style, "dropout": 0.1, "drop_path": 0.2}
    params = ViT(**options).init(jax.random.key(0), x, train=False)["params"]

    def gradients(remat):
        model = ViT(**options, remat=remat)
        loss = lambda p: jnp.square(model.apply({"params": p}, x, True, rngs={"dropout": jax.random.key(2)})).sum()
        return jax.jit(jax.value_and_grad(loss))(params)

    for ours, theirs in zip(*(jax.tree.leaves(gradients(r)) for r in (remat, "none")), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max() + 1e-3))

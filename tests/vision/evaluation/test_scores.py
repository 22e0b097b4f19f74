import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jaxhw import mesh as meshes
from jaxhw.vision.data.datasets import Dataset
from jaxhw.vision.evaluation.scores import Evaluator

CLASSES, N = 7, 53


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, N).astype(np.int32)
    return Dataset(labels, [str(i) for i in range(CLASSES)], 4, images, np.arange(N))


def logits(variables, images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ variables["params"]


def reference(data, weights):
    return data.images.reshape(N, -1).astype("f") @ weights


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 16), (1, 53), (1, 64), (8, 16)])
def test_scores_equal_scikit_learn_on_every_image(data, devices, batch_size):
    """53 images in batches that do not divide them: the padding of the last batch must not count."""
    weights = np.random.default_rng(1).normal(size=(48, CLASSES)).astype("f") / 300
    evaluator = Evaluator(logits, CLASSES, batch_size, meshes.make_mesh(devices))
    scores = evaluator({"params": weights}, data)
    assert evaluator._add._cache_size() == 1
    z = reference(data, weights)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    numbers = scores.numbers("test")
    assert scores.images == N
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(data.labels, z.argmax(1)))
    assert numbers["test_accuracy"] == pytest.approx(metrics.accuracy_score(data.labels, z.argmax(1)))
    assert numbers["test_top5"] == pytest.approx(metrics.top_k_accuracy_score(data.labels, z, k=5))
    assert numbers["test_loss"] == pytest.approx(metrics.log_loss(data.labels, p), rel=1e-5)
    recall = metrics.recall_score(data.labels, z.argmax(1), average=None)
    np.testing.assert_allclose(scores.per_class(), recall)


def test_nan_logits_are_wrong(data):
    """Those of every class, or of one alone; the sums over all images stay."""
    evaluator = Evaluator(logits, CLASSES, 16, meshes.make_mesh(1))
    for column in (slice(None), 3):
        weights = np.zeros((48, CLASSES), "f")
        weights[:, column] = np.nan
        scores = evaluator({"params": weights}, data)
        assert np.trace(scores.confusion) == 0 and scores.images == N
        assert scores.numbers("test")["test_accuracy"] == 0 and not np.nan_to_num(scores.per_class()).any()
    assert evaluator({"params": np.full((48, CLASSES), np.nan, "f")}, data).top5 == 0


def test_a_class_without_images_has_no_accuracy(data):
    scores = Evaluator(logits, 8, 16, meshes.make_mesh(1))({"params": np.zeros((48, 8), "f")}, data)
    assert np.isnan(scores.per_class()[7]) and not np.isnan(scores.per_class()[:7]).any()

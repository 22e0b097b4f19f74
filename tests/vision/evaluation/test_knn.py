"""kNN against a few lines of numpy."""

import numpy as np
import pytest

from jaxhw.vision.evaluation import knn


@pytest.fixture(scope="module")
def clouds():
    """Ten directions with noise: (features [n, 6], labels [n])."""
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(size=(10, 6)), rng.integers(0, 10, 700)
    z = centres[labels] + 0.7 * rng.normal(size=(700, 6))
    return (z * rng.uniform(0.1, 10, (700, 1))).astype(np.float32), labels.astype(np.int32)


def by_hand(bank, labels, query, k, temperature):
    cosines = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
    result = np.zeros(10)
    for i in np.argsort(-cosines)[:k]:
        result[labels[i]] += np.exp((cosines[i] - 1) / temperature)
    return result


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (1, 0.1), (1000, 0.5)])
def test_votes(clouds, k, temperature):
    """300 queries are more than a chunk; 1000 neighbours are more than there are."""
    z, labels = clouds
    bank, queries = z[:400], z[400:]
    ours = np.asarray(knn.votes(bank, labels[:400], queries, 10, k, temperature))
    assert ours.shape == (300, 10)
    for row in (0, 17, 299):
        np.testing.assert_allclose(ours[row], by_hand(bank, labels[:400], queries[row], k, temperature), rtol=1e-3)


def test_accuracy_and_neighbours(clouds):
    z, labels = clouds
    accuracy = knn.accuracy(z[:400], labels[:400], z[400:], labels[400:], k=20, temperature=0.1)
    called = [by_hand(z[:400], labels[:400], query, 20, 0.1).argmax() for query in z[400:]]
    assert accuracy == pytest.approx(np.mean(called == labels[400:])) and 0.5 < accuracy < 1
    near = np.asarray(knn.nearest(z, z[:5], 3))
    assert near.shape == (5, 3) and (near[:, 0] == np.arange(5)).all()


def test_labels_that_the_bank_lacks_are_wrong_not_an_error(clouds):
    z, _ = clouds
    assert knn.accuracy(z, np.zeros(700, np.int32), z[:50], np.full(50, 3), k=5, temperature=0.1) == 0

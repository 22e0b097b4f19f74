"""Drawing a part of a set: stratified, nested, a function of the seed. (More on cutting in two: test_datasets.)"""

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.vision.data.splits import split_validation, subset

LABELS = np.random.default_rng(0).choice(7, 1000, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04])
FRACTIONS = (0.004, 0.01, 0.05, 1 / 16, 0.1, 1 / 3, 0.5, 0.99, 1.0)


@pytest.mark.parametrize("labels", [LABELS, np.arange(1000) % 10, np.full(1000, -1)])
def test_parts_are_stratified_and_nested(labels):
    within = set()
    for fraction in FRACTIONS:
        drawn = subset(labels, fraction, seed=3)
        assert len(drawn) == round(1000 * fraction) and (np.diff(drawn) > 0).all()
        for c in np.unique(labels):
            assert abs((labels[drawn] == c).sum() - fraction * (labels == c).sum()) <= 1
        assert within <= set(drawn)
        within = set(drawn)
    assert len(within) == 1000


def test_the_seed_decides():
    a, b, c = subset(LABELS, 0.1, 1), subset(LABELS, 0.1, 1), subset(LABELS, 0.1, 2)
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_the_seed_decides_between_classes_with_equal_claims():
    labels = np.repeat(np.arange(100), 5)  # half an image of each is to be held out: one of 50 classes
    first, second = (set(labels[split_validation(labels, 0.1, seed)[1]]) for seed in (0, 1))
    assert len(first) == len(second) == 50 and first != second
    assert 10 < sum(c < 50 for c in first) < 40 and 10 < sum(c < 50 for c in second) < 40


def test_no_class_loses_its_only_image():
    labels = np.concatenate([np.arange(40), np.repeat(np.arange(40, 50), 2)])
    train, val = split_validation(labels, 0.1, seed=0)
    assert len(val) == 6 and labels[val].min() >= 40 and len(set(labels[train])) == 50
    assert len(split_validation(labels, 0.3, seed=0)[1]) == 10  # not 18: no more can be spared
    with pytest.raises(UserError, match=r"^none of 40 images can be held out: [^\n]*$"):
        split_validation(np.arange(40), 0.1, seed=0)


def test_fewer_images_than_classes():
    labels = np.repeat(np.arange(100), 50)
    drawn = [set(labels[subset(labels, 0.01, seed)]) for seed in (0, 1)]
    assert len(drawn[0]) == len(drawn[1]) == 50 and drawn[0] != drawn[1]
    assert set(labels[subset(labels, 0.02, 0)]) == set(range(100))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, 0.0001])
def test_a_fraction_that_leaves_nothing_is_one_line(fraction):
    with pytest.raises(UserError, match=r"^a fraction of [^\n]*$"):
        subset(LABELS, fraction, 0)

"""Drawing a part of a set: stratified, nested, a function of the seed. (Cutting in two is in test_datasets.)"""

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.vision.splits import subset

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


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, 0.0001])
def test_a_fraction_that_leaves_nothing_is_one_line(fraction):
    with pytest.raises(UserError, match=r"^a fraction of [^\n]*$"):
        subset(LABELS, fraction, 0)

"""Sets of domain folders of class folders."""

import numpy as np
import pytest
from PIL import Image

from jaxhw.errors import UserError
from jaxhw.vision.data import datasets


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two domains of two classes, 10 and 5 images each; a pixel's red is the domain, its green the class."""
    root = tmp_path_factory.mktemp("domains")
    for d, (domain, count) in enumerate((("photo", 10), ("sketch", 5))):
        for c, name in enumerate(("cat", "dog")):
            (root / domain / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (4, 4), (d, c, i)).save(root / domain / name / f"{i}.png")
    return root


def test_a_fifth_of_each_class_of_each_domain_is_for_testing(root):
    train, test = (datasets.load(f"domains:{root}", split) for split in ("train", "test"))
    assert train.names == ["cat", "dog"] == datasets.describe(f"domains:{root}")[0]
    assert (len(train), len(test)) == (24, 6)
    seen = set()
    for part, counts in ((train, (8, 4)), (test, (2, 1))):
        pixels = part.take(np.arange(len(part)))[:, 0, 0]
        assert np.array_equal(pixels[:, 1], part.labels)
        for d in (0, 1):
            for c in (0, 1):
                assert ((pixels[:, 0] == d) & (pixels[:, 1] == c)).sum() == counts[d]
        seen |= {tuple(p) for p in pixels.tolist()}
    assert len(seen) == 30


def test_some_of_the_domains(root):
    train = datasets.load(f"domains:{root}:sketch", "train")
    assert len(train) == 8 and set(train.take(np.arange(8))[:, 0, 0, 0]) == {1}


def test_what_is_missing_is_one_line(root, tmp_path):
    with pytest.raises(UserError, match=r"has the domains photo, sketch, not clipart$"):
        datasets.load(f"domains:{root}:photo,clipart", "train")
    with pytest.raises(UserError, match="there is no such directory"):
        datasets.load("domains:/nowhere", "train")
    for name in ("a/cat", "b/dog"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "0.png")
    with pytest.raises(UserError, match="must have the same class folders: cat, dog"):
        datasets.load(f"domains:{tmp_path}", "train")


def test_pacs(shared_data):
    if not (shared_data / "pacs64").is_dir():
        pytest.skip("no pacs64")
    names, size = datasets.describe(f"domains:{shared_data / 'pacs64'}:photo")
    assert len(names) == 7 and size == 64

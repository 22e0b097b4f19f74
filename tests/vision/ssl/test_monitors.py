"""Closed forms of the monitors, and the warning about a collapsed network."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxhw import mesh as meshes
from jaxhw.vision.augment import views
from jaxhw.vision.data import datasets
from jaxhw.vision.evaluation import knn
from jaxhw.vision.ssl import monitors
from jaxhw.vision.ssl.feature_monitor import FeatureMonitor, Functions, Sets, image_rows


def test_alignment_of_opposite_and_equal_views():
    x = np.array([[1.0, 0.0], [0.0, 5.0]])
    assert float(monitors.alignment(np.stack([x, 3 * x], 1))) == pytest.approx(0)
    assert float(monitors.alignment(np.stack([x, -x], 1))) == pytest.approx(4)
    third = np.stack([x, x, -x], 1)  # of three pairs one is equal and two are opposite
    assert float(monitors.alignment(third)) == pytest.approx(8 / 3)


def test_uniformity_of_the_corners_of_a_cross():
    z = np.concatenate([np.eye(3), -np.eye(3)])  # four neighbours at squared distance 2, one at 4
    assert float(monitors.uniformity(z)) == pytest.approx(np.log((4 * np.exp(-4) + np.exp(-8)) / 5), rel=1e-5)
    assert float(monitors.uniformity(np.ones((5, 3)))) == pytest.approx(0, abs=1e-6)


def test_spread_is_one_for_even_directions_and_zero_for_one():
    z = np.random.default_rng(0).normal(size=(4000, 16))
    assert float(monitors.spread(z)) == pytest.approx(1, abs=0.02)
    assert float(monitors.spread(np.ones((10, 16)) * np.arange(1, 11)[:, None])) == pytest.approx(0, abs=1e-6)


def monitor_of(features, folder=None, labelled=True, queries=100):
    digits = datasets.load("digits", "train")
    sets = Sets(digits.subset(np.arange(300)), digits.subset(np.arange(300, 300 + queries)), labelled)
    draw = views.pipeline({**views.SIMCLR, "jitter_probability": 0.0, "blur": (0.0,)}, 2)
    project = lambda variables, z: variables.get("scale", 1) * z + 1
    monitor = FeatureMonitor(Functions(features, project, draw), sets, knn.Options(20, 0.1), 64, meshes.make_mesh(1))
    monitor.folder = folder
    return monitor, digits


def test_pixels_as_features(tmp_path, capsys):
    monitor, digits = monitor_of(lambda variables, images: images[..., 0].reshape(len(images), -1), tmp_path)
    numbers = monitor({})
    assert numbers["val_knn_accuracy"] > 0.8 and 0.2 < numbers["val_feature_std"] < 1
    assert 0 < numbers["val_alignment"] < 2 and numbers["val_uniformity"] < -0.5
    assert monitor.test({}, digits, datasets.load("digits", "test")) > 0.95
    assert (tmp_path / "neighbours.png").stat().st_size > 1000
    assert "collapsed" not in capsys.readouterr().out
    numbers = monitor({"scale": 1e-3})  # 1 for all images, nearly
    assert numbers["val_feature_std"] > 0.2 and numbers["val_projection_std"] < monitors.COLLAPSED
    assert monitor.collapsed(numbers) and "collapsed" in capsys.readouterr().out


def test_collapse_is_said_in_one_line(capsys):
    monitor, _ = monitor_of(
        lambda variables, images: 1 + 1e-3 * images[..., 0].reshape(len(images), -1), labelled=False
    )
    numbers = monitor({})
    assert numbers["seen_feature_std"] < monitors.COLLAPSED and "val_knn_accuracy" not in numbers
    warning = capsys.readouterr().out.strip()
    assert warning.startswith("collapsed: all images have nearly the same features or projections")
    assert "\n" not in warning


@pytest.mark.parametrize(("queries", "verdict"), [(1, None), (15, None), (16, True)])
def test_few_images_give_no_verdict(capsys, queries, verdict):
    """The features of one image vary by nothing, whatever the network."""
    monitor, _ = monitor_of(lambda variables, images: 1 + 0 * images[..., 0].reshape(len(images), -1), queries=queries)
    numbers = monitor({})
    assert monitor.collapsed(numbers) is verdict and ("collapsed" in capsys.readouterr().out) == bool(verdict)
    known = [name for name, value in numbers.items() if np.isfinite(value)]
    assert known == (["val_knn_accuracy"] if verdict is None else list(numbers))


def test_a_vector_of_zeros_is_no_nan():
    assert jnp.isfinite(monitors.spread(jnp.zeros((4, 3)))) and jnp.isfinite(monitors.uniformity(jnp.zeros((4, 3))))


def test_rows_of_images(tmp_path):
    """Two rows of an image and its two neighbours, 8 pixels each, eightfold."""
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * 40 * np.ones((2, 3, 8, 8, 3), np.uint8)
    image_rows(rows, tmp_path / "neighbours.png")
    pixels = np.asarray(Image.open(tmp_path / "neighbours.png"))
    assert pixels.shape == (2 * 68, 3 * 68 + 8, 3)
    assert [int(pixels[y, x, 0]) for y in (34, 102) for x in (34, 110, 178)] == [0, 40, 80, 120, 160, 200]
    assert (pixels[34, 68:76] == 255).all()  # the gap after the first

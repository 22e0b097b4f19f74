"""The linear evaluation protocol on the digits: against scikit-learn, resumed, on several devices."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxhw import mesh as meshes
from jaxhw import metrics, train
from jaxhw.checkpoint import restore_variables
from jaxhw.errors import UserError
from jaxhw.state import Variables
from jaxhw.vision.augment.standard import STATISTICS
from jaxhw.vision.evaluation.features import Extractor
from jaxhw.vision.models import registry
from jaxhw.vision.tasks.classify import default_config as default_classify
from jaxhw.vision.tasks.linear import Linear, default_config
from tests.vision import runs

GRID = {"rates": (0.1, 0.3), "l2": (1e-3, 1e-1)}


class Pixels(Linear):
    """The grey levels are the features: real ones, which need no model."""

    def init(self, rng):
        g = len(self.grid)
        return Variables({"head": {"kernel": jnp.zeros((g, 64, 10)), "bias": jnp.zeros((g, 10))}}, {"backbone": {}})

    def __init__(self, config, mesh):
        super().__init__(config, mesh)
        self.extract = Extractor(self.features, config.batch_size, mesh)

    def features(self, variables, images):
        return images[..., 0].reshape(-1, 64) / 255


def config_of(**changes):
    config = default_config("vit")
    config.model.update({"patch": 4, "width": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp": 16})
    config.update({"batch_size": 64, "steps": 30, "log_every": 10, "eval_every": 10, "checkpoint_every": 10, **GRID})
    config.update({"validation": 0.2, **changes})
    return config


def run(workdir, devices=1, kind=Pixels, **changes):
    config, mesh = config_of(**changes), meshes.make_mesh(devices)
    task = kind(config, mesh)
    results = train.run(task, config, mesh, workdir)
    return task, results, metrics.read(workdir / "metrics.jsonl")


def final_head(workdir):
    return restore_variables(workdir, meshes.replicated(meshes.make_mesh(1))).params["head"]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """600 steps: close to the optimum of each penalty."""
    workdir = tmp_path_factory.mktemp("linear")
    return workdir, *run(workdir, steps=600, log_every=300, eval_every=300, checkpoint_every=600)


def test_it_agrees_with_scikit_learn_on_the_same_features(long):
    """Accuracies are within 0.3 points on the 647 images not trained on, and the penalty that is chosen is the same."""
    workdir, task, results, _ = long
    x, labels, head = task.inputs, task.train.labels, final_head(workdir)
    held_out = np.concatenate([x["val"], x["test"]])
    truth = np.concatenate([task.splits[name].labels for name in ("val", "test")])
    theirs = {}
    for i, (rate, l2) in enumerate(task.grid):
        if rate != np.float32(0.3):
            continue
        sklearn = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-6, max_iter=2000).fit(x["train"], labels)
        ours = (held_out @ head["kernel"][i] + head["bias"][i]).argmax(1)
        assert abs((ours == truth).mean() - sklearn.score(held_out, truth)) <= 0.003
        theirs[float(l2)] = sklearn.score(x["val"], task.splits["val"].labels)
    assert results["l2"] == max(theirs, key=theirs.get)
    assert results["test_accuracy"] > 0.9 and results["test_knn_accuracy"] > 0.9 and results["val_knn_accuracy"] > 0.9


def test_what_a_run_leaves(long):
    workdir, _, results, lines = long
    rows = json.loads((workdir / "grid.json").read_text())
    assert len(rows) == 4 and max(row["value"] for row in rows) == results["val_accuracy"]
    assert results["protocol"] == "offline linear probe" and results["test_images"] == 359
    assert not any("test_accuracy" in line for line in lines)
    assert results["parameters"] == 4 * 650
    names = {path.name for path in workdir.iterdir()}
    assert {"features.npz", "labels.json", "grid.png", "curves.png"} <= names


def test_a_backbone_of_another_run(tmp_path):
    """Its features are those of the run's own model, of images normalised as that run's were."""
    classes = default_classify("vit")
    classes.update({"normalise": "cifar10", "model": config_of().model})
    model = registry.create(classes.model, 3, 8)
    params = runs.random_like(registry.shapes(model, 8))["params"]
    source = str(runs.leave(tmp_path / "classes", classes, Variables(params, {})))
    task, _, _ = run(tmp_path / "linear", kind=Linear, steps=2, init_from=source, normalise="cifar10")
    mean, deviation = STATISTICS["cifar10"]
    images = (task.splits["test"].take(np.arange(5)) / 255 - np.array(mean)) / np.array(deviation)
    del params["head"]
    expected = model.clone(num_classes=None).apply({"params": params}, images.astype(np.float32), train=False)
    np.testing.assert_allclose(task.data["test"][:5], expected, atol=1e-5)
    with pytest.raises(
        UserError,
        match=r"config\.normalise='none' is not what .*classes was trained with: set --config\.normalise=cifar10",
    ):
        run(tmp_path / "other", kind=Linear, init_from=source)
    assert not (tmp_path / "other").exists()


def test_each_head_trains_as_if_it_were_alone(long, tmp_path):
    """The stacked head's second rate and first penalty, against SGD with that rate on that head."""
    run(tmp_path / "grid", steps=10)
    changes = {"rates": (1.0,), "l2": (1e-3,), "optim": {"lr": 0.3}}
    run(tmp_path / "alone", steps=10, **changes)
    grid, alone = final_head(tmp_path / "grid"), final_head(tmp_path / "alone")
    for name in grid:
        np.testing.assert_allclose(grid[name][2], alone[name][0], rtol=1e-4, atol=1e-6)


def test_a_diverging_head_leaves_the_others_alone(tmp_path):
    _, results, lines = run(tmp_path / "wild", rates=(0.1, 1e4), l2=(0.0, 10.0))
    _, alone, _ = run(tmp_path / "tame", rates=(0.1,), l2=(0.0, 10.0))
    assert not np.isfinite(np.asarray(final_head(tmp_path / "wild")["kernel"][3])).all()
    assert results["val_accuracy"] >= alone["val_accuracy"] and results["test_accuracy"] > 0.5
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_weights_read_anew_have_features_of_their_own(tmp_path):
    """A run that dies before its first checkpoint leaves features of weights that nothing else remembers."""
    config, mesh = config_of(steps=2), meshes.make_mesh(1)
    task = Pixels(config, mesh)
    task.prepare(Variables({}, {"backbone": {}}), tmp_path)
    stale = {name: np.zeros_like(x) for name, x in task.data.items()}
    np.savez(tmp_path / "features.npz", **stale)
    task.prepare(Variables({}, {"backbone": {}}), tmp_path)
    assert task.data["test"].any()


class Counting(Pixels):
    extractions = 0

    def features(self, variables, images):
        Counting.extractions += 1  # counts traces, of which a fresh run has one
        return super().features(variables, images)

    def evaluate(self, variables, step):
        if not hasattr(Counting, "resumed"):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluate(variables, step)


def test_it_resumes_without_computing_features_again(tmp_path):
    _, whole, _ = run(tmp_path / "whole")
    assert run(tmp_path / "cut", kind=Counting)[1] == {} and Counting.extractions == 1
    Counting.resumed = True
    _, resumed, _ = run(tmp_path / "cut", kind=Counting)
    assert Counting.extractions == 1
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    a, b = final_head(tmp_path / "whole"), final_head(tmp_path / "cut")
    assert all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_features_that_were_cut_off_are_computed_again_from_the_checkpoint(tmp_path):
    _, whole, _ = run(tmp_path)
    (tmp_path / "features.npz").write_bytes((tmp_path / "features.npz").read_bytes()[:1000])
    (tmp_path / "results.json").unlink()
    _, again, _ = run(tmp_path)
    assert again["test_accuracy"] == whole["test_accuracy"]


def test_eight_devices_give_what_one_gives(tmp_path):
    one, eight = run(tmp_path / "one"), run(tmp_path / "eight", devices=8)
    for a, b in zip(*([line["loss"] for line in lines if "loss" in line] for *_, lines in (one, eight)), strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 0.0}, "config.validation=0 leaves no images to choose rate and l2 on"),
        ({"optim": {"name": "adam"}}, "config.optim must have name=sgd"),
        ({"rates": (0.0,)}, "config.rates=(0.0,) must be a tuple of one number or more, each above 0"),
        ({"rates": ("a",)}, "config.rates=('a',) must be a tuple of one number or more, each above 0"),
        ({"l2": ()}, "config.l2=() must be a tuple of one number or more, each of at least 0"),
        ({"knn_k": 0}, "config.knn_k=0 must be a whole number of at least 1"),
        ({"knn_temperature": 0.0}, "config.knn_temperature=0.0 must be a number above 0"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        run(tmp_path / "run", **changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()

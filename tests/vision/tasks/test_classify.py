"""The task on the digits with small models: learns, resumes, is the same on eight devices, refuses bad configs."""

import json

import jax
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw import metrics, train
from jaxhw.checkpoint import restore_variables
from jaxhw.errors import UserError
from jaxhw.task import Context
from jaxhw.vision.data import datasets
from jaxhw.vision.data.datasets import Dataset
from jaxhw.vision.evaluation.scores import Scores
from jaxhw.vision.tasks.classify import (
    Classifier,
    Classify,
    default_config,
    load_splits,
    read_labels,
    save_scores,
    write_labels,
)


def config_of(name="vit", **changes):
    config = default_config(name)
    config.update({"steps": 12, "batch_size": 64, "log_every": 4, "eval_every": 8, "checkpoint_every": 6})
    if name == "vit":
        config.model.update({"patch": 4, "width": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 32})
    config.optim.lr = 3e-3
    config.augment.update({"crop": "pad", "pad": 1, "cutmix": 1.0, "mix_probability": 0.5, "label_smoothing": 0.1})
    config.update(changes)
    return config


def run(workdir, config, devices=1):
    mesh = meshes.make_mesh(devices)
    results = train.run(Classify(config, mesh), config, mesh, workdir)
    return results, metrics.read(workdir / "metrics.jsonl")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("digits")
    config = config_of(steps=120, log_every=20, eval_every=40, validation=0.2)
    return workdir, *run(workdir, config)


def test_it_learns_the_digits(digits):
    _, results, lines = digits
    assert results["test_accuracy"] > 0.5 and results["test_images"] == 359
    assert results["train_images"] + results["val_images"] == 1438 and results["val_images"] in (287, 288)
    assert not any("test_accuracy" in line for line in lines)  # watched on validation, tested once
    assert [line["step"] for line in lines if "val_accuracy" in line] == [40, 80, 120]


def test_the_workdir_is_self_contained(digits):
    workdir, results, _ = digits
    classifier = Classifier.from_workdir(workdir)
    variables = restore_variables(workdir, meshes.replicated(meshes.make_mesh(1)))
    task = Classify(config_of(validation=0.2), meshes.make_mesh(1))
    test = task.splits["test"]
    called = np.asarray(classifier.logits(variables, test.take(np.arange(359)))).argmax(1)
    assert (called == test.labels).mean() == pytest.approx(results["test_accuracy"])
    classes = json.loads((workdir / "test_classes.json").read_text())
    assert set(classes) == set("0123456789")
    assert {"curves.png", "test_confusion.png", "labels.json"} <= {path.name for path in workdir.iterdir()}


@pytest.mark.parametrize("model", ["vit", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_eight_devices_give_what_one_gives(tmp_path, model):
    """Augmentation, CutMix across the batch, dropout and batch statistics do not depend on the sharding."""
    config = config_of(model, steps=3, log_every=1, batch_size=16)
    config.optim.update({"name": "sgd", "lr": 1e-3})  # at larger ones the ResNet's rounding decides within three steps
    if model == "vit":
        config.model.update({"dropout": 0.1, "drop_path": 0.1})
    _, one = run(tmp_path / "one", config)
    _, eight = run(tmp_path / "eight", config, devices=8)
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (one, eight)]
    assert len(losses[0]) == 3
    np.testing.assert_allclose(*losses, rtol=2e-5)


def test_ema_is_what_is_evaluated(tmp_path):
    config = config_of(steps=20, eval_every=20)
    config.optim.ema = 0.999
    results, _ = run(tmp_path, config)
    task = Classify(config, meshes.make_mesh(1))
    variables = restore_variables(tmp_path, meshes.replicated(meshes.make_mesh(1)))
    assert task.score(variables, "test").numbers("test")["test_loss"] == pytest.approx(results["test_loss"])


def test_the_batch_statistics_move():
    config, mesh = config_of("resnet18", batch_size=8), meshes.make_mesh(1)
    task = Classify(config, mesh)
    variables = task.init(jax.random.key(0))
    state, context = variables.model_state, Context(np.int32(0), np.float32(0), jax.random.key(1), mesh)
    _, (new, _) = jax.jit(task.loss)(variables.params, state, task.batch(0), context)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state, new)
    assert set(state) == {"batch_stats"} and all(jax.tree.leaves(moved))


def test_a_class_without_images_is_null(tmp_path):
    confusion = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]])
    save_scores(Scores(confusion, 6, 1.0), ["a", "b", "c"], tmp_path, "test")
    text = (tmp_path / "test_classes.json").read_text()
    assert json.loads(text) == {"a": 0.75, "c": 0.0, "b": None} and list(json.loads(text)) == ["a", "c", "b"]


@pytest.mark.parametrize(("split", "advice"), [("train", ""), ("test", "; set config.test=False")])
def test_images_without_a_label_are_refused(monkeypatch, split, advice):
    def load(spec, which, image_size, **options):
        labels = np.array([0, 1, -1 if which == split else 1], np.int32)
        return Dataset(labels, ["a", "b"], 8, np.zeros((3, 8, 8, 3), np.uint8), np.arange(3))

    monkeypatch.setattr(datasets, "load", load)
    with pytest.raises(UserError, match=f"the {split} split of digits has images without a label{advice}$"):
        load_splits(config_of())


def test_torn_labels_are_one_line(tmp_path):
    write_labels(tmp_path, ["a", "b"], 8)
    assert read_labels(tmp_path) == {"names": ["a", "b"], "image_size": 8}
    (tmp_path / "labels.json").write_text('{"names": ["a"')
    with pytest.raises(UserError, match=r"labels\.json is damaged"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "tfds"}, 'unknown dataset "tfds"'),
        ({"dataset": "folder:/nowhere"}, "no such directory"),
        ({"steps": 0}, "set config.steps or config.epochs"),
        ({"normalise": "cifar"}, "config.normalise='cifar' must be one of none, cifar10"),
        ({"validation": 1.5}, "config.validation=1.5 must be a number of at least 0 and below 1"),
        ({"fraction": 0.0}, "config.fraction=0.0 must be a number above 0 and at most 1"),
        ({"image_size": -8}, "config.image_size=-8 must be a whole number of at least 0"),
        ({"dtype": "float16"}, "config.dtype='float16' must be one of float32, bfloat16"),
        ({"model": {"name": "vgg"}}, "config.model.name='vgg' must be one of resnet18, "),
        ({"model": {"patch": 3}}, "config.model.patch=3 does not divide"),
        ({"model": {"pool": "max"}}, "config.model.pool='max' must be one of cls, mean"),
        ({"augment": {"crop": "centre"}}, "config.augment.crop='centre' must be one of none, pad, resized"),
        ({"augment": {"mixup": float("nan")}}, "config.augment.mixup=nan must be a number of at least 0"),
        ({"augment": {"jitter": (0.0, float("nan"), 0.0, 0.0)}}, "config.augment.jitter="),
        ({"optim": {"name": "adma"}}, "adma"),
        ({"optim": {"schedule": "stairs"}}, "stairs"),
    ],
)
def test_bad_configs_are_one_line_before_anything_is_written(tmp_path, changes, message):
    config = config_of(**changes)
    with pytest.raises(UserError) as caught:
        run(tmp_path / "run", config)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_earlier_phases_of_a_run_see_smaller_images_of_the_same_rows():
    config = config_of("resnet18", earlier_sizes=(4, 6), steps=9)
    task, plain = Classify(config, meshes.make_mesh(1)), Classify(config_of("resnet18", steps=9), meshes.make_mesh(1))
    assert [task.batch(step)["image"].shape[1] for step in range(9)] == [4] * 3 + [6] * 3 + [8] * 3
    for step in (0, 8):
        np.testing.assert_array_equal(task.batch(step)["label"], plain.batch(step)["label"])
    np.testing.assert_array_equal(task.batch(8)["image"], plain.batch(8)["image"])
    assert [task.phase(step - 1)[1]["test"].image_size for step in (1, 3, 4, 9)] == [4, 4, 6, 8]
    with pytest.raises(UserError, match="earlier_sizes must be empty: a ViT's position embedding is of one size"):
        Classify(config_of(earlier_sizes=(4,)), meshes.make_mesh(1))
    for size in (0, 4.5):
        with pytest.raises(
            UserError, match=rf"config\.earlier_sizes=\({size},\) must be a tuple of whole numbers of at least 1"
        ):
            Classify(config_of("resnet18", earlier_sizes=(size,)), meshes.make_mesh(1))


def test_groups_must_divide_the_batch():
    config = config_of("resnet18", batch_size=8)
    config.model.norm_groups = 3
    with pytest.raises(UserError, match=r"config\.model\.norm_groups=3 must divide config\.batch_size=8"):
        Classify(config, meshes.make_mesh(1))
    config.model.norm_groups = 0
    with pytest.raises(UserError, match=r"config\.model\.norm_groups=0 must be a whole number of at least 1"):
        Classify(config, meshes.make_mesh(1))

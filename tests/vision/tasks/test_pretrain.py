"""The task on the digits with a tiny ViT: learns, resumes with its target, leaves a workdir that others can read."""

import jax
import numpy as np
import pytest

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import metrics, start, train
from jaxhw.checkpoint import restore_variables
from jaxhw.errors import UserError
from jaxhw.observer import Observer
from jaxhw.vision.models import registry
from jaxhw.vision.tasks.encoder import Encoder
from jaxhw.vision.tasks.pretrain import Pretrain, default_config, of_module
from jaxhw.vision.tasks.pretrain_images import load


def config_of(name="byol", **changes):
    config = default_config(name, "vit")
    config.update({"steps": 40, "batch_size": 32, "log_every": 10, "eval_every": 20, "checkpoint_every": 20})
    config.update({"knn_bank": 300, "validation": 0.1, "normalise": "cifar10"})
    config.model.update({"patch": 4, "width": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 32})
    config.method.update({key: value for key, value in {"hidden": 32, "dim": 16}.items() if key in config.method})
    config.augment.update({"crop_scale": (0.4, 1.0), "flip": 0.0, "blur": (0.0,), "jitter_probability": 0.0})
    config.optim.lr = 3e-3
    config.update(changes)
    return config


class StopAt(Observer):
    """Ends a run after the evaluation of a step, before its checkpoint."""

    def __init__(self, step):
        self.step = step

    def after_evaluation(self, step, numbers):
        if step == self.step:
            raise KeyboardInterrupt


def run(workdir, config, stop_at=None):
    mesh = meshes.make_mesh(1)
    task = Pretrain(config, mesh)
    try:
        return task, train.run(task, config, mesh, workdir, (StopAt(stop_at),))
    except KeyboardInterrupt:
        return task, {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("byol")
    return workdir, *run(workdir, config_of())


def test_it_learns_and_says_how_well(whole):
    workdir, _, results = whole
    lines = metrics.read(workdir / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    seen = [line for line in lines if "val_knn_accuracy" in line]
    assert [line["step"] for line in seen] == [20, 40]
    assert {f"val_{name}" for name in ("feature_std", "projection_std", "alignment", "uniformity")} <= set(seen[0])
    assert results["train_images"] == 1294 and results["test_images"] == 359 and results["method"] == "byol"
    assert results["test_knn_accuracy"] > 0.5 and results["collapsed"] is False
    assert not any("test" in key for line in lines for key in line)  # tested once, at the end
    assert {"curves.png", "neighbours.png"} <= {path.name for path in workdir.iterdir()}


def test_a_stopped_run_continues_with_its_target(whole, tmp_path):
    run(tmp_path, config_of(), stop_at=40)  # between the evaluation and the checkpoint of step 40: left at 20
    assert train.checkpoint.Checkpoints(tmp_path).latest() == 20
    run(tmp_path, config_of())
    sharding = meshes.replicated(meshes.make_mesh(1))
    ours, theirs = (restore_variables(folder, sharding) for folder in (tmp_path, whole[0]))
    assert set(ours.model_state["target"]) == {"backbone", "projector"}
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_the_target_is_one_copy_of_the_parameters(whole):
    _, task, _ = whole
    variables = jax.eval_shape(task.init, jax.random.key(0))
    params, state = variables.params, variables.model_state
    assert jax.tree.structure(state["target"]) == jax.tree.structure({k: params[k] for k in ("backbone", "projector")})
    assert set(params) == {"backbone", "projector", "predictor"} and set(state) == {"batch_stats", "target"}


def test_the_backbone_can_be_read_back(whole):
    workdir, task, _ = whole
    variables = restore_variables(workdir, meshes.replicated(meshes.make_mesh(1)))
    encoder = Encoder(configs.load(workdir / "config.json"), 8)
    plain = registry.create(task.config.model, None, 8)
    expected = jax.tree.structure(jax.eval_shape(lambda: plain.init(jax.random.key(0), np.zeros((1, 8, 8, 3)), False)))
    assert jax.tree.structure({"params": variables.params["backbone"]}) == expected
    images = task.images.queries.take(np.arange(5))
    mean, deviation = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    z = plain.apply({"params": variables.params["backbone"]}, (images / 255 - mean) / deviation, train=False)
    np.testing.assert_allclose(encoder.features(of_module(variables, "backbone"), images), z, atol=1e-4)


def test_images_for_knn_are_not_learnt_from():
    sets = load(config_of(fraction=0.25))
    used = [set(s.rows.tolist()) for s in (sets.bank, sets.queries)]
    assert len(sets.train) == 324 and set(sets.train.rows.tolist()) <= used[0] and not used[0] & used[1]
    assert len(used[0] | used[1]) == 1438 and sets.labelled and len(sets.test) == 359
    assert np.bincount(sets.train.labels).min() > 25  # by class


def test_the_images_looked_at_first_are_of_all_classes(monkeypatch):
    from jaxhw.vision.data import datasets

    digits = datasets.load("digits", "train")
    by_class = digits.subset(np.argsort(digits.labels, kind="stable"))  # as folders are read
    monkeypatch.setattr(datasets, "load", lambda *args, **options: by_class)
    queries = load(config_of()).queries
    assert len(set(queries.labels[:20])) > 5 and np.array_equal(queries.rows, load(config_of()).queries.rows)


def test_a_set_s_labelled_split_serves_its_unlabelled_one(monkeypatch):
    from jaxhw.vision.data import datasets

    whole, real = datasets.load("digits", "train"), datasets.load
    blank = datasets.Dataset(np.full_like(whole.labels, -1), [], 8, whole.images, whole.rows)
    digits = lambda split, *size, **options: real("digits", split, *size, **options)
    read = lambda spec, split, *size, **options: blank if split == "unlabelled" else digits(split, *size, **options)
    monkeypatch.setattr(datasets, "load", read)
    sets = load(config_of(split="unlabelled", knn_dataset="digits"))
    assert sets.labelled and len(sets.train) == 1438 and len(sets.bank) + len(sets.queries) == 1438
    sets = load(config_of(knn_dataset="digits"))  # the set itself, from which queries are held out
    assert len(sets.train) == 1294


def test_no_image_comes_twice_in_a_batch_and_epochs_are_whole_steps():
    config = config_of(batch_size=512, steps=0, epochs=3.0)  # 1294 images: two batches and a rest
    task = Pretrain(config, meshes.make_mesh(1))
    assert (task.steps_per_epoch, task.steps) == (2, 6)
    for step in range(task.steps):
        assert len(np.unique(task.batch(step)["image"].reshape(512, -1), axis=0)) == 512


def test_without_labels_there_is_no_knn(monkeypatch):
    from jaxhw.vision.data import datasets

    whole = datasets.load("digits", "train")
    blank = datasets.Dataset(np.full_like(whole.labels, -1), [], 8, whole.images, whole.rows)
    monkeypatch.setattr(datasets, "load", lambda *args, **options: blank)
    sets = load(config_of())
    assert len(sets.train) == 1438 and not sets.labelled and sets.test is None
    read = lambda spec, split, *size, **options: blank if split == "test" else whole
    monkeypatch.setattr(datasets, "load", read)
    sets = load(config_of())
    assert sets.labelled and sets.test is None  # ImageNet's
    assert not set(sets.bank.rows.tolist()) & set(sets.queries.rows.tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {"name": "dino"}}, "config.method.name='dino' must be one of simclr, byol"),
        ({"views": 1}, "config.views=1 must be a whole number of at least 2"),
        ({"batch_size": 2048}, "config.batch_size=2048: digits has only 1294 images to learn from"),
        ({"batch_size": 1}, "config.batch_size=1 must be a whole number of at least 2"),
        ({"steps": 0}, "set config.steps or config.epochs"),
        ({"normalise": "cifar"}, "config.normalise='cifar' must be one of none, cifar10"),
        ({"fraction": 0.0}, "config.fraction=0.0 must be a number above 0 and at most 1"),
        ({"split": "unlabelled"}, "splits train and test"),
        ({"augment": {"gray": 2.0}}, "config.augment.gray=2.0 must be a number from 0 to 1"),
        ({"augment": {"blur": (0.5,), "blur_kernel": 17}}, "config.augment.blur_kernel=17 must be at most 15"),
        ({"knn_dataset": "mnist"}, 'unknown dataset "mnist"'),
        ({"knn_temperature": 0.0}, "config.knn_temperature=0.0 must be a number above 0"),
        ({"knn_k": 0}, "config.knn_k=0 must be a whole number of at least 1"),
        ({"knn_bank": 0}, "config.knn_bank=0 must be a whole number of at least 1"),
    ],
)
def test_bad_configs_are_one_line_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        run(tmp_path / "run", config_of(**changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_parts_of_the_batch_must_divide_it():
    config = default_config("simclr")
    config.update({"steps": 1, "batch_size": 32, "model": {"norm_groups": 3}})
    with pytest.raises(UserError, match=r"config\.model\.norm_groups=3 must divide config\.batch_size=32"):
        Pretrain(config, meshes.make_mesh(1))


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_pre_training_starts_from_another_run_s_backbone(whole, tmp_path, method, capsys):
    """With heads of its own, and a target network that begins where the online network does."""
    config = config_of(method, init_from=str(whole[0]))
    task = Pretrain(config, meshes.make_mesh(1))
    begun = start.variables(task, config, tmp_path)
    theirs = restore_variables(whole[0], meshes.replicated(meshes.make_mesh(1)))
    jax.tree.map(np.testing.assert_array_equal, begun.params["backbone"], theirs.params["backbone"])
    fresh = task.init(jax.random.split(jax.random.key(0))[0]).params["projector"]
    jax.tree.map(np.testing.assert_array_equal, begun.params["projector"], fresh)
    if method == "byol":
        target = begun.model_state["target"]
        jax.tree.map(np.testing.assert_array_equal, target["backbone"], begun.params["backbone"])
    assert f"init_from {whole[0]}: " in capsys.readouterr().out

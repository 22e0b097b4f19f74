"""Starting from another run's weights: what is taken, what stays frozen, heads, parts of the labels."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import __main__ as cli
from jaxhw import mesh as meshes
from jaxhw import train
from jaxhw.errors import UserError
from jaxhw.state import Variables
from jaxhw.task import Context
from jaxhw.vision.models import registry
from jaxhw.vision.tasks.classify import Classify, default_config, write_labels
from jaxhw.vision.weights import torch_names
from tests import toy
from tests.vision import runs

VIT = {"patch": 4, "width": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 16}


def config_of(name="vit", **changes):
    config = default_config(name)
    config.update({"steps": 2, "batch_size": 32, "log_every": 1, "eval_every": 2, "checkpoint_every": 2, "test": False})
    config.model.update(VIT if name == "vit" else {"width": 4})
    config.update(changes)
    return config


def source(workdir, config):
    """A pre-training run's workdir for the same model, with random weights; returns them."""
    shapes = registry.shapes(registry.create(config.model, None, 8), 8)
    variables = runs.random_like(shapes)
    stats = {"backbone": variables["batch_stats"]} if "batch_stats" in variables else {}
    config = config.copy_and_resolve_references()
    config.task = "pretrain"
    params = {"backbone": variables["params"], "projector": {}}
    runs.leave(workdir, config, Variables(params, {"batch_stats": stats}))
    return variables


def run(workdir, config):
    mesh = meshes.make_mesh(1)
    train.run(Classify(config, mesh), config, mesh, workdir)
    return toy.final_state(workdir)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_a_frozen_backbone_stays_bit_equal_in_its_statistics_too(tmp_path):
    config = config_of("resnet18", frozen=True, init_from=str(tmp_path / "source"))
    config.optim.update({"name": "adamw", "lr": 1e-2, "weight_decay": 0.1, "ema": 0.9, "clip_norm": 1.0})
    config.augment.flip = True
    before = source(tmp_path / "source", config)
    state = run(tmp_path / "run", config)
    for tree in (state, state["ema"]):
        body = {k: v for k, v in tree["params"].items() if k != "head"}
        assert equal(body, before["params"]) and equal(tree["model_state"]["batch_stats"], before["batch_stats"])
    start = Classify(config, meshes.make_mesh(1)).init(jax.random.split(jax.random.key(0))[0]).params["head"]
    assert not np.array_equal(state["params"]["head"]["kernel"], start["kernel"])
    memory = {leaf.shape for leaf in jax.tree.leaves(state["opt_state"])}
    assert (32, 10) in memory and (3, 3, 32, 32) not in memory


def test_groups_of_the_optimiser_do_not_thaw_a_frozen_backbone():
    config = config_of(frozen=True)
    config.optim.groups = (("head", 10.0),)
    Classify(config, meshes.make_mesh(1))
    config.optim.groups = (("", 0.1), ("head", 1.0))
    with pytest.raises(UserError, match=r"config\.optim\.groups=.* names more than the head"):
        Classify(config, meshes.make_mesh(1))


def test_a_frozen_backbone_has_no_dropout():
    config = config_of(frozen=True)
    config.model.update({"dropout": 0.5, "drop_path": 0.5})
    task = Classify(config, meshes.make_mesh(1))
    variables, batch = task.init(jax.random.key(0)), task.batch(0)

    def loss(seed):
        context = Context(jnp.int32(0), jnp.float32(0), jax.random.key(seed), meshes.make_mesh(1))
        return task.loss(variables.params, variables.model_state, batch, context)[0]

    assert loss(1) == loss(2)


def test_fine_tuning_starts_at_the_weights_and_moves_the_backbone_at_its_own_rate(tmp_path):
    config = config_of(steps=1, init_from=str(tmp_path / "source"))
    config.optim.update({"name": "adam", "lr": 1e-4, "groups": (("head", 10.0),)})
    before = source(tmp_path / "source", config)["params"]
    after = run(tmp_path / "run", config)["params"]
    start = Classify(config, meshes.make_mesh(1)).init(jax.random.split(jax.random.key(0))[0]).params["head"]
    for name, kernel, rate in (("head", start["kernel"], 1e-3), ("patch_proj", before["patch_proj"]["kernel"], 1e-4)):
        assert np.abs(np.asarray(after[name]["kernel"]) - kernel).max() == pytest.approx(rate, rel=1e-2)


def test_another_architecture_is_one_line_and_writes_nothing(tmp_path):
    config = config_of(init_from=str(tmp_path / "source"))
    source(tmp_path / "source", config)
    config.model.width = 24
    message = r"^[^\n]*source does not fit config.model: cls_token is \[1, 16\] there, \[1, 24\] here; it holds 32 .*$"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", config)
    config.init_from = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere is no workdir"):
        run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists() and not (tmp_path / "nowhere").exists()


def test_the_mlp_head_has_two_layers_under_pytorch_s_names():
    table = torch_names.parameter_table(
        registry.shapes(registry.create({"name": "resnet18", "head": "mlp"}, 100, 32), 32)
    )
    names = {name: shape for name, shape, _ in table if name.startswith("fc")}
    assert names == {
        "fc.0.weight": (512, 512),
        "fc.0.bias": (512,),
        "fc.2.weight": (100, 512),
        "fc.2.bias": (100,),
    }
    model = registry.create({"name": "vit", "head": "mlp", **VIT}, 10, 8)
    variables = runs.random_like(registry.shapes(model, 8))
    images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    body = {k: v for k, v in variables["params"].items() if k != "head"}
    x = model.clone(num_classes=None).apply({"params": body}, images, train=False)
    first, second = (variables["params"]["head"][name] for name in ("linear1", "linear2"))
    expected = jnp.maximum(x @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(model.apply(variables, images, train=False), expected, rtol=1e-5)
    assert equal(torch_names.from_torch(torch_names.to_torch(variables), variables), variables)


def test_a_part_of_the_labels_and_the_validation_split_cut_from_it():
    whole, part = (Classify(config_of(fraction=f, validation=0.2), meshes.make_mesh(1)) for f in (1.0, 0.1))
    rows = [set(t.train.rows) | set(t.splits["val"].rows) for t in (whole, part)]
    assert len(rows[0]) == 1438 and len(rows[1]) == 144 and rows[1] < rows[0]
    assert len(part.splits["val"]) == 29 and np.bincount(part.train.labels).min() >= 10


def test_a_workdir_older_than_an_option_is_still_scored(tmp_path, capsys):
    config = config_of(test=True)
    task = Classify(config, meshes.make_mesh(1))
    runs.leave(tmp_path, config, task.init(jax.random.key(0)))
    write_labels(tmp_path, task.names, 8)
    saved = json.loads((tmp_path / "config.json").read_text())
    for key in ("fraction", "frozen", "init_from"):
        del saved[key]
    del saved["model"]["head"], saved["model"]["style"], saved["optim"]["groups"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert cli.main(["eval", f"--workdir={tmp_path}"]) == 0, capsys.readouterr().err
    assert "test_accuracy" in capsys.readouterr().out

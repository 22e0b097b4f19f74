"""Weights from files of PyTorch's (golden/weights.py), from the hub's cache and from other runs; what does not fit."""

import argparse
import datetime
import os
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxhw import __main__ as cli
from jaxhw.errors import UserError
from jaxhw.state import Variables
from jaxhw.vision.models import registry
from jaxhw.vision.models.resnet import ResNet
from jaxhw.vision.tasks.classify import default_config
from jaxhw.vision.weights import sources, torch_file, torch_names
from tests.golden import FOLDER as GOLDEN_FOLDER
from tests.vision import parity, runs

GOLDEN = GOLDEN_FOLDER
VALUES = np.load(GOLDEN / "weights.npz")
VIT = {"name": "vit", "width": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 32, "patch": 8}
FILES = {
    "resnet": "weights_resnet.pth",
    "timm_resnet": "weights_timm_resnet.pth",
    "vit": "weights_vit.pth",
    "timm": "weights_timm.safetensors",
}


def build(name, classes=parity.CLASSES, size=32, **changes):
    if "resnet" in name:
        return ResNet((1, 1, 1, 1), False, num_classes=classes, width=4, **changes)
    style = "timm" if name == "timm" else "vit-pytorch"
    return registry.create({**VIT, "style": style, **changes}, classes, size)


LEGACY = GOLDEN / "weights_legacy.pth"


def source(name):
    return f"torch:{GOLDEN / FILES[name]}"


def load(name, *args, **kwargs):
    model = build(name, *args, **kwargs)
    return model, sources.load(source(name), registry.shapes(model, kwargs.get("size", 32)))


@pytest.mark.parametrize("name", FILES)
def test_logits_are_pytorch_s(name):
    model, variables = load(name)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, parity.images())
    np.testing.assert_allclose(logits, VALUES[name], atol=1e-5)
    assert list(torch_names.to_torch(variables)) == list(VALUES[f"{name}_names"])


@pytest.mark.parametrize("name", ["resnet", "timm"])
def test_a_head_of_other_classes_or_another_kind_is_left_out_and_reported(name, capsys):
    _, whole = load(name)
    for changes, here in (
        ({"classes": 3}, " there, [3, "),
        ({"head": "mlp"}, ".0.weight is absent"),
        ({"classes": None}, ""),
    ):
        capsys.readouterr()
        _, variables = load(name, **changes)
        line = capsys.readouterr().out
        assert line.startswith(f"init_from {source(name)}: ") and line.count("\n") == 1
        assert "head" not in variables["params"]
        assert ("; the head starts anew (" in line and here in line) or changes == {"classes": None}
        body = {k: v for k, v in whole["params"].items() if k != "head"}
        assert all(map(np.array_equal, jax.tree.leaves(variables["params"]), jax.tree.leaves(body)))


def test_what_differs_in_a_head_of_two_layers_is_named(capsys):
    there, here = (registry.shapes(build("vit", classes, head="mlp"), 32) for classes in (10, 3))
    sources.fit(torch_names.to_torch(runs.random_like(there)), here, "x")
    assert "; the head starts anew (mlp_head.2.weight is [10, 16] there, [3, 16] here)" in capsys.readouterr().out


def test_a_head_of_the_same_shape_is_kept_and_reported(capsys):
    _, variables = load("vit")
    assert "head" in variables["params"] and "; the head is kept, as its shape fits" in capsys.readouterr().out
    sources.load(source("vit"), registry.shapes(build("vit", None), 32))
    assert "head" not in capsys.readouterr().out


def test_files_older_than_pytorch_1_6_hold_the_same(tmp_path):
    old, new = torch_file.read(LEGACY), torch_file.read(GOLDEN / FILES["vit"])
    assert list(old) == list(new)
    assert all(old[name].dtype == new[name].dtype and np.array_equal(old[name], new[name]) for name in new)
    older = tmp_path / "x.pth"  # before 0.4 tensors were named so
    older.write_bytes(LEGACY.read_bytes().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor"))
    assert all(np.array_equal(value, new[name]) for name, value in torch_file.read(older).items())


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model._orig_mod.", "module.model."])
def test_what_wrappers_put_before_all_names_is_dropped(prefix, tmp_path):
    state = {f"{prefix}{name}": np.ones(2, np.float32) for name in ("a", "b")}
    safetensors.numpy.save_file(state, tmp_path / "x.safetensors")
    assert set(torch_file.read(tmp_path / "x.safetensors")) == {"a", "b"}
    safetensors.numpy.save_file(state | {"c": np.ones(2)}, tmp_path / "x.safetensors")
    assert set(torch_file.read(tmp_path / "x.safetensors")) == {*state, "c"}


NEIGHBOURS = {
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3},
    "net": lambda state: {"net": state, "acc": 93.1},
    "teacher": lambda state: {
        "student": {"w": np.zeros(1)},
        "teacher": {f"module.backbone.{k}": v for k, v in state.items()},
    },
    "moco": lambda state: {
        "state_dict": {f"module.encoder_{q}.{k}": v for q in "qk" for k, v in state.items()}
        | {"module.queue": np.ones(3)}
    },
    "lightning": lambda state: {
        "state_dict": {f"model.backbone.{k}": v for k, v in state.items()} | {"model.fc.bias": np.ones(2)}
    },
    "averaged": lambda state: {"n_averaged": np.ones((), np.int64), **{f"module.{k}": v for k, v in state.items()}},
    "nested": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("layout", NEIGHBOURS)
def test_checkpoints_of_neighbours_are_read(layout, monkeypatch, tmp_path, capsys):
    state = {"conv1.weight": np.ones((2, 3)), "bn1.bias": np.arange(3.0)}
    monkeypatch.setattr(torch_file, "_unpickle", lambda path: NEIGHBOURS[layout](state))
    (tmp_path / "x.pth").touch()
    found = torch_file.read(tmp_path / "x.pth")
    assert found.keys() == state.keys() and all(map(np.array_equal, found.values(), state.values()))
    said = {"moco": "taking encoder_q, leaving out encoder_k, queue", "lightning": "taking backbone, leaving out fc"}
    assert said.get(layout, "") in capsys.readouterr().out


def test_what_lies_beside_the_weights_is_read_past_and_not_run(tmp_path):
    """Options, times and numbers of numpy's, as training scripts save them."""
    beside = {"args": argparse.Namespace(lr=0.1), "time": datetime.datetime(2026, 1, 1), "best": np.float64(0.9)}
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        tensors = b"S'state_dict'\n}S'w'\n" + tensor(STORAGE, 0, (2, 50), (50, 1)) + b"ss"
        parts = b"".join(
            b"S'%s'\n" % key.encode() + pickle.dumps(value, 0)[:-1] + b"s" for key, value in beside.items()
        )
        malicious = b"S'run'\n" + pickle.dumps(Malicious(), 0)[:-1] + b"s"
        archive.writestr("x/data.pkl", b"}" + parts + malicious + tensors + b".")
        archive.writestr("x/data/0", np.arange(100, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(torch_file.read(tmp_path / "x.pth")["w"], np.arange(100).reshape(2, 50))
    assert not Path("/tmp/jaxhw-was-here").exists()


def test_weights_that_are_not_finite_are_named(tmp_path):
    state = {"a": np.ones(2, np.float32), "b": np.array([1, np.nan], np.float32)}
    safetensors.numpy.save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(
        UserError, match=r"x.safetensors: b holds numbers that are not finite: its training had diverged$"
    ):
        torch_file.read(tmp_path / "x.safetensors")


def test_a_refusal_that_quotes_the_file_is_one_line(tmp_path):
    broken = LEGACY.read_bytes().replace(b"storage", b"st\nrage", 1)
    assert broken != LEGACY.read_bytes()
    (tmp_path / "x.pth").write_bytes(broken)
    with pytest.raises(UserError, match=r"^[^\n]*$"):
        torch_file.read(tmp_path / "x.pth")


def test_what_a_file_does_not_say_is_said(capsys):
    sources.load(source("vit"), registry.shapes(build("vit"), 32), heads=2)
    assert "does not say how many attention heads it has; read as config.model.heads=2" in capsys.readouterr().out


@pytest.mark.parametrize("side", [2, 6])
def test_positions_of_another_grid_are_resized_as_timm_does(side, capsys):
    _, variables = load("timm", size=8 * side)
    np.testing.assert_allclose(variables["params"]["pos_embedding"], VALUES[f"positions_{side}"][0], atol=1e-5)
    assert f"positions of 4 x 4 patches resized to {side} x {side}" in capsys.readouterr().out


def test_vit_pytorch_s_older_shapes_are_read():
    _, variables = load("vit")
    state = torch_names.to_torch(variables)
    older = state | {name: state[name][None] for name in ("pos_embedding", "cls_token")}
    again = sources.fit(older, registry.shapes(build("vit"), 32), "older")
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(variables)))


@pytest.mark.parametrize(
    ("name", "like", "message"),
    [
        ("resnet", build("resnet", stem="cifar"), "conv1.weight is [4, 3, 7, 7] there, [4, 3, 3, 3] here"),
        ("resnet", build("vit"), "cls_token is absent there, [1, 16] here"),
        ("resnet", ResNet((2, 1, 1, 1), False, num_classes=10, width=4), "layer1.1.conv1.weight is absent there"),
        ("timm", build("timm", depth=1), " is [16] there, absent here"),
        ("timm", build("timm", width=24), "there, "),
        ("timm", build("resnet"), "conv1.weight is absent there, [4, 3, 7, 7] here"),
        ("vit", build("timm"), "cls_token is [1, 16] there, [1, 1, 16] here"),
    ],
)
def test_another_architecture_is_one_line_with_the_first_tensor(name, like, message):
    with pytest.raises(UserError, match=r"^[^\n]*does not fit config.model: [^\n]*$") as error:
        sources.load(source(name), registry.shapes(like, 32))
    assert message in str(error.value)


@pytest.mark.parametrize("shape", [(), (17,), (1, 1, 16), (2, 10, 16), (1, 17, 0), (0, 17, 16)])
def test_positions_of_no_grid_are_another_architecture(shape, tmp_path):
    safetensors.numpy.save_file({"pos_embed": np.ones(shape, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"^[^\n]*does not fit config.model: [^\n]*$"):
        sources.load(f"torch:{tmp_path / 'x.safetensors'}", registry.shapes(build("timm"), 32))


def rewrite(path, to, change):
    """Copies an archive with its entries changed by `change(name, bytes)`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return to


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/jaxhw-was-here",)


class Hidden:
    """Calls a builtin through a name that looks harmless."""

    def __reduce__(self):
        return getattr, ("", "join")


@pytest.mark.parametrize("thing", [Malicious(), Hidden(), {"w": Malicious()}, {"args": complex(1)}])
def test_a_pickle_that_calls_functions_is_refused_and_not_run(tmp_path, thing):
    payload = pickle.dumps(thing, protocol=2)
    change = lambda name, data: payload if name.endswith("data.pkl") else data
    path = rewrite(GOLDEN / FILES["resnet"], tmp_path / "x.pth", change)
    with pytest.raises(UserError, match=r"^[^\n]*x.pth holds a [^\n]*; only tensors are read[^\n]*$"):
        torch_file.read(path)
    assert not Path("/tmp/jaxhw-was-here").exists()


def test_every_truncation_and_every_flipped_byte_is_one_line_or_harmless(tmp_path):
    for file in (GOLDEN / FILES["vit"], GOLDEN / FILES["timm"], LEGACY):
        data, path = file.read_bytes(), tmp_path / file.name
        for length in [0, 1, 7, 100, *range(500, len(data), len(data) // 20)]:
            path.write_bytes(data[:length])
            with pytest.raises(UserError, match=r"^[^\n]*$"):
                torch_file.read(path)
        for i in range(0, len(data), len(data) // 200):
            path.write_bytes(data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :])
            try:
                torch_file.read(path)
            except UserError as error:
                assert "\n" not in str(error)


STORAGE = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI100\ntQ"  # a pickle's instructions: 100 numbers


def tensor(viewed, offset, shape, strides):
    """A pickle's instructions that make a tensor."""
    numbers = lambda values: b"(" + b"".join(b"I%d\n" % v for v in values) + b"t"
    head = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return head + viewed + b"I%d\n" % offset + numbers(shape) + numbers(strides) + b"tR"


def state_dict(path, value):
    """Writes an archive with one storage of 0, 1, ..., 99 and the pickle of {"w": value}."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"}S'w'\n" + value + b"s.")
        archive.writestr("x/data/0", np.arange(100, dtype=np.float32).tobytes())
    return path


def test_a_tensor_views_a_storage_and_no_tensor(tmp_path):
    """A tensor's own bounds are not those of the memory that it lies in."""
    inner = tensor(STORAGE, 0, (2, 50), (50, 1))
    found = torch_file.read(state_dict(tmp_path / "x.pth", inner))
    np.testing.assert_array_equal(found["w"], np.arange(100).reshape(2, 50))
    with pytest.raises(UserError, match="a tensor without a storage"):
        torch_file.read(state_dict(tmp_path / "x.pth", tensor(inner, 1, (99,), (1,))))


def test_a_pickle_changes_nothing_that_exists(tmp_path):
    """BUILD sets an object's state: here another size for all numbers of a type, another shape for a tensor."""
    state = b"(I3\nS'<'\nNNNI4\nI1\nI0\ntb"
    with pytest.raises(UserError, match="holds 'w', which is no tensor"):
        torch_file.read(state_dict(tmp_path / "x.pth", b"ctorch\nBFloat16Storage\n" + state))
    assert np.dtype(torch_file.STORAGES["BFloat16Storage"]).itemsize == 2
    whole = tensor(STORAGE, 0, (100,), (1,))
    found = torch_file.read(state_dict(tmp_path / "x.pth", whole + b"(I1\n(I1000\ntNI00\nS''\ntb"))
    assert found["w"].shape == (100,)


def test_tensors_beyond_their_storage_are_refused():
    array = np.arange(6, dtype=np.float32)
    storage = torch_file._Storage(array)
    np.testing.assert_array_equal(torch_file._tensor(storage, 0, (2, 3), (1, 2)), array.reshape(3, 2).T)
    for offset, shape, strides in ((1, (6,), (1,)), (0, (2, 3), (3, 2)), (-1, (2,), (1,)), (0, (10**12,), (0,))):
        with pytest.raises(ValueError, match="does not fit its storage"):
            torch_file._tensor(storage, offset, shape, strides)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.write_bytes(b"123"), "is no zip archive as torch.save writes"),
        (lambda path: path.write_bytes(torch_file.LEGACY), "is damaged or no file of weights"),
        (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "hello"), "it has no data.pkl"),
        (
            lambda path: rewrite(
                GOLDEN / FILES["vit"], path, lambda n, d: pickle.dumps({"epoch": 3}) if "pkl" in n else d
            ),
            "holds 'epoch', which is no tensor",
        ),
    ],
)
def test_what_is_no_file_of_weights_is_one_line(tmp_path, write, message):
    write(tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"^[^\n]*x.pth[^\n]*$") as error:
        torch_file.read(tmp_path / "x.pth")
    assert message in str(error.value)


def test_the_hub_s_cache_is_read_and_being_offline_is_one_line(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    like = registry.shapes(build("timm"), 32)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^hf:timm/tiny cannot be downloaded \([^\n]*\); [^\n]* torch:FILE$"):
        sources.load("hf:timm/tiny", like)
    found = lambda repo, file: {("timm/tiny", "model.safetensors"): str(GOLDEN / FILES["timm"])}[repo, file]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", found)
    assert sources.load("hf:timm/tiny", like)["params"]["pos_embedding"].shape == (17, 16)


@pytest.fixture(params=["classify", "pretrain"])
def workdir(request, tmp_path):
    """A run's files with the golden weights in its checkpoint, as they lie there while it trains."""
    _, variables = load("timm")
    config = default_config("vit")
    config.update({"task": request.param, "normalise": "cifar10", "model": {**VIT, "style": "timm"}})
    params, ema = variables["params"], None
    if request.param == "pretrain":
        params = {"backbone": {k: v for k, v in params.items() if k != "head"}, "projector": {"w": np.ones(3)}}
        ema = {"params": params, "model_state": {"batch_stats": {"projector": {"mean": np.zeros(3)}}}}
        params = jax.tree.map(np.zeros_like, params)  # the averaged weights are what counts
    return request.param, runs.leave(tmp_path, config, Variables(params, {}), ema), variables


def test_another_run_s_weights(workdir):
    kind, folder, expected = workdir
    model = build("timm", classes=parity.CLASSES if kind == "classify" else None)
    variables = sources.load(str(folder), registry.shapes(model, 32), "cifar10")
    wanted = {k: v for k, v in expected["params"].items() if k != "head" or kind == "classify"}
    assert variables["params"].keys() == wanted.keys()
    assert all(map(np.array_equal, jax.tree.leaves(variables["params"]), jax.tree.leaves(wanted)))
    with pytest.raises(
        UserError, match=r"config\.normalise='none' is not what .* was trained with: set --config\.normalise=cifar10"
    ):
        sources.load(str(folder), registry.shapes(model, 32), "none")
    with pytest.raises(
        UserError, match=r"config\.model\.heads=1 is not what .* was trained with: set --config\.model\.heads=2"
    ):
        sources.load(str(folder), registry.shapes(build("timm", heads=1, head_dim=16), 32), "cifar10", 1)
    with pytest.raises(UserError, match=r"patch_embed.proj.weight is \[16, 3, 8, 8\] there, \[16, 3, 4, 4\] here"):
        sources.load(str(folder), registry.shapes(build("timm", patch=4), 32))


@pytest.mark.parametrize("what", ["file", "study"])
def test_what_is_no_run_is_one_line(tmp_path, what):
    if what == "file":
        folder, message = LEGACY, f"is a file, no workdir: for weights of PyTorch's write torch:{LEGACY}"
    else:
        folder, message = tmp_path, "is no run: of a study's folder, name the folder of a run in it"
        (tmp_path / "config.json").write_text('{"bases": {}, "runs": [], "seeds": []}')
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        sources.load(str(folder), registry.shapes(build("vit"), 32), "none")
    assert str(error.value).endswith(message)
    assert what == "file" or [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_export_and_back(workdir, tmp_path, capsys):
    kind, folder, expected = workdir
    out = tmp_path / "out" / "model.safetensors"
    assert cli.main(["export", f"--workdir={folder}", f"--out={out}"]) == 0
    assert ("strict=False" in capsys.readouterr().out) == (kind == "pretrain")
    written, golden = safetensors.numpy.load_file(out), safetensors.numpy.load_file(GOLDEN / FILES["timm"])
    names = [name for name in golden if not name.startswith("head") or kind == "classify"]
    assert sorted(written) == sorted(names)
    assert all(np.array_equal(written[name], golden[name]) for name in names)
    model = build("timm", classes=parity.CLASSES if kind == "classify" else None)
    again = sources.load(f"torch:{out}", registry.shapes(model, 32))
    assert again["params"].keys() <= expected["params"].keys()
    assert cli.main(["export", f"--workdir={folder}", "--out=model.pth"]) == 2
    assert "FILE.safetensors" in capsys.readouterr().err

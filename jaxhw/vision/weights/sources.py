"""Weights from elsewhere for a model to start from: other runs, PyTorch's files, the Hugging Face hub."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.checkpoint import restore_variables
from jaxhw.errors import UserError
from jaxhw.vision.weights import torch_file
from jaxhw.vision.weights import torch_names as pretrained

State = dict[str, np.ndarray]  # by PyTorch's names


def load(source: str, like: Mapping, normalise: str | None = None, heads: int | None = None) -> dict:
    """A model's variables from `source`; tells in a printed line what was taken.

    A head of another shape is left out; positions of another grid of patches are resized, as timm does.

    Args:
        source: a workdir (its newest checkpoint; averaged weights where it keeps them; of a pre-training run, the
            backbone), `torch:FILE` (.pth or .safetensors of torchvision's ResNet, vit-pytorch's or timm's ViT) or
            `hf:OWNER/NAME` (its model.safetensors).
        like: the model's variables or their shapes, {"params": ..., "batch_stats": ...}; with or without a head.
        normalise: the statistics that the images are normalised with; those of a workdir's run must be the same.
        heads: of the model's attention, which shapes do not tell; those of a workdir's run must be the same.

    Returns:
        The variables in the form of `like`, as host arrays; without a head if there is none that fits.

    Raises:
        UserError: there is nothing at `source`, or it does not fit.
    """
    kind, _, name = source.partition(":")
    if kind == "torch" and name:
        state = torch_file.read(Path(name).expanduser())
    elif kind == "hf" and name:
        state = torch_file.read(_download(name))
    else:
        workdir = Path(source).expanduser()
        if workdir.is_file():
            raise UserError(f"{source} is a file, no workdir: for weights of PyTorch's write torch:{source}")
        state = pretrained.to_torch(of_workdir(workdir))
        _check_unseen(workdir, {"normalise": normalise, "model.heads": heads})
        _tell_collapse(workdir)
    return fit(state, like, source)


def of_workdir(workdir: Path) -> dict:
    """The model of a run's newest checkpoint, {"params", "batch_stats"}, as host arrays.

    Raises:
        UserError: it is no workdir, has no complete checkpoint or trains no image model.
    """
    task = configs.load(workdir / "config.json").get("task")
    if task is None:
        raise UserError(f"{workdir} is no run: of a study's folder, name the folder of a run in it")
    variables = restore_variables(workdir, meshes.replicated(meshes.make_mesh()))
    params, state = variables["params"], variables["model_state"]
    if task == "pretrain":
        params, state = params["backbone"], {name: part.get("backbone", {}) for name, part in state.items()}
    elif task == "linear":
        params, state = state["backbone"]["params"], state["backbone"]
    elif task != "classify":
        raise UserError(f"{workdir} is a run of task {task}, which holds no image model")
    return jax.tree.map(np.asarray, {"params": params, "batch_stats": state.get("batch_stats", {})})


def fit(state: State, like: Mapping, source: str) -> dict:
    """The variables of `like` out of a state_dict; see `load`."""
    prefix = f"{pretrained.head_name(like['params'])}."
    wanted = _shapes(like)
    theirs, ours = ({k: s for k, s in x.items() if k.startswith(prefix)} for x in (_sizes(state), wanted))
    said = ""
    if theirs != ours:
        state = {name: value for name, value in state.items() if not name.startswith(prefix)}
        like = {**like, "params": {name: part for name, part in like["params"].items() if name != "head"}}
        wanted = _shapes(like)
        said = f"; the head starts anew ({_difference(theirs, ours)})" if ours else ""
    elif ours:
        said = "; the head is kept, as its shape fits: its classes must be this run's, in the same order"
    state = _fit_tokens(state, wanted, source)
    if difference := _difference(_sizes(state), wanted):
        raise UserError(f"{source} does not fit config.model: {difference}")
    _say(f"init_from {source}: {len(wanted)} tensors{said}")
    return pretrained.from_torch(state, like)


def _shapes(like: Mapping) -> dict[str, tuple[int, ...]]:
    zeros = jax.tree.map(lambda a: np.broadcast_to(np.zeros((), np.float32), a.shape), dict(like))
    return _sizes(pretrained.to_torch(zeros))


def _sizes(state: State) -> dict[str, tuple[int, ...]]:
    """The shapes of what matters."""
    return {k: v.shape for k, v in state.items() if v.size and not k.endswith("num_batches_tracked")}


def _difference(theirs: dict[str, tuple[int, ...]], ours: dict[str, tuple[int, ...]]) -> str:
    """Names the first tensor that differs, if any."""
    for name in [*ours, *theirs]:
        there, here = theirs.get(name), ours.get(name)
        if there != here:
            return f"{name} is {_size(there)} there, {_size(here)} here"
    return ""


def _size(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(line)


def _fit_tokens(state: State, wanted: dict[str, tuple[int, ...]], source: str) -> State:
    """Brings a ViT's cls token and positions to the shapes wanted, where that is a matter of form or of the grid."""
    state = dict(state)
    for name in ("cls_token", "pos_embedding", "pos_embed"):
        if name in state and name in wanted and state[name].shape[:-2] == (1,) and len(wanted[name]) == 2:
            state[name] = state[name][0]  # vit-pytorch had [1, tokens, width] until 2025
    name = "pos_embedding" if "pos_embedding" in wanted else "pos_embed"
    if name in state and name in wanted and _differ_in_tokens(state[name].shape, wanted[name]):
        state[name] = _resize(state[name], wanted[name], "cls_token" in wanted, source)
    return state


def _differ_in_tokens(there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Whether two shapes [..., tokens, width] differ in the number of tokens and in nothing else."""
    return there != here and len(there) == len(here) and (*there[:-2], there[-1]) == (*here[:-2], here[-1])


def _resize(positions: np.ndarray, shape: tuple[int, ...], cls: bool, source: str) -> np.ndarray:
    """Positions [..., tokens, width] of a square grid on another: bicubic, antialiased; the cls token's stays."""
    flat = positions.reshape(positions.shape[-2:])
    token, grid = flat[:cls], flat[cls:]
    old, new = round(len(grid) ** 0.5), round((shape[-2] - cls) ** 0.5)
    if old**2 != len(grid) or not old:
        return positions  # another architecture: the comparison says so
    grid = jax.image.resize(grid.reshape(old, old, -1), (new, new, flat.shape[1]), "cubic").reshape(new**2, -1)
    _say(f"init_from {source}: positions of {old} x {old} patches resized to {new} x {new}")
    return np.concatenate([token, np.asarray(grid)]).reshape(shape)


def _check_unseen(workdir: Path, ours: Mapping) -> None:
    """Compares what the tensors' shapes do not tell, as far as the run has it."""
    config = configs.load(workdir / "config.json")
    for key, own in ours.items():
        group, _, name = key.rpartition(".")
        theirs = (config.get(group, {}) if group else config).get(name, own)
        if own is not None and theirs != own:
            raise UserError(
                f"{workdir} was trained with {key}={theirs}, this run has {own}: set --config.{key}={theirs}"
            )


def _tell_collapse(workdir: Path) -> None:
    """Says so if the features of a finished run's images are nearly all the same: nothing can be learnt from them."""
    results = workdir / "results.json"
    if results.exists() and json.loads(results.read_text()).get("collapsed"):
        _say(f"init_from {workdir}: that run has collapsed; its features tell images apart hardly or not at all")


def _download(name: str) -> Path:
    """model.safetensors of a repository of the hub, from its cache if it is there."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name, "model.safetensors"))
    except Exception as error:  # no network, no such repository, no such file, no access: each its own class
        reason = (str(error) or type(error).__name__).strip().split("\n")[0]
        raise UserError(f"hf:{name} cannot be downloaded ({reason}); with the file at hand, use torch:FILE") from None

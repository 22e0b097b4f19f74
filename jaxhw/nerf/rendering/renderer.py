"""Pictures of a field: one program for each number of pixels, its rays divided over every device."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import NO_CAMERA, Cameras, Rays, rays_through
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.program import Program
from jaxhw.state import Variables

PyTree = Any
RenderRays = Callable[[Variables, Rays, jax.Array], Rendered]  # (variables, rays [r], background [3]) -> [r]

# Behind the scene where it is evaluated; in training, random is another colour for each ray.
BACKGROUNDS = {"white": np.ones(3, np.float32), "black": np.zeros(3, np.float32), "random": np.zeros(3, np.float32)}


class Renderer:
    """`renderer(variables, camera) -> Rendered` of a picture, as arrays of the host.

    Args:
      render: what renders rays, a field's method.
      background: [3], the colour behind the scene.
      chunk: rays that a device works on at a time, so that memory does not grow with the picture.
    """

    def __init__(self, render: RenderRays, mesh: Mesh, background: np.ndarray, chunk: int):
        self.mesh, self.background = mesh, background
        pixels = functools.partial(render_pixels, render, background=jnp.asarray(background, jnp.float32), chunk=chunk)
        rows, everywhere = meshes.by_row(mesh).spec, PartitionSpec()
        # Nothing crosses devices, so there is nothing for the check of replication to find.
        mapped = jax.shard_map(
            pixels, mesh=mesh, in_specs=(everywhere, everywhere, rows), out_specs=rows, check_vma=False
        )
        self._render = jax.jit(mapped, out_shardings=meshes.replicated(mesh))

    def __call__(self, variables: Variables, camera: Cameras) -> Rendered:
        """The picture that one camera (`cameras[i]`) takes: colour [h, w, 3] in [0, 1], depth and opacity [h, w]."""
        return as_picture(self.part(variables, camera, 0, camera.width * camera.height), camera)

    def part(self, variables: Variables, camera: Cameras, first: int, count: int) -> Rendered:
        """`count` pixels of a camera's picture from number `first`, row by row; or a few more, to divide over devices.

        Pixels beyond the picture are its last one: one program serves pictures of any size, a part at a time.
        """
        camera = jax.tree.map(np.asarray, camera)
        return jax.device_get(self._render(variables, camera, self._pixels(first, count)))

    def program(self, variables: Variables, camera: Cameras) -> Program:
        """What is computed of a picture."""
        count = camera.width * camera.height
        return Program(self._render, (variables, camera, self._pixels(0, count)), count)

    def _pixels(self, first: int, count: int) -> np.ndarray:
        """The numbers of so many pixels, and of more so that the devices divide them."""
        return np.arange(first, first - (-count // self.mesh.size) * self.mesh.size, dtype=np.int32)


def as_picture(pixels: Rendered, camera: Cameras) -> Rendered:
    """A camera's picture, [h, w], of its pixels [p], counted row by row; what is beyond the last one is left out."""
    w, h = camera.width, camera.height
    picture = jax.tree.map(lambda a: a[: h * w].reshape(h, w, *a.shape[1:]), pixels)
    return picture.replace(colour=np.clip(picture.colour, 0, 1))


def render_pixels(
    render: RenderRays, variables: Variables, camera: Cameras, pixels: jax.Array, background: jax.Array, chunk: int
) -> Rendered:
    """A camera's pixels [p], counted row by row: one device's share.

    The chunks, of `chunk` pixels at most, are of one size. Numbers beyond the last pixel, which fill the last one up,
    give the last pixel.
    """
    count = -(-len(pixels) // chunk)
    chunks = jnp.pad(pixels, (0, -len(pixels) % count), mode="edge").reshape(count, -1)
    width, height = camera.size

    def one(pixel: jax.Array) -> Rendered:
        pixel = jnp.minimum(pixel, width * height - 1)
        centres = jnp.stack([pixel % width, pixel // width], -1) + 0.5
        origins, directions = rays_through(camera, centres)
        rays = Rays(origins, directions, jnp.full(len(pixel), NO_CAMERA, jnp.int32))
        return render(variables, rays, background)

    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(pixels)], jax.lax.map(one, chunks))

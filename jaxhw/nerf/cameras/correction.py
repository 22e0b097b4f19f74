"""Corrections of cameras that are learnt with the scene: what `config.cameras` asks for, and what is done with them.

A correction is a row of numbers, all 0 before the run. `Correction.apply` is the one function that makes cameras of
them: for training, evaluation, export and viewing alike. In shapes, n counts cameras and d the numbers of a row:

    t [3], w [3]       position and rotation
    f [1]              focal length, where `focal`: both become exp(f) times as long
    k [1 to 5]         what is added to the coefficients of the distortion, where `distortion`

As in nerfstudio, a pose is corrected on the world's side: the position c becomes c + t and a ray's direction r becomes
R(w) r. So t and w are axes of the world, and a rotation turns a camera about itself.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw import options as options_
from jaxhw.errors import UserError
from jaxhw.nerf.cameras import motion
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.options import above, at_least, each, one_of, option

OFF = "off"
POSE = 6
# How many coefficients of the distortion a model has. A pinhole camera has none, and becomes one that has two.
COEFFICIENTS = {"PINHOLE": 2, "SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4, "BROWN": 5, "OPENCV_FISHEYE": 4}
METRICS = ("camera_degrees", "camera_translation")
EPS = 1e-15  # of Adam: nerfstudio's


@dataclasses.dataclass(frozen=True)
class Options:
    """What `config.cameras` may set; rates and penalties are nerfstudio's."""

    refine: str = option(OFF, "whether poses are refined, and by which map", one_of(OFF, "SO3xR3", "SE3"))
    preconditioned: bool = option(False, "CamP: in coordinates that move pixels alike; see preconditioning.py")
    focal: bool = option(False, "each picture's focal length is refined too")
    distortion: bool = option(False, "each picture's distortion is refined too")
    start: float = option(0.0, "steps, or below 1 a share of the run, before cameras move", at_least(0))
    lr: float = option(1e-3, "learning rate of the corrections at its peak", at_least(0))
    end_lr: float = option(0.1, "where their rate ends, as a fraction of the peak", at_least(0))
    schedule: str = option(
        "exponential",
        "how their rate goes once they move",
        one_of("constant", "cosine", "exponential", "linear", "inverse"),
    )
    translation_penalty: float = option(1e-2, "on the mean length of the translations", at_least(0))
    rotation_penalty: float = option(1e-3, "on the mean angle of the rotations, in radians", at_least(0))
    perturb: tuple[float, ...] = option(
        (0.0, 0.0),
        "rms degrees, and share of the cameras' extent, by which training cameras are moved before the run",
        each(at_least(0), count=2),
    )
    init_only: bool = option(
        False, "config.init_from gives the refined cameras alone: the scene is learnt anew, from better poses"
    )
    fit_lr: float = option(1e-3, "rate at which half a held-out picture fits its own pose for psnr_half", above(0))


@dataclasses.dataclass(frozen=True)
class Correction:
    """What rows of numbers mean for cameras of one model.

    Attributes:
      precondition: [n, d, d] float32: the rows that are learnt, times it, are the corrections; None: they are those.
    """

    options: Options
    model: str
    precondition: np.ndarray | None = None

    @property
    def size(self) -> int:
        """d."""
        return POSE + self.options.focal + self.options.distortion * COEFFICIENTS[self.model]

    def start(self, count: int) -> np.ndarray:
        """[count, d] the rows before the run: no correction."""
        return np.zeros((count, self.size), np.float32)

    def physical(self, rows: jax.Array) -> jax.Array:
        """[n, d] corrections, from the rows that are learnt."""
        if self.precondition is None:
            return rows
        return (self.precondition * rows[:, None, :]).sum(-1)

    def learnt(self, physical: np.ndarray) -> np.ndarray:
        """The inverse of `physical`; on the host."""
        if self.precondition is None:
            return np.asarray(physical, np.float32)
        solved = np.linalg.solve(self.precondition.astype(np.float64), np.asarray(physical, np.float64)[..., None])
        return solved[..., 0].astype(np.float32)

    def apply(self, cameras: Cameras, rows: jax.Array) -> Cameras:
        """The corrected cameras: n cameras, and the rows [n, d] that are learnt for them."""
        return corrected(self.options, cameras, self.physical(rows))

    def penalty(self, rows: jax.Array) -> jax.Array:
        """[] nerfstudio's regularisation: the mean lengths of translations and rotations, times their penalties.

        The mean of norms, not of their squares. Its gradient is 0 where a correction is.
        """
        values = self.physical(rows)
        far, turned = motion.safe_norm(values[:, :3]).mean(), motion.safe_norm(values[:, 3:POSE]).mean()
        return self.options.translation_penalty * far + self.options.rotation_penalty * turned

    def metrics(self, rows: jax.Array) -> dict[str, jax.Array]:
        """Mean rotation in degrees and mean translation in the scene's unit, [] each."""
        values = self.physical(rows)
        sizes = jnp.degrees(motion.safe_norm(values[:, 3:POSE]).mean()), motion.safe_norm(values[:, :3]).mean()
        return dict(zip(METRICS, sizes, strict=True))

    @property
    def optimiser(self) -> dict[str, Any]:
        """The options of an optimiser of its own: nerfstudio's Adam, whatever the field's is."""
        o = self.options
        rate = {"lr": o.lr, "end_lr": o.end_lr, "schedule": o.schedule, "delay": o.start, "warmup_steps": 0}
        return {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": EPS, "weight_decay": 0.0, "clip_norm": 0.0, **rate}


def corrected(options: Options, cameras: Cameras, values: jax.Array) -> Cameras:
    """n cameras with corrections [n, d] in the world's unit, radians, and coefficients; see the module's docstring."""
    translation, logs = values[:, :3], values[:, 3:POSE]
    if options.refine == "SE3":
        rotation, translation = motion.motions(translation, logs)
    else:
        rotation = motion.rotations(logs)
    axes = motion.product(rotation, cameras.pose[:, :, :3])
    position = cameras.pose[:, :, 3] + translation
    cameras = cameras.replace(pose=jnp.concatenate([axes, position[..., None]], -1))
    at = POSE
    if options.focal:
        cameras = cameras.replace(focal=cameras.focal * jnp.exp(values[:, at : at + 1]))
        at += 1
    if options.distortion:
        added = values[:, at:]
        rest = cameras.distortion.shape[1] - added.shape[1]
        model = "RADIAL" if cameras.model == "PINHOLE" else cameras.model
        cameras = cameras.replace(distortion=cameras.distortion + jnp.pad(added, ((0, 0), (0, rest))), model=model)
    return cameras


def read(values: Mapping[str, Any]) -> Options:
    """The options of `config.cameras`, which older workdirs do not have.

    Raises:
      UserError: a value that cannot be, or one that says something of corrections where there are none.
    """
    found = options_.read(Options, values, "config.cameras")
    if found.refine == OFF:
        for name in ("preconditioned", "focal", "distortion", "init_only"):
            if getattr(found, name):
                raise UserError(f"config.cameras.{name} needs config.cameras.refine=SO3xR3 or SE3")
    return found


def pose_only(learning_rate: float = Options.fit_lr) -> Correction:
    """The correction of a pose alone, for pictures that the scene was not learnt from."""
    return Correction(Options(refine="SO3xR3", fit_lr=learning_rate), "PINHOLE")

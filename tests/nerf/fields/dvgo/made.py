"""Small DVGO fields for the tests, and cameras around them."""

import dataclasses

import jax
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.fields.dvgo.field import DVGO
from jaxhw.nerf.fields.dvgo.grid import CoarseState, Grid
from jaxhw.nerf.fields.dvgo.options import Options, StageOptions
from jaxhw.nerf.fields.field import Setting

RAYS = 64
BOX = np.array([[-1.0, -1, -1], [1, 1, 1]], np.float32)
COARSE = StageOptions(
    voxels=10**3, stride=1.0, alpha=1e-4, threshold=1e-7, entropy=0.01, per_point=0.1, blocks=8.0, samples=40.0,
    shaded=40.0,
)  # fmt: skip
FINE = StageOptions(
    voxels=16**3, stride=0.5, alpha=1e-2, threshold=1e-4, entropy=0.001, per_point=0.01, blocks=12.0, samples=60.0,
    shaded=60.0,
)  # fmt: skip


def ring(n=12, radius=3.0, height=1.0, size=40):
    """Cameras on a circle that look at the origin, z up."""
    angle = np.arange(n) * 2 * np.pi / n
    eyes = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(n, height)], -1)
    forward = -eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    pose = np.stack([right, np.cross(forward, right), forward, eyes], -1).astype(np.float32)
    flat = np.ones((n, 2), np.float32)
    return Cameras(
        pose=pose, focal=flat * size, centre=flat * size / 2, distortion=np.zeros((n, 4), np.float32),
        size=np.full((n, 2), size, np.int32),
    )  # fmt: skip


def field(cameras=None, bounds=BOX, near=1.0, unbounded=False, steps=100, options_near=0.0, **options):
    """A field in the box of [-1, 1]^3, or in all of space; `near` is the setting's, `options` are DVGO's."""
    values = {"coarse": COARSE, "fine": FINE, "coarse_steps": 40, "grow_at": (10,), "tighten_every": 0}
    values |= {"near": options_near, "channels": 4, "widths": (8, 8), "longest": 96}
    cameras = ring() if cameras is None else cameras
    setting = Setting(
        cameras=cameras, near=near, far=40.0 if options_near else 6.0, bounds=bounds, unbounded=unbounded, steps=steps
    )
    return DVGO.create(Options(**values | options), setting)


def started(field):
    return field.start(jax.random.key(0))


def grown(field, variables, event):
    """The variables after an event of `stages.plan`, which may be out of its turn here."""
    from jaxhw.nerf.fields.dvgo import stages

    return stages.grow(field.options, variables, event, jax.random.key(0))


def with_density(variables, density):
    """The variables with another density [v, 1], whatever its per-voxel learning rate."""
    state = variables.model_state
    rate = state.learning_rate if isinstance(state, CoarseState) else 1
    density = np.broadcast_to(density, variables.params.density.shape).astype(np.float32) / rate
    return variables.replace(params=variables.params.replace(density=density))


def grid(field, variables):
    return Grid.of(field.options, variables)


def with_stage(field, name, **changes):
    """The field with other options of "coarse" or "fine"."""
    stage = dataclasses.replace(getattr(field.options, name), **changes)
    return dataclasses.replace(field, options=dataclasses.replace(field.options, **{name: stage}))

"""A small nerfacto in each of its forms, and rays for it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras, Rays
from jaxhw.nerf.fields.field import Setting, Target
from jaxhw.nerf.fields.nerfacto.field import Nerfacto
from jaxhw.nerf.fields.nerfacto.options import HashOptions, Options, ProposalOptions

CAMERAS, RAYS = 7, 64
PUBLISHED = {
    "hash": HashOptions(levels=4, table_size=2**10, coarsest=4, finest=32),
    "proposal": ProposalOptions(samples=(16, 12), finest=(16, 32), levels=2, table_size=2**8, warmup=20.0, anneal=10.0),
    "samples": 10,
    "width": 16,
    "geometry": 7,
    "colour_widths": (16, 16),
    "appearance": 4,
}
FAST = PUBLISHED | {
    "hash": HashOptions(levels=4, features=2, table_size=2**10, coarsest=4, finest=32, layout="column"),
    "proposal": ProposalOptions(kind="grid", samples=(24,), voxels=12, warmup=20.0, anneal=10.0),
    "shaded": 10.0,
    "appearance": 0,
    "near": 0.0,
}
FORMS = {"published": PUBLISHED, "fast": FAST}


def cameras(count=CAMERAS):
    """On a circle of radius 1, looking at its middle."""
    angle = np.arange(count) * 2 * np.pi / count
    position = np.stack([np.cos(angle), np.sin(angle), np.full(count, 0.3)], -1)
    forward = -position / np.linalg.norm(position, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0, 1])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    pose = np.stack([right, np.cross(forward, right), forward, position], -1).astype(np.float32)
    two = np.full((count, 2), 8.0, np.float32)
    return Cameras(pose, two, two / 2, np.zeros((count, 4), np.float32), np.full((count, 2), 8, np.int32))


def field(form="fast", unbounded=True, steps=100.0, **changes):
    setting = Setting(cameras(), 0.05, 1000.0 if unbounded else 6.0, unbounded=unbounded, steps=steps)
    if unbounded:
        setting = Setting(cameras(), 0.05, 1000.0, unbounded=True, near_from="guess", steps=steps)
    return Nerfacto.create(Options(**FORMS[form] | changes), setting)


def started(f, scale=300.0):
    """Variables with tables large enough to show something, denser than proposals say."""
    variables = f.start(jax.random.key(0))
    params = dict(variables.params)
    last = params["base"]["layer_1"]
    params["base"] = params["base"] | {"layer_1": last | {"bias": last["bias"].at[0].add(5.0)}}
    params["hash"] = jax.tree.map(lambda t: t * scale, params["hash"])
    state = variables.model_state.replace(anneal=np.float32(0.7))
    return jax.tree.map(jnp.asarray, variables.replace(params=params, model_state=state))


def rays(count=RAYS, seed=0):
    rng = np.random.default_rng(seed)
    camera = rng.integers(CAMERAS, size=count)
    origins = cameras().pose[camera, :, 3]
    directions = -origins + rng.normal(size=(count, 3)) * 0.4
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Rays(jnp.asarray(origins), jnp.asarray(directions, jnp.float32), jnp.asarray(camera, jnp.int32))


def target(count=RAYS, seed=1):
    colour = np.random.default_rng(seed).uniform(size=(count, 3)).astype(np.float32)
    return Target(colour=jnp.asarray(colour), background=jnp.ones((count, 3)))

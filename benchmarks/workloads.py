"""jaxhw's training steps by name, for accelerator.py: models with Adam on given images, pre-training, scenes.

A step is what `python -m jaxhw.main` runs for pre-training and for scenes, on a batch that lies on the device already;
of the classifiers it is the model, its loss and Adam, as their peers have it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhw import config as configs
from jaxhw import cost, start, train
from jaxhw import mesh as meshes
from jaxhw import task as tasks
from jaxhw.main import set_up
from jaxhw.vision.models import parts, registry

VIT = {"name": "vit", "patch": 4, "width": 192, "depth": 25, "heads": 6, "head_dim": 64, "mlp": 384}
VIT_S16 = {"name": "vit", "patch": 16, "width": 384, "depth": 12, "heads": 6, "head_dim": 64, "mlp": 1536}
# name -> (model, pixels a side, classes, images a step)
MODELS = {
    "resnet18": ({"name": "resnet18"}, 32, 100, 2048),
    "vit": (VIT, 32, 100, 1024),
    "resnet50": ({"name": "resnet50"}, 224, 1000, 256),
    "vit_s16": (VIT_S16 | {"style": "timm"}, 224, 1000, 256),
}
# name -> (config, what differs from it)
SCENES = {
    "vanilla": ("configs/vanilla.py", {"batch_size": 4096}),
    "dvgo": ("configs/dvgo.py", {"steps": 4000, "model.coarse_steps": 0.25, "model.grow_at": (0.02, 0.04)}),
    "nerfacto": ("configs/nerfacto.py:published", {"cameras.refine": "off"}),
    "nerfacto_fast": ("configs/nerfacto.py", {}),
}
SIMCLR = 1024  # images of two views
TINY_GRID = {"batch_size": 64, "steps": 40, "model.hash.table_size": 2**10, "model.hash.finest": 64}
TINY_SCENES = {
    "vanilla": ("configs/vanilla.py:small", {"batch_size": 64, "steps": 40}),
    "dvgo": ("configs/dvgo.py:demo", {"batch_size": 512, "steps": 200}),
    "nerfacto": ("configs/nerfacto.py:published", TINY_GRID | {"cameras.refine": "off"}),
    "nerfacto_fast": ("configs/nerfacto.py:demo", TINY_GRID),
}


def make(name: str, variant: str, tiny: bool):
    """(function that runs so many steps and waits, {"items": a step, "unit", "flops"}); see turns.answer."""
    if name in MODELS:
        return classifier(name, variant, tiny)
    return pretraining(variant, tiny) if name == "simclr" else scene(name, tiny)


def classifier(name: str, dtype: str, tiny: bool):
    model, size, classes, batch = MODELS[name]
    if tiny:
        model, size, batch = shrunk(model), min(size, 64), 8
    mesh = meshes.make_mesh()
    module = registry.create(model, classes, size, dtype)
    images = np.random.default_rng(0).random((batch, size, size, 3), np.float32)
    x, y = meshes.put_rows((images, np.arange(batch, dtype=np.int32) % classes), mesh)
    variables = meshes.on_mesh(lambda: module.init(jax.random.key(1), jnp.asarray(images[:1]), train=False), mesh)
    adam, apply = optax.adam(1e-4), parts.in_training(module, mesh)

    def step(state, x, y):
        variables, opt_state = state

        def loss(params):
            logits, new = apply({**variables, "params": params}, x, jax.random.key(2))
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = adam.update(gradient, opt_state)
        return ({"params": optax.apply_updates(variables["params"], updates), **new}, opt_state), value

    state = variables, meshes.on_mesh(lambda: adam.init(variables["params"]), mesh)
    return repeated(jax.jit(step, donate_argnums=0), state, x, y), known(step, (state, x, y), batch, "images")


def shrunk(model: dict) -> dict:
    return model | ({"width": 32, "depth": 2, "heads": 2, "mlp": 64} if model["name"] == "vit" else {"width": 8})


def pretraining(dtype: str, tiny: bool):
    """SimCLR with its augmentation."""
    from jaxhw.vision.augment import views
    from jaxhw.vision.data import datasets
    from jaxhw.vision.tasks import pretrain

    batch = 8 if tiny else SIMCLR
    pixels = np.random.default_rng(0).integers(0, 256, (2 * batch, 32, 32, 3), np.uint8)
    images = datasets.Dataset(np.zeros(2 * batch, np.int32), ["any"], 32, pixels, np.arange(2 * batch))
    datasets.load = lambda *args, **options: images
    config = pretrain.default_config("simclr")
    config.update({"steps": 10**6, "batch_size": batch, "dtype": dtype, "validation": 0.0})
    config.augment.update({**views.SIMCLR_CIFAR, "blur": (0.5,), "interpolation": "bilinear"})
    config.method.norm = False
    config.optim.update({"name": "adamw", "lr": 3e-4, "weight_decay": 1e-4})
    if tiny:
        config.model.width = 8
    return trained(config, batch, "images")


def scene(name: str, tiny: bool):
    """A scene's step in the last of its stages, on the procedural scene."""
    file, changes = TINY_SCENES[name] if tiny else SCENES[name]
    config, _ = configs.parse([f"--config={file}"])
    always = {"scene": "demo", "downscale": 4 if tiny else 1, "split": "given", "background": "white"}
    configs_update(config, always | changes)
    return trained(config, config.batch_size, "rays")


def configs_update(config, changes: dict) -> None:
    for key, value in changes.items():
        config.update_from_flattened_dict({key: value})


def trained(config, items: int, unit: str):
    """The step that training takes, in the last of its stages."""
    mesh = meshes.make_mesh()
    task = tasks.make(config, mesh)
    state = start.begin(task, config, mesh, jax.device_get(task.init(jax.random.key(0))))
    step, done = train.make_step(task, config, mesh), 0
    for stage, end in enumerate(task.stages):
        for i in range(done, end):
            state, _ = step(state, meshes.put_rows(task.batch(i), mesh))
        done, state = end, start.grow(task, config, state, stage + 1, mesh)
    batch = meshes.put_rows(task.batch(done), mesh)
    told = known(lambda state, batch: step(state, batch), (state, batch), items, unit)
    return repeated(step, state, batch), told


def known(step, args: tuple, items: int, unit: str) -> dict:
    return {"items": items, "unit": unit, "flops": cost.flops(step, *args)}


def repeated(step, state, *batch):
    """Runs steps one after the other, the device never waiting for the host, and waits for the last."""

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, value = step(state, *batch)
        value.block_until_ready()

    return run


if __name__ == "__main__":
    import turns

    set_up()
    turns.answer(make)

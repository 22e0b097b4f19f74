"""nerfacto in rays a second: jaxhw's, as published and fast, in turns with nerfstudio 1.1.5's in torch.

    pip install torch numpy jaxtyping rich      # in an environment of its own, with PYTHON as its interpreter
    pip install --no-deps nerfstudio==1.1.5
    python benchmarks/nerfacto.py --torch-python=PYTHON [--steps 6] [--rounds 5] [--quick]

A step is 4,096 random rays with random colours, so rays/s are ``RAYS / seconds``.

    training         as configured but for the camera optimiser, which is off; from step 0, so that the proposals learn
                     in steps 0 to 10 and in every second one after them: take an even number of steps
    training, late   from step 5,000, from which proposals learn in every sixth step: take a multiple of 6
    rendering        evaluation of 4,096 rays at once, without gradients

"published" has nerfstudio's own numbers: samples, networks, tables. "fast" is what `configs/nerfacto.py` trains.
nerfstudio runs without tiny-cuda-nn, in float32 (it turns mixed precision off on a CPU). One step is its trainer's: the
model, its metrics (the distortion loss among them; PSNR is left out), its losses, backward, Adam and the schedule of
each group of parameters. Fetching pixels and making rays are left out on both sides: they cost next to nothing.
"""

import argparse
import functools
import sys
from unittest.mock import MagicMock

import turns

RAYS, IMAGES = 4096, 45
FIRST = {"training": 0, "training, late": 5000}
VARIANTS = (*FIRST, "rendering")
FORMS = ("published", "fast")
ABSENT = """cv2 matplotlib nerfacc plotly plotly.express plotly.graph_objects torch.utils.tensorboard torchmetrics
torchmetrics.functional torchmetrics.image torchmetrics.image.lpip tyro viser viser.transforms"""


def nerfacto():
    """The method's model, as method_configs.py has it but for the camera optimiser; what it does not use is faked."""
    sys.modules.update({name: MagicMock() for name in ABSENT.split()})
    import torch
    from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
    from nerfstudio.data.scene_box import SceneBox
    from nerfstudio.models.nerfacto import NerfactoModelConfig

    torch.manual_seed(0)
    camera = CameraOptimizerConfig(mode="off")
    config = NerfactoModelConfig(implementation="torch", average_init_density=0.01, camera_optimizer=camera)
    box = SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    return config.setup(scene_box=box, num_train_data=IMAGES, metadata={})


def random_rays():
    """From [-1, 1]^3 in any direction."""
    import torch
    from nerfstudio.cameras.rays import RayBundle

    directions = torch.nn.functional.normalize(torch.randn(RAYS, 3), dim=-1)
    cameras = torch.randint(0, IMAGES, (RAYS, 1))
    return RayBundle(torch.rand(RAYS, 3) * 2 - 1, directions, torch.ones(RAYS, 1), camera_indices=cameras)


def training(first: int):
    """A function that takes one more training step."""
    import torch

    model = nerfacto().train()
    groups = [parameters for parameters in model.get_param_groups().values() if parameters]
    optimisers = [torch.optim.Adam(parameters, lr=1e-2, eps=1e-15) for parameters in groups]
    schedules = [torch.optim.lr_scheduler.ExponentialLR(adam, 0.01 ** (1 / 200_000)) for adam in optimisers]
    before, after = (callback.func for callback in model.get_training_callbacks(None))
    model.proposal_sampler.step_cb(max(first - 1, 0))
    number = first

    def step() -> None:
        nonlocal number
        rays, batch = random_rays(), {"image": torch.rand(RAYS, 3)}
        before(number)
        for adam in optimisers:
            adam.zero_grad()
        outputs = model(rays)
        metrics = model.get_metrics_dict(outputs, batch)
        functools.reduce(torch.add, model.get_loss_dict(outputs, batch, metrics).values()).backward()
        for adam, schedule in zip(optimisers, schedules, strict=True):
            adam.step()
            schedule.step()
        after(number)
        number += 1

    return step


def rendering():
    """A function that renders RAYS rays."""
    import torch

    model = nerfacto().eval()
    return torch.no_grad()(lambda: model(random_rays()))


def ours(form: str, variant: str):
    """jaxhw's step: the field's loss, its gradient and the config's optimiser; or its rendering."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxhw import config as configs
    from jaxhw import mesh as meshes
    from jaxhw import optim
    from jaxhw.nerf.cameras.cameras import Cameras, Rays
    from jaxhw.nerf.fields import registry
    from jaxhw.nerf.fields.field import Setting, Target
    from jaxhw.task import Context

    config, _ = configs.parse([f"--config=configs/nerfacto.py{':published' if form == 'published' else ''}"])
    rng, ones = np.random.default_rng(0), np.ones((IMAGES, 2), np.float32)
    pose = np.concatenate([np.tile(np.eye(3), (IMAGES, 1, 1)), rng.uniform(-1, 1, (IMAGES, 3, 1))], 2)
    cameras = Cameras(pose.astype(np.float32), ones, ones, np.zeros((IMAGES, 4), np.float32), np.int32(8 * ones))
    field = registry.create(
        config.model, Setting(cameras, 0.05, 1000.0, unbounded=True, near_from="guess", steps=config.steps)
    )
    variables, mesh = jax.tree.map(jnp.asarray, field.start(jax.random.key(0))), meshes.make_mesh(1)
    directions = rng.normal(size=(RAYS, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    camera = jnp.asarray(rng.integers(IMAGES, size=RAYS), jnp.int32)
    rays = Rays(jnp.asarray(rng.uniform(-1, 1, (RAYS, 3)), jnp.float32), jnp.asarray(directions), camera)
    colour = jnp.asarray(rng.uniform(size=(RAYS, 3)), jnp.float32)
    if variant == "rendering":
        render = jax.jit(field.render)
        return lambda: render(variables, rays, jnp.ones(3)).colour.block_until_ready()
    tx = optim.make(config.optim, config.steps)

    def step(params, model_state, opt_state, number):
        context = Context(step=number, progress=number / config.steps, rng=jax.random.key(number), mesh=mesh)
        loss = jax.value_and_grad(field.loss, has_aux=True)
        (_, (model_state, _)), gradient = loss(params, model_state, rays, Target(colour, colour), context)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return jax.tree.map(jnp.add, params, updates), model_state, opt_state, number + 1

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    now = [variables.params, variables.model_state, tx.init(variables.params), jnp.int32(FIRST[variant])]

    def run():
        now[:] = step(*now)
        jax.block_until_ready(now)

    return run


def make(system: str, variant: str):
    """For ``turns.serve``: (steps) -> seconds a step."""
    if system == "nerfstudio":
        return turns.timed(training(FIRST[variant]) if variant in FIRST else rendering())
    return turns.timed(ours(system.removeprefix("jaxhw, "), variant))


def table(torch_python: str, steps: int, rounds: int) -> None:
    """Prints rays a second of all sides, and jaxhw's over nerfstudio's."""
    print(f"{turns.processor()}; medians of {rounds} alternating rounds of {steps} steps of {RAYS} rays\n")
    print("| | training | training, late | rendering |\n|---|---|---|---|")
    systems, rates = ("nerfstudio, torch", *(f"jaxhw, {form}" for form in FORMS)), {}
    for variant in VARIANTS:  # one after the other: all nine at once would not fit into memory
        pythons = {system: sys.executable for system in systems} | {systems[0]: torch_python}
        names = {systems[0]: "nerfstudio"}
        workers = [turns.Worker(pythons[s], __file__, names.get(s, s), variant) for s in systems]
        for worker in turns.take_turns(workers, steps, rounds):
            rates[worker.names[0], variant] = RAYS / worker.seconds
    for system in systems:
        cells = []
        for variant in VARIANTS:
            rate, peer = (rates.get((s, variant)) for s in (names.get(system, system), "nerfstudio"))
            cells.append(
                f"{rate:,.0f}" + (f" ({rate / peer:.1f})" if peer and system != systems[0] else "") if rate else "-"
            )
        print(f"| {system} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch and nerfstudio")
    parser.add_argument("--steps", type=int, default=6, help="steps of a round: a multiple of 6")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return turns.serve(make(*args.work))
    table(args.torch_python, args.steps, 1 if args.quick else args.rounds)


if __name__ == "__main__":
    main()

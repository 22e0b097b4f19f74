"""How fast scenes are learnt and rendered: rays a second, seconds a frame, and PSNR against the clock.

    python benchmarks/nerf.py --workdir=runs/lego [--quick]       a run that was trained: frames, and its PSNR over time
    python benchmarks/nerf.py --config=configs/dvgo.py:lego       training: steps of the config's last stage reached
    python benchmarks/nerf.py --floor [--quick]                   vanilla NeRF's step against its matrix products alone
    python benchmarks/nerf.py --peer=PYTHON [--quick]             nerfacto against nerfstudio's, see nerfacto.py

The floor is what a step of the full-size network costs where nothing but its matrix products is computed, with the
shapes of its layers: forward, and the two products of each backward.
"""

import argparse
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw import mesh as meshes
from jaxhw import metrics
from jaxhw.main import set_up


def seconds(function, repeats: int) -> float:
    """Median seconds of a call, the first one (compilation) left out."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def workdir(path: Path, repeats: int) -> None:
    """Frame time of the newest checkpoint; rays a second and PSNR against time from metrics.jsonl."""
    from jaxhw.nerf.results.run import Run

    run = Run.open(path, meshes.make_mesh())
    split = run.scene.split
    camera = run.scene.cameras[split["test" if len(split["test"]) else "train"][0]]
    frame = seconds(lambda: run.render(camera).colour, repeats)
    rays = camera.width * camera.height
    print(f"rendering {camera.width} x {camera.height}: {frame:.2f} s a frame, {rays / frame:,.0f} rays/s")
    print("| step | time (s) | training rays/s | held-out PSNR (dB) |\n|---|---|---|---|")
    rate = 0.0
    for line in metrics.read(path / "metrics.jsonl"):
        rate = line.get("rays_per_second", rate)
        psnr = next((line[k] for k in ("val_psnr_all", "test_psnr_all", "val_psnr", "test_psnr") if k in line), None)
        if psnr is not None:
            print(f"| {line['step']} | {line['time']:.0f} | {rate:,.0f} | {psnr:.2f} |")


def training(flag: str, repeats: int) -> None:
    """Seconds of a config's training step in its first stage, and in each stage that follows from there."""
    from jaxhw import config as configs
    from jaxhw import start, train
    from jaxhw import task as tasks

    config, _ = configs.parse([flag])
    mesh = meshes.make_mesh()
    task = tasks.make(config, mesh)
    state = start.begin(task, config, mesh, jax.device_get(task.init(jax.random.key(config.seed))))
    step, done = train.make_step(task, config, mesh), 0
    for stage, end in enumerate((*task.stages, task.steps)):
        times, last = [], end if stage < len(task.stages) else min(end, done + repeats + 1)
        for i in range(done, last):
            began = time.perf_counter()
            state, loss = step(state, meshes.put_rows(task.batch(i), mesh))
            loss.block_until_ready()
            times.append(time.perf_counter() - began)
        done, middle = last, statistics.median(times[1:] or times)
        rate = config.batch_size / middle
        print(f"stage {stage}: {middle:.3f} s a step, {rate:,.0f} rays/s (first step {times[0]:.1f} s)")
        if stage < len(task.stages):
            state = start.grow(task, config, state, stage + 1, mesh)


def floor(batch: int, repeats: int) -> None:
    """Vanilla NeRF's full-size training step, against its matrix products."""
    from jaxhw.nerf.cameras.cameras import NO_CAMERA, Rays
    from jaxhw.nerf.fields.field import Target
    from jaxhw.nerf.fields.vanilla import Options, Vanilla
    from jaxhw.task import Context

    field, rng = Vanilla(Options(), near=2.0, far=6.0), np.random.default_rng(0)
    params, state = (variables := field.start(jax.random.key(0))).params, variables.model_state
    origins, directions = (jnp.asarray(rng.normal(size=(batch, 3)), jnp.float32) for _ in range(2))
    rays, white = Rays(origins, directions, jnp.full(batch, NO_CAMERA)), jnp.ones((batch, 3))
    context = Context(step=jnp.int32(0), progress=jnp.float32(0), rng=jax.random.key(0), mesh=meshes.make_mesh(1))
    loss = lambda p: field.loss(p, state, rays, Target(white, white), context)[0]
    whole = jax.jit(jax.value_and_grad(loss))
    step = seconds(lambda: whole(params), repeats)
    kernels = [p for p in jax.tree.leaves(params["fine"]) if p.ndim == 2]
    points = batch * (2 * field.options.samples + field.options.importance)

    @jax.jit
    def products():
        total = 0.0
        for kernel in kernels:
            x, g = jnp.ones((points, kernel.shape[0])), jnp.ones((points, kernel.shape[1]))
            x, g = jax.lax.optimization_barrier((x, g))
            parts = x @ kernel, g @ kernel.T, x.T @ g
            total += sum(part[0, 0] for part in jax.lax.optimization_barrier(parts))
        return total

    least = seconds(products, repeats)
    print(f"vanilla NeRF, {batch} rays: {step:.2f} s a step; its matrix products alone {least:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="a run")
    parser.add_argument("--config", help="a config file with its variant")
    parser.add_argument("--floor", action="store_true", help="vanilla NeRF's step")
    parser.add_argument("--peer", help="an interpreter that has torch and nerfstudio")
    parser.add_argument("--quick", action="store_true", help="2 repeats instead of 9; 64 rays instead of 1,024")
    args = parser.parse_args()
    set_up()
    repeats = 2 if args.quick else 9
    if args.workdir:
        workdir(args.workdir, repeats)
    if args.config:
        training(f"--config={args.config}", repeats)
    if args.floor:
        floor(64 if args.quick else 1024, repeats)
    if args.peer:
        import nerfacto

        nerfacto.table(args.peer, 6, 1 if args.quick else 5)
    if not (args.workdir or args.config or args.floor or args.peer):
        parser.error("give --workdir, --config, --floor or --peer")


if __name__ == "__main__":
    main()

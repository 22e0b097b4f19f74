"""What the training loop, its data and augmentation cost: images/s of a run against those of its bare step.

    python benchmarks/train_loop.py --config=configs/resnet18.py [--config.key=value ...]

The bare step is the same model, loss and optimiser on one batch that stays on the device, without augmentation. Bare
step and loop take turns in one process; ratios are of their medians.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import metrics, start, task, train
from jaxhw.process import restart_with_huge_pages
from jaxhw.vision.augment import standard

STEPS, ROUNDS = 30, 4


def bare_rate(job, config, mesh) -> float:
    """Images a second of the step alone."""
    plain = {"label_smoothing": config.augment.label_smoothing}
    with_augmentation, options = job.augment, config.augment.to_dict()
    job.augment = standard.standard(plain)
    config.augment.update({"cutmix": 0.0, "mixup": 0.0})
    try:
        state = start.begin(job, config, mesh, jax.device_get(job.init(jax.random.key(0))))
        step, batch = train.make_step(job, config, mesh), meshes.put_rows(job.batch(0), mesh)
        times = []
        for _ in range(STEPS + 3):
            began = time.perf_counter()
            state, loss = step(state, batch)
            loss.block_until_ready()
            times.append(time.perf_counter() - began)
    finally:
        job.augment = with_augmentation
        config.augment.update(options)
    return config.batch_size / statistics.median(times[3:])


def loop_rate(job, config, mesh) -> float:
    """Images a second that a run reports, its first log (compilation) left out."""
    with tempfile.TemporaryDirectory() as folder:
        job.steps = config.steps = STEPS + 10
        config.log_every = 10
        config.eval_every = config.checkpoint_every = STEPS + 10
        job.splits, job.phases = {}, [(job.train, {})]
        train.run(job, config, mesh, Path(folder))
        lines = metrics.read(Path(folder) / "metrics.jsonl")
    return statistics.median([line["images_per_second"] for line in lines if "images_per_second" in line][1:])


def main() -> None:
    config, _ = configs.parse(sys.argv[1:])
    mesh = meshes.make_mesh(config.mesh.data, config.mesh.cpu_devices)
    job = task.make(config, mesh)
    bare, loop = [], []
    for _ in range(ROUNDS):
        bare.append(bare_rate(job, config, mesh))
        loop.append(loop_rate(job, config, mesh))
    a, b = statistics.median(bare), statistics.median(loop)
    print(f"bare step {a:.1f} images/s, loop {b:.1f} images/s: {b / a:.1%}")


if __name__ == "__main__":
    restart_with_huge_pages()
    main()

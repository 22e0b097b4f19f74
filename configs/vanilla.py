"""NeRF as first published: two networks of eight layers of 256, 64 + 128 samples a ray.

python -m jaxhw.main --config=configs/vanilla.py:small --workdir=runs/vanilla
python -m jaxhw.main --config=configs/vanilla.py --workdir=runs/lego --config.scene=PATH/nerf_synthetic/lego

| variant | scene | time | result |
|---|---|---|---|
| small | the procedural scene, 64 px | 9 minutes on 2 CPU cores | 25.52 dB, SSIM 0.912 (12 test views, seed 0) |
| (none) | Blender's lego | not measured | not measured (the paper: 32.54 dB at 800 px) |

The paper's recipe for Blender's scenes: 500,000 steps of 1,024 rays, Adam at 5e-4 that falls to a tenth. Rays go
through pixel centres and are drawn from all pictures; the original takes corners, and one picture a step.
"""

from jaxhw.nerf import task


def get_config(variant: str = ""):
    config = task.default_config("vanilla")
    config.scene = "nerf_synthetic/lego"
    config.batch_size, config.steps = 1024, 500_000
    config.eval_every, config.eval_all_every = 500, 25_000
    config.optim.update({"name": "adam", "lr": 5e-4, "eps": 1e-7, "schedule": "exponential", "end_lr": 0.1})
    if variant == "small":
        return small(config)
    if variant:
        raise ValueError(f"configs/vanilla.py has no variant {variant!r}; it has small")
    return config


def small(config):
    """What two cores can train in minutes."""
    config.scene, config.downscale = "demo", 4
    config.batch_size, config.steps, config.eval_every, config.eval_all_every = 512, 5000, 500, 0
    config.optim.update({"lr": 2e-3, "end_lr": 0.05})
    config.model.update({"width": 64, "depth": 4, "samples": 32, "importance": 32})
    return config

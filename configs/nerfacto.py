"""nerfacto: a capture in a hash grid, with poses refined on demand, without CUDA.

python -m jaxhw.main --config=configs/nerfacto.py --workdir=runs/toy --config.scene=data/toy
jaxhw render --workdir=runs/toy --path=orbit

On two CPU cores (AMD EPYC), seed 0, held-out test views:

| variant | scene | time | result |
|---|---|---|---|
| fox | a real capture, every 8th picture held out | 13 minutes | 30.24 dB, SSIM 0.912, LPIPS 0.123 (VGG) |
| (none) | a phone video, every 10th frame held out | 14 minutes | 34.37 dB, SSIM 0.947, LPIPS 0.214 (VGG) |
| lego | Blender's lego at 400 px | 20 minutes | 31.47 dB, SSIM 0.959, LPIPS 0.045 (VGG) |
| lego, --config.steps=3050 | the same | 14 minutes | 31.23 dB, SSIM 0.959 |
| demo, published, big, seed | | not measured to their end | |

Without a variant: any capture, with nothing to set, on a CPU or TPU. Losses and interface are nerfacto's; what differs
from the published form, and why:
- The hash grid has 8 levels of 4 features in columns, coarse levels dense: neighbours lie side by side in memory.
- One dense grid of 128^3 densities stands for both proposal networks: it is read without a network. 192 samples in it,
  then 32 of the field (256, 96 and 48).
- Only samples of a weight above 1e-3 get a colour, in a bucket of static size; rays that find no place in it are left
  out of the step and counted ("overflow").
- Space is contracted around what the cameras look at, not around the cameras: an object has most of the grid.
- Rays begin by the sparse points that came with the poses, at most at a third of the cameras' distance from their
  subject: walls would be painted right in front of each camera first.
- No appearance embeddings: in minutes they learn the pictures by heart before the scene is there.
- Proposals rest after a fifth of the run, and the rate falls to a tenth by its end: runs are short. The grid's rate is
  a hundred times that of the rest: its log densities have far to go, with no network to carry them.

`published`: nerfstudio's own numbers, for a GPU: 30,000 steps of 4,096 rays, 256 + 96 + 48 samples, every level hashed,
two proposal networks, appearance of 32, poses refined by SO3xR3. The same weights give nerfstudio's colours to 1e-4
(its torch code; set model.shifted_directions for weights of that code, which evaluates harmonics at (d + 1) / 2).
`big`: nerfstudio's nerfacto-big. `seed`: the published form with the course report's schedules: rates of field and
proposals fall linearly, that of the cameras as 1/t down to 1e-4; one held-out picture every 500 steps, all at 25,000.
"""

from jaxhw.nerf import task


def get_config(variant: str = ""):
    variants = {"": fast, "demo": demo, "fox": fox, "lego": lego, "published": published, "big": big, "seed": seed}
    if variant not in variants:
        raise ValueError(
            f"configs/nerfacto.py has no variant {variant!r}; it has {', '.join(v for v in variants if v)}"
        )
    config = task.default_config("nerfacto")
    config.scene, config.downscale, config.split = "data/capture", "auto", "auto"
    config.background = "black"  # what nerfstudio blends transparent pictures with; captures have none
    config.batch_size, config.eval_every = 4096, 500
    config.optim.update({"name": "adam", "lr": 1e-2, "eps": 1e-15, "schedule": "exponential"})
    return variants[variant](config)


def fast(config):
    """Anyone's photos or video."""
    config.steps, config.optim.end_lr = 3800, 0.1
    model = config.model
    model.hash.update({"levels": 8, "features": 4, "table_size": 2**18, "finest": 1024, "layout": "column"})
    model.proposal.update({"kind": "grid", "samples": (192,), "warmup": 0.2, "anneal": 0.05})
    model.update({"samples": 32, "shaded": 24.0, "appearance": 0, "near": 0.0})
    model.update({"centre": "subject", "extent": 0.6})
    config.optim.groups = (("proposals", 100.0),)  # densities of a grid go from 0.01 to 1000 by themselves
    return config


def fox(config):
    """instant-ngp's fox, of 1080 x 1920 pixels, at 270 x 480, every 8th picture held out."""
    config = fast(config)
    config.scene, config.downscale, config.split = "data/nerf/fox", 4, "every:8"
    return config


def lego(config):
    """Blender's scenes at 400 px: NerfBaselines' preset for nerfacto, with the fast variant's grids."""
    config = bounded(fast(config))
    config.scene, config.downscale, config.split = "nerf_synthetic/lego", 2, "given"
    config.steps, config.model.samples, config.model.hash.table_size = 3500, 48, 2**19
    config.optim.groups = (("proposals", 10.0),)
    return config


def demo(config):
    """A few textured solids, ray-traced: no file needed."""
    config = bounded(fast(config))
    config.scene, config.downscale, config.split = "demo", 2, "given"
    config.batch_size, config.steps, config.eval_every = 2048, 600, 200
    config.model.hash.update({"table_size": 2**15, "finest": 256})
    config.model.proposal.voxels = 64
    return config


def bounded(config):
    """An object on white: samples evenly within its box, no distortion loss, a density of 1 to begin with."""
    config.background, config.optim.groups = "white", (("proposals", 30.0),)
    config.model.proposal.every = 1.0
    config.model.update({"spacing": "uniform", "background": "scene", "distortion": 0.0, "start_density": 1.0})
    return config


def published(config):
    """nerfstudio's nerfacto."""
    config.steps, config.optim.end_lr = 30_000, 0.01 ** (30_000 / 200_000)
    config.cameras.refine = "SO3xR3"
    return config


def big(config):
    """nerfstudio's nerfacto-big (its optimiser is RAdam; here Adam)."""
    config.steps, config.batch_size, config.optim.end_lr = 100_000, 8192, 0.01 ** (100_000 / 50_000)
    config.cameras.refine = "SO3xR3"
    config.model.hash.update({"table_size": 2**21, "finest": 4096})
    config.model.proposal.samples = (512, 256)
    config.model.update({"samples": 128, "width": 128, "colour_widths": (128, 128)})
    return config


def seed(config):
    """The course report's run."""
    config = published(config)
    config.split, config.eval_all_every = "fraction:0.9", 25_000
    config.optim.update({"schedule": "linear", "end_lr": 0.01})
    config.cameras.update({"schedule": "inverse", "end_lr": 0.1})
    return config

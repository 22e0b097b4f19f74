"""DVGO: a scene in voxel grids, in minutes on two CPU cores.

python -m jaxhw.main --config=configs/dvgo.py:lego --workdir=runs/lego --config.scene=PATH/nerf_synthetic/lego
jaxhw render --workdir=runs/lego --path=orbit

On two CPU cores, seed 0, held-out test views:

| variant | scene | time | result |
|---|---|---|---|
| demo | the procedural scene, 128 px | 64 to 112 seconds | 31.54 dB, SSIM 0.978 |
| lego | Blender's lego at 400 px | 15 minutes | 31.95 dB, SSIM 0.964, LPIPS 0.035 (VGG) |
| fox | a real capture, every 8th picture held out | 14 minutes | 22.93 dB, SSIM 0.732, LPIPS 0.412 (VGG) |
| capture | a phone video, every 10th frame held out | 16 minutes | 28.06 dB, SSIM 0.883, LPIPS 0.334 (VGG) |

For a capture of your own, with nothing to set:

python -m jaxhw.main --config=configs/dvgo.py:capture --workdir=runs/toy --config.scene=data/toy

Without a variant: any bounded scene, for a GPU or TPU, by the paper's recipe: 5,000 coarse and 20,000 fine steps of
8,192 rays, 100^3 and 160^3 voxels, samples half a voxel apart, rates of 0.1 for the grids and 0.001 for the network,
which fall to a tenth in 20,000 steps. Here the rate goes on falling where the fine grid doubles (there it starts
again), and rays are drawn from all pixels: those that meet no occupied voxel cost one look and are not counted.

What the CPU variants change: fewer and shorter steps (the coarse grid's samples are a voxel apart); 1e-3 as the
threshold on weights below which a sample gets no colour (1e-4); a colour network of 64 wide layers (128); rates that
fall by less, since the runs end long before the scene is learnt (to 0.4: 1 dB more of lego than to 0.1); doubling
after hundreds of steps, in lego and fox without the paper's decay of density there, which thousands of steps make good
but hundreds do not; the fine grid starts with the coarse one's density, and at an opacity of 2e-3 (1e-2) where that has
none; and, since a 400 px picture of an object from all sides has no use for what only a few cameras see, a coarse box
that half of the cameras see.
"""

from jaxhw.nerf import task


def get_config(variant: str = ""):
    config = task.default_config("dvgo")
    config.batch_size = 8192
    config.steps = 25000
    config.eval_every = 500
    config.optim.update({"name": "masked_adam", "lr": 1e-3, "b1": 0.9, "b2": 0.99})
    config.optim.update(
        {"schedule": "exponential", "end_lr": 0.056, "groups": (("density", 100.0), ("features", 100.0))}
    )
    variants = {"": lambda config: config, "demo": demo, "lego": lego, "fox": fox, "capture": capture}
    if variant not in variants:
        raise ValueError(f"configs/dvgo.py has no variant {variant!r}; it has {', '.join(v for v in variants if v)}")
    return variants[variant](config)


def demo(config):
    """A few textured solids, ray-traced: no file needed."""
    config.scene, config.downscale = "demo", 2
    config.batch_size, config.steps, config.eval_every = 2048, 1000, 250
    config.optim.end_lr = 0.4
    model = config.model
    model.update(
        {"coarse_steps": 0.25, "grow_at": (0.1, 0.25), "tighten_every": 0.2, "widths": (64, 64), "inherit": True}
    )
    model.coarse.update(
        {"voxels": 48**3, "stride": 1.0, "alpha": 1e-3, "blocks": 12.0, "samples": 60.0, "shaded": 60.0}
    )
    model.fine.update(
        {"voxels": 96**3, "alpha": 2e-3, "threshold": 1e-3, "blocks": 10.0, "samples": 48.0, "shaded": 20.0}
    )
    return config


def lego(config):
    """Blender's scenes, of 800 px, at 400: 100 pictures to train on, white background."""
    config.scene, config.downscale = "nerf_synthetic/lego", 2
    config.batch_size, config.steps, config.eval_every, config.eval_all_every = 4096, 5000, 500, 2500
    config.optim.end_lr = 0.4
    model = config.model
    model.update({"coverage": 0.5, "coarse_steps": 0.12, "grow_at": (0.06, 0.12, 0.18, 0.24), "tighten_every": 0.12})
    model.update({"inherit": True, "decay": 0.0, "widths": (64, 64)})
    model.coarse.update(
        {"voxels": 80**3, "stride": 1.0, "alpha": 1e-5, "blocks": 18.0, "samples": 40.0, "shaded": 40.0}
    )
    model.fine.update({"alpha": 2e-3, "threshold": 1e-3, "blocks": 12.0, "samples": 48.0, "shaded": 16.0})
    return config


def fox(config):
    """A real capture in contracted space: instant-ngp's fox, of 1080 x 1920 pixels, at 270 x 480.

    Of DVGO v2's recipe (40,000 steps, 320^3 voxels) the features, the distortion loss and the random background are
    kept. What differs, and why:
    - A coarse stage (v2: none) finds free space before samples get features and a network: plain colours are cheap. Its
      opacity starts at 1e-5 (v2's only grid: 1e-4). It takes a hundred steps more to rise than from 3e-4, but there all
      of space thickens together: after 250 steps of 1,024 rays, a ray of the fine grid meets 99 samples in what is not
      known to be free, and 21 from 1e-5. The buckets of the coarse stage hold nearly all of a ray's samples.
    - The inner cube lies around what the cameras look at and holds 99 % of it (v2: around the cameras, but these are an
      arc: the fox would lie outside).
    - Nothing nearer than a third of the cameras' distance is learnt (v2: a loss against density there): walls
      would be painted right in front of each camera first.
    - The coarse stage's free space is what stays below an opacity of 1e-4 (1e-3): what few photos show rises slowly.
    - Total variation of the density alone: that of the features costs more than it brings in minutes.
    - Samples a voxel apart (v2: half of one) and thresholds of 1e-3, as in the other variants.
    """
    config.scene, config.downscale, config.split, config.background = "data/nerf/fox", 4, "every:8", "random"
    config.batch_size, config.steps, config.eval_every, config.eval_all_every = 4096, 3000, 500, 0
    config.optim.end_lr = 0.3
    model = config.model
    model.update({"inner": 0.85, "near": 0.35, "coarse_steps": 0.15, "tighten_every": 0.1333, "inherit": True})
    model.update({"grow_at": (0.0667, 0.15, 0.25, 0.3667), "decay": 0.0, "widths": (64, 64), "longest": 128})
    model.min_opacity = 1e-4
    model.update({"distortion": 0.01, "total_variation": (1e-6, 0.0)})
    model.coarse.update({"voxels": 80**3, "stride": 1.0, "alpha": 1e-5, "entropy": 0.0})
    model.coarse.update({"blocks": 17.0, "samples": 126.0, "shaded": 126.0})
    model.fine.update({"alpha": 2e-3, "stride": 1.0, "threshold": 1e-3})
    model.fine.update({"blocks": 15.0, "samples": 64.0, "shaded": 36.0})
    return config


def capture(config):
    """Anyone's photos or video, with nothing to set: fox's recipe, and what fox has by hand is taken from the scene.

    A shorter run wants its coarse stage kept at some 300 steps: what has not risen by then is taken for free space.

    - Pictures are as large as fit into `max_pixels`, split as the format says, or nine to one.
    - Rays begin by the sparse points that came with the poses where those are nearer than fox's third of the distance.
    - Buckets have the sizes that the share of free space asks for.
    The inner cube is fox's. One around the points would have finer voxels, but leaves more of the picture to the few
    outside: after 900 steps it cost fox 0.9 dB.
    """
    config = fox(config)
    config.scene, config.downscale, config.split = "data/capture", "auto", "auto"
    config.model.update({"near": 0.0, "longest": 192})
    for stage in (config.model.coarse, config.model.fine):
        stage.update({"blocks": 0.0, "samples": 0.0, "shaded": 0.0})
    return config

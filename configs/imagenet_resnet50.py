"""ResNet-50 on ImageNet at 224 pixels: 90 epochs of the recipe of Goyal et al. (2017).

    jaxhw plan --config=configs/imagenet_resnet50.py --topology=v5e:4x4     what it asks for, before any data is there
    python -m jaxhw.main --config=configs/imagenet_resnet50.py --workdir=runs/resnet50

Not measured here; the paper: 76.3 to 76.4 % top-1. The recipe: SGD with Nesterov's momentum, a rate of 0.1 for each 256
images, five epochs of warm-up, a tenth of it after 30, 60 and 80 epochs, decay 1e-4 of kernels alone, the last batch
norm of each block with a scale of 0 at first, crops and flips. Differences: bfloat16; batch statistics are those of the
whole batch (there: of the 32 images of each GPU); no jitter of colours; held-out images are shrunk to 224 pixels and
cropped (there: to 256 first).

The set is TFDS's imagenet2012, prepared as array_record; or --config.dataset=folder:DIR, with DIR/train/CLASS and
DIR/val/CLASS.
"""

from jaxhw.vision.tasks import classify


def get_config():
    config = classify.default_config("resnet50")
    config.dataset, config.image_size, config.normalise = "tfds:imagenet2012", 224, "imagenet"
    config.epochs, config.batch_size, config.dtype = 90.0, 1024, "bfloat16"
    config.model.zero_init_residual = True
    config.optim.update({"name": "sgd", "lr": 0.4, "weight_decay": 1e-4, "decay_exclude": "norm_bias"})
    config.optim.update({"schedule": "step", "step_milestones": (1 / 3, 2 / 3, 8 / 9), "warmup_steps": 6255})
    config.augment.update({"crop": "resized", "flip": True})
    return config

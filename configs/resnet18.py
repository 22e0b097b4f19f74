"""ResNet-18 on CIFAR-100: torchvision's stem, 11,227,812 parameters.

    python -m jaxhw.main --config=configs/resnet18.py --workdir=runs/resnet18

20 epochs, the last quarter at 48 pixels, in 29 minutes on two CPU cores: 61.49 % test top-1 (seed 0). The recipe was
chosen on a tenth of the training set; RESULTS.md has what else was tried there.

    --config=configs/resnet18.py:long    33 epochs, from 32 to 64 pixels: 66.93 % of the test set in 70.8 minutes
    --config=configs/resnet18.py:accelerator    60 epochs of that in bfloat16: 67.01 % in 2 minutes on an H200
    --config=configs/resnet18.py:seed    the course report's recipe: 49.49 % after 19 of its 100 epochs
"""

from jaxhw.vision.tasks import classify


def get_config(variant: str = ""):
    """``""`` is half an hour on two cores, ``"long"`` an hour and a quarter, ``"seed"`` the course report's recipe.

    ``"accelerator"`` is long for a GPU or TPU.
    """
    config = classify.default_config("resnet18")
    config.dataset = "tfds:cifar100"
    config.normalise = "cifar100"
    if variant == "seed":
        return seed(config)
    if variant not in ("", "long", "accelerator"):
        raise ValueError(f"configs/resnet18.py has no variant {variant!r}; it has long, accelerator and seed")
    config.epochs = 20.0
    config.batch_size = 512
    config.model.norm_groups = config.mesh.cpu_devices = 2  # two CPU cores work on halves of the batch
    config.image_size, config.earlier_sizes = 48, (32, 32, 32)
    config.eval_every = 392  # four epochs
    config.optim.update({"name": "sgd", "lr": 0.6, "weight_decay": 5e-4, "schedule": "onecycle"})
    config.optim.onecycle_peak = 0.15
    config.augment.update({"crop": "pad", "flip": True, "label_smoothing": 0.1})
    if variant:
        config.epochs = 33.0
        config.image_size, config.earlier_sizes = 64, (32, 32, 32, 48)
    if variant == "accelerator":
        config.epochs, config.dtype, config.eval_every = 60.0, "bfloat16", 970
    return config


def seed(config):
    """Adam 1e-3, constant rate, CutMix on every batch, batch 128, 100 epochs: 57.88 % in the report."""
    config.epochs = 100.0
    config.batch_size = 128
    config.optim.update({"name": "adam", "lr": 1e-3, "schedule": "constant"})
    config.augment.cutmix = 1.0
    return config

"""Barlow Twins on CIFAR-10: ResNet-18 with torchvision's stem, which trains on two CPU cores.

    python -m jaxhw.main --config=configs/barlow_twins.py --workdir=runs/barlow_twins

40 epochs, by the rate of a short run 2 hours on one core (of an AMD EPYC). Not run at that length: two epochs
of their own schedule took 366 s, kNN accuracy 35.4 % of the held-out images (seed 0; random weights 33 %).
On an accelerator: --config.model.stem=cifar --config.epochs=1000.

Redundancy weight and three-layer projector are the authors' (Zbontar et al. 2021), with 2048 features instead of 8192,
as everyone has them on CIFAR. AdamW instead of their LARS: the loss is a sum over four million correlations, and Adam's
step does not depend on its scale; LARS would need a factor on the loss for the biases and norms that it leaves alone.
Views are drawn as BYOL's, the authors' choice, without blur at 32 pixels.
"""

from jaxhw.vision.augment import views
from jaxhw.vision.tasks import pretrain


def get_config():
    """The recipe above."""
    config = pretrain.default_config("barlow_twins")
    config.dataset = "tfds:cifar10"
    config.epochs = 40.0
    config.batch_size = 256
    config.eval_every = 935  # five epochs
    config.optim.update({"name": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "decay_exclude": "norm_bias"})
    config.optim.update({"schedule": "onecycle", "onecycle_peak": 0.1})
    config.augment.update(views.BYOL)
    config.augment.blur = (0.0,)
    return config

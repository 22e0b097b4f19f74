"""Peak learning rate and weight decay of ResNet-18 on CIFAR-100, chosen on a tenth of the training set.

    jaxhw sweep --config=configs/sweep_resnet18.py --workdir=runs/sweep_resnet18

A grid of six one-cycle runs of four epochs; the winner trains on the whole training set for the length of
configs/resnet18.py and is tested once.
"""

from configs import resnet18
from jaxhw import sweep


def get_config():
    """The grid."""
    config = sweep.default_config(resnet18.get_config())
    config.sampler = "grid"
    config.space = (("optim.lr", "choice", 0.3, 0.6, 1.2), ("optim.weight_decay", "choice", 5e-4, 1e-3))
    config.run.validation = 0.1
    config.run.epochs = 4.0
    config.winner = (("validation", 0.0), ("epochs", resnet18.get_config().epochs))
    return config

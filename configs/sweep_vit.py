"""Learning rate and weight decay of the ViT on CIFAR-100, chosen on a tenth of the training set.

    jaxhw sweep --config=configs/sweep_vit.py --workdir=runs/sweep_vit

Twenty trials of ten epochs by TPE with median pruning; then the winner trains for the report's 100 epochs on the
whole training set and is tested once. The report searched the same two parameters, on the test set. Meant for an
accelerator: a trial is 450,000 images.

    --config=configs/sweep_vit.py:digits    the same search on the digits, minutes on two cores
"""

from configs import vit
from jaxhw import sweep


def get_config(variant: str = ""):
    """``""`` is CIFAR-100, ``"digits"`` a search of minutes."""
    config = sweep.default_config(vit.get_config(variant))
    config.space = (("optim.lr", "log", 1e-5, 1e-2), ("optim.weight_decay", "choice", 0.0, 1e-5, 1e-4))
    config.run.validation = 0.1
    config.run.epochs = 10.0
    config.winner = (("validation", 0.0), ("epochs", 100.0))
    if variant == "digits":
        config.trials = 8
        config.space = (("optim.lr", "log", 3e-4, 1e-2), ("optim.weight_decay", "choice", 0.0, 0.05, 0.2))
        config.run.validation = 0.2
        config.winner = (("validation", 0.0), ("epochs", 30.0))
    return config

"""MoCo v3 on CIFAR-10: ResNet-18 with torchvision's stem, which trains on two CPU cores.

    python -m jaxhw.main --config=configs/moco.py --workdir=runs/moco

30 epochs, by the rate of a short run an hour and a half on one core (of an AMD EPYC). Not run at that length: two
epochs of their own schedule took 358 s, kNN accuracy 36.4 % of the held-out images (seed 0; random weights 33 %).
On an accelerator: --config.model.stem=cifar --config.epochs=1000.

Momentum contrast without a queue, the keys being those of the batch (Chen, Xie and He 2021). T 0.2 and BYOL's views are
solo-learn's for CIFAR (93.1 % online linear after 1000 epochs). SGD, its rate and decay, tau from 0.97 and heads of
width 1024 are those of configs/byol.py: solo-learn's LARS, with a trust coefficient of 0.02 and clipped, is made for
1000 epochs, and so are the authors' 4096. No blur at 32 pixels.
"""

from jaxhw.vision.augment import views
from jaxhw.vision.tasks import pretrain


def get_config():
    """The recipe above."""
    config = pretrain.default_config("moco")
    config.dataset = "tfds:cifar10"
    config.epochs = 30.0
    config.batch_size = 256
    config.eval_every = 935  # five epochs
    config.method.update({"hidden": 1024, "tau": 0.97})
    config.optim.update({"name": "sgd", "lr": 0.12, "weight_decay": 5e-4, "nesterov": False})
    config.optim.update({"schedule": "onecycle", "onecycle_peak": 0.1})
    config.augment.update(views.BYOL)
    config.augment.blur = (0.0,)
    return config

"""SimSiam on CIFAR-10: ResNet-18 with torchvision's stem, which trains on two CPU cores.

    python -m jaxhw.main --config=configs/simsiam.py --workdir=runs/simsiam

40 epochs, by the rate of a short run 1.7 hours on one core (of an AMD EPYC). Not run at that length: two epochs
of their own schedule took 311 s, kNN accuracy 25.0 % of the held-out images (seed 0; random weights 33 %).
On an accelerator: --config.model.stem=cifar --config.epochs=800.

The recipe is the authors' for CIFAR-10 (Chen and He 2021, appendix D): SGD, rate 0.03 at batch 256 with a cosine, decay
5e-4, a projector of two layers, MoCo v2's augmentation without blur. Differences: batch 256 instead of 512, for more
steps in a short run, and a rate that rises in the first tenth. Watch val_feature_std: this method
collapses first.
"""

from jaxhw.vision.augment import views
from jaxhw.vision.tasks import pretrain


def get_config():
    """The recipe above."""
    config = pretrain.default_config("simsiam")
    config.dataset = "tfds:cifar10"
    config.epochs = 40.0
    config.batch_size = 256
    config.eval_every = 935  # five epochs
    config.optim.update({"name": "sgd", "lr": 0.03, "weight_decay": 5e-4, "nesterov": False})
    config.optim.update({"schedule": "onecycle", "onecycle_peak": 0.1})
    config.augment.update(views.MOCO)
    config.augment.blur = (0.0,)
    return config

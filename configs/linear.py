"""The linear protocol, an offline linear probe: softmax regression on the features of a frozen backbone.

    python -m jaxhw.main --config=configs/linear.py --workdir=runs/linear --config.init_from=runs/simclr

CIFAR-100, five minutes on one core: 33.35 and 32.76 % of the test set from SimCLR's 30 epochs on CIFAR-10 (seeds 0 and
1; 26.06 and 26.30 % by the nearest neighbours). Features are computed once, without augmentation. 25 heads
(five learning rates by five L2 penalties) train side by side for 100 epochs; a tenth of the training set, held out,
chooses one, which is tested once. The nearest neighbours' accuracy on the same features stands beside it in
results.json (test_knn_accuracy: 200 neighbours, temperature 0.1). Good rates differ by a factor of 100 between
methods, so look at grid.png: the best head should not lie on the grid's edge.

Without init_from the backbone is random, in the same protocol. init_from is as in configs/finetune.py, and
--config.normalise must be what the backbone was trained with. "Online" probes, which train along with the backbone,
give other numbers; none is made here.
"""

from jaxhw.vision.tasks import linear


def get_config(variant: str = ""):
    """``""`` is CIFAR-100, ``"cifar10"`` CIFAR-10."""
    config = linear.default_config("resnet18")
    if variant not in ("", "cifar10"):
        raise ValueError(f"configs/linear.py has no variant {variant!r}; it has cifar10")
    config.dataset = f"tfds:{variant or 'cifar100'}"
    return config

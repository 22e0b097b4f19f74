"""Accuracy against the size of the pre-training set: SimCLR on 1/16 to all of CIFAR-10, probed on CIFAR-10.

    jaxhw study --config=configs/study_size.py --workdir=runs/study_size

One data set, so that nothing but its size changes: a smaller part lies within every larger one, each is learnt from for
the same number of steps (20 epochs of the whole set), and the offline linear probe and the neighbours use all labels
(the course report compared two data sets of different kinds and sizes). Labels choose the parts (as many images of each
class); the probe's held-out images are among those learnt from. Three seeds draw other parts and other weights;
table.md has mean and deviation, points.png shows them.

Four hours a seed on one core. Run at that length: a sixteenth, 61.30 and 61.82 %, and all, 62.23 and 62.94 % (seeds 0
and 1). With --config.bases.simclr.steps=600 (46 minutes a seed) the size makes no difference yet: probes of 49.5 % for
a sixteenth, 48.5 % for all, 44.4 % for random weights (RESULTS.md). --only="* 1 of 16" runs one part.
"""

from configs import linear, simclr
from jaxhw import study

PARTS = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "all": 1.0}


def get_config():
    """A pre-training and a probe for each part, and a probe of random weights."""
    bases = {"simclr": simclr.get_config(), "linear": linear.get_config("cifar10")}
    config = study.default_config(bases)
    config.bases.simclr.steps = round(20 * 48_000 / config.bases.simclr.batch_size)
    config.bases.linear.normalise = config.bases.simclr.normalise
    config.seeds = (0, 1, 2)
    for name, fraction in PARTS.items():
        name = name.replace("/", " of ")
        config.runs += ((f"SimCLR on {name}", "simclr", (("fraction", fraction),)),)
        config.runs += ((f"probe of {name}", "linear", (("init_from", f"@SimCLR on {name}"),)),)
        config.points += ((fraction, f"probe of {name}"),)
    config.runs += (("probe of random weights", "linear", ()),)
    config.columns = ("test_accuracy", "test_knn_accuracy")
    config.x = "part of CIFAR-10 learnt from without labels"
    return config

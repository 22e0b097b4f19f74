"""BYOL on CIFAR-10: ResNet-18 with torchvision's stem, which trains on two CPU cores.

    python -m jaxhw.main --config=configs/byol.py --workdir=runs/byol

30 epochs, by the rate of a short run an hour and a half on one core (of an AMD EPYC). Not run at that length: two
epochs of their own schedule took 332 s, kNN accuracy 29.7 % of the held-out images (seed 0; random weights 33 %).
On an accelerator: --config.model.stem=cifar --config.epochs=300 and --config.method.tau=0.99.

    python -m jaxhw.main --config=configs/byol.py:photos --config.dataset=folder:imagenette64 --workdir=runs/byol

The same for class folders of a few thousand photos, shrunk to 32 pixels: BYOL takes some 2,000 steps to pass the kNN
accuracy of random weights (RESULTS.md), and small pictures at batch 128 give most of them. 230 epochs of imagenette64,
5,980 steps, take 57 minutes on one core (of an AMD EPYC): kNN accuracy 38.5 and 36.2 % of its test set (seeds 0 and 1),
random weights 29.6 and 29.0 %. On an accelerator: --config.image_size=64 and more.

Where the recipe comes from (and why):
- SGD, rate 0.06 for each 128 images (up in a tenth of the run, down by a cosine), decay 5e-4, heads of width 1024:
  lightly's benchmark, where BYOL leads the classic methods at 200 epochs (kNN 86.9 %). The authors' LARS and 4096 are
  made for 1000 epochs of ImageNet.
- tau from 0.97 to 1 along a cosine: the authors' value for 40 epochs (0.99 for 100).
- tau from 0.99 for the photos' longer run. Crops of 0.2 to 1 of their area, as in configs/simclr.py.
- Views drawn differently, as the authors do: the second is solarized in a fifth of the draws. No blur at 32 pixels.

    --config=configs/byol.py:seed

The second course report's recipe: ResNet-50 at 128 pixels, byol-pytorch's augmentation and heads, tau 0.99, Adam 1e-3
divided by ten after 100 of 160 epochs. Its data set was mini-ImageNet: give a folder. It does not say its batch size.
Differences: augmentations are drawn for each image, there once for a batch; and the report's author switched the
target network off (use_momentum=False), which makes it SimSiam: tau=0 is that here.
"""

from jaxhw.vision.augment import views
from jaxhw.vision.tasks import pretrain


def get_config(variant: str = ""):
    """``""`` is CIFAR-10, ``"photos"`` a folder of photos, ``"seed"`` the second course report's recipe."""
    config = pretrain.default_config("byol")
    if variant == "seed":
        return seed()
    if variant not in ("", "photos"):
        raise ValueError(f"configs/byol.py has no variant {variant!r}; it has photos and seed")
    config.dataset = "tfds:cifar10"
    config.epochs = 30.0
    config.batch_size = 256
    config.eval_every = 935  # five epochs
    config.method.update({"hidden": 1024, "dim": 256, "tau": 0.97})
    config.optim.update({"name": "sgd", "lr": 0.12, "weight_decay": 5e-4, "nesterov": False})
    config.optim.update({"schedule": "onecycle", "onecycle_peak": 0.1})
    config.augment.update(views.BYOL)
    config.augment.blur = (0.0,)
    return photos(config) if variant else config


def photos(config):
    """Class folders of photos; a tenth of them is held out for kNN."""
    config.dataset = "folder:imagenette64"
    config.image_size = 32
    config.normalise = "imagenet"
    config.validation = 0.1
    config.epochs = 230.0
    config.batch_size = 128
    config.eval_every = 260  # ten epochs of imagenette64
    config.optim.lr = 0.06
    config.method.tau = 0.99
    config.augment.crop_scale = (0.2, 1.0)
    return config


def seed():
    """Mini-ImageNet at 128 pixels."""
    config = pretrain.default_config("byol", "resnet50")
    config.dataset = "folder:mini-imagenet"
    config.image_size = 128
    config.normalise = "imagenet"
    config.epochs = 160.0
    config.batch_size = 64
    config.method.update({"tau": 0.99, "tau_schedule": "fixed"})
    config.optim.update({"name": "adam", "lr": 1e-3, "schedule": "step", "step_milestones": (0.625,)})
    config.augment.update(views.BYOL_PYTORCH)
    return config

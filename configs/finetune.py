"""Classification from pre-trained weights: every parameter (fine-tuning), or the head alone on a frozen backbone.

    python -m jaxhw.main --config=configs/finetune.py --workdir=runs/finetune --config.init_from=runs/simclr

CIFAR-100 with the supervised recipe of configs/resnet18.py, and in its time; the rate, a sixth of its, was chosen
on validation. From SimCLR's 30 epochs on CIFAR-10: 61.55 and 60.55 % (61.49 and 61.75 % from scratch), with a tenth
of the labels 36.29 and 35.03 % (26.42 and 26.76 %; seeds 0 and 1). In the protocol of the variant seed it is 46.07
and 46.03 % at the best epoch. Without init_from it is training from scratch, which takes --config.optim.lr=0.6.
init_from takes

    runs/simclr                  a workdir, finished or running: a pre-training run's backbone, a classifier
    torch:resnet18-f37072fd.pth  PyTorch's files (.pth, .safetensors) of torchvision's and timm's ResNet, of
                                 vit-pytorch's ViT and (--config.model.style=timm) timm's
    hf:timm/resnet18.tv_in1k     the Hugging Face hub

Images must be normalised as the weights expect. Here they stay in [0, 1], as in the pre-training configs; say
--config.normalise=imagenet for torchvision's weights. A workdir that was trained with another normalisation, or another
architecture, is refused.

    --config=configs/finetune.py:mlp       with a two-layer head
    --config=configs/finetune.py:frozen    the head alone; the backbone keeps its weights and batch statistics (with a
                                           two-layer head: --config.model.head=mlp)
    --config=configs/finetune.py:seed      the course report's protocol: 20 epochs, AdamW, head 1e-3, backbone 1e-4,
                                           batch 128, MLP head 512-512-100, no augmentation, the test set watched

The report's curves reach, at their best epoch and at the last: ImageNet 52.2 and 51.8 %, SimCLR on CIFAR-10 42.7 and
40.2 %, from scratch 31.0 and 29.4 %.

With few labels: --config.fraction=0.01 takes five images of each class; --config.epochs then needs to grow.
"""

from configs import resnet18


def get_config(variant: str = ""):
    """``""`` is the supervised recipe, ``"seed"`` the course report's protocol; ``"mlp"``, ``"frozen"``."""
    config = resnet18.get_config()
    config.normalise = "none"
    config.optim.lr = 0.1
    if variant == "seed":
        return seed(config)
    if variant == "mlp":
        config.model.head = "mlp"
    elif variant == "frozen":
        config.frozen = True
        config.image_size, config.earlier_sizes = 0, ()  # the pictures' own: batch statistics depend on the size
        config.optim.weight_decay = 0.0  # and the rate is of the size of SimCLR's for a linear head
    elif variant:
        raise ValueError(f"configs/finetune.py has no variant {variant!r}; it has seed, mlp and frozen")
    return config


def seed(config):
    """The report's optimiser is PyTorch's AdamW with its default decay of 0.01; pixels are in [0, 1]."""
    config.epochs = 20.0
    config.batch_size = 128
    config.image_size, config.earlier_sizes = 0, ()
    config.eval_every = 0  # every epoch
    config.model.norm_groups = config.mesh.cpu_devices = 1
    config.model.head = "mlp"
    config.optim.update({"name": "adamw", "lr": 1e-4, "weight_decay": 0.01, "schedule": "constant"})
    config.optim.groups = (("head", 10.0),)
    config.augment.update({"crop": "none", "flip": False, "label_smoothing": 0.0})
    return config

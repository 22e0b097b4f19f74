"""ViT-S/16 on ImageNet at 224 pixels: 90 epochs of the plain recipe of Beyer, Zhai and Kolesnikov (2022).

    jaxhw plan --config=configs/imagenet_vit_s16.py --topology=v5e:4x4      what it asks for, before any data is there
    python -m jaxhw.main --config=configs/imagenet_vit_s16.py --workdir=runs/vit_s16

Not measured here; the paper: 76.5 % top-1. The recipe: AdamW at 1e-3, 10,000 steps of warm-up and a cosine, batch 1024,
decay 0.1 of kernels alone, a gradient's norm of at most 1, RandAugment (2, 10), mixup 0.2, the mean over patches in
place of a class token, bfloat16. Differences: the position embedding is learnt (there: of sines), and held-out images
are shrunk to 224 pixels and cropped (there: to 256 first). A batch is taken in four parts, which changes no loss: on
eight TPUs a part is 32 images a chip, whose activations stay beside the units. On many more set config.accumulate=1.

The set is TFDS's imagenet2012, prepared as array_record; or --config.dataset=folder:DIR, with DIR/train/CLASS and
DIR/val/CLASS.
"""

from jaxhw.vision.tasks import classify


def get_config():
    config = classify.default_config("vit")
    config.dataset, config.image_size, config.normalise = "tfds:imagenet2012", 224, "half"
    config.epochs, config.batch_size, config.dtype = 90.0, 1024, "bfloat16"
    config.accumulate = 4
    config.model.update({"patch": 16, "width": 384, "depth": 12, "heads": 6, "head_dim": 64, "mlp": 1536})
    config.model.update({"pool": "mean", "style": "timm"})
    config.optim.update({"name": "adamw", "lr": 1e-3, "weight_decay": 0.1, "decay_exclude": "norm_bias"})
    config.optim.update({"schedule": "cosine", "warmup_steps": 10_000, "clip_norm": 1.0})
    config.augment.update({"crop": "resized", "crop_scale": (0.05, 1.0), "flip": True})
    config.augment.update({"auto": "randaugment", "randaugment_magnitude": 10, "mixup": 0.2})
    return config

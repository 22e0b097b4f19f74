"""ViT-L/16 on ImageNet at 224 pixels: the recipe of configs/imagenet_vit_s16.py for 304 million parameters.

    jaxhw plan --config=configs/imagenet_vit_l16.py --topology=v5e:2x4 --config.mesh.fsdp=8
    python -m jaxhw.main --config=configs/imagenet_vit_l16.py --workdir=runs/vit_l16 --config.mesh.fsdp=8

Not measured here, and only the sizes are a ViT-L's: its rate and stochastic depth are to be found. Parameters and
moments are 3.7 GB, which mesh.fsdp=8 devices share; what a batch of 1024 takes beside them, and in how many parts it
fits, stands in RESULTS.md.
"""

from configs import imagenet_vit_s16


def get_config():
    config = imagenet_vit_s16.get_config()
    config.model.update({"width": 1024, "depth": 24, "heads": 16, "mlp": 4096})
    return config

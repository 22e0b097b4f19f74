"""Logits, gradients and running statistics of torchvision's ResNet and vit-pytorch's ViT -> vision_models.npz.

Run by hand, from the root: python -m tests.golden.vision_models (needs torch, torchvision and vit-pytorch).
In double precision: batch statistics of few values amplify rounding, on either side.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from vit_pytorch import ViT

from tests.vision import parity


def build(options: dict) -> nn.Module:
    if options["name"] == "vit":
        keys = {"width": "dim", "depth": "depth", "heads": "heads", "head_dim": "dim_head", "mlp": "mlp_dim"}
        sizes = {theirs: options[ours] for ours, theirs in keys.items()}
        sizes |= {"patch_size": options["patch"], "pool": options.get("pool", "cls")}
        return ViT(image_size=32, num_classes=parity.CLASSES, **sizes)
    block = BasicBlock if options["name"] == "resnet18" else Bottleneck
    model = ResNet(block, list(options["blocks"]), num_classes=parity.CLASSES)
    if options.get("stem") == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    return model


def run(options: dict) -> dict[str, np.ndarray]:
    model = build(options)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.double().load_state_dict({name: torch.tensor(value) for name, value in parity.weights(shapes).items()})
    images = torch.tensor(parity.images()).permute(0, 3, 1, 2).double()
    out = {"eval": model.eval()(images)}
    model.train()
    logits = model(images)
    nn.functional.cross_entropy(logits, torch.tensor(parity.labels())).backward()
    out |= {"train": logits}
    for name, p in model.named_parameters():
        if p.numel():
            out[f"grad/{name}"] = parity.project(p.grad.numpy())
    for name, b in model.named_buffers():
        if name.endswith(("mean", "var")):
            out[f"stat/{name}"] = parity.project(b.numpy())
    out["names"] = np.array(list(shapes))
    return {key: np.asarray(value.detach() if torch.is_tensor(value) else value) for key, value in out.items()}


if __name__ == "__main__":
    torch.manual_seed(0)
    golden = {f"{name}:{key}": v for name, options in parity.MODELS.items() for key, v in run(options).items()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)

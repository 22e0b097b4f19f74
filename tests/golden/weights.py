"""Files as PyTorch users have them, of tiny models with the real names, and their logits -> weights.npz and weights_*.

Run by hand, from the root: python -m tests.golden.weights (needs torch, torchvision, timm, vit-pytorch, safetensors).
weights_resnet.pth: torchvision's ResNet (a block a stage, width 4). weights_vit.pth: vit-pytorch's ViT.
weights_legacy.pth: the same as PyTorch wrote it before 1.6. weights_timm.safetensors: timm's ViT.
weights_timm_resnet.pth: timm's ResNet, half precision, in {"state_dict": ...}.
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.resnet import BasicBlock as TimmBlock
from timm.models.resnet import ResNet as TimmResNet
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from vit_pytorch import ViT

from tests.vision import parity

FOLDER = Path(__file__).parent
WIDTH = 4


def resnet() -> nn.Module:
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=parity.CLASSES)
    model.conv1, model.bn1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTH)
    model.inplanes = WIDTH
    for stage in range(4):
        layer = model._make_layer(BasicBlock, WIDTH << stage, 1, stride=1 if stage == 0 else 2)
        setattr(model, f"layer{stage + 1}", layer)
    model.fc = nn.Linear(8 * WIDTH, parity.CLASSES)
    return model


def timm_resnet() -> nn.Module:
    channels = tuple(WIDTH << stage for stage in range(4))
    model = TimmResNet(TimmBlock, (1, 1, 1, 1), num_classes=parity.CLASSES, channels=channels)
    # its stem has 64 channels whatever the rest has
    model.conv1, model.bn1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTH)
    model.layer1[0] = TimmBlock(WIDTH, WIDTH)
    return model


def vit() -> nn.Module:
    sizes = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "mlp_dim": 32, "patch_size": 8}
    return ViT(image_size=32, num_classes=parity.CLASSES, **sizes)


def timm_vit() -> nn.Module:
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    return timm.models.VisionTransformer(img_size=32, num_classes=parity.CLASSES, **sizes)


def fill(model: nn.Module) -> nn.Module:
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({name: torch.tensor(value) for name, value in parity.weights(shapes).items()})
    return model.eval()


def logits(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(parity.images()).permute(0, 3, 1, 2)).numpy()


if __name__ == "__main__":
    models = {"resnet": resnet(), "timm_resnet": timm_resnet(), "vit": vit(), "timm": timm_vit()}
    golden = {}
    for name, model in models.items():
        fill(model)
        if name == "timm_resnet":
            model.load_state_dict({k: v.half().to(v.dtype) for k, v in model.state_dict().items()})
        golden[name] = logits(model)
        golden[f"{name}_names"] = np.array(list(model.state_dict()))
    torch.save(models["resnet"].state_dict(), FOLDER / "weights_resnet.pth")
    half = {f"module.{k}": v.half() for k, v in models["timm_resnet"].state_dict().items()}
    torch.save({"state_dict": half}, FOLDER / "weights_timm_resnet.pth")
    torch.save(models["vit"].state_dict(), FOLDER / "weights_vit.pth")
    torch.save(models["vit"].state_dict(), FOLDER / "weights_legacy.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(models["timm"].state_dict(), FOLDER / "weights_timm.safetensors")
    positions = models["timm"].state_dict()["pos_embed"]
    for side in (2, 6):
        golden[f"positions_{side}"] = resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=1).numpy()
    np.savez_compressed(FOLDER / "weights.npz", **golden)

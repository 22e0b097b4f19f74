"""PyTorch's training steps by name, for accelerator.py: the same models, from the libraries that people take them from.

torchvision's ResNets in channels_last, vit-pytorch's ViT for 32 px, timm's for 224 px, nerfstudio's nerfacto without
tiny-cuda-nn, and the vanilla NeRF's two networks with their sampling and compositing written out. Variants: "float32"
(with TF32 where the card has it), "bfloat16" (autocast) and "compile", which is bfloat16 through torch.compile.
"""

import torch
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make(name: str, variant: str, tiny: bool):
    """(function that runs so many steps and waits, {"items": a step}); see turns.answer."""
    torch.set_default_device(DEVICE)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    torch.compiler.reset()
    return {"vanilla": vanilla, "nerfacto": nerfacto}.get(name, classifier)(name, variant, tiny)


def classifier(name: str, variant: str, tiny: bool):
    """A classifier's step; of SimCLR without augmentation, on views that are there."""
    size, classes, batch = {
        "resnet18": (32, 100, 2048),
        "vit": (32, 100, 1024),
        "resnet50": (224, 1000, 256),
        "vit_s16": (224, 1000, 256),
        "simclr": (32, 0, 2 * 1024),
    }[name]
    if tiny:
        batch = 8
    model = network(name, classes)
    x, y = torch.rand(batch, 3, size, size), torch.arange(batch) % max(classes, 1)
    if name.startswith(("resnet", "simclr")):
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), 1e-4, fused=DEVICE == "cuda")
    forward = torch.compile(model) if variant == "compile" else model
    loss = nt_xent if name == "simclr" else lambda logits: nn.functional.cross_entropy(logits, y)

    def step() -> None:
        adam.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=variant != "float32"):
            outputs = forward(x)
        loss(outputs.float()).backward()
        adam.step()

    return repeated(step), {"items": batch // 2 if name == "simclr" else batch}


def network(name: str, classes: int) -> nn.Module:
    if name == "vit":
        from vit_pytorch import ViT

        return ViT(
            image_size=32, patch_size=4, num_classes=classes, dim=192, depth=25, heads=6, dim_head=64, mlp_dim=384
        )
    if name == "vit_s16":
        import timm

        return timm.create_model("vit_small_patch16_224", num_classes=classes)
    import torchvision

    if name == "simclr":
        model = torchvision.models.resnet18()
        model.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
        return model
    return getattr(torchvision.models, name)(num_classes=classes)


def nt_xent(z: torch.Tensor) -> torch.Tensor:
    z = nn.functional.normalize(z)
    n = len(z)
    scores = (z @ z.T / 0.5).masked_fill(torch.eye(n, dtype=torch.bool), float("-inf"))
    return nn.functional.cross_entropy(scores, (torch.arange(n) + n // 2) % n)


class Radiance(nn.Module):
    """The original's network: eight layers of 256, the position again at the fifth, a layer of 128 for colour."""

    def __init__(self, width: int = 256):
        super().__init__()
        first = [nn.Linear(63, width)] + [nn.Linear(width, width) for _ in range(4)]
        second = [nn.Linear(width + 63, width)] + [nn.Linear(width, width) for _ in range(2)]
        self.first, self.second = nn.ModuleList(first), nn.ModuleList(second)
        self.density, self.features = nn.Linear(width, 1), nn.Linear(width, width)
        self.colour = nn.Sequential(nn.Linear(width + 27, width // 2), nn.ReLU(), nn.Linear(width // 2, 3))

    def forward(self, points: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = encode(points, 10)
        x = encoded
        for layer in self.first:
            x = layer(x).relu()
        x = torch.cat([encoded, x], -1)
        for layer in self.second:
            x = layer(x).relu()
        towards = encode(directions, 4)[:, None].expand(*x.shape[:2], -1)
        colour = self.colour(torch.cat([self.features(x), towards], -1)).sigmoid()
        return colour.float(), self.density(x)[..., 0].float().relu()


def encode(x: torch.Tensor, octaves: int) -> torch.Tensor:
    angles = x[..., None, :] * 2.0 ** torch.arange(octaves)[:, None]
    return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)


def composite(colour: torch.Tensor, density: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    widths = torch.cat([t[:, 1:] - t[:, :-1], torch.full_like(t[:, :1], 1e10)], -1)
    optical = density * widths
    before = torch.cat([torch.zeros_like(t[:, :1]), optical.cumsum(-1)[:, :-1]], -1)
    weights = (-before).exp() * (1 - (-optical).exp())
    return (weights[..., None] * colour).sum(1) + 1 - weights.sum(1, keepdim=True), weights


def resample(t: torch.Tensor, weights: torch.Tensor, count: int) -> torch.Tensor:
    """Sorted: the coarse depths, and `count` more where the weights are large."""
    middle, weights = (t[:, 1:] + t[:, :-1]) / 2, weights[:, 1:-1].detach() + 1e-5
    cdf = torch.cat([torch.zeros_like(weights[:, :1]), (weights / weights.sum(-1, keepdim=True)).cumsum(-1)], -1)
    u = torch.rand(len(t), count)
    above = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[1] - 1)
    low, high = (cdf.gather(1, i) for i in (above - 1, above))
    start, end = (middle.gather(1, i) for i in (above - 1, above))
    share = (u - low) / (high - low).clamp(min=1e-5)
    return torch.cat([t, start + share.clamp(0, 1) * (end - start)], -1).sort(-1).values


def vanilla(name: str, variant: str, tiny: bool):
    rays = 64 if tiny else 4096
    coarse, fine = Radiance(), Radiance()
    adam = torch.optim.Adam([*coarse.parameters(), *fine.parameters()], 5e-4, fused=DEVICE == "cuda")
    directions = nn.functional.normalize(torch.randn(rays, 3), dim=-1)
    origins, truth = -4 * directions + 0.1 * torch.randn(rays, 3), torch.rand(rays, 3)

    def losses():
        t = 2 + 4 * (torch.arange(64) + torch.rand(rays, 64)) / 64
        first, weights = composite(*coarse(origins[:, None] + t[..., None] * directions[:, None], directions), t)
        t = resample(t, weights, 128)
        second, _ = composite(*fine(origins[:, None] + t[..., None] * directions[:, None], directions), t)
        return (first - truth).square().mean() + (second - truth).square().mean()

    forward = torch.compile(losses) if variant == "compile" else losses

    def step() -> None:
        adam.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=variant != "float32"):
            loss = forward()
        loss.backward()
        adam.step()

    return repeated(step), {"items": rays}


def nerfacto(name: str, variant: str, tiny: bool):
    import nerfacto as nerfstudio

    if variant != "float32":
        raise ValueError("nerfstudio's is timed in float32 alone")
    step = nerfstudio.training(0)
    return repeated(step), {"items": nerfstudio.RAYS}


def repeated(step):
    def run(steps: int) -> None:
        for _ in range(steps):
            step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    import turns

    turns.answer(make)

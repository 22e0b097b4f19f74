"""Losses and gradients of lightly and byol-pytorch, in double precision -> ssl_losses.npz.

Run by hand, from the root: python -m tests.golden.ssl_losses (needs torch, lightly and byol-pytorch).
"""

from pathlib import Path

import numpy as np
import torch
from byol_pytorch import BYOL
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from torch import nn

B, D = 12, 6


def moco(z: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Chen, Xie and He 2021, algorithm 1, with T = 0.2; lightly has no such loss without a memory bank."""

    def contrast(q, k):
        scores = nn.functional.normalize(q, dim=1) @ nn.functional.normalize(k, dim=1).T / 0.2
        return 2 * 0.2 * nn.functional.cross_entropy(scores, torch.arange(len(q)))

    return contrast(z[:, 0], keys[:, 1]) + contrast(z[:, 1], keys[:, 0])


def simsiam(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    cosine = NegativeCosineSimilarity()
    return (cosine(p[:, 0], z[:, 1].detach()) + cosine(p[:, 1], z[:, 0].detach())) / 2


def losses() -> dict[str, np.ndarray]:
    """Each loss of z [b, 2, d], with its gradient; `other` is what the second network gives."""
    rng = np.random.default_rng(0)
    z, other = rng.normal(size=(2, B, 2, D)) * [1.0, 0.5, 2.0, 1.0, 1.0, 0.3] + rng.normal(size=(2, B, 1, D))
    other_ = torch.tensor(other)
    functions = {
        "nt_xent_0.07": lambda z: NTXentLoss(0.07)(z[:, 0], z[:, 1]),
        "nt_xent_0.5": lambda z: NTXentLoss(0.5)(z[:, 0], z[:, 1]),
        "barlow_twins": lambda z: BarlowTwinsLoss(0.005)(z[:, 0], z[:, 1]),
        "vicreg": lambda z: VICRegLoss()(z[:, 0], z[:, 1]),
        "simsiam": lambda z: simsiam(z, other_),
        "moco": lambda z: moco(z, other_),
    }
    golden = {"z": z, "other": other}
    for name, function in functions.items():
        leaf = torch.tensor(z, requires_grad=True)
        value = function(leaf)
        value.backward()
        golden |= {f"{name}/value": value.item(), f"{name}/gradient": leaf.grad.numpy()}
    return golden


def byol() -> dict[str, np.ndarray]:
    """One step of byol-pytorch on a linear backbone: weights, loss, gradients, and the target after SGD and its EMA."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10))
    model = BYOL(
        net,
        image_size=4,
        hidden_layer=-1,
        projection_size=5,
        projection_hidden_size=8,
        augment_fn=lambda x: x,
        augment_fn2=lambda x: x.flip(3) ** 2,
        moving_average_decay=0.9,
        use_simplicial_embeddings=False,
    ).double()
    with torch.no_grad():
        for p in model.target_encoder.parameters():  # as after some training, so that the two networks differ
            p.add_(0.3 * torch.randn_like(p))
    images = torch.tensor(np.random.default_rng(1).random((B, 3, 4, 4)))
    golden = {f"byol/before/{k}": v.clone().numpy() for k, v in model.state_dict().items() if "batches" not in k}
    loss = model(images)
    loss.backward()
    golden |= {f"byol/gradient/{k}": p.grad.numpy().copy() for k, p in model.named_parameters() if p.grad is not None}
    torch.optim.SGD(model.parameters(), 0.1).step()
    model.update_moving_average()
    golden |= {f"byol/after/{k}": v.numpy() for k, v in model.state_dict().items() if "target" in k and "num" not in k}
    return golden | {"byol/images": images.permute(0, 2, 3, 1).numpy(), "byol/value": loss.item()}


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **losses(), **byol())

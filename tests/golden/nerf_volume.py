"""Writes nerf_volume.npz: weights, colours, depths and opacities as nerfacc renders them, and their gradients.

Run by hand with any environment that has torch and nerfacc 0.5: python tests/golden/nerf_volume.py
"""

from pathlib import Path

import numpy as np
import torch
from nerfacc import accumulate_along_rays, render_weight_from_alpha, render_weight_from_density

RAYS, SAMPLES = 6, 17
torch.manual_seed(0)
edges = torch.sort(torch.rand(RAYS, SAMPLES + 1, dtype=torch.float64) * 4 + 2, -1).values
starts, ends = edges[:, :-1], edges[:, 1:]
density = torch.nn.functional.softplus(torch.randn(RAYS, SAMPLES, dtype=torch.float64) * 3 - 1)
density[0], density[1, 5:] = 0.0, 200.0  # a ray that sees nothing, and one that ends at a wall
density.requires_grad_()
colours = torch.rand(RAYS, SAMPLES, 3, dtype=torch.float64, requires_grad=True)

weights, _, alphas = render_weight_from_density(starts, ends, density)
rgb = accumulate_along_rays(weights, colours)
depth = accumulate_along_rays(weights, (starts + ends)[..., None] / 2)
opacity = accumulate_along_rays(weights)
(rgb.sum() + (depth**2).sum()).backward()
alpha = torch.rand(RAYS, SAMPLES, dtype=torch.float64) * 0.9
np.savez(
    Path(__file__).with_suffix(".npz"),
    edges=edges.numpy(),
    density=density.detach().numpy(),
    colours=colours.detach().numpy(),
    weights=weights.detach().numpy(),
    rgb=rgb.detach().numpy(),
    depth_sum=depth.detach().numpy()[:, 0],
    opacity=opacity.detach().numpy()[:, 0],
    density_gradient=density.grad.numpy(),
    alpha=alpha.numpy(),
    weights_of_alpha=render_weight_from_alpha(alpha)[0].numpy(),
)

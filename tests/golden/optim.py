"""Writes optim.npz: 20 steps of torch.optim on a small MLP, and the learning rates of torch's schedulers.

Run by hand with any environment that has torch: python tests/golden/optim.py
"""

from pathlib import Path

import numpy as np
import torch

STEPS = 20
torch.manual_seed(0)
DTYPE = torch.float64
X, Y = torch.randn(16, 6, dtype=DTYPE), torch.randn(16, 3, dtype=DTYPE) * 2
INIT = {
    "w1": torch.randn(6, 8, dtype=DTYPE) * 0.4,
    "b1": torch.randn(8, dtype=DTYPE) * 0.1,
    "w2": torch.randn(8, 3, dtype=DTYPE) * 0.4,
    "b2": torch.randn(3, dtype=DTYPE) * 0.1,
}


def run(make, clip=None, scheduler=None):
    """Parameters after the last step and the loss before every step."""
    p = {k: v.clone().requires_grad_() for k, v in INIT.items()}
    optimizer = make(p)
    scheduler = scheduler(optimizer) if scheduler else None
    losses = []
    for _ in range(STEPS):
        loss = ((torch.tanh(X @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"] - Y) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(p.values(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(loss.item())
    return {k: v.detach().numpy() for k, v in p.items()} | {"losses": np.array(losses)}


def rates(scheduler, steps, lr=0.1):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = scheduler(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(values)


def weights_only(p, weight_decay):
    return [
        {"params": [p["w1"], p["w2"]], "weight_decay": weight_decay},
        {"params": [p["b1"], p["b2"]], "weight_decay": 0.0},
    ]


opt, sched = torch.optim, torch.optim.lr_scheduler
runs = {
    "adam": run(lambda p: opt.Adam(p.values(), lr=0.02, weight_decay=0.1)),
    "adamw": run(lambda p: opt.AdamW(p.values(), lr=0.02, weight_decay=0.1)),
    "adamw_norm_bias": run(lambda p: opt.AdamW(weights_only(p, 0.5), lr=0.02)),
    "sgd_nesterov": run(lambda p: opt.SGD(p.values(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.05)),
    "sgd_plain": run(lambda p: opt.SGD(p.values(), lr=0.01, momentum=0.9, weight_decay=0.05)),
    "sgd_norm_bias": run(lambda p: opt.SGD(weights_only(p, 0.2), lr=0.01, momentum=0.9, nesterov=True)),
    "clip": run(lambda p: opt.SGD(p.values(), lr=0.02, momentum=0.5, nesterov=True), clip=2.0),
    "onecycle_adam": run(
        lambda p: opt.Adam(p.values(), lr=0.02),
        scheduler=lambda o: sched.OneCycleLR(o, max_lr=0.02, total_steps=STEPS, cycle_momentum=False),
    ),
}
schedules = {
    "onecycle": rates(lambda o: sched.OneCycleLR(o, max_lr=0.1, total_steps=100, cycle_momentum=False), 100),
    "onecycle_early": rates(
        lambda o: sched.OneCycleLR(o, max_lr=0.1, total_steps=100, pct_start=0.1, cycle_momentum=False), 100
    ),
    "step": rates(lambda o: sched.StepLR(o, step_size=25, gamma=0.2), 100),
    "multistep": rates(lambda o: sched.MultiStepLR(o, milestones=[30, 60, 80]), 100),
    "cosine": rates(lambda o: sched.CosineAnnealingLR(o, T_max=100, eta_min=0.001), 100),
}
arrays = {"x": X.numpy(), "y": Y.numpy()} | {f"init/{k}": v.numpy() for k, v in INIT.items()}
arrays |= {f"{name}/{k}": v for name, result in runs.items() for k, v in result.items()}
arrays |= {f"rate/{name}": v for name, v in schedules.items()}
np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays)

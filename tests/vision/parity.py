"""What the golden script and the tests share: tiny models, weights and inputs from a numpy seed."""

import numpy as np

BATCH, CLASSES = 16, 10
# name -> our options; the golden script builds the same models in PyTorch
MODELS = {
    "basic": {"name": "resnet18", "blocks": (1, 1, 1, 1)},
    "basic_cifar": {"name": "resnet18", "blocks": (1, 1, 1, 1), "stem": "cifar"},
    "bottleneck": {"name": "resnet50", "blocks": (1, 1, 1, 1)},
    "vit_cls": {"name": "vit", "width": 24, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 48, "patch": 8},
    "vit_mean": {
        "name": "vit",
        "width": 24,
        "depth": 2,
        "heads": 2,
        "head_dim": 8,
        "mlp": 48,
        "patch": 8,
        "pool": "mean",
    },
}


def images() -> np.ndarray:
    """[b, h, w, c] in [0, 1]."""
    return np.random.default_rng(0).random((BATCH, 32, 32, 3), np.float32)


def labels() -> np.ndarray:
    return np.arange(BATCH) % CLASSES


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Values for a state_dict of these shapes; far enough from the initialisation that every tensor matters."""
    rng = np.random.default_rng(1)
    state = {}
    for name, shape in shapes.items():
        value = rng.standard_normal(shape).astype(np.float32)
        if name.endswith("num_batches_tracked"):
            state[name] = np.zeros((), np.int64)
        elif len(shape) > 1 and "token" not in name and "pos" not in name:
            state[name] = value * np.float32(np.prod(shape[1:]) ** -0.5)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = 1 + 0.2 * np.tanh(value)
        else:
            state[name] = 0.2 * value
    return state


def project(a: np.ndarray) -> np.ndarray:
    """Four projections of a tensor on fixed random directions."""
    directions = np.random.default_rng(a.size).standard_normal((4, a.size))
    return directions @ a.ravel().astype(np.float64) / a.size**0.5

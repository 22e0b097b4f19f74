"""SimCLR, end to end: images a second from bytes in memory to the updated weights, jaxhw against PyTorch on a CPU.

    python benchmarks/ssl_step.py [--quick] [--torch-python PATH]

Batch 512 of 32 pixels, two views an image, SimCLR's CIFAR augmentation with blur, ResNet-18 with torchvision's stem,
AdamW. PyTorch's side is what its users run: torchvision's transforms in a DataLoader with two workers, torchvision's
model, lightly's loss. PyTorch, torchvision and lightly come from the `bench` extra, or from another interpreter.

Then the share of the augmentation in jaxhw's step (the step without it takes its turns, too), the most memory used, and
NT-Xent alone at batch 4096 against the matrix products that it stands for: the similarities, and their two for the
gradient.
"""

import argparse
import re
import sys
import time

import turns

BATCH, IMAGES = 512, 5120
JAXHW = ("float32", "bfloat16", "float32, 2 devices", "bfloat16, 2 devices")
FIXED = "float32, 2 devices"  # the variant that is also timed without augmentation
TORCH = ("eager", "channels_last", "channels_last+bf16")
LOSS = ("loss", "product", "loss+gradient", "product+gradient")
JITTER = (0.4, 0.4, 0.4, 0.1)


def pixels():
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)


def jaxhw_step(variant: str):
    """A function that runs one training step of the task and waits for it."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxhw import mesh as meshes
    from jaxhw import start, train
    from jaxhw.vision.augment import views
    from jaxhw.vision.data import datasets
    from jaxhw.vision.tasks import pretrain

    images = datasets.Dataset(np.zeros(IMAGES, np.int32), ["any"], 32, pixels(), np.arange(IMAGES))
    datasets.load = lambda *args, **options: images
    config = pretrain.default_config("simclr")
    dtype, divided = re.match(r"(\w+)(, 2 devices)?", variant).groups()
    config.update({"steps": 10**6, "batch_size": BATCH, "dtype": dtype, "validation": 0.0})
    config.augment.update({**views.SIMCLR_CIFAR, "blur": (0.5,), "interpolation": "bilinear"})
    config.method.norm = False
    config.optim.update({"name": "adamw", "lr": 3e-4, "weight_decay": 1e-4})
    if divided:
        config.model.norm_groups = config.mesh.cpu_devices = 2
    mesh = meshes.make_mesh(config.mesh.data, config.mesh.cpu_devices)
    task = pretrain.Pretrain(config, mesh)
    if "fixed" in variant:
        task.views = lambda keys, images: jnp.stack([images, images], 1).astype(jnp.float32) / 255
    state = start.begin(task, config, mesh, jax.device_get(task.init(jax.random.key(0))))
    step, number = train.make_step(task, config, mesh), 0

    def run():
        nonlocal state, number
        state, loss = step(state, meshes.put_rows(task.batch(number), mesh))
        number += 1
        loss.block_until_ready()

    return turns.timed(run)


def torch_loader(batches: int):
    """Batches of two views, drawn by two processes that rest between the rounds."""
    import torch
    from PIL import Image
    from torchvision import transforms

    draw = transforms.Compose(
        [
            transforms.RandomResizedCrop(32),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(*JITTER)], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.GaussianBlur(3, (0.1, 2.0))], 0.5),
            transforms.ToTensor(),
        ]
    )
    bytes_ = pixels()

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return batches * BATCH

        def __getitem__(self, index):
            image = Image.fromarray(bytes_[index % IMAGES])
            return draw(image), draw(image)

    return torch.utils.data.DataLoader(Views(), BATCH, shuffle=True, num_workers=2, persistent_workers=True)


def torch_step(variant: str):
    """(steps) -> seconds a step over one pass of the loader, from the moment that its workers begin to draw."""
    import torch
    from lightly.loss import NTXentLoss
    from torch import nn
    from torchvision.models import resnet18

    model = resnet18()
    model.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format
    model = model.to(memory_format=layout)
    criterion, adam = NTXentLoss(0.5), torch.optim.AdamW(model.parameters(), 3e-4, weight_decay=1e-4)
    loaders = {}

    def run(steps: int) -> float:
        if steps not in loaders:
            loaders[steps] = torch_loader(steps)
            for _ in loaders[steps]:  # starts the workers, which stay
                pass
        began = time.perf_counter()
        for a, b in loaders[steps]:
            adam.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in variant):
                z = model(torch.cat([a, b]).to(memory_format=layout)).float()
            criterion(*z.chunk(2)).backward()
            adam.step()
        return (time.perf_counter() - began) / steps

    return run


def loss_step(variant: str):
    import jax
    import jax.numpy as jnp

    from jaxhw.vision.models.layers import l2_normalise
    from jaxhw.vision.ssl import losses

    z = l2_normalise(jax.random.normal(jax.random.key(0), (4096, 2, 128)))
    flat = z.reshape(-1, 128)

    def loss(z):
        return losses.nt_xent(z, 0.5)

    def product(a):
        return a @ a.T

    def products(a, weights):
        scores, back = jax.vjp(lambda a, b: a @ b.T, a, a)
        return scores, back(weights)

    function, *arguments = {
        "loss": lambda: (loss, z),
        "product": lambda: (product, flat),
        "loss+gradient": lambda: (jax.value_and_grad(loss), z),
        "product+gradient": lambda: (products, flat, jnp.full((8192, 8192), 1e-4)),
    }[variant]()
    function = jax.jit(function)
    return turns.timed(lambda: jax.block_until_ready(function(*arguments)))


MAKE = {"jaxhw": jaxhw_step, "PyTorch": torch_step, "NT-Xent": loss_step}


def end_to_end(torch_python: str, torch_variants: tuple[str, ...], steps: int, rounds: int) -> str:
    """The table of images a second, and the augmentation's share."""
    ours = (*JAXHW, f"{FIXED} on fixed views")
    workers = [turns.Worker(sys.executable, __file__, "jaxhw", variant) for variant in ours]
    workers += [turns.Worker(torch_python, __file__, "PyTorch", variant) for variant in torch_variants]
    workers = {worker.names: worker for worker in turns.take_turns(workers, steps, rounds)}
    peers = [BATCH / worker.seconds for (system, _), worker in workers.items() if system == "PyTorch"]
    lines = [f"**SimCLR, {BATCH} images x 2 views, 32 px, ResNet-18**", ""]
    lines += ["| | images/s | / PyTorch's best | memory |", "|---|---|---|---|"]
    for (system, variant), worker in workers.items():
        rate = BATCH / worker.seconds
        ratio = f"{rate / max(peers):.2f}" if peers else "-"
        lines.append(f"| {system} {variant} | {rate:.1f} | {ratio} | {worker.memory / 1e9:.2f} GB |")
    whole, bare = (workers["jaxhw", name].seconds for name in (FIXED, f"{FIXED} on fixed views"))
    lines.append(f"\nAugmentation takes {1 - bare / whole:.1%} of the step in {FIXED}.")
    return "\n".join(lines)


def loss_alone(rounds: int) -> str:
    workers = [turns.Worker(sys.executable, __file__, "NT-Xent", variant) for variant in LOSS]
    times = {worker.names[1]: worker.seconds for worker in turns.take_turns(workers, 3, rounds)}
    lines = [
        "**NT-Xent, 4096 images x 2 views, 128 dimensions**",
        "",
        "| | loss | its products | ratio |",
        "|---|---|---|---|",
    ]
    for suffix, title in (("", "value"), ("+gradient", "value and gradient")):
        loss, product = times[f"loss{suffix}"], times[f"product{suffix}"]
        lines.append(f"| {title} | {1e3 * loss:.0f} ms | {1e3 * product:.0f} ms | {loss / product:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of one step: whether it all runs")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch and lightly")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        system, variant = args.work
        return turns.serve(MAKE[system](variant))
    print(f"{turns.processor()}; medians of alternating rounds\n")
    rounds = 1 if args.quick else 7
    print(end_to_end(args.torch_python, TORCH, 1 if args.quick else 8, rounds), end="\n\n", flush=True)
    print(loss_alone(1 if args.quick else 15))


if __name__ == "__main__":
    main()

"""Images a second of one training step (forward, loss, backward, Adam): jaxhw against PyTorch on the same CPU.

    python benchmarks/vision_step.py [--only=vit|resnet18] [--quick] [--torch-python PATH]

PyTorch, torchvision and vit-pytorch come from the `bench` extra, or from another interpreter. Every variant runs in a
worker process of its own, and the workers take turns, so that a busy machine slows all of them alike.
"""

import argparse
import sys

import turns

WORKLOADS = {"resnet18": ("ResNet-18, torchvision's stem, 32 px", 128), "vit": ("ViT 11.1 M", 64)}
JAXHW = {
    "resnet18": ("float32", "bfloat16", "float32, 2 devices", "bfloat16, 2 devices"),
    "vit": ("float32", "bfloat16"),
}
TORCH = ("eager", "channels_last", "bf16", "channels_last+bf16", "compile", "compile+bf16")


def jaxhw_step(name: str, variant: str, batch: int):
    """A function that runs one training step and waits for it.

    On two devices the batch statistics are those of each half, as configs/resnet18.py has them.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from jaxhw import mesh as meshes
    from jaxhw.vision.models import parts, registry

    dtype, _, divided = variant.partition(", ")
    mesh = meshes.make_mesh(cpu_devices=2 if divided else 1)
    model = registry.create({"name": name, **({"norm_groups": 2} if divided else {})}, 100, 32, dtype)
    images = np.random.default_rng(0).random((batch, 32, 32, 3), np.float32)
    x, y = meshes.put_rows((images, np.arange(batch) % 100), mesh)
    variables = meshes.on_mesh(lambda: model.init(jax.random.key(1), jnp.asarray(images[:1]), train=False), mesh)
    adam, apply = optax.adam(1e-4), parts.in_training(model, mesh)

    def step(variables, opt_state):
        def loss(params):
            logits, new = apply({**variables, "params": params}, x, jax.random.key(2))
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = adam.update(gradient, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), **new}, opt_state, value

    step = jax.jit(step, donate_argnums=(0, 1))
    state = variables, meshes.on_mesh(lambda: adam.init(variables["params"]), mesh)

    def run():
        nonlocal state
        *state, value = step(*state)
        value.block_until_ready()

    return run


def torch_step(name: str, variant: str, batch: int):
    import torch
    from torchvision.models import resnet18
    from vit_pytorch import ViT

    sizes = {"dim": 192, "depth": 25, "heads": 6, "dim_head": 64, "mlp_dim": 384}
    model = (
        resnet18(num_classes=100) if name == "resnet18" else ViT(image_size=32, patch_size=4, num_classes=100, **sizes)
    )
    x, y = torch.rand(batch, 3, 32, 32), torch.arange(batch) % 100
    if "channels_last" in variant:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), 1e-4)
    forward = torch.compile(model) if "compile" in variant else model

    def run():
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in variant):
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        adam.step()

    return run


def work(system: str, name: str, variant: str) -> None:
    """The worker: one time per line of standard input."""
    make = {"jaxhw": jaxhw_step, "PyTorch": torch_step}[system]
    turns.serve(turns.timed(make(name, variant, WORKLOADS[name][1])))


def measure(name: str, torch_python: str, torch_variants: tuple[str, ...], rounds: int) -> list[turns.Worker]:
    workers = [turns.Worker(sys.executable, __file__, "jaxhw", name, variant) for variant in JAXHW[name]]
    workers += [turns.Worker(torch_python, __file__, "PyTorch", name, variant) for variant in torch_variants]
    return turns.take_turns(workers, 5 if name == "resnet18" else 1, rounds)


def table(name: str, workers: list[turns.Worker]) -> str:
    title, batch = WORKLOADS[name]
    rates = {(w.names[0], w.names[2]): batch / w.seconds for w in workers}
    peers = {key: rate for key, rate in rates.items() if key[0] == "PyTorch"}
    eager, best = peers["PyTorch", "eager"], max(peers.values())
    lines = [
        f"**{title}, batch {batch}, Adam**",
        "",
        "| | images/s | / PyTorch eager | / PyTorch's best |",
        "|---|---|---|---|",
    ]
    for (system, variant), rate in rates.items():
        lines.append(f"| {system} {variant} | {rate:.1f} | {rate / eager:.2f} | {rate / best:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WORKLOADS, help="one of the two models")
    parser.add_argument("--quick", action="store_true", help="PyTorch eager and bf16 only, 5 rounds instead of 15")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(*args.work)
    print(f"{turns.processor()}; medians of alternating rounds\n")
    for name in [args.only] if args.only else WORKLOADS:
        variants, rounds = (("eager", "bf16"), 5) if args.quick else (TORCH, 15)
        print(table(name, measure(name, args.torch_python, variants, rounds)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()

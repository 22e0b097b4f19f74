"""jaxhw on whatever accelerator is here, in under ten minutes: is it right, how fast is it, how good are its results.

    python benchmarks/accelerator.py --out=DIR [--cifar100=DIR] [--lego=DIR] [--torch-python=PYTHON]

    agreement   networks, gradients and rendered rays against the CPU of the same machine
    speed       training steps, in images or rays a second and as a share of the largest matrix product measured here,
                in turns with PyTorch's on the same card, where it is installed (peers.py says what is compared)
    recipes     ResNet-18 and ViT on CIFAR-100 (class folders) and nerfacto on a Blender scene, from start to result

Recipes whose data is not given are left out, and so is what would begin after --minutes, of which speed has three
fifths. --only=speed --workloads=vit,simclr takes parts; a workload takes half a minute to a minute, compilation
included. It needs jax, flax, optax, orbax-checkpoint, numpy, scipy, scikit-learn,
scikit-image, pillow, matplotlib, tqdm and ml_collections; with --tiny it tests itself on a CPU. DIR gets
accelerator.json and accelerator.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import turns

HERE = Path(__file__).resolve().parent
PARTS = ("agreement", "speed", "recipes")
NAMES = ("vit", "resnet18", "vit_s16", "resnet50", "simclr", "nerfacto_fast", "nerfacto", "dvgo", "vanilla")
SCENES = NAMES[5:]  # are learnt in float32 alone
NO_PEER = ("nerfacto_fast", "dvgo")  # of PyTorch; the published nerfacto's stands beside the fast one
OURS, THEIRS = ("bfloat16", "float32"), ("compile", "bfloat16", "float32")
TINY = ["--config.steps=2", "--config.log_every=1", "--config.eval_every=2"]
VIT_TINY = ["--config.optim.warmup_steps=1", "--config.batch_size=32"]
SPEED = 0.6  # of the minutes, after which speed begins no other workload
ROUND = 0.4  # seconds of steps that a side has in a round


def agreement(tiny: bool) -> dict:
    """Names and differences; see agreement.py."""
    import agreement as module

    return {"bound": module.BOUND, "differences": dict(module.compare(tiny))}


def peak(tiny: bool) -> dict:
    """What this card can do: products of large matrices in FLOP/s, and a copy of a large array in bytes/s."""
    import jax
    import jax.numpy as jnp

    n = 512 if tiny else 8192

    def seconds(function, *args) -> float:
        jax.block_until_ready(function(*args))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(10):
                out = function(*args)
            jax.block_until_ready(out)
            times.append((time.perf_counter() - began) / 10)
        return statistics.median(times)

    found = {}
    for dtype in ("bfloat16", "float32"):
        a, b = (jax.random.normal(jax.random.key(i), (n, n), dtype) for i in range(2))
        found[dtype] = 2 * n**3 / seconds(jax.jit(jnp.matmul), a, b)
    x = jax.random.normal(jax.random.key(0), (2 * n * n,), jnp.float32)
    found["bytes"] = 2 * x.nbytes / seconds(jax.jit(lambda x: x + 1), x)
    return found


def speed(names: list[str], torch_python: str, tiny: bool, ends: float) -> Iterator[dict]:
    """{workload: {system, variant: {"rate": items a second, ...}}} so far, after each; the sides take turns."""
    sides = {"jaxhw": turns.Answering(sys.executable, str(HERE / "workloads.py"))}
    if torch_python:
        sides["PyTorch"] = turns.Answering(torch_python, str(HERE / "peers.py"))
    found = {}
    for name in names:
        if time.perf_counter() > ends:
            print(f"{name}: left out, the time is up", flush=True)
            continue
        pairs = list(zip(_variants(name, OURS), _variants(name, THEIRS), strict=False))
        found[name] = {}
        for ours, theirs in [*pairs, *([(None, THEIRS[-1])] if name == "vit" else [])]:
            asked = {"jaxhw": ours} | ({} if name in NO_PEER else {"PyTorch": theirs})
            found[name] |= _turn(sides, name, {s: v for s, v in asked.items() if s in sides and v}, tiny)
        yield found
    for side in sides.values():
        side.stop()


def _variants(name: str, variants: tuple[str, ...]) -> tuple[str, ...]:
    return ("float32",) if name in SCENES else variants


def _turn(sides: dict, name: str, variants: dict[str, str], tiny: bool) -> dict:
    """Both sides make their step at the same time, and then run in turns."""
    for side, variant in variants.items():
        sides[side].ask(make=(name, variant, tiny))
    made = {side: sides[side].answer() for side in variants}
    found = {f"{side}, {variants[side]}": told for side, told in made.items() if "error" in told}
    alive = [side for side in variants if "error" not in made[side]]
    steps, times = {}, {side: [] for side in alive}
    for side in alive:
        sides[side].ask(steps=2)
        each = sides[side].answer()["seconds"] / 2
        steps[side] = 1 if tiny else max(2, round(ROUND / each))
    for _ in range(1 if tiny else 5):
        for side in alive:
            sides[side].ask(steps=steps[side])
            times[side].append(sides[side].answer()["seconds"] / steps[side])
    for side in alive:
        told, middle = made[side], statistics.median(times[side])
        more = {"start": round(told["seconds"], 1)}
        more |= {"unit": told["unit"], "flops": told["flops"] / middle} if "flops" in told else {}
        found[f"{side}, {variants[side]}"] = {"rate": told["items"] / middle, "milliseconds": 1e3 * middle, **more}
    return found


def recipes(out: Path, cifar100: str, lego: str, vit: list[str], tiny: bool, ends: float) -> dict:
    """{recipe: results.json}: whole runs, each by the command that a user types."""
    data = f"--config.dataset=folder:{cifar100}" if cifar100 else ""
    scene = f"--config.scene={lego}" if lego else ""
    runs = {
        "nerfacto on lego": ["configs/nerfacto.py:lego", scene, f"--config.downscale={8 if tiny else 1}"],
        "ResNet-18 on CIFAR-100": ["configs/resnet18.py:accelerator", data],
        "ViT on CIFAR-100": ["configs/vit.py:accelerator", data, *(VIT_TINY if tiny else []), *vit],
    }
    found = {}
    for name, (config, given, *flags) in runs.items():
        if not given or time.perf_counter() > ends:
            print(f"{name}: left out, {'the time is up' if given else 'no data is given'}", flush=True)
            continue
        flags += TINY if tiny else []
        found[name] = run(config, out / config.split("/")[-1].replace(".py:", "_"), [given, *flags], ends)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    return found


def run(config: str, workdir: Path, flags: list[str], ends: float) -> dict:
    """A run's numbers; one that takes too long is asked to save itself and stop."""
    command = [sys.executable, "-m", "jaxhw.main", f"--config={config}", f"--workdir={workdir}", *flags]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(command, cwd=HERE.parent, env=environment)
    try:
        process.wait(max(30.0, ends - time.perf_counter()))
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
    results = workdir / "results.json"
    if not results.exists():
        return {"stopped": f"exit code {process.returncode}, before its end"}
    return {key: value for key, value in json.loads(results.read_text()).items() if isinstance(value, (int, float))}


def table(found: dict) -> str:
    """What was found, in Markdown."""
    lines = [f"{found['device']}, jax {found['jax']}", ""]
    if agreed := found.get("agreement"):
        lines += ["| against the CPU, in float32 | largest difference / largest value |", "|---|---|"]
        lines += [f"| {name} | {value:.1e} |" for name, value in agreed["differences"].items()] + [""]
    if most := found.get("peak"):
        lines += [
            f"Measured here: {most['bfloat16'] / 1e12:.0f} TFLOP/s in bfloat16, {most['float32'] / 1e12:.0f} in "
            f"float32 as JAX multiplies it, {most['bytes'] / 1e12:.2f} TB/s.",
            "",
        ]
    if found.get("speed"):
        lines += ["| | a second | ms a step | share of the product | / PyTorch's best |", "|---|---|---|---|---|"]
        for name, sides in found["speed"].items():
            best = max((s["rate"] for n, s in sides.items() if n.startswith("PyTorch") and "rate" in s), default=None)
            lines += [_row(name, side, told, most, best) for side, told in sides.items()]
        lines.append("")
    for name, results in found.get("recipes", {}).items():
        lines.append(f"- {name}: " + ", ".join(f"{key} {value:.6g}" for key, value in results.items() if _told(value)))
    return "\n".join(lines) + "\n"


def _row(name: str, side: str, told: dict, most: dict, best: float | None) -> str:
    if "error" in told:
        return f"| {name}: {side} | {told['error'][:60]} | | | |"
    share = f"{told['flops'] / most['bfloat16']:.1%}" if "flops" in told else ""
    ratio = f"{told['rate'] / best:.2f}" if best else ""
    return f"| {name}: {side} | {told['rate']:,.0f} | {told['milliseconds']:.2f} | {share} | {ratio} |"


def _told(value) -> bool:
    return isinstance(value, (int, float))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cifar100", default="", help="class folders: DIR/train/apple/*.png and DIR/test")
    parser.add_argument("--lego", default="", help="a Blender scene")
    parser.add_argument("--vit", default="", help="more flags of the ViT's run, such as '--config.epochs=50'")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas")
    parser.add_argument("--workloads", default=",".join(NAMES), help="of speed, by commas")
    parser.add_argument("--minutes", type=float, default=9.5, help="after which nothing more is begun")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test of this script")
    args = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share the card
    sys.path.insert(0, str(HERE.parent))
    import jax

    from jaxhw.main import set_up

    set_up()
    args.out.mkdir(parents=True, exist_ok=True)
    began, parts, names = time.perf_counter(), args.only.split(","), args.workloads.split(",")
    for flag, given, allowed in (("only", parts, PARTS), ("workloads", names, NAMES)):
        if unknown := set(given) - set(allowed):
            parser.error(f"--{flag}={','.join(sorted(unknown))} must be of {', '.join(allowed)}")
    found = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "processor": turns.processor()}

    def keep(part: str, value: dict) -> None:
        found[part] = value
        (args.out / "accelerator.json").write_text(json.dumps(found, indent=1))
        (args.out / "accelerator.md").write_text(table(found))

    if "agreement" in parts:
        keep("agreement", agreement(args.tiny))
    if "speed" in parts:
        keep("peak", peak(args.tiny))
        share = SPEED if "recipes" in parts else 1.0
        for so_far in speed(names, args.torch_python, args.tiny, began + 60 * share * args.minutes):
            keep("speed", so_far)
            print(list(so_far.items())[-1], flush=True)
    if "recipes" in parts:
        ends = began + 60 * args.minutes
        keep("recipes", recipes(args.out, args.cifar100, args.lego, args.vit.split(), args.tiny, ends))
    print(table(found))


if __name__ == "__main__":
    main()

"""Writes a run's model under PyTorch's names, for torchvision, timm or vit-pytorch to load.

jaxhw export --workdir=runs/resnet18 --out=resnet18.safetensors
"""

import argparse
from pathlib import Path

from jaxhw.errors import UserError
from jaxhw.main import set_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir and --out."""
    parser.add_argument("--workdir", type=Path, required=True, help="the run; of a pre-training run, its backbone")
    parser.add_argument("--out", type=Path, required=True, help="FILE.safetensors")


def run(args: argparse.Namespace) -> None:
    """Writes the file; prints what it holds."""
    if args.out.suffix != ".safetensors":
        raise UserError(f"--out={args.out}: name the file FILE.safetensors")
    set_up()
    import safetensors.numpy

    from jaxhw.vision import pretrained, weights

    state = pretrained.to_torch(weights.of_workdir(args.workdir))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.copy(order="C") for name, value in state.items()}
    safetensors.numpy.save_file(tensors, args.out, metadata={"format": "pt"})
    print(f"{len(state)} tensors in {args.out}; load_state_dict(safetensors.torch.load_file(FILE)) reads them")

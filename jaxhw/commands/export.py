"""Writes a run's model under PyTorch's names, for torchvision, timm or vit-pytorch to load.

jaxhw export --workdir=runs/resnet18 --out=resnet18.safetensors

PyTorch reads it with load_state_dict(safetensors.torch.load_file(FILE)); add strict=False where the run has no head
of the model's own: pre-training and the linear protocol leave a backbone alone.
"""

import argparse

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.main import set_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir and --out."""
    parser.add_argument("--workdir", type=files.path, required=True, help="the run; of pre-training, its backbone")
    parser.add_argument("--out", type=files.path, required=True, help="FILE.safetensors")


def run(args: argparse.Namespace) -> None:
    """Writes the file; prints what it holds."""
    if args.out.suffix != ".safetensors":
        raise UserError(f"--out={args.out}: name the file FILE.safetensors")
    set_up()
    import safetensors.numpy

    from jaxhw.vision.weights import sources, torch_names

    variables = sources.of_workdir(args.workdir)
    state = torch_names.to_torch(variables)
    files.make_folder(args.out.parent, "--out")
    tensors = {name: value.copy(order="C") for name, value in state.items()}
    safetensors.numpy.save_file(tensors, args.out, metadata={"format": "pt"})
    strict = "" if "head" in variables["params"] else ", strict=False"
    print(f"{len(state)} tensors in {args.out}; load_state_dict(safetensors.torch.load_file(FILE){strict}) reads them")

"""Writes what a run has learnt for other programs: a model under PyTorch's names, or a scene's cameras.

jaxhw export --workdir=runs/resnet18 --out=resnet18.safetensors
jaxhw export --workdir=runs/room --what=cameras --out=refined

A model is for torchvision, timm or vit-pytorch: load_state_dict(safetensors.torch.load_file(FILE)) reads it; add
strict=False where the run has no head of the model's own: pre-training and the linear protocol leave a backbone alone.

Cameras are those of all pictures, refined where the run refined them, in the capture's own frame: COLMAP's model in
text (DIR/sparse/0) and transforms.json. Beside the pictures, in DIR/images, they are a scene again.
"""

import argparse

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.main import set_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --what and --out."""
    parser.add_argument("--workdir", type=files.path, required=True, help="the run; of pre-training, its backbone")
    parser.add_argument("--what", choices=("model", "cameras"), default="model", help="(default: model)")
    parser.add_argument("--out", type=files.path, required=True, help="FILE.safetensors; a folder for cameras")


def run(args: argparse.Namespace) -> None:
    """Writes the files; prints what they hold."""
    {"model": _model, "cameras": _cameras}[args.what](args)


def _model(args: argparse.Namespace) -> None:
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


def _cameras(args: argparse.Namespace) -> None:
    set_up()
    from jaxhw import mesh as meshes
    from jaxhw.nerf.results import pose_files
    from jaxhw.nerf.results.run import Run

    opened = Run.open(args.workdir, meshes.make_mesh())
    written = pose_files.write(args.out, opened.cameras, opened.scene)
    print(f"{len(opened.cameras)} cameras in {', '.join(str(path) for path in written)}")

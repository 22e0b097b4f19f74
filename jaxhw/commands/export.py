"""Writes what a run has learnt for other programs: a model under PyTorch's names, or a scene.

jaxhw export --workdir=runs/resnet18 --out=resnet18.safetensors
jaxhw export --workdir=runs/room --what=points --count=1000000 --uncertainty
jaxhw export --workdir=runs/room --what=mesh --faces=50000 --texture=2048 --out=room.glb
jaxhw export --workdir=runs/room --what=cameras --out=refined

A model is for torchvision, timm or vit-pytorch: load_state_dict(safetensors.torch.load_file(FILE)) reads it; add
strict=False where the run has no head of the model's own: pre-training and the linear protocol leave a backbone alone.

Scenes are written in the capture's own frame and scale: metres, where the capture was scaled. --frame=training gives
the frame that the run was trained in.

points   where rays of the training cameras end and other cameras agree: positions, normals, colours; .ply or .npz.
         --uncertainty adds how many cameras see each point, and how much the colours that they see differ
mesh     the surface of the density; .ply, .obj or .glb, with colours at its vertices or a texture (.obj, .glb)
cameras  those of all pictures, refined where the run refined them: COLMAP's model in text (DIR/sparse/0) and
         transforms.json. Beside the pictures, in DIR/images, they are a scene again
depth    of all pictures along the optical axis: 16-bit DIR/NAME.png, their scale in DIR/depth.json, and DIR/NAME.npz
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.main import set_up
from jaxhw.options import at_least, require

if TYPE_CHECKING:  # its imports take seconds, which --help does not need
    from jaxhw.nerf.results.run import Run

# What can be written: where, unless --out says, the endings that its name may have (none: a folder), and its options.
OUT = {
    "model": ("model.safetensors", (".safetensors",), ()),
    "points": ("points.ply", (".ply", ".npz"), ("frame", "count", "uncertainty")),
    "mesh": ("mesh.ply", (".ply", ".obj", ".glb"), ("frame", "resolution", "faces", "texture")),
    "cameras": ("cameras", (), ("frame",)),
    "depth": ("depth", (), ("frame",)),
}
FRAMES = ("capture", "training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --what, --out, and the options of `OUT`, which are None unless given."""
    parser.add_argument("--workdir", type=files.path, required=True, help="the run; of pre-training, its backbone")
    parser.add_argument("--what", choices=tuple(OUT), default="model", help="(default: model)")
    parser.add_argument("--out", type=files.path, help="file or folder (default: in the workdir, named by --what)")
    parser.add_argument("--frame", choices=FRAMES, help="of a scene (default: capture)")
    parser.add_argument("--count", type=int, help="of points (default: 1000000)")
    parser.add_argument("--uncertainty", action="store_const", const=True, help="observers and their colours' spread")
    parser.add_argument("--resolution", type=int, help="voxels along a mesh's longest edge (default: 256)")
    parser.add_argument("--faces", type=int, help="triangles to which a mesh is reduced (default: all)")
    parser.add_argument("--texture", type=int, metavar="SIZE", help="texels a side, in place of colours at vertices")


def run(args: argparse.Namespace) -> None:
    """Writes the files; prints what they hold."""
    name, endings, _ = OUT[args.what]
    _check_options(args)
    out = args.out or args.workdir / name
    if endings and out.suffix not in endings:
        raise UserError(f"--out={out}: name the file FILE{' or FILE'.join(endings)}")
    set_up()
    write = {"model": _model, "points": _points, "mesh": _mesh, "cameras": _cameras, "depth": _depth}[args.what]
    write(args, out)


def _check_options(args: argparse.Namespace) -> None:
    for option in ("frame", "count", "uncertainty", "resolution", "faces", "texture"):
        owners = [what for what, (_, _, options) in OUT.items() if option in options]
        if getattr(args, option) is not None and args.what not in owners:
            raise UserError(f"--{option} is for --what={' or '.join(owners)}")
    for option, least in (("count", 1), ("resolution", 8), ("faces", 4), ("texture", 16)):
        if getattr(args, option) is not None:
            require(f"--{option}", getattr(args, option), at_least(least), kind=int)


def _opened(args: argparse.Namespace) -> "Run":
    """The run, whose capture has the frame that is asked for."""
    import numpy as np

    from jaxhw import mesh as meshes
    from jaxhw.nerf.results.run import Run

    opened = Run.open(args.workdir, meshes.make_mesh())
    if args.frame == "training":
        opened = dataclasses.replace(opened, scene=dataclasses.replace(opened.scene, to_capture=np.eye(4)))
    return opened


def _model(args: argparse.Namespace, out: Path) -> None:
    import safetensors.numpy

    from jaxhw.vision.weights import sources, torch_names

    variables = sources.of_workdir(args.workdir)
    state = torch_names.to_torch(variables)
    files.make_folder(out.parent, "--out")
    tensors = {name: value.copy(order="C") for name, value in state.items()}
    with files.complete(out) as partial:
        safetensors.numpy.save_file(tensors, partial, metadata={"format": "pt"})
    strict = "" if "head" in variables["params"] else ", strict=False"
    print(f"{len(state)} tensors in {out}; load_state_dict(safetensors.torch.load_file(FILE){strict}) reads them")


def _points(args: argparse.Namespace, out: Path) -> None:
    from jaxhw.nerf.results import cloud_files, points

    opened = _opened(args)
    files.make_folder(out.parent, "--out")
    cloud = points.make(opened, args.count or 1_000_000).moved(opened.scene.to_capture)
    cloud_files.write(out, cloud, uncertainty=bool(args.uncertainty))
    print(f"{len(cloud):,} points in {out}")


def _mesh(args: argparse.Namespace, out: Path) -> None:
    from jaxhw.nerf.results import mesh, mesh_files, texture

    if args.texture and out.suffix == ".ply":
        raise UserError(f"--out={out}: a .ply has no texture; name the file FILE.obj or FILE.glb")
    opened = _opened(args)
    files.make_folder(out.parent, "--out")
    made = mesh.make(opened, args.resolution or 256, args.faces or 0)
    if args.texture:
        voxel = made.metadata["voxel"]
        made = texture.textured(made, args.texture, lambda at, normals: mesh.colours(opened, at, normals, voxel))
    else:
        made = mesh.coloured(opened, made)
    mesh_files.write(out, made.apply_transform(opened.scene.to_capture))
    print(f"{len(made.vertices):,} vertices and {len(made.faces):,} triangles in {out}")


def _cameras(args: argparse.Namespace, out: Path) -> None:
    from jaxhw.nerf.results import pose_files

    opened = _opened(args)
    written = pose_files.write(out, opened.cameras, opened.scene)
    print(f"{len(opened.cameras)} cameras in {', '.join(str(path) for path in written)}")


def _depth(args: argparse.Namespace, out: Path) -> None:
    from jaxhw.nerf.results import depths

    written = depths.write(out, _opened(args))
    print(f"the depth of {len(written)} pictures in {out}")

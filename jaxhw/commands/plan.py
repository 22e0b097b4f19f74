"""Plans a run for TPU slices that nobody has: compiles its real program for them and says how fast it can be at best.

jaxhw plan --config=configs/vit.py:accelerator --topology=v5e:2x4,v5e:16x16 --batch=2048
jaxhw plan --config=configs/imagenet_resnet50.py --topology=v5e:4x4 --batch=auto --advise --figure=roofline.png
jaxhw plan --config=configs/dvgo.py:lego --topology=v6e:2x2 --program=render --images=100 --size=800

No TPU, and no data, are needed: what is not here is replaced by images that hold nothing. How many and how large they
are is what the data or their published description say, or --images, --classes and --size.

slice      v3:NxN (chips of two devices), v4:NxNxN, v5e:NxN, v5p:NxNxN, v6e:NxN
step       the least that it takes by the roofline: what is busiest of compute, memory and interconnect, at its peak. A
           run is slower; what comes on top is not known before it runs
TFLOP      of products and convolutions in a step, on all chips; HBM GB and sent MB are those of a chip
run        the least that all steps take, without evaluations; not known where a field grows in stages

What was compiled is kept in ~/.cache/jaxhw/plan.
"""

import argparse

from jaxhw import config as configs
from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.options import at_least, require

TAKES_CONFIG = True
AUTO = "auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config's flags, --topology, --program, --batch, --advise, --figure, --images, --classes, --size."""
    parser.usage = f"{configs.USAGE} --topology=SLICE[,SLICE ...] [options]"
    parser.add_argument("--topology", required=True, help="slices, such as v5e:2x4,v5e:16x16")
    parser.add_argument("--program", default="train", help="train, eval or render (default: train)")
    parser.add_argument("--batch", default="", help="in place of the config's; auto: the largest that fits")
    parser.add_argument("--advise", action="store_true", help="name the lines of code that take longest")
    parser.add_argument("--figure", type=files.path, help="where a picture of the roofline goes: FILE.png")
    for name, text in (("images", "to train on"), ("classes", "of the images"), ("size", "pixels a side")):
        parser.add_argument(f"--{name}", type=int, default=0, help=f"{text} (default: what the data say)")


def run(args: argparse.Namespace) -> None:
    """Prints the table, which lines of code the chips wait for each other in, and what was asked for."""
    import jax

    from jaxhw import task
    from jaxhw.plan import figure, program, report, topology
    from jaxhw.plan.compiling import Cache
    from jaxhw.plan.planning import Planner

    config, _ = configs.parse(args.flags, "task")
    size = _checked(args)
    jax.config.update("jax_platforms", "cpu")  # else the compiler's package has JAX look for TPUs
    jax.config.update("jax_enable_compilation_cache", False)  # JAX's own: it cannot read programs back without a TPU
    slices = [topology.find(name, config.mesh.fsdp) for name in args.topology.split(",")]
    sizes = task.Sizes(args.images, args.classes, args.size)
    config = task.find(config.task).without_data(program.for_accelerator(config), sizes)
    planner = Planner(config, args.program, Cache())
    plans = [planner.largest(s) if args.batch == AUTO else planner.plan(s, size) for s in slices]
    print(report.table(plans))
    for plan in plans:
        if plan.fits:
            print(*report.explained(plan, args.advise), sep="\n")
    if args.figure:
        figure.draw(plans, args.figure)
    if not any(plan.fits for plan in plans):
        raise UserError("it fits on none of them: lower the batch, or find the largest that fits by --batch=auto")


def _checked(args: argparse.Namespace) -> int:
    """The batch that is asked for; 0 for the config's, or the largest."""
    for name in ("images", "classes", "size"):
        require(f"--{name}", getattr(args, name), at_least(0), kind=int)
    if args.figure and args.figure.suffix != ".png":
        raise UserError(f"--figure={args.figure}: name the file FILE.png")
    if args.batch and args.program == "render":
        raise UserError("--batch is for --program=train and eval: a picture is rendered whole")
    if args.batch in ("", AUTO):
        return 0
    size = int(args.batch) if args.batch.isdigit() else args.batch
    require("--batch", size, at_least(1), kind=int)
    return size

"""Names what pictures show: the five most probable classes of each.

jaxhw predict --workdir=runs/vit cat.jpg dog.png
"""

import argparse

from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.main import set_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir and the pictures."""
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("images", nargs="+", type=files.path, metavar="IMAGE", help="picture files of any size")


def run(args: argparse.Namespace) -> None:
    """Prints a block of five lines for each picture."""
    import jax
    import numpy as np

    from jaxhw.checkpoint import restore_variables
    from jaxhw.vision.data.folder import read_image
    from jaxhw.vision.tasks.classify import Classifier

    set_up()
    classifier = Classifier.from_workdir(args.workdir)
    images = np.stack([read_image(path, classifier.image_size) for path in args.images])
    variables = restore_variables(args.workdir, meshes.replicated(meshes.make_mesh(1)))
    probabilities = np.asarray(jax.nn.softmax(jax.jit(classifier.logits)(variables, images)))
    for path, row in zip(args.images, probabilities, strict=True):
        print(path)
        for index in np.argsort(-row)[:5]:
            print(f"  {row[index]:7.2%}  {classifier.names[index]}")

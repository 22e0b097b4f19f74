"""Names what pictures show: the five most probable classes of each.

jaxhw predict --workdir=runs/vit cat.jpg dog.png
jaxhw predict --workdir=runs/vit holidays         (all pictures in a folder)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.commands.eval import white_of
from jaxhw.decoding import Levels
from jaxhw.errors import UserError
from jaxhw.main import set_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --white and the pictures."""
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--white", type=int, help="the value that is white in 16-bit grey (default: as in training)")
    parser.add_argument(
        "images", nargs="+", type=files.path, metavar="IMAGE", help="picture files of any size, or folders of them"
    )


def run(args: argparse.Namespace) -> None:
    """Prints a block of five lines for each picture."""
    import jax
    import numpy as np

    from jaxhw.checkpoint import restore_variables
    from jaxhw.vision.data.folder import read_image
    from jaxhw.vision.tasks.trained import open_run

    set_up()
    config, classifier = open_run(args.workdir)
    paths, levels = pictures(args.images), Levels(white_of(args.white, config))
    images = np.stack([read_image(path, classifier.image_size, levels) for path in paths])
    levels.warn_if_narrow("the pictures", "--white")
    variables = restore_variables(args.workdir, meshes.replicated(meshes.make_mesh(1)))
    probabilities = np.asarray(jax.nn.softmax(jax.jit(classifier.logits)(variables, images)))
    for path, row in zip(paths, probabilities, strict=True):
        print(path)
        for index in np.argsort(-row)[:5]:
            print(f"  {row[index]:7.2%}  {classifier.names[index]}")


def pictures(given: Sequence[Path]) -> list[Path]:
    """The files, and in the place of each folder all pictures in it.

    Raises:
      UserError: a folder has none.
    """
    from jaxhw.vision.data.listing import list_pictures

    found = []
    for path in given:
        inside = list_pictures(path).pictures if path.is_dir() else [path]
        if not inside:
            raise UserError(f"the folder {path} holds no pictures")
        found += inside
    return found

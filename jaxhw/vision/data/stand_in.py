"""A stand-in for a run's images where they are not there: the same number, classes and size, and nothing on them."""

from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw.errors import UserError
from jaxhw.task import Sizes
from jaxhw.vision.data import datasets


def stand_in(config: ConfigDict, sizes: Sizes) -> ConfigDict:
    """The config with a blank set in the place of its own; see `jaxhw.task.Task.without_data`.

    What `sizes` leaves open is what the set or its published description says.
    """
    known = Sizes(*(given or found for given, found in zip(sizes, _described(config, sizes), strict=True)))
    changes = {"dataset": f"blank:{known.images}:{known.classes}", "image_size": known.size}
    # Pre-training's other sets become parts of the same.
    others = {"split": "train", "knn_dataset": ""}
    return configs.changed(config, changes | {key: value for key, value in others.items() if key in config})


def _described(config: ConfigDict, sizes: Sizes) -> Sizes:
    """What is known of a set without reading its images; nothing is looked up that is given."""
    if all(sizes):
        return sizes
    ask = f"say --images=N, --classes=N and --size=PIXELS of {config.dataset}"
    data_dir, size = config.data_dir or None, sizes.size or config.image_size or None
    try:
        names, size = datasets.describe(config.dataset, size, data_dir)
        images = sizes.images or datasets.count(config.dataset, data_dir)
    except UserError as error:
        raise UserError(f"{error}; or {ask}") from None
    if not images:
        raise UserError(f"how many images {config.dataset} has is not known here: {ask}")
    return Sizes(images, len(names) or 1, size)

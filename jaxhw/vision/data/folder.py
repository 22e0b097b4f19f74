"""Class folders of images: DIR/class/*.png, or DIR/train/class/*.png beside DIR/test/..., or DIR/domain/class/*.png."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxhw.errors import UserError
from jaxhw.vision.data.images import LazyImages, fit, fits
from jaxhw.vision.data.splits import split_validation

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
TEST_FOLDERS = ("test", "val", "valid", "validation")
Files = tuple[list[Path], np.ndarray, list[str]]  # paths, labels int32 [n], class names
Loaded = tuple[np.ndarray | LazyImages, np.ndarray, list[str]]  # images [n, h, w, 3], labels int32 [n], class names


def load_folder(root: str, split: str, image_size: int | None, memory_limit: int | None) -> Loaded:
    """Loads one split of a folder; see `jaxhw.vision.data.datasets.load`."""
    return decode(*find_images(Path(root).expanduser(), split), image_size, memory_limit)


def load_domains(where: str, split: str, image_size: int | None, memory_limit: int | None) -> Loaded:
    """Loads one split of a set of domains, `DIR` or `DIR:photo,sketch`; see `jaxhw.vision.data.datasets.load`."""
    return decode(*find_domains(where, split), image_size, memory_limit)


def decode(
    paths: list[Path], labels: np.ndarray, names: list[str], image_size: int | None, memory_limit: int | None
) -> Loaded:
    """(images, labels, names), the images in memory if they fit."""
    size = image_size or common_size(paths)
    images = LazyImages(lambda i: read_image(paths[i], size), len(paths), size)
    in_memory = fits(images.nbytes, memory_limit)
    return images[np.arange(len(images))] if in_memory else images, labels, names


def find_images(root: Path, split: str) -> Files:
    """Lists a split's image files, their labels (int32, by class name in sorted order) and the class names."""
    if not root.is_dir():
        raise UserError(f"folder:{root}: there is no such directory")
    # A folder that is cut already: train/ beside one for testing.
    present = [path.name for path in subfolders(root)]
    test = next((name for name in TEST_FOLDERS if name in present), None)
    # A lone "train" beside other folders is a class of trains.
    if "train" in present and (test or present == ["train"]):
        if test is None:
            raise UserError(
                f"folder:{root} has train/ but no test/ or val/: add one, or use folder:{root}/train, "
                "from which a fifth is cut for testing"
            )
        check_same_classes(root / "train", root / test)
        return scan(root / ("train" if split == "train" else test))

    # A folder of classes: a fifth of each is cut for testing, always the same images.
    paths, labels, names = scan(root)
    try:
        kept = split_validation(labels, 0.2, seed=0)[0 if split == "train" else 1]
    except UserError as error:
        raise UserError(f"folder:{root}: {error}") from error
    return [paths[i] for i in kept], labels[kept], names


def find_domains(where: str, split: str) -> Files:
    """Lists a split's images of the domains that `where` names; a fifth of each class of each domain is for testing."""
    # Which domains, and that they have the same classes.
    folder, _, chosen = where.partition(":")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"domains:{root}: there is no such directory")
    present = [path.name for path in subfolders(root)]
    domains = chosen.split(",") if chosen else present
    if not domains or (odd := sorted(set(domains) - set(present))):
        raise UserError(f"domains:{root} has the domains {', '.join(present) or '(none)'}, not {', '.join(odd)}")
    for domain in domains:
        check_same_classes(root / domains[0], root / domain)
    # Each domain is cut by itself, so that every one is tested in proportion.
    paths, labels = [], []
    for domain in domains:
        found, of_domain, names = scan(root / domain)
        kept = split_validation(of_domain, 0.2, seed=0)[0 if split == "train" else 1]
        paths += [found[i] for i in kept]
        labels.append(of_domain[kept])
    return paths, np.concatenate(labels), names


def scan(folder: Path) -> Files:
    """Lists the images in `folder`'s class folders; other files are ignored."""
    classes = subfolders(folder)
    if not classes:
        raise UserError(f"folder:{folder} has no class folders: expected {folder}/CLASS/*.png, one folder per class")
    # A class's label is its position among the sorted names.
    paths, labels = [], []
    for label, path in enumerate(classes):
        found = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
        if not found:
            raise UserError(f"class folder {path} holds no images: add some (png, jpg, webp, ...) or remove the folder")
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, np.int32), [path.name for path in classes]


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in `folder`, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def check_same_classes(train: Path, test: Path) -> None:
    """Raises a UserError unless two folders have class folders of the same names."""
    a, b = ({path.name for path in subfolders(folder)} for folder in (train, test))
    if odd := sorted(a ^ b):
        raise UserError(
            f"{train} and {test} must have the same class folders: {', '.join(odd[:5])} "
            f"{'is' if len(odd) == 1 else 'are'} in only one of them ({len(odd)} in all)"
        )


def read_image(path: Path, size: int) -> np.ndarray:
    """Decodes one file to uint8 [size, size, 3]; UserError names a file that cannot be read."""
    return _open(path, lambda image: fit(image, size))


def common_size(paths: list[Path]) -> int:
    """The side of the images when all are one square size, read from their headers alone; UserError otherwise."""
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda path: _open(path, lambda image: image.size), paths))
    # The first that differs from the first of all is named, so that it can be looked at.
    width, height = sizes[0]
    odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is not None:
        other = "{}x{}".format(*sizes[odd])
        raise UserError(
            f"images of varying sizes ({paths[0]} is {width}x{height}, {paths[odd]} is {other}): set config.image_size"
        )
    if width != height:
        raise UserError(f"the images in {paths[0].parent} are {width}x{height}, not square: set config.image_size")
    return width


def _open(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    """What `use` makes of an image file; a UserError that names it where it cannot be read."""
    try:
        with Image.open(path) as image:
            return use(image)
    except Exception as error:  # a damaged file makes PIL raise nearly anything, from SyntaxError to struct.error
        raise UserError(f"cannot read image {path}: {str(error) or type(error).__name__}") from error

"""Folders of images: DIR/class/*.png, or DIR/train/class/*.png beside DIR/test/..., or DIR/domain/class/*.png.

A folder with pictures and no class folders is a set without labels.
"""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxhw.decoding import Levels, open_picture
from jaxhw.errors import UserError
from jaxhw.vision.data.images import LazyImages, fit, fits
from jaxhw.vision.data.listing import Listing, list_pictures
from jaxhw.vision.data.splits import split_validation

VALIDATION_FOLDERS = ("val", "valid", "validation")
TEST_FOLDERS = ("test", *VALIDATION_FOLDERS)  # without test/, validation images are what is tested on
LOOKED_AT = 64  # pictures of a set that stays on disk, for the levels of 16-bit grey
Loaded = tuple[np.ndarray | LazyImages, np.ndarray, list[str]]  # images [n, h, w, 3], labels int32 [n], class names


class Files(NamedTuple):
    """n image files of a split.

    Attributes:
      labels: int32 [n], positions among the names; -1 in a set without labels.
      left_out: how many files were not taken, by the reason.
      lacking: the classes that this split has no image of.
    """

    paths: list[Path]
    labels: np.ndarray
    names: list[str]
    left_out: Counter[str]
    lacking: tuple[str, ...] = ()

    def subset(self, indices: np.ndarray) -> "Files":
        return self._replace(paths=[self.paths[i] for i in indices], labels=self.labels[indices])


def load_folder(where: str, split: str, image_size: int | None, memory_limit: int | None, levels: Levels) -> Loaded:
    """Loads one split of a folder; see `jaxhw.vision.data.datasets.load`."""
    return decode(find_images(where, split), f"folder:{where}, {split}", image_size, memory_limit, levels)


def load_domains(where: str, split: str, image_size: int | None, memory_limit: int | None, levels: Levels) -> Loaded:
    """Loads one split of a set of domains, `DIR` or `DIR:photo,sketch`; see `jaxhw.vision.data.datasets.load`."""
    return decode(find_domains(where, split), f"domains:{where}, {split}", image_size, memory_limit, levels)


def decode(files: Files, what: str, image_size: int | None, memory_limit: int | None, levels: Levels) -> Loaded:
    """(images, labels, names), the images in memory if they fit; says in a line what there is and what is left out."""
    if jax.process_index() == 0:
        print(summary(files, what), file=sys.stderr)
    size = image_size or common_size(files.paths)
    images = LazyImages(lambda i: read_image(files.paths[i], size, levels), len(files.paths), size)
    if fits(images.nbytes, memory_limit):
        return images[np.arange(len(images))], files.labels, files.names
    # Images that are read at each use have shown no levels yet: some tell of all.
    for i in np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images)), dtype=int):
        open_picture(files.paths[i], levels.to_8_bits)
    return images, files.labels, files.names


def summary(files: Files, what: str) -> str:
    """ "WHAT: N images, K classes; none of CLASS; M files left out (why)"."""
    classes = f"{len(files.names)} classes" if files.names else "no labels"
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(files.left_out.items()))
    left_out = f"; {files.left_out.total()} files left out ({why})" if files.left_out else ""
    lacking = f"; none of {', '.join(files.lacking)}" if files.lacking else ""
    return f"{what}: {len(files.paths)} images, {classes}{lacking}{left_out}"


def find_images(where: str, split: str) -> Files:
    """Lists a split's image files, their labels (by class name in sorted order) and the class names."""
    root = Path(where).expanduser()
    if not root.is_dir():
        raise UserError(f"folder:{root}: there is no such directory; if it was moved, name its new place")
    # A folder that is cut already: train/ beside one for testing, in whatever case.
    present = {path.name.lower(): path for path in subfolders(root)}
    test = next((present[name] for name in TEST_FOLDERS if name in present), None)
    # A lone "train" beside other folders is a class of trains.
    if "train" in present and (test or len(present) == 1):
        if test is None:
            raise UserError(
                f"folder:{root} has train/ but no test/ or val/: add one, or use folder:{present['train']}, "
                "from which a fifth is cut for testing"
            )
        names = [path.name for path in subfolders(present["train"])]
        _check_test_classes(test, names)  # whichever split is asked for: nobody wants to hear of it after training
        if split == "val":
            return _scan_test(validation_folder(where), names)
        if split == "all":
            return _joined(scan(present["train"]), _scan_test(test, names))
        return scan(present["train"]) if split == "train" else _scan_test(test, names)

    # A folder of classes: a fifth of each is cut for testing, always the same images.
    files = scan(root)
    if not files.names or split == "all":
        return files
    try:
        kept = split_validation(files.labels, 0.2, seed=0)[0 if split == "train" else 1]
    except UserError:
        raise UserError(
            f"folder:{root} has {len(files.paths)} images in {len(files.names)} classes, too few to cut a fifth for "
            "testing, as both sides need some: add images, or give it train/ and test/"
        ) from None
    return files.subset(kept)


def validation_folder(where: str) -> Path | None:
    """The folder of validation images beside train/ and test/, if there are all three."""
    root = Path(where).expanduser()
    present = {path.name.lower(): path for path in subfolders(root)} if root.is_dir() else {}
    found = next((present[name] for name in VALIDATION_FOLDERS if name in present), None)
    return found if {"train", "test"} <= present.keys() else None


def find_domains(where: str, split: str) -> Files:
    """Lists a split's images of the domains that `where` names; a fifth of each class of each domain is for testing."""
    # Which domains, and that they have the same classes.
    folder, _, chosen = where.partition(":")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"domains:{root}: there is no such directory; if it was moved, name its new place")
    present = [path.name for path in subfolders(root)]
    domains = chosen.split(",") if chosen else present
    if not domains or (odd := sorted(set(domains) - set(present))):
        raise UserError(f"domains:{root} has the domains {', '.join(present) or '(none)'}, not {', '.join(odd)}")
    for domain in domains:
        _check_same_classes(root / domains[0], root / domain)
    # Each domain is cut by itself, so that every one is tested in proportion.
    paths, labels, left_out = [], [], Counter()
    for domain in domains:
        found = scan(root / domain)
        if not found.names:
            raise UserError(f"folder:{root / domain} has no class folders: a domain is a folder of class folders")
        kept = found
        if split != "all":
            kept = found.subset(split_validation(found.labels, 0.2, seed=0)[0 if split == "train" else 1])
        paths += kept.paths
        labels.append(kept.labels)
        left_out += found.left_out
    return Files(paths, np.concatenate(labels), found.names, left_out)


def scan(folder: Path) -> Files:
    """Lists the images in `folder`'s class folders; those of a folder without any are a set without labels."""
    classes = subfolders(folder)
    if not classes:
        pictures, left_out = list_pictures(folder)
        if not pictures:
            raise UserError(
                f"folder:{folder} has no class folders and no images: expected {folder}/CLASS/*.png, a folder per class"
            )
        return Files(pictures, np.full(len(pictures), -1, np.int32), [], left_out)
    # A class's label is its position among the sorted names.
    paths, labels, left_out = [], [], Counter()
    for label, path in enumerate(classes):
        found = list_pictures(path)
        left_out += found.left_out
        if not found.pictures:
            raise UserError(f"class folder {path} holds no images: add some (png, jpg, webp, ...) or remove the folder")
        paths += found.pictures
        labels += [label] * len(found.pictures)
    beside = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if beside:
        left_out["beside the class folders"] += len(beside)
    return Files(paths, np.array(labels, np.int32), [path.name for path in classes], left_out)


def _check_test_classes(folder: Path, names: list[str]) -> None:
    """Raises a UserError for classes of the test split that the training set has no label for."""
    if odd := sorted({path.name for path in subfolders(folder)} - set(names)):
        raise UserError(
            f"{folder} has class folders that {folder.parent}'s training set lacks: {', '.join(odd[:5])} "
            f"({len(odd)} in all); they could never be predicted: move them out"
        )


def _joined(one: Files, other: Files) -> Files:
    """The files of two parts of a set with the same class names."""
    labels = np.concatenate([one.labels, other.labels])
    return Files(one.paths + other.paths, labels, one.names, one.left_out + other.left_out)


def _scan_test(folder: Path, names: list[str]) -> Files:
    """The test split's images under the training set's labels; it may lack classes."""
    classes = {path.name: path for path in subfolders(folder)}
    paths, labels, left_out, lacking = [], [], Counter(), []
    for label, name in enumerate(names):
        found = list_pictures(classes[name]) if name in classes else Listing([], Counter())
        paths += found.pictures
        labels += [label] * len(found.pictures)
        left_out += found.left_out
        lacking += [] if found.pictures else [name]
    if not paths:
        raise UserError(
            f"{folder} holds no images of the classes {', '.join(names[:5])}: add some, or remove the folder"
        )
    return Files(paths, np.array(labels, np.int32), names, left_out, tuple(lacking))


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in `folder`, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _check_same_classes(first: Path, second: Path) -> None:
    """Raises a UserError unless two domains have class folders of the same names."""
    a, b = ({path.name for path in subfolders(folder)} for folder in (first, second))
    if odd := sorted(a ^ b):
        raise UserError(
            f"{first} and {second} must have the same class folders: {', '.join(odd[:5])} "
            f"{'is' if len(odd) == 1 else 'are'} in only one of them ({len(odd)} in all)"
        )


def read_image(path: Path, size: int, levels: Levels | None = None) -> np.ndarray:
    """Decodes one file to uint8 [size, size, 3]; UserError names a file that cannot be read."""
    return open_picture(path, lambda image: fit(image, size, levels))


def common_size(paths: list[Path]) -> int:
    """The side of the images when all are one square size, read from their headers alone; UserError otherwise."""
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda path: open_picture(path, lambda image: image.size), paths))
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

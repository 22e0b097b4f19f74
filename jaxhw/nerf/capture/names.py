"""Names of pictures that every reader takes: of A-Z, a-z, 0-9, ".", "_" and "-", and different also without case.

COLMAP's text files separate names by spaces, and many disks don't tell IMG_1.jpg from img_1.JPG.
"""

import re
from pathlib import PurePath

LONGEST = 100  # characters of a part of a path


class Names:
    """Gives each photo a name of its own, and the photos of one folder the same folder."""

    def __init__(self):
        self._folders: dict[tuple[str, ...], str] = {}  # by the parts of their original path
        self._taken: set[str] = set()

    def stem(self, path: PurePath) -> str:
        """The new path of a photo, without its suffix: "phone/IMG_1", or "phone/IMG_1_2" if that is taken.

        The suffix does not count, since a photo may be written as another kind of file: of IMG_1.HEIC and IMG_1.JPG,
        which phones save together, one must not overwrite the other, nor share its mask.
        """
        return free(self._folder(path.parent.parts) + plain(path.stem), self._taken)

    def _folder(self, parts: tuple[str, ...]) -> str:
        """The new path of a folder with "/" at its end; "" for the uppermost one."""
        if not parts:
            return ""
        if parts not in self._folders:
            # A folder whose name ends like a picture's could be in the way of that picture.
            name = re.sub(r"\.(?=[a-z]+$)", "_", plain(parts[-1]), flags=re.IGNORECASE)
            self._folders[parts] = free(self._folder(parts[:-1]) + name, self._taken) + "/"
        return self._folders[parts]


def free(name: str, taken: set[str]) -> str:
    """The name, with a number at its end if it is taken, in any case of its letters; takes it."""
    result, number = name, 1
    while result.lower() in taken:
        number += 1
        result = f"{name}_{number}"
    taken.add(result.lower())
    return result


def plain(text: str) -> str:
    """The text with "_" for each character that a name must not have."""
    text = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:LONGEST]
    # Names that are hidden, look like an option, lose their end on Windows, or are empty.
    return re.sub(r"^[.-]|[.]$|^$", "_", text)

"""What became of each frame of a video, and of each file of a folder of photos."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kept:
    """A picture that was written.

    Attributes:
      name: its path below the folder of pictures, with "/": "00012.jpg", or "phone/IMG_1.jpg" where cameras differ.
      source: where it came from: "toy.mp4 at 3.42 s", or the photo's path relative to the folder that was given.
      sharpness: the variance of its Laplacian, see `sharpness.measure`.
      blurry: whether it is far less sharp than the pictures that it is compared with, see `sharpness.blurry`.
      size: (width, height) in pixels, upright.
    """

    name: str
    source: str
    sharpness: float
    blurry: bool
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A frame or a file that was not kept.

    Attributes:
      source: as `Kept.source`; "toy.mp4 after 5.30 s" for the part of a video that cannot be decoded.
      reason: a few words, such as "less sharp than 00012.jpg 0.10 s later", "cannot be read: ...", "no picture (.txt)".
    """

    source: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Frames:
    """All pictures of a capture, in the order of their names: for a video, the order of time.

    Attributes:
      video: whether the pictures are frames of one video, so that those that follow each other show the same things.
    """

    kept: list[Kept]
    rejected: list[Rejected]
    video: bool

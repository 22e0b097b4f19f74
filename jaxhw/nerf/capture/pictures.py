"""The report's pictures: cameras around the points, a contact sheet, and where well-seen points are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from jaxhw.decoding import open_picture
from jaxhw.nerf.cameras.normalise import normalise, up_direction
from jaxhw.nerf.capture.findings import Picture
from jaxhw.nerf.scenes.formats import colmap, colmap_model
from jaxhw.ornament import INK, drawn

THUMBNAIL, GAP, NAME, MOST = 120, 6, 18, 400  # a contact sheet's pixels of a picture, between two, of a name; pictures
POINT, CAMERA = "#0072B2", "#D55E00"
COLOURS = {"no pose": (213, 94, 0), "blurred": (230, 159, 0)}
SHOWN, LABELS, WIDTH = 4, 14, 900  # pictures with points, points in each, and their width in pixels


def cameras(out: Path) -> None:
    """report/cameras.png: points and cameras from above and from the side, upright as well as the cameras tell."""
    path = out / "report" / "cameras.png"
    with drawn(path):
        frames = colmap.read(out).frames
        poses = np.stack([frame.pose for frame in frames])
        placed = normalise(poses, up_direction(poses))
        points = _moved(colmap_model.points(out / "sparse" / "0"), placed.to_old)
        reach = 1.3 * np.abs(placed.poses[:, :, 3]).max()
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        for place, (title, axes) in enumerate({"from above": (0, 1), "from the side": (0, 2)}.items(), 1):
            panel = figure.add_subplot(1, 2, place, aspect="equal", title=title)
            _scatter(panel, placed.poses, points, axes, reach)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=110)


def _moved(points: np.ndarray, to_old: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(to_old)
    return points @ inverse[:3, :3].T + inverse[:3, 3]


def _scatter(panel: Any, poses: np.ndarray, points: np.ndarray, axes: tuple[int, int], reach: float) -> None:
    near = points[(np.abs(points) < reach).all(1)]
    panel.scatter(*near[:, axes].T, s=1.5, color=POINT, linewidths=0, label="points")
    places, ahead = poses[:, :, 3][:, axes], poses[:, :, 2][:, axes] * 0.12 * reach
    panel.quiver(
        *places.T, *ahead.T, color=CAMERA, angles="xy", scale_units="xy", scale=1, width=0.004, label="cameras"
    )
    panel.set(xlim=(-reach, reach), ylim=(-reach, reach))
    panel.tick_params(colors=INK)
    panel.legend(loc="upper right", frameon=False)


def contact_sheet(out: Path, pictures: Sequence[Picture]) -> None:
    """report/contact_sheet.jpg: every picture small, those without a pose and those that are blurred framed."""
    path = out / "report" / "contact_sheet.jpg"
    with drawn(path):
        chosen = pictures[:: -(-len(pictures) // MOST)]
        thumbnails = [open_picture(out / "images" / picture.name, _thumbnail) for picture in chosen]
        columns = min(12, len(chosen))
        width, height = THUMBNAIL + GAP, max(small.height for small in thumbnails) + NAME
        sheet = Image.new("RGB", (columns * width + GAP, -(-len(chosen) // columns) * height + GAP), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
        for i, (picture, small) in enumerate(zip(chosen, thumbnails, strict=True)):
            x, y = GAP + i % columns * width, GAP + i // columns * height
            sheet.paste(small, (x, y))
            draw.text((x, y + small.height), picture.name[-18:], INK, font)
            mark = "no pose" if not picture.registered else "blurred" if picture.blurry else ""
            if mark:
                corners = (x - 2, y - 2, x + small.width + 1, y + small.height + 1)
                draw.rectangle(corners, outline=COLOURS[mark], width=4)
                draw.text((x + 6, y + 4), mark, COLOURS[mark], font, stroke_width=2, stroke_fill="white")
        path.parent.mkdir(exist_ok=True)
        sheet.save(path, quality=85)


def _thumbnail(image: Image.Image) -> Image.Image:
    image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def points(out: Path, well_seen: Sequence[Mapping[str, Any]]) -> None:
    """report/points.jpg: a few pictures, as different as can be, with the ids of well-seen points."""
    path = out / "report" / "points.jpg"
    with drawn(path):
        by_picture: dict[str, dict[int, tuple[float, float]]] = {}
        for point in well_seen:
            for name, x, y in point["seen"]:
                by_picture.setdefault(name, {})[point["id"]] = (x, y)
        panels, told = [], set()
        for _ in range(SHOWN):
            # The picture that shows most of the points that no other one has shown yet.
            name = max(by_picture, key=lambda n: (len(by_picture[n].keys() - told), n), default=None)
            if name is None or not by_picture[name].keys() - told:
                break
            panels.append(_labelled(out / "images" / name, by_picture[name], told))
        _beside(panels).save(_made(path), quality=88)


def _labelled(path: Path, places: Mapping[int, tuple[float, float]], told: set[int]) -> Image.Image:
    """A picture with the ids of points far apart from each other, new ones first; adds them to `told`."""
    image = open_picture(path, lambda opened: opened.convert("RGB"))
    scale = WIDTH / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    draw, font, taken = ImageDraw.Draw(image), ImageFont.load_default(14), []
    for number in sorted(places, key=lambda n: n in told):
        x, y = (value * scale for value in places[number])
        if len(taken) < LABELS and all(abs(x - a) > 90 or abs(y - b) > 40 for a, b in taken):
            taken.append((x, y))
            told.add(number)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline=COLOURS["no pose"], width=2)
            draw.text((x + 7, y - 8), str(number), "white", font, stroke_width=2, stroke_fill="black")
    return image


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    """Pictures in two columns."""
    width, height = (max(p.size[i] for p in panels) + GAP for i in (0, 1))
    sheet = Image.new("RGB", (width * min(2, len(panels)), height * -(-len(panels) // 2)), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i % 2 * width, i // 2 * height))
    return sheet


def _made(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return path

"""A corner of a room with random wallpaper, photographed by cameras that are known: for COLMAP to find them again."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import map_coordinates

from jaxhw.nerf.cameras.cameras import Cameras, pixel_centres, rays_through

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0


def cameras(count: int = 12) -> Cameras:
    """On an arc of 75 degrees around the corner, 4 away from a point near it."""
    angle = np.radians(np.linspace(8, 83, count))
    target = np.array([0.7, 0.7, 0.7])
    eyes = target + 4 * np.stack([np.cos(angle) * 0.9, np.sin(angle) * 0.9, 0.35 + 0.1 * np.sin(5 * angle)], -1)
    forward = (target - eyes) / np.linalg.norm(target - eyes, axis=1, keepdims=True)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    pose = np.stack([right, np.cross(forward, right), forward, eyes], -1).astype(np.float32)
    flat = np.ones((count, 2), np.float32)
    return Cameras(
        pose=pose, focal=flat * FOCAL, centre=flat * np.float32([WIDTH / 2, HEIGHT / 2]),
        distortion=np.zeros((count, 4), np.float32), size=np.full((count, 2), (WIDTH, HEIGHT), np.int32),
    )  # fmt: skip


def photograph(folder: Path, count: int = 12, suffix: str = ".png", seed: int = 0) -> Cameras:
    """Writes a picture for each camera, named by its number; `seed` is that of the wallpaper."""
    folder.mkdir(parents=True, exist_ok=True)
    found = cameras(count)
    rng = np.random.default_rng(seed)
    papers = [
        np.asarray(Image.fromarray(rng.integers(0, 255, (160, 160, 3), np.uint8)).resize((800, 800)).filter(
            ImageFilter.GaussianBlur(1)
        ))
        for _ in range(3)
    ]  # fmt: skip
    for i in range(count):
        origins, directions = (np.asarray(a) for a in rays_through(found[i], pixel_centres(WIDTH, HEIGHT)))
        image = _look(origins, directions, papers).reshape(HEIGHT, WIDTH, 3)
        Image.fromarray(image).save(folder / f"{i:03d}{suffix}", quality=95)
    return found


def _look(origins: np.ndarray, directions: np.ndarray, papers: list[np.ndarray]) -> np.ndarray:
    """uint8 [r, 3]: the paper of the first of the walls x = 0, y = 0 and the floor z = 0 that a ray meets."""
    with np.errstate(divide="ignore"):
        distance = np.where(directions < 0, -origins / directions, np.inf)
    wall = distance.argmin(1)
    points = origins + directions * distance.min(1, keepdims=True)
    colours = np.zeros(points.shape, np.uint8)
    for axis, paper in enumerate(papers):
        own = wall == axis
        place = np.delete(points[own], axis, 1).T * 150
        for channel in range(3):
            colours[own, channel] = map_coordinates(paper[..., channel], place, order=1, mode="wrap")
    return colours

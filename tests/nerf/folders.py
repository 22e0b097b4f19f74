"""Small scene folders in every format, all with the same cameras and pictures."""

import json

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

N, WIDTH, HEIGHT, FOCAL = 9, 16, 12, 20.0
CENTRE = (8.5, 5.5)
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def poses(n=N):
    """[n, 4, 4] camera to world in OpenCV's axes: a ring of radius 3 around (0.3, -0.2, 0.5), 0.5 above it."""
    azimuth = 2 * np.pi * np.arange(n) / n
    out = np.stack([np.cos(azimuth), np.sin(azimuth), np.full(n, 1 / 6)], 1)
    z = -out / np.linalg.norm(out, axis=1, keepdims=True)
    x = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros(n)], 1)
    result = np.tile(np.eye(4), (n, 1, 1))
    result[:, :3] = np.stack([x, np.cross(z, x), z, 3 * out + [0.3, -0.2, 0.5]], 2)
    return result


def pictures(n=N, channels=3):
    return np.random.default_rng(0).integers(0, 256, (n, HEIGHT, WIDTH, channels), dtype=np.uint8)


def mixed_sizes(n=N, scale=1):
    """[n, 2] width and height: landscapes, portraits and landscapes of half the resolution, by turns."""
    sizes = np.array([(WIDTH, HEIGHT), (HEIGHT, WIDTH), (WIDTH // 2, HEIGHT // 2)])
    return scale * sizes[np.arange(n) % 3]


def mixed_pictures(n=N, channels=3, scale=1):
    """Pictures of `mixed_sizes`."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (h, w, channels), dtype=np.uint8) for w, h in mixed_sizes(n, scale)]


def save(folder, names, images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)


def names(n=N):
    return [f"{i:03d}.png" for i in range(n)]


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_blender(folder, counts=(5, 1, 3)):
    matrices, images, start = poses(sum(counts)), pictures(sum(counts), 4), 0
    for split, n in zip(("train", "val", "test"), counts, strict=True):
        rows = range(start, start + n)
        save(folder / split, [f"r_{i}.png" for i in range(n)], images[list(rows)])
        frames = [
            {"file_path": f"./{split}/r_{k}", "transform_matrix": (matrices[i] @ OPENGL).tolist()}
            for k, i in enumerate(rows)
        ]
        content = {"camera_angle_x": 2 * np.arctan(0.5 * WIDTH / FOCAL), "frames": frames}
        write_json(folder / f"transforms_{split}.json", content)
        start += n
    return folder


def transforms(**changes):
    """The content of a transforms.json; `changes` replace or add keys."""
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": (pose @ OPENGL).tolist()}
        for name, pose in zip(names(), poses(), strict=True)
    ]
    intrinsics = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": CENTRE[0], "cy": CENTRE[1]}
    return {**intrinsics, "frames": frames, **changes}


def write_transforms(folder, **changes):
    save(folder / "images", names(), pictures())
    write_json(folder / "transforms.json", transforms(**changes))
    return folder


def write_mixed(folder, scale=1):
    """A transforms.json of cameras with `mixed_sizes`, their focal length the pictures' width."""
    content = transforms()
    for entry, (w, h) in zip(content["frames"], mixed_sizes(scale=scale).tolist(), strict=True):
        entry.update(w=w, h=h, fl_x=w, fl_y=w, cx=w / 2, cy=h / 2)
    save(folder / "images", names(), mixed_pictures(scale=scale))
    write_json(folder / "transforms.json", content)
    return folder


def write_llff(folder):
    save(folder / "images", names(), pictures())
    rows = []
    for pose in poses():
        right, down, forward, position = pose[:3].T
        matrix = np.stack([down, right, -forward, position, [HEIGHT, WIDTH, FOCAL]], 1)
        rows.append([*matrix.ravel(), 1.0, 10.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


def write_colmap_text(folder, listed=None, camera="PINHOLE 16 12 20 20 8.5 5.5"):
    """A model in text, written without pycolmap; `listed` are the names that it gives its images."""
    save(folder / "images", names(), pictures())
    lines = ["# Image list"]
    for i, name in enumerate(listed or names()):
        to_camera = np.linalg.inv(poses()[i])
        x, y, z, w = Rotation.from_matrix(to_camera[:3, :3]).as_quat()
        numbers = " ".join(repr(float(v)) for v in (w, x, y, z, *to_camera[:3, 3]))
        lines += [f"{i + 1} {numbers} 1 {name}", "" if i % 2 else "1.0 2.0 -1"]
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "images.txt").write_bytes("\n".join([*lines, ""]).encode(errors="surrogateescape"))
    (model / "cameras.txt").write_text(f"# Camera list\n1 {camera}\n")
    return folder


def write_colmap(
    folder, binary=True, model="OPENCV", parameters=(FOCAL, FOCAL, *CENTRE, 0.1, 0.02, 0.001, 0.0), count=N, cameras=1
):
    """A model of the first `count` cameras in sparse/0; with `cameras=2`, every other one is a portrait's."""
    import pycolmap

    save(folder / "images", names(), pictures())
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=list(parameters), camera_id=1)
    reconstruction.add_camera_with_trivial_rig(camera)
    if cameras == 2:
        turned = [FOCAL, FOCAL, *CENTRE[::-1]]
        portrait = pycolmap.Camera(model="PINHOLE", width=HEIGHT, height=WIDTH, params=turned, camera_id=2)
        reconstruction.add_camera_with_trivial_rig(portrait)
    for i in reversed(range(count)):  # not in the order of their names
        to_camera = np.linalg.inv(poses()[i])[:3]
        image = pycolmap.Image(name=names()[i], camera_id=1 + i % cameras, image_id=i + 1)
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(to_camera))
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    (reconstruction.write_binary if binary else reconstruction.write_text)(str(sparse))
    return folder


def write_points(folder, points, model="sparse/0"):
    """Points [k, 3] for the COLMAP model of a scene, in text."""
    lines = [f"{i} {x!r} {y!r} {z!r} 1 2 3 0.5 1 2" for i, (x, y, z) in enumerate(np.asarray(points).tolist())]
    (folder / model / "points3D.txt").write_text("\n".join(["# Points", *lines, ""]))
    return folder

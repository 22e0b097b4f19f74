"""A point cloud as a file: a .ply for other programs, or an .npz.

Both hold the arrays of a `Cloud` by its names; a .ply each as columns.
"""

from pathlib import Path

import numpy as np

from jaxhw import files
from jaxhw.nerf.results.points import Cloud

# The names of the arrays' columns in a PLY file, as MeshLab, CloudCompare and Blender know them.
COLUMNS = {
    "points": ("x", "y", "z"),
    "normals": ("nx", "ny", "nz"),
    "colours": ("red", "green", "blue"),
    "observers": ("observers",),
    "spread": ("colour_spread",),
}
KINDS = {"float32": "float", "uint8": "uchar", "int32": "int"}


def write(path: Path, cloud: Cloud, uncertainty: bool = False) -> None:
    """Writes a .ply (binary) or .npz; with `uncertainty`, also the observers and the spread of their colours."""
    arrays = {"points": cloud.points, "normals": cloud.normals, "colours": cloud.colours}
    if uncertainty:
        arrays |= {"observers": cloud.observers, "spread": cloud.spread}
    with files.complete(path) as partial:
        if path.suffix == ".npz":
            np.savez_compressed(partial, **arrays)
        else:
            partial.write_bytes(_ply(arrays))


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `write` made, by name; of another program's .ply, what it has of them.

    Raises:
      OSError, ValueError, KeyError: the file is damaged, or has no points.
    """
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    import trimesh

    table = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]
    found = {name: columns for name, columns in COLUMNS.items() if set(columns) <= set(table.dtype.names)}
    arrays = {name: np.stack([table[column].ravel() for column in columns], -1) for name, columns in found.items()}
    return {name: array if array.shape[1] > 1 else array[:, 0] for name, array in arrays.items()}


def _ply(arrays: dict[str, np.ndarray]) -> bytes:
    columns = [
        (column, KINDS[array.dtype.name], values)
        for name, array in arrays.items()
        for column, values in zip(COLUMNS[name], array.reshape(len(array), -1).T, strict=True)
    ]
    count = len(arrays["points"])
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property {kind} {column}" for column, kind, _ in columns]
    table = np.empty(count, [(column, values.dtype.newbyteorder("<")) for column, _, values in columns])
    for column, _, values in columns:
        table[column] = values
    return "\n".join([*header, "end_header", ""]).encode() + table.tobytes()

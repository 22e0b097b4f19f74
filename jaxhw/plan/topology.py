"""Slices of TPUs by name, `v5e:2x4`: what their chips can do, and devices that exist as a description only."""

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jaxhw import mesh as meshes
from jaxhw.errors import UserError


class Chip(NamedTuple):
    """What a chip can do at most.

    Attributes:
      flops: operations a second, of products of bfloat16; those of float32 run as such by JAX's default.
      hbm: bytes.
      hbm_rate: bytes a second between the chip and its HBM.
      ici_rate: bytes a second to other chips, over all links.
      axes: of its slices' shapes.
      config: what libtpu calls the form in which a chip is one device.
    """

    flops: float
    hbm: float
    hbm_rate: float
    ici_rate: float
    axes: int
    config: str = "default"


GIB, GBIT = 2**30, 1e9 / 8
# Google's documentation, the key specifications in cloud.google.com/tpu/docs/v3, /v4, /v5e, /v5p and /v6e: peak compute
# per chip (bf16), HBM capacity and bandwidth, interchip interconnect bandwidth. Of v3 that is in Jouppi et al. (2020),
# four links of 656 Gbit/s; its chips are two devices, each with half of everything.
CHIPS = {
    "v3": Chip(123e12 / 2, 16 * GIB, 900e9 / 2, 2624 * GBIT / 2, axes=2),
    "v4": Chip(275e12, 32 * GIB, 1200e9, 2400 * GBIT, axes=3, config="megacore"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 1600 * GBIT, axes=2),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 4800 * GBIT, axes=3),
    "v6e": Chip(918e12, 32 * GIB, 1640e9, 3584 * GBIT, axes=2),
}
# libtpu asks the machine which TPU it is, and says at length that it is none; and it lets in one process at a time,
# which matters to those alone that compute on a TPU.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Slice:
    """Chips that work together.

    Attributes:
      name: "v5e:2x4".
      chip: what each can do.
      mesh: its devices as the mesh of a run.
    """

    name: str
    chip: Chip
    mesh: Mesh

    @property
    def chips(self) -> int:
        return self.mesh.size


def find(name: str, fsdp: int = 1) -> Slice:
    """The slice of a name, as the mesh of a run with this ``config.mesh.fsdp``.

    Raises:
      UserError: libtpu is not installed, there is no such slice, or ``fsdp`` does not divide it.
    """
    parts = re.fullmatch(r"(\w+):(\d+(?:x\d+)+)", name)
    if not parts or parts[1] not in CHIPS or parts[2].count("x") + 1 != CHIPS[parts[1]].axes:
        known = ", ".join(f"{chip}:{'x'.join('N' * spec.axes)}" for chip, spec in CHIPS.items())
        raise UserError(f"--topology={name}: no such slice; they are written {known}, such as v5e:2x4")
    chip, sides = CHIPS[parts[1]], [int(side) for side in parts[2].split("x")]
    devices = _devices(name, chip, alone=math.prod(sides) < 4)
    return Slice(name, chip, meshes.over(devices, fsdp))


def require_libtpu() -> None:
    """Raises a UserError unless the compiler for TPUs is installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("the compiler for TPUs is not installed: pip install 'jaxhw[tpu]'; it needs no TPU")


def _devices(name: str, chip: Chip, alone: bool) -> list[jax.Device]:
    """What libtpu says a slice consists of.

    Args:
      alone: whether each chip has a host of its own, as it must where there are fewer than a host's four.
    """
    require_libtpu()
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from jax.experimental import topologies

    hosts = {"chips_per_host_bounds": (1, 1, 1)} if alone else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, chip_config_name=chip.config, **hosts)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        line = str(error).splitlines()[0]
        what = "no such slice" if "INVALID_ARGUMENT" in line else "libtpu cannot be used"
        raise UserError(f"--topology={name}: {what}: {line}") from None
    return found.devices

"""What `config.model` may set of nerfacto, with nerfstudio's values as defaults."""

import dataclasses

from jaxhw.errors import UserError
from jaxhw.nerf.networks.appearance import UNKNOWN
from jaxhw.nerf.networks.hash_grid import LAYOUTS
from jaxhw.nerf.sampling.proposal import SPACINGS
from jaxhw.options import STEPS, Rule, above, at_least, below, each, one_of, option

POWER_OF_TWO = Rule("that is a power of two from 16 on", lambda n: n >= 16 and n & (n - 1) == 0)
BACKGROUNDS = ("last_sample", "scene")
DEPTHS = ("median", "expected")
NETWORKS, GRID = PROPOSALS = ("networks", "grid")
CENTRES = ("cameras", "subject")


@dataclasses.dataclass(frozen=True)
class HashOptions:
    """A multiresolution hash encoding; see :class:`jaxhw.nerf.networks.hash_grid.HashGrid`."""

    levels: int = option(16, "resolutions", at_least(1))
    features: int = option(2, "of each level", at_least(1))
    table_size: int = option(2**19, "rows of a hashed level", POWER_OF_TWO)
    coarsest: int = option(16, "cells along an edge of the first level", at_least(2))
    finest: int = option(2048, "cells along an edge of the last level", at_least(2))
    layout: str = option("hashed", "how vertices find their rows", one_of(*LAYOUTS))


@dataclasses.dataclass(frozen=True)
class ProposalOptions:
    """What finds where along a ray the field is sampled."""

    kind: str = option(NETWORKS, "hash grids with a network each, or one dense grid of densities", one_of(*PROPOSALS))
    samples: tuple[int, ...] = option((256, 96), "of each round", each(at_least(2)))
    finest: tuple[int, ...] = option((128, 256), "of networks: the finest level, a round each", each(at_least(16)))
    levels: int = option(5, "of networks", at_least(1))
    table_size: int = option(2**17, "of networks: rows of a level", POWER_OF_TWO)
    width: int = option(16, "of networks: the hidden layer's", at_least(1))
    layout: str = option("hashed", "of networks: how vertices find their rows", one_of(*LAYOUTS))
    voxels: int = option(128, "of a grid, along each axis", at_least(4))
    every: float = option(5.0, "steps that proposals rest after each that they learn in, in the end", at_least(1))
    warmup: float = option(5000.0, "until they rest so long", STEPS)
    anneal: float = option(1000.0, "until samples lie where proposals say", STEPS)


@dataclasses.dataclass(frozen=True)
class Options:
    """What `config.model` may set of the whole field."""

    hash: HashOptions = option(HashOptions(), "of positions")
    width: int = option(64, "of the density network's hidden layer", at_least(1))
    geometry: int = option(15, "features that the density network hands to the colour network", at_least(1))
    colour_widths: tuple[int, ...] = option((64, 64), "of the colour network's hidden layers", each(at_least(1)))
    proposal: ProposalOptions = option(ProposalOptions(), "where the field is sampled")
    samples: int = option(48, "of the field, a ray", at_least(2))
    shaded: float = option(
        0.0, "samples that get a colour, on average a ray: those of a weight above `threshold`; 0: all", at_least(0)
    )
    threshold: float = option(
        1e-3, "weight above which a sample gets a colour, where not all do", at_least(0), below(1)
    )
    appearance: int = option(32, "width of a picture's embedding; 0: none", at_least(0))
    unknown: str = option("mean", "embedding of pictures that were not trained on", one_of(*UNKNOWN))
    shifted_directions: bool = option(False, "whether harmonics see (d + 1) / 2, as nerfstudio's torch code has it")
    start_density: float = option(0.01, "of the field and its proposals at the start", above(0))
    spacing: str = option("piecewise", "of the first samples along a ray", one_of(*SPACINGS))
    centre: str = option(
        "cameras", "what unbounded space is contracted around: their mean, or subject", one_of(*CENTRES)
    )
    extent: float = option(1.0, "half edge of the cube that keeps its shape, over the farthest camera's", above(0))
    near: float = option(
        0.05, "where rays of a capture begin, in half edges of its cube; 0: by its format or points", at_least(0)
    )
    far: float = option(1000.0, "where rays end, in half edges, if the format does not say", above(0))
    reset_near: bool = option(True, "whether rays that are only rendered begin at 0, where near is set")
    box: float = option(0.372, "half edge of a bounded scene, over the cameras' distance from its middle", above(0))
    clip_to_box: bool = option(True, "whether rays of a bounded scene are sampled within its box only")
    background: str = option("last_sample", "behind the last sample: its colour, or the scene's", one_of(*BACKGROUNDS))
    depth: str = option("median", "where half of the weight is reached, or the mean", one_of(*DEPTHS))
    interlevel: float = option(1.0, "weight of the proposals' loss", at_least(0))
    distortion: float = option(0.002, "weight of the distortion loss", at_least(0))
    coarse_to_fine: float = option(0.0, "until the hash grid's finest level is in use; 0: from the start", STEPS)
    normals: bool = option(False, "whether normals are predicted, with the losses of Ref-NeRF")


def check(options: Options) -> None:
    """Raises a UserError for options that do not go together."""
    own = options.proposal
    if own.kind == NETWORKS and len(own.finest) != len(own.samples):
        raise UserError(
            f"config.model.proposal.finest={own.finest} must have a number for each round of "
            f"config.model.proposal.samples={own.samples}"
        )
    if options.hash.finest < options.hash.coarsest:
        raise UserError(
            f"config.model.hash.finest={options.hash.finest} must be at least coarsest={options.hash.coarsest}"
        )
    _check_columns("hash", options.hash.layout, options.hash.table_size, options.hash.finest)
    if own.kind == NETWORKS:
        _check_columns("proposal", own.layout, own.table_size, max(own.finest))


def _check_columns(where: str, layout: str, rows: int, finest: int) -> None:
    """Raises a UserError where one column of the finest level does not fit its table."""
    if layout == "column" and rows <= finest + 2:
        raise UserError(
            f"config.model.{where}.table_size={rows} must be above {finest + 2}, a column of the finest level, where "
            f"config.model.{where}.layout is column"
        )


def in_steps(value: float, steps: float) -> float:
    """A share of the run as a number of steps; numbers of steps stay."""
    return value * steps if 0 < value < 1 else value

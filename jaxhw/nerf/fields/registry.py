"""Radiance fields by name, from the values of a config.

A field is what a scene is learnt into. It has `metric_names`, `stages` (steps before which `grow` is called, see
`jaxhw.task.Task`), `init(rng) -> (params, state)`, where `state["step"]` counts the steps taken,
`loss(params, state, (origins, directions), colours, background, rng, mesh) -> (loss, (state, metrics))`, and
`render(params, state, origins, directions, background) -> (colours [r, 3], depths [r], opacities [r])`; `chunk` is how
many rays at a time a device should render.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxhw.errors import UserError
from jaxhw.nerf.fields.dvgo import stages
from jaxhw.nerf.fields.dvgo.field import DVGO, Phase
from jaxhw.nerf.fields.vanilla import Vanilla
from jaxhw.nerf.scenes.scene import FAR, NEAR, Scene

Field = DVGO | Vanilla

COARSE = {
    "voxels": 100**3, "stride": 0.5, "alpha": 1e-6, "threshold": 1e-7, "entropy": 0.01, "per_point": 0.1,
    "blocks": 24.0, "samples": 150.0, "shaded": 150.0,
}  # fmt: skip
FINE = {
    "voxels": 160**3, "stride": 0.5, "alpha": 1e-2, "threshold": 1e-4, "entropy": 0.001, "per_point": 0.01,
    "blocks": 16.0, "samples": 48.0, "shaded": 24.0,
}  # fmt: skip

POSITIVE = (lambda value: 0 < value < math.inf, "must be greater than 0")
NOT_NEGATIVE = (lambda value: 0 <= value < math.inf, "must be 0 or greater")
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("voxels", "stride", "blocks", "samples", "shaded", "channels", "longest", "inner"), POSITIVE),
    **dict.fromkeys(("width", "depth", "importance"), POSITIVE),
    **dict.fromkeys(("threshold", "entropy", "per_point", "coarse_steps", "tighten_every", "distortion"), NOT_NEGATIVE),
    **dict.fromkeys(("shell", "near", "decay", "skip", "noise"), NOT_NEGATIVE),
    **dict.fromkeys(("alpha", "min_opacity"), (lambda value: 0 < value < 1, "must be greater than 0 and less than 1")),
    "coverage": (lambda value: 0 <= value <= 1, "must be between 0 and 1"),
    "widths": (lambda value: len(value) and min(value) > 0, "must be one number or more, each greater than 0"),
    "total_variation": (lambda value: len(value) == 2 and min(value) >= 0, "must be two numbers, both 0 or greater"),
}


def options(name: str) -> dict[str, Any]:
    """The options of a field with the paper's values; see the attributes of its class."""
    if name == "vanilla":
        return {"width": 256, "depth": 8, "skip": 4, "samples": 64, "importance": 128, "noise": 0.0}
    if name == "dvgo":
        return {
            "coarse": COARSE,
            "fine": FINE,
            "coverage": 0.0,  # share of the cameras that must see what the coarse box holds; 0: any
            "inner": 1.0,  # half edge of an unbounded scene's inner cube over the cameras' farthest coordinate
            "near": 0.0,  # where rays begin, in the scene's units; 0: as the scene has it
            "coarse_steps": 5000,
            "grow_at": (1000, 2000, 3000, 4000),
            "decay": 1.0,
            "tighten_every": 1000,
            "inherit": False,
            "min_opacity": 1e-3,
            "channels": 12,
            "widths": (128, 128),
            "longest": 192,
            "total_variation": (0.0, 0.0),
            "distortion": 0.0,
            "shell": 0.2,  # of unbounded scenes
        }
    raise UserError(f"config.model.name={name!r} is unknown; choose one of dvgo, vanilla")


def create(values: Mapping[str, Any], scene: Scene, steps: int, seed: int, train: bool = True) -> Field:
    """The field for a scene.

    Args:
      values: `options` of the field with its "name".
      train: whether it will be trained; only then does it need its start, which takes seconds to make.
    """
    values = dict(values)
    name = values.pop("name")
    if unknown := sorted(set(values) - set(options(name))):
        raise UserError(f"config.model.{unknown[0]} is no option of {name}; its options: {', '.join(options(name))}")
    _check_numbers(values, "config.model")
    if name == "vanilla":
        if values["samples"] < 2:
            raise UserError(f"config.model.samples={values['samples']} must be 2 or more")
        if scene.unbounded and (scene.near, scene.far) == (NEAR, FAR):
            raise UserError("vanilla needs a scene with bounds: this capture names none; dvgo learns it (dvgo.py:fox)")
        return Vanilla(near=scene.near, far=scene.far, **values)
    coverage, inner, shell = values.pop("coverage"), values.pop("inner"), values.pop("shell") * scene.unbounded
    near = values.pop("near") or scene.near
    if near >= scene.far:
        raise UserError(f"config.model.near={near:g} must be less than {scene.far:g}, where the scene ends")
    phases = {phase: Phase(**values.pop(phase)) for phase in ("coarse", "fine")}
    if train:
        _check_stages(values, steps, bool(shell))
    field = DVGO(**phases, start=None, near=near, far=scene.far, steps=steps, seed=seed, shell=shell, **values)
    return stages.with_start(field, scene, coverage, inner) if train else field


def _check_numbers(values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _check_numbers(value, f"{where}.{name}")
        elif name in RULES and not RULES[name][0](value):
            raise UserError(f"{where}.{name}={value} {RULES[name][1]}")


def _check_stages(values: Mapping[str, Any], steps: int, unbounded: bool) -> None:
    if not (values["coarse_steps"] or unbounded):
        raise UserError(
            "config.model.coarse_steps=0 is for unbounded scenes: this one has bounds, so set it to 1 or more"
        )
    ends = [values["coarse_steps"] + step for step in (0, *values["grow_at"])]
    if ends != sorted(set(ends)) or ends[-1] >= steps:
        raise UserError(
            f"config.model.coarse_steps={values['coarse_steps']} and grow_at={values['grow_at']} must ascend and end "
            f"before the run's {steps} steps"
        )

"""Radiance fields by name, from the values of a config.

A field is what a scene is learnt into. It has `metric_names`, `stages` (steps before which `grow` is called, see
`jaxhw.task.Task`), `init(rng) -> (params, state)`, where `state["step"]` counts the steps taken,
`loss(params, state, (origins, directions), colours, background, rng, mesh) -> (loss, (state, metrics))`, and
`render(params, state, origins, directions, background) -> (colours [r, 3], depths [r], opacities [r])`.
"""

from collections.abc import Mapping
from typing import Any

from jaxhw.errors import UserError
from jaxhw.nerf import stages
from jaxhw.nerf.dvgo import DVGO, Phase
from jaxhw.nerf.scenes import Scene
from jaxhw.nerf.vanilla import Vanilla

Field = DVGO | Vanilla

COARSE = {
    "voxels": 100**3, "stride": 0.5, "alpha": 1e-6, "threshold": 1e-7, "entropy": 0.01, "per_point": 0.1,
    "blocks": 24.0, "samples": 150.0, "shaded": 150.0,
}  # fmt: skip
FINE = {
    "voxels": 160**3, "stride": 0.5, "alpha": 1e-2, "threshold": 1e-4, "entropy": 0.001, "per_point": 0.01,
    "blocks": 16.0, "samples": 48.0, "shaded": 24.0,
}  # fmt: skip


def options(name: str) -> dict[str, Any]:
    """The options of a field with the paper's values; see the attributes of its class."""
    if name == "vanilla":
        return {"width": 256, "depth": 8, "skip": 4, "samples": 64, "importance": 128, "noise": 0.0}
    if name == "dvgo":
        return {
            "coarse": COARSE,
            "fine": FINE,
            "coverage": 0.0,  # share of the cameras that must see what the coarse box holds; 0: any
            "coarse_steps": 5000,
            "grow_at": (1000, 2000, 3000, 4000),
            "tighten_every": 1000,
            "inherit": False,
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
    if name == "vanilla":
        return Vanilla(near=scene.near, far=scene.far, **values)
    coverage, shell = values.pop("coverage"), values.pop("shell") if scene.unbounded else values.pop("shell") * 0
    phases = {phase: Phase(**values.pop(phase)) for phase in ("coarse", "fine")}
    if scene.unbounded:
        values["coarse_steps"] = 0
    if train:
        _check_stages(values, steps)
    field = DVGO(**phases, start=None, near=scene.near, far=scene.far, steps=steps, seed=seed, shell=shell, **values)
    return stages.with_start(field, scene, coverage) if train else field


def _check_stages(values: Mapping[str, Any], steps: int) -> None:
    ends = [values["coarse_steps"] + step for step in (0, *values["grow_at"])]
    if list(ends) != sorted(set(ends)) or ends[-1] >= steps:
        raise UserError(
            f"config.model.coarse_steps={values['coarse_steps']} and grow_at={values['grow_at']} must ascend and end "
            f"before the run's {steps} steps"
        )

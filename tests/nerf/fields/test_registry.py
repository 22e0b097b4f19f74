"""Options that no field can have are one line, before anything is computed."""

from types import SimpleNamespace

import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.fields import registry as fields
from jaxhw.nerf.scenes import scene as scenes


@pytest.mark.parametrize(
    ("name", "phase", "change", "message"),
    [
        ("dvgo", None, {"widths": ()}, r"config.model.widths=\(\) must be one number or more"),
        ("dvgo", None, {"widths": (8, 0)}, "must be one number or more, each greater than 0"),
        ("dvgo", None, {"channels": 0}, "config.model.channels=0 must be greater than 0"),
        ("dvgo", None, {"coverage": 2.0}, "config.model.coverage=2.0 must be between 0 and 1"),
        ("dvgo", None, {"inner": float("nan")}, "config.model.inner=nan must be greater than 0"),
        ("dvgo", None, {"decay": -1.0}, "config.model.decay=-1.0 must be 0 or greater"),
        ("dvgo", None, {"total_variation": (1e-6,)}, "must be two numbers"),
        ("dvgo", "coarse", {"alpha": 0.0}, "config.model.coarse.alpha=0.0 must be greater than 0 and less than 1"),
        ("dvgo", "fine", {"alpha": 1.0}, "config.model.fine.alpha=1.0 must be"),
        ("dvgo", "fine", {"voxels": 0}, "config.model.fine.voxels=0 must be greater than 0"),
        ("dvgo", "fine", {"stride": 0.0}, "config.model.fine.stride=0.0 must be greater than 0"),
        ("dvgo", "coarse", {"samples": 0.0}, "config.model.coarse.samples=0.0 must be greater than 0"),
        ("vanilla", None, {"samples": 1}, "config.model.samples=1 must be 2 or more"),
        ("vanilla", None, {"width": 0}, "config.model.width=0 must be greater than 0"),
    ],
)
def test_impossible_numbers_are_one_line(name, phase, change, message):
    values = fields.options(name)
    values |= {phase: values[phase] | change} if phase else change
    with pytest.raises(UserError, match=message):
        fields.create({"name": name, **values}, scene=None, steps=10, seed=0)


def test_vanilla_needs_bounds():
    scene = SimpleNamespace(unbounded=True, near=scenes.NEAR, far=scenes.FAR)
    with pytest.raises(UserError, match="vanilla needs a scene with bounds"):
        fields.create({"name": "vanilla", **fields.options("vanilla")}, scene, steps=10, seed=0)

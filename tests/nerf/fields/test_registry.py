"""Options that no field can have are one line, before anything is computed; fields of other packages."""

import dataclasses

import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.fields import registry
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.fields.vanilla import Vanilla
from tests.nerf.fields.dvgo.made import BOX, ring

SETTING = Setting(cameras=ring(), near=1.0, far=6.0, bounds=BOX, steps=25000)


@pytest.mark.parametrize(
    ("name", "stage", "change", "message"),
    [
        ("dvgo", None, {"widths": ()}, r"config.model.widths=\(\) must be a tuple of one number or more"),
        ("dvgo", None, {"widths": (8, 0)}, "must be a tuple of one number or more, each of at least 1"),
        ("dvgo", None, {"channels": 0}, "config.model.channels=0 must be a whole number of at least 1"),
        ("dvgo", None, {"coverage": 2.0}, "config.model.coverage=2.0 must be a number from 0 to 1"),
        ("dvgo", None, {"inner": float("nan")}, "config.model.inner=nan must be a number above 0"),
        ("dvgo", None, {"decay": -1.0}, "config.model.decay=-1.0 must be a number of at least 0"),
        ("dvgo", None, {"total_variation": (1e-6,)}, "must be a tuple of 2 numbers"),
        ("dvgo", None, {"inherit": 1}, "config.model.inherit=1 must be True or False"),
        ("dvgo", None, {"samples": 4}, "config.model.samples is no option of dvgo; choose from coarse, fine"),
        ("dvgo", "coarse", {"alpha": 0.0}, "config.model.coarse.alpha=0.0 must be a number above 0 and below 1"),
        ("dvgo", "fine", {"alpha": 1.0}, "config.model.fine.alpha=1.0 must be"),
        ("dvgo", "fine", {"voxels": 0}, "config.model.fine.voxels=0 must be a whole number of at least 1"),
        ("dvgo", "fine", {"stride": 0.0}, "config.model.fine.stride=0.0 must be a number above 0"),
        ("dvgo", "coarse", {"samples": -1.0}, "config.model.coarse.samples=-1.0 must be a number of at least 0"),
        ("vanilla", None, {"samples": 1}, "config.model.samples=1 must be a whole number of at least 2"),
        ("vanilla", None, {"width": 0}, "config.model.width=0 must be a whole number of at least 1"),
    ],
)
def test_impossible_numbers_are_one_line(name, stage, change, message):
    values = registry.default_options(name)
    values |= {stage: values[stage] | change} if stage else change
    with pytest.raises(UserError, match=message):
        registry.create(values, SETTING)


@pytest.mark.parametrize("name", registry.FIELDS)
def test_every_field_has_options_that_it_takes(name):
    assert isinstance(registry.create(registry.default_options(name), SETTING), registry.find(name))


def test_a_default_stands_once():
    """What a config starts from is what a field made without a config has."""
    options = registry.find("dvgo").Options()
    assert registry.default_options("dvgo") == {"name": "dvgo", **dataclasses.asdict(options)}


def test_vanilla_needs_near_and_far():
    setting = dataclasses.replace(SETTING, unbounded=True, near_from="points")
    with pytest.raises(UserError, match="vanilla needs near and far"):
        registry.create(registry.default_options("vanilla"), setting)


def test_fields_of_other_packages_and_names_of_none():
    assert registry.find("jaxhw.nerf.fields.vanilla:Vanilla") is Vanilla
    for name in ("gaussian", "nowhere.to.be:Found", "jaxhw.nerf.fields.vanilla:Nothing", ""):
        with pytest.raises(UserError, match=f"config.model.name='{name}' must be one of vanilla, dvgo, nerfacto"):
            registry.find(name)

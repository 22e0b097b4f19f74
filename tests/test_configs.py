"""Every config of configs/ and every variant of it: it can be built, and those that belong together agree."""

from pathlib import Path

import pytest

from jaxhw import config as configs
from jaxhw import optim, study, task
from jaxhw.vision.augment import standard, views
from jaxhw.vision.models import registry
from jaxhw.vision.ssl import methods

FOLDER = Path(__file__).parents[1] / "configs"
VARIANTS = {
    "barlow_twins": [""],
    "byol": ["", "photos", "seed"],
    "dvgo": ["", "capture", "demo", "fox", "lego"],
    "finetune": ["", "frozen", "mlp", "seed"],
    "imagenet_resnet50": [""],
    "imagenet_vit_l16": [""],
    "imagenet_vit_s16": [""],
    "linear": ["", "cifar10"],
    "moco": [""],
    "resnet18": ["", "long", "seed"],
    "simclr": ["", "seed"],
    "simsiam": [""],
    "study_pretraining": ["", "good", "labels", "seed"],
    "study_size": [""],
    "study_transfer": [""],
    "sweep_resnet18": [""],
    "sweep_vit": ["", "digits"],
    "nerfacto": ["", "big", "demo", "fox", "lego", "published", "seed"],
    "vanilla": ["", "small"],
    "vicreg": [""],
    "vit": ["", "digits"],
}
METHODS = ("simclr", "byol", "simsiam", "barlow_twins", "vicreg", "moco")


def read(name, variant=""):
    return configs.parse([f"--config={FOLDER / name}.py{variant and ':'}{variant}"])[0]


def check(config):
    """What a task looks at before it loads its data."""
    assert config.task in task.TASKS
    optim.make(config.optim, 100_000)
    if "model" in config and config.task != "nerf":
        registry.create(config.model, 10, config.image_size or 64)
    if config.task == "pretrain":
        methods.create(config.method)
        views.pipeline(config.augment.to_dict(), config.views)
        assert config.batch_size % config.model.get("norm_groups", 1) == 0
    elif config.task == "classify":
        standard.standard(config.augment.to_dict())


def test_all_are_here():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(VARIANTS)


@pytest.mark.parametrize(("name", "variant"), [(name, variant) for name in VARIANTS for variant in VARIANTS[name]])
def test_it_can_be_built(name, variant):
    config = read(name, variant)
    if "bases" in config:
        study.check(config)
    elif "space" in config:
        for key, _, first, *_ in config.space:
            configs.changed(config.run, {key: first})
    for part in config.get("bases", {"": config.get("run", config)}).values():
        check(part)


@pytest.mark.parametrize("steps", [[], ["--config.bases.simclr.steps=100"]])
def test_both_sets_are_learnt_from_for_as_many_steps(steps):
    config = configs.parse([f"--config={FOLDER / 'study_pretraining.py'}", *steps])[0]
    runs = [configs.changed(config.bases[base], dict(changes)) for _, base, changes in config.runs if base == "simclr"]
    assert {run.steps for run in runs} == {100 if steps else 9350} and len(runs) == 2


def test_what_is_pretrained_can_be_probed_and_fine_tuned():
    """As the README has it: none of its commands names the normalisation."""
    names = [*((name, "") for name in (*METHODS, "linear", "finetune")), *(("finetune", v) for v in ("mlp", "frozen"))]
    assert {read(*name).normalise for name in names} == {"none"}
    assert {read(*name).model.stem for name in names} == {"torchvision"}

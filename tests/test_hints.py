"""What somebody meant who wrote a flag that does not exist."""

import pytest

from jaxhw import __main__ as cli
from jaxhw import version


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("configs/vit.py", "no config given; a config is named by --config=configs/vit.py"),
        ("--config=vti", "config file vti does not exist; did you mean configs/vit.py?"),
        ("--config=vit.py", "config file vit.py does not exist; did you mean configs/vit.py?"),
        ("--config=configs/vti.py", "config file configs/vti.py does not exist; did you mean configs/vit.py?"),
        ("--config=nothing_like_it", "config file nothing_like_it does not exist"),
        ("--config=configs/vit.py --config.lr=0.1", "the config has no key config.lr; did you mean config.optim.lr?"),
        ("--config=configs/vit.py --lr=0.1", "unknown flag --lr=0.1; did you mean --config.optim.lr=0.1?"),
        ("--config=configs/vit.py --depht=2", "unknown flag --depht=2; did you mean --config.model.depth=2?"),
        ("--config=configs/vit.py --zzzz=2", "unknown flag --zzzz=2; options are written --config.key=value"),
        (
            "--config=configs/vit.py configs/vit.py:digits",
            "unexpected argument 'configs/vit.py:digits'; a config is named by --config=configs/vit.py:digits",
        ),
        (
            "--config=configs/vit.py:digits --config.epochs=0.01 --workdir=runs/none",
            "config.epochs=0.01 is not even half a step: an epoch has 22.5 steps of batch_size=64; set it higher, or "
            "set config.steps",
        ),
        (
            "--config=configs/vit.py:digits --config.steps=10 --workdir=runs/none",
            "config.optim.warmup_steps=50 must be a whole number below 10, the run's steps",
        ),
    ],
)
def test_each_is_one_line_with_what_to_write(capsys, flags, message):
    assert cli.main(["train", *flags.split()]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"jaxhw {version.version()}\n"

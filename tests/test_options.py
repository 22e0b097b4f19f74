"""One way to declare an option, one style of message."""

from dataclasses import dataclass

import flax.linen as nn
import pytest
from ml_collections import ConfigDict

from jaxhw import options
from jaxhw.errors import UserError
from jaxhw.options import above, at_least, below, between, each, one_of, option


@dataclass(frozen=True)
class Inner:
    side: float = option(1.5, "of it", above(0))


@dataclass(frozen=True)
class Options:
    """Some of every kind."""

    width: int = option(256, "of the layers", at_least(1))
    rate: float = option(0.5, "learnt with", at_least(0), below(1))
    share: float = option(0.1, "of them", between(0, 1))
    fast: bool = option(False, "or slow")
    name: str = option("a", "of it", one_of("a", "b"))
    pair: tuple[float, float] = option((0.0, 1.0), "two of them", each(at_least(0), 2))
    some: tuple[int, ...] = option((), "as many as one likes")
    inner: Inner = option(Inner(2.5), "options of its own")
    fixed: int = 7  # none of a config's business


def test_defaults_stand_once():
    expected = {"width": 256, "rate": 0.5, "share": 0.1, "fast": False, "name": "a", "pair": (0.0, 1.0), "some": ()}
    assert options.defaults(Options) == expected | {"inner": {"side": 2.5}}


def test_what_is_read_is_over_the_defaults_of_each_level():
    values = ConfigDict({"width": 3, "rate": 0, "pair": (1, 2.5), "inner": {"side": 4}})
    read = options.read(Options, values, "config.model")
    assert read == Options(width=3, rate=0, pair=(1, 2.5), inner=Inner(4))
    assert options.read(Options, {"some": [1, 2]}, "config.model").some == (1, 2)  # lists come from JSON


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "config.model.width=0 must be a whole number of at least 1"),
        ({"width": 2.0}, "config.model.width=2.0 must be a whole number of at least 1"),
        ({"width": True}, "config.model.width=True must be a whole number of at least 1"),
        ({"rate": 1}, "config.model.rate=1 must be a number of at least 0 and below 1"),
        ({"rate": float("nan")}, "config.model.rate=nan must be a number of at least 0 and below 1"),
        ({"share": 2.0}, "config.model.share=2.0 must be a number from 0 to 1"),
        ({"fast": 1}, "config.model.fast=1 must be True or False"),
        ({"name": "c"}, "config.model.name='c' must be one of a, b"),
        ({"name": 3}, "config.model.name=3 must be one of a, b"),
        ({"pair": (1.0,)}, "config.model.pair=(1.0,) must be a tuple of 2 numbers, each of at least 0"),
        ({"pair": (1.0, "x")}, "config.model.pair=(1.0, 'x') must be a tuple of 2 numbers, each of at least 0"),
        ({"pair": 1.0}, "config.model.pair=1.0 must be a tuple of 2 numbers, each of at least 0"),
        ({"inner": {"side": 0}}, "config.model.inner.side=0 must be a number above 0"),
        ({"inner": {"edge": 1}}, "config.model.inner.edge is no option; choose from side"),
        (
            {"fixed": 1},
            "config.model.fixed is no option of cube; choose from width, rate, share, fast, name, pair, some, inner",
        ),
    ],
)
def test_mistakes_are_one_line_of_one_style(values, message):
    with pytest.raises(UserError) as error:
        options.read(Options, values, "config.model", owner="cube")
    assert str(error.value) == message


def test_the_fields_of_a_flax_module_may_be_options():
    class Net(nn.Module):
        width: int = option(4, "of it", at_least(1))
        classes: int = 10

        @nn.compact
        def __call__(self, x):
            return nn.Dense(self.width)(x)

    assert options.defaults(Net) == {"width": 4}
    assert Net(**options.checked(Net, {"width": 5}, "config.model")).width == 5

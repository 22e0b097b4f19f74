"""How many floating-point operations a program needs, counted from its jaxpr.

Counted are matrix products and convolutions, a multiplication and an addition each, which are nearly all of a network's
operations; a convolution's products with zeros of its padding count, those with the zeros between the rows of a strided
one's gradient do not, nor does what no result needs. The compiler's own estimate counts the body of a loop once.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.interpreters import partial_eval


class Operation(NamedTuple):
    """An equation of a jaxpr and the floating-point operations of all its runs, on all devices together."""

    equation: core.JaxprEqn
    flops: float


def flops(function: Callable, *args: Any, platform: str | None = None) -> float:
    """The operations of ``function(*args)``, on all devices together; see :func:`operations`."""
    return sum(operation.flops for operation in operations(function, *args, platform=platform))


def operations(function: Callable, *args: Any, platform: str | None = None) -> list[Operation]:
    """The products and convolutions of ``function(*args)``.

    Of a branch the costlier side counts, and a loop whose length is not known beforehand counts once.

    Args:
      args: arrays or their shapes; nothing is computed.
      platform: what the program would be compiled for, where its forms differ; JAX's default.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return list(_operations(jaxpr, platform or jax.default_backend(), 1))


def _operations(jaxpr: core.Jaxpr, platform: str, times: int) -> Iterator[Operation]:
    for equation in jaxpr.eqns:
        yield from _equation(equation, platform, times)


def _equation(equation: core.JaxprEqn, platform: str, times: int) -> Iterator[Operation]:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        count = 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        yield Operation(equation, times * count)
    elif name == "conv_general_dilated":
        kernel, out_axis = equation.invars[1].aval, params["dimension_numbers"].rhs_spec[0]
        taps = kernel.size / kernel.shape[out_axis] / math.prod(params["lhs_dilation"])
        yield Operation(equation, times * 2.0 * equation.outvars[0].aval.size * taps)
    elif name == "cond":
        chosen = _branch(params.get("branches_platforms"), platform)
        sides = [list(_operations(branch.jaxpr, platform, times)) for branch in params["branches"]]
        yield from max(sides, key=lambda side: sum(o.flops for o in side)) if chosen is None else sides[chosen]
    else:
        times *= params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1
        for inner in _inner(params):
            yield from _operations(inner, platform, times)


def _branch(platforms: tuple | None, platform: str) -> int | None:
    """Which of a `platform_dependent` function's forms is compiled; None where the branches are no such forms."""
    if platforms is None:
        return None
    return next((i for i, names in enumerate(platforms) if names is None or platform in names), None)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs within an equation."""
    for value in params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part

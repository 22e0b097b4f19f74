"""Lines of code, what they ask for, and how long that takes at best."""

import jax
import jax.numpy as jnp
import pytest

from jaxhw import cost
from jaxhw.plan import figure, hlo, report, traffic
from jaxhw.plan.counts import PACKAGE, Counts, Line, count, place
from jaxhw.plan.planning import Plan
from jaxhw.plan.roofline import Roofline
from jaxhw.plan.topology import CHIPS, GIB, Slice
from tests.plan.test_hlo import TEXT

V5E = CHIPS["v5e"]


def multiply(a, b):
    return a @ b


def test_operations_and_bytes_meet_at_their_line():
    a, b = jnp.zeros((8, 16)), jnp.zeros((16, 32))
    counts = count(cost.operations(multiply, a, b), traffic.moves(hlo.parse(TEXT)), chips=4)
    assert counts.flops == 2 * 8 * 16 * 32 / 4
    assert [line.place.split(" < ")[0] for line in counts.lines if line.flops] == ["test_counts.py:19 multiply"]
    assert counts.hbm == sum(move.hbm for move in traffic.moves(hlo.parse(TEXT)))
    (one,) = counts.collectives
    assert (one.kind, one.count, one.place) == ("all-reduce", 5, "train.py:12 __call__ < train.py:30 step")
    assert one.sent == 2 * 3 / 4 * one.payload == counts.sent
    # Of two chips each, along one axis of a mesh.
    pairs = TEXT.replace("all-reduce(%scaled)", "all-reduce(%scaled), replica_groups=mesh['a'=2,'b'=2] {'b'}")
    assert count([], traffic.moves(hlo.parse(pairs)), chips=4).sent == 2 * 1 / 2 * one.payload


def test_places_are_this_package_s_or_the_user_s():
    stack = [("/lib/site-packages/jax/x.py", 1, "f"), (str(PACKAGE / "nerf" / "task.py"), 9, "Nerf.loss")]
    assert place(stack) == "nerf/task.py:9 loss"
    assert place([*stack, (str(PACKAGE / "plan" / "program.py"), 2, "lower")]) == "nerf/task.py:9 loss"
    assert place([]) == "(the compiler's)"


@pytest.mark.parametrize(
    ("flops", "hbm", "bound", "seconds", "share"),
    [(197e12, 1.0, "compute", 1.0, 1.0), (197e12, 2 * 819e9, "memory", 2.0, 0.5)],
)
def test_the_busiest_bounds_a_step(flops, hbm, bound, seconds, share):
    roofline = Roofline.of(Counts([Line("here", flops, hbm)], []), V5E)
    assert (roofline.bound, roofline.seconds, roofline.share) == (bound, seconds, share)


def a_plan(**changes):
    mesh = jax.make_mesh((1,), ("data",))
    counts = Counts([Line("here", 197e9, 819e6), Line("there", 0.0, 819e7)], [])
    known = {"slice": Slice("v5e:1x1", V5E, mesh), "batch": 512, "unit": "images", "memory": 3 * GIB, "stages": 1}
    known |= {"calls": 3600, "counts": counts, "roofline": Roofline.of(counts, V5E)}
    return Plan(**known | changes)


def test_a_row_says_it_all():
    row = dict(zip(report.COLUMNS, report._row(a_plan()), strict=True))
    assert row["fits"] == "yes" and row["GiB a chip"] == "3.00" and row["bound by"] == "memory"
    assert row["step ms"] == "11" and row["of peak"] == "9%" and row["a second"] == "46,545 images"
    assert row["run"] == "40 s"
    assert report.explained(a_plan(), advise=True)[1].split() == [
        "10",
        "ms",
        "memory",
        "0",
        "TFLOP",
        "8.19",
        "GB",
        "there",
    ]


def test_numbers_have_three_digits():
    assert [report.three_digits(x) for x in (0.0123, 97.61, 8523.4)] == ["0.0123", "97.6", "8,523"]


def test_a_program_that_does_not_fit_has_a_row():
    plan = a_plan(counts=None, roofline=None, memory=20 * GIB)
    assert not plan.fits and "| no " in report.table([plan]) and "20.00" in report.table([plan])


def test_what_is_planned_of_several_stages_is_told():
    plan = a_plan(stages=3)
    assert "the first of 3 stages" in report.explained(plan, advise=False)[0]
    assert dict(zip(report.COLUMNS, report._row(plan), strict=True))["run"] == ""


def test_the_picture_is_drawn_where_something_fits(tmp_path):
    figure.draw([a_plan(counts=None, roofline=None)], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    figure.draw([a_plan()], tmp_path / "roof.png")
    assert (tmp_path / "roof.png").stat().st_size > 10_000

"""Bytes counted by hand, for the program of program.hlo: matrices of 4,096 bytes, five of them stacked."""

from jaxhw.plan import hlo
from jaxhw.plan.traffic import COLLECTIVES, moves
from tests.plan.test_hlo import TEXT

MATRIX = 8 * 128 * 4


def hbm(module, line):
    """Bytes that come from a line of code."""
    return sum(move.hbm for move in moves(module) if move.stack and move.stack[0].line == line)


def test_a_loop_reads_a_slice_each_time_and_writes_one():
    module = hlo.parse(TEXT)
    sliced, reduced = 3 * MATRIX, 2 * MATRIX  # a slice of the weights and x, the product; a sum's input and output
    counter = 2 * 4  # two numbers are read, for the line that uses their sum
    assert hbm(module, 12) == 5 * (sliced + reduced + counter)
    # The matrix that is put into its place, read and written; then all, copied out of HBM and written back.
    assert hbm(module, 30) == 5 * 2 * MATRIX + 5 * MATRIX + 5 * MATRIX


def test_only_the_loop_s_collective_counts_as_often_as_it_runs():
    found = [move for move in moves(hlo.parse(TEXT)) if move.collective]
    assert [(m.collective, m.times, m.payload) for m in found] == [("all-reduce", 5, 5 * MATRIX)]


def test_a_collective_within_a_fusion_or_begun_early_counts():
    started = TEXT.replace("all-reduce(%scaled)", "all-reduce-start(%scaled)")
    assert [m.collective for m in moves(hlo.parse(started)) if m.collective] == ["all-reduce"]
    fused = TEXT.replace("multiply(%x, %weight.2)", "all-reduce(%x), to_apply=%sum")
    assert sum(m.times for m in moves(hlo.parse(fused)) if m.collective) == 10


def test_of_a_branch_the_costlier_side_counts():
    text = (
        "%big (p: f32[1024]) -> f32[1024] {\n  %p = f32[1024]{0} parameter(0)\n  ROOT %n = f32[1024]{0} negate(%p)\n}\n"
        "%small (q: f32[1024]) -> f32[1024] {\n  ROOT %q = f32[1024]{0} parameter(0)\n}\n"
        "ENTRY %main (x: f32[1024], i: s32[]) -> f32[1024] {\n  %x = f32[1024]{0} parameter(0)\n"
        "  %i = s32[] parameter(1)\n  ROOT %c = f32[1024]{0} conditional(%i, %x, %x), "
        "branch_computations={%small, %big}\n}"
    )
    assert sum(move.hbm for move in moves(hlo.parse(text))) == 2 * 4096


def test_bytes_that_a_ring_sends():
    """All-reduce is reduce-scatter and all-gather; of the latter's operand each chip has its n-th part."""
    n, whole = 8, 800.0
    assert COLLECTIVES["all-reduce"](n) * whole == 1400
    assert COLLECTIVES["reduce-scatter"](n) * whole + COLLECTIVES["all-gather"](n) * whole / n == 1400
    assert all(COLLECTIVES[kind](1) == 0 for kind in COLLECTIVES if kind != "collective-permute")

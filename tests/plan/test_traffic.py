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


def test_a_collective_that_other_work_carries_on_counts_where_it_starts():
    """A part of a matrix is gathered while another is negated five times; each fusion names the all-gather again."""
    part, whole, flag = "f32[2,128]{1,0:T(2,128)S(1)}", "f32[8,128]{1,0:T(8,128)}", "u32[]{:S(2)}"
    state, gather = f"({part}, {whole}, {flag})", "all-gather(%p), channel_id=1, dimensions={0}"
    five = 'backend_config={"known_trip_count":{"n":"5"}}'
    held = f"  %p = {part} parameter(0)\n  %w = {whole} parameter(1)\n  %f = {flag} parameter(2)\n"
    text = f"""
%start (p: f32[2,128]) -> (f32[2,128], f32[8,128], u32[]) {{
  %p = {part} parameter(0)
  %g = {whole} {gather}
  ROOT %c = {state} custom-call(%g), custom_call_target="AsyncCollectiveStart"
}}
%async_collective_fusion.7 (p: f32[2,128], w: f32[8,128], f: u32[], x: f32[8,128]) -> (...) {{
{held}  %x = {whole} parameter(3)
  %n = {whole} negate(%x)
  %g = {whole} {gather}
  ROOT %t = ({whole}, {part}, {whole}, {flag}) tuple(%n, %p, %g, %f)
}}
%done (p: f32[2,128], w: f32[8,128], f: u32[]) -> f32[8,128] {{
{held}  %g = {whole} {gather}
  ROOT %d = {whole} custom-call(%p, %w, %g, %f), custom_call_target="AsyncCollectiveDone"
}}
%body (b: (...)) -> (...) {{
  %b = ({whole}, {part}, {whole}, {flag}) parameter(0)
  %x = {whole} get-tuple-element(%b), index=0
  %p = {part} get-tuple-element(%b), index=1
  %w = {whole} get-tuple-element(%b), index=2
  %f = {flag} get-tuple-element(%b), index=3
  ROOT %y = ({whole}, {part}, {whole}, {flag}) fusion(%p, %w, %f, %x), kind=kOutput, calls=%async_collective_fusion.7
}}
ENTRY %main (p: f32[2,128]) -> f32[8,128] {{
  %p = {part} parameter(0)
  %s = {state} fusion(%p), kind=kCustom, calls=%start
  %l = ({whole}, {part}, {whole}, {flag}) while(%s), condition=%c, body=%body, {five}
  %q = {part} get-tuple-element(%l), index=1
  %w = {whole} get-tuple-element(%l), index=2
  %f = {flag} get-tuple-element(%l), index=3
  ROOT %d = {whole} fusion(%q, %w, %f), kind=kCustom, calls=%done
}}"""
    found = moves(hlo.parse(text))
    assert [(m.collective, m.times, m.payload) for m in found if m.collective] == [("all-gather", 1, MATRIX / 4)]
    gathered, negated = MATRIX, 2 * MATRIX  # what arrives is written; a matrix read and another written
    assert sum(m.hbm for m in found) == gathered + 5 * negated


def test_a_sum_of_which_each_chip_keeps_a_part_is_a_reduce_scatter():
    text = """
%all-reduce-scatter.3 (x: f32[8,128]) -> f32[2,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %r = f32[8,128]{1,0:T(8,128)} all-reduce(%x), channel_id=1, to_apply=%sum
  %i = u32[] partition-id()
  %o = u32[] constant(0)
  ROOT %s = f32[2,128]{1,0:T(2,128)} dynamic-slice(%r, %i, %o), dynamic_slice_sizes={2,128}
}
ENTRY %main (x: f32[8,128]) -> f32[2,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %y = f32[2,128]{1,0:T(2,128)} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.3
}"""
    assert [(m.collective, m.payload) for m in moves(hlo.parse(text)) if m.collective] == [("reduce-scatter", MATRIX)]


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

"""A compiled program's text, read: program.hlo is written by hand in the form that libtpu's compiler gives."""

from pathlib import Path

import pytest

from jaxhw.plan import hlo

TEXT = Path(__file__).with_name("program.hlo").read_text()


def test_computations_with_their_instructions():
    module = hlo.parse(TEXT)
    assert module.entry == "main"
    assert set(module.computations) == {"sum", "slicing", "updating", "body", "condition", "main"}
    body = module.computations["body"].instructions
    assert body["scaled"].opcode == "fusion" and body["scaled"].operands == ("all", "y", "next")
    assert body["scaled"].called == {"calls": ("slicing",)} and body["scaled"].op_name == "jit(step)/Net/mul"
    assert module.computations["main"].instructions["loop"].called == {"condition": ("condition",), "body": ("body",)}
    assert [p.name for p in module.computations["slicing"].parameters()] == ["weights", "x", "i"]
    assert module.computations["slicing"].root.name == "product"


def test_a_loop_runs_as_its_condition_or_the_compiler_says():
    loop = lambda text: hlo.parse(text).computations["main"].instructions["loop"]
    assert hlo.parse(TEXT).trips(loop(TEXT)) == 5
    noted = TEXT.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert hlo.parse(noted).trips(loop(noted)) == 7


def test_frames_are_found_from_the_inside_out():
    stack = hlo.parse(TEXT).stacks[3]
    assert [(frame.line, frame.function) for frame in stack] == [(12, "Net.__call__"), (900, "wrapped"), (30, "step")]
    counted_from_0 = TEXT.replace("parent_frame_id=1}", "parent_frame_id=0}").replace("=2}\n3 {", "=1}\n3 {")
    counted_from_0 = counted_from_0.replace("parent_frame_id=3}", "parent_frame_id=2}")
    assert hlo.parse(counted_from_0).stacks[3] == stack


def test_arrays_have_the_size_that_they_have_in_memory():
    sizes = {
        "f32[8,128]{1,0:T(8,128)}": 4096,
        "f32[6,65,65]{2,1,0:T(8,128)}": 6 * 72 * 128 * 4,
        "bf16[3,5]{0,1:T(8,128)(2,1)}": 8 * 128 * 2,  # the first axis is the minor one
        "pred[7]{0}": 7,
        "f32[]": 4,
        "s4[16]": 8,
    }
    for shape, size in sizes.items():
        line = f"  %x = {shape} parameter(0)"
        module = hlo.parse(f"ENTRY %main () -> {shape} {{\n{line}\n}}")
        assert module.computations["main"].instructions["x"].size == size, shape


def test_what_lies_beside_the_units_is_not_in_hbm():
    done = hlo.parse(TEXT).computations["main"].instructions["copy-done"]
    assert done.size == 5 * 4096 and done.hbm == 0


@pytest.mark.parametrize(
    ("groups", "chips"),
    [
        ("mesh['axis_0'=32,'axis_1'=8] {'axis_1'}", 8),
        ("mesh['axis_0'=8,'axis_1'=1,'axis_2'=32], device_ids=([32,8]T(1,0)) {'axis_0'}", 8),
        ("mesh['axis_0'=32,'axis_1'=8] {'axis_0','axis_1'}", 256),
        ("mesh['axis_0'=32] {'axis_0':(4)8}", 8),
        ("[64,4]<=[256]", 4),
        ("{{0,1,2},{3,4,5}}", 3),
        ("{}", 0),
    ],
)
def test_how_many_chips_have_part_in_a_collective(groups, chips):
    line = f"  ROOT %y = f32[8]{{0}} all-reduce(%x), channel_id=1, replica_groups={groups}, to_apply=%s"
    assert hlo.parse(f"ENTRY %m (x: f32[8]) -> f32[8] {{\n{line}\n}}").computations["m"].root.group == chips

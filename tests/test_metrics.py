"""metrics.jsonl as a dying machine or a careless editor leaves it: nothing sound is lost, nothing is dropped unsaid."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX import record_writer
from tensorboardX.proto.event_pb2 import Event

from jaxhw import errors, metrics

LINES = [json.dumps({"step": step, "time": step / 2, "loss": 1.0 / step}) for step in (1, 2, 3, 4)]


def write(workdir, *lines, end=b"\n"):
    texts = [line if isinstance(line, bytes) else line.encode() for line in lines]
    (workdir / "metrics.jsonl").write_bytes(b"\n".join(texts) + end)
    return workdir / "metrics.jsonl"


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


DAMAGES = {
    "a bad byte": LINES[1].encode().replace(b"loss", b"lo\xffs"),
    "a bad bracket": LINES[1].replace("{", "["),
    "an empty line": "",
    "no step": '{"loss": 1}',
    "no time": '{"step": 2}',
    "null": "null",
    "a text": '{"step": "2", "time": 1.0}',
    "a list": '{"step": 2, "time": 1.0, "loss": [1]}',
    "NaN": '{"step": 2, "time": 1.0, "loss": NaN}',
    "zeros": b"\0" * 30,
    "nesting": "[" * 100_000,
    "a huge integer": '{"step": 2, "time": 1.0, "loss": ' + "9" * 400 + "}",
    "a huger integer": '{"step": 2, "time": 1.0, "loss": ' + "9" * 5000 + "}",
    "a huge number": '{"step": 2, "time": 1.0, "loss": 1e999}',
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_resuming_keeps_what_is_sound_and_sets_the_rest_aside(tmp_path, capsys, damage):
    path = write(tmp_path, LINES[0], DAMAGES[damage], *LINES[2:])
    before = path.read_bytes()
    writer = metrics.Writer(tmp_path, step=3)
    writer.write(4, 9.0, {"loss": 0.5})
    writer.close()
    assert writer.elapsed == 1.5 and steps(path) == [1, 3, 4]
    kept = tmp_path / "damaged_metrics.jsonl"
    assert kept.read_bytes() == before
    told = f"warning: {path}: line 2 is damaged and left out; as it was it is kept in {kept}"
    assert capsys.readouterr().err.splitlines() == [told]


def test_reading_leaves_damaged_lines_out_and_says_so_once(tmp_path, capsys):
    path = write(tmp_path, LINES[0], "x", "null", LINES[3])
    for _ in range(2):
        assert [line["step"] for line in metrics.read(path)] == [1, 4]
    assert len(list(tmp_path.iterdir())) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and "2 lines, the first line 2, are damaged and left out" in told[0]


@pytest.mark.parametrize("torn", ['{"step": 4, "ti', "", '{"step": 4'])
def test_a_cut_last_line_is_what_a_kill_leaves(tmp_path, capsys, torn):
    path = write(tmp_path, *LINES[:3], torn, end=b"")
    assert [line["step"] for line in metrics.read(path)] == [1, 2, 3]
    metrics.Writer(tmp_path, step=3).close()
    assert steps(path) == [1, 2, 3] and not capsys.readouterr().err
    assert not (tmp_path / "damaged_metrics.jsonl").exists()


def test_each_damage_has_a_name_of_its_own(tmp_path):
    for _ in range(2):
        path = write(tmp_path, "x", LINES[0])
        metrics.Writer(tmp_path, step=3).close()
    assert {"damaged_metrics.jsonl", "damaged_2_metrics.jsonl"} <= {found.name for found in tmp_path.iterdir()}
    path.unlink()
    path.mkdir()
    with pytest.raises(errors.UserError, match="is a folder"):
        metrics.read(path)


def events(workdir):
    """The records of TensorBoard's file: each has its length, a checksum, the event, another checksum."""
    (path,) = (workdir / "tensorboard").iterdir()
    data, found = path.read_bytes(), []
    while data:
        length = struct.unpack("<Q", data[:8])[0]
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_tensorboard_gets_every_number_at_once(tmp_path):
    writer = metrics.Writer(tmp_path, step=6)
    writer.write(7, 1.0, {"loss": 0.5, "val_accuracy": 0.25})
    version, start, *scalars = events(tmp_path)
    assert version.file_version == "brain.Event:2" and (start.step, start.session_log.status) == (7, 1)
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in scalars] == [
        (7, "loss", 0.5),
        (7, "val_accuracy", 0.25),
    ]
    writer.close()


def full(path):
    return Path("/dev/full").open("wb", buffering=0)  # every write: no space left on device


@pytest.mark.parametrize("how", ["a file in its place", "a full disk"])
def test_where_tensorboard_cannot_write_training_goes_on(tmp_path, capsys, monkeypatch, how):
    """More numbers than its writer's queue would hold, and one line."""
    if how == "a full disk":
        monkeypatch.setattr(record_writer, "open_file", full)
    else:
        (tmp_path / "tensorboard").write_text("")
    writer = metrics.Writer(tmp_path, step=0)
    for step in range(1, 40):
        writer.write(step, 1.0, {"loss": 0.5})
    writer.close()
    assert steps(tmp_path / "metrics.jsonl") == list(range(1, 40))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith(f"warning: cannot write {tmp_path / 'tensorboard'}: ")
    assert told[0].endswith("; training goes on without TensorBoard's files")


def test_lines_that_the_disk_does_not_take_come_later(tmp_path, capsys):
    writer = metrics.Writer(tmp_path, step=0)
    writer.write(1, 1.0, {"loss": 0.5})
    good, writer._lines._file = writer._lines._file, full("metrics.jsonl")
    for step in (2, 3):
        writer.write(step, 1.0, {"loss": 0.5})
    writer._lines._file = good
    good.write(b'{"step": 2, "ti')  # what a disk that was full took of it
    writer.write(4, 1.0, {"loss": 0.5})
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]
    writer._lines._file = full("metrics.jsonl")
    writer.write(5, 1.0, {"loss": 0.5})
    writer.close()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "its lines are kept for later" in told[0]
    assert "lacks its last lines: 1 could not be written" in told[1]

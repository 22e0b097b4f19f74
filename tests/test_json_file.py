"""JSON files that are none, or not what their readers need: one line each, whoever reads them."""

import json
import math
import re
import shutil

import pytest

from jaxhw import __main__ as cli
from jaxhw import claims, json_file, main, metrics, study, sweep
from jaxhw.errors import UserError
from jaxhw.vision.tasks import classify
from tests.test_train import run
from tests.toy import Toy, toy_config

NO_JSON = {
    b"": "line 1, column 1 is no JSON",
    b"\0\0\0": "line 1, column 1 is no JSON",
    b'{"a": 1': "line 1, column 8 is no JSON",
    b'{"a": "\xff"}': "byte 8 is no UTF-8",
    b'{"a": NaN}': "NaN",
    b'{"a": -Infinity}': "-Infinity",
    b'{"a": 1e999}': "1e999..., which is too large",
    b"9" * 30: "which is too large",
    b"9" * 9000: "which is too large",
    b"[" * 100_000: "nested too deeply",
    b"[" * 80 + b"]" * 80: "nested too deeply",
    b'{"a":' * 900 + b"1" + b"}" * 900: "nested too deeply",
}


@pytest.mark.parametrize(("text", "message"), NO_JSON.items(), ids=[message[:12] for message in NO_JSON.values()])
def test_what_is_no_json_is_one_line(tmp_path, text, message):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=rf"a\.json is damaged \(.*{re.escape(message)}.*\); do this$") as caught:
        json_file.read(tmp_path / "a.json", object, "do this")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


SCHEMA = {"names": [str], "size?": int, "rate": float, "any": object, "inner": {str: {"on": bool}}}
SOUND = {"names": ["a"], "rate": 1, "any": None, "inner": {"x": {"on": True}}, "more": 1}


def test_a_schema_holds_what_it_tells(tmp_path):
    json_file.check(SOUND, SCHEMA)
    for change, message in (
        ({"names": "a"}, "names must be a list"),
        ({"names": ["a", 1]}, "names[1] must be text"),
        ({"size": True}, "size must be a whole number"),
        ({"size": 1.5}, "size must be a whole number"),
        ({"rate": "1"}, "rate must be a number"),
        ({"rate": False}, "rate must be a number"),
        ({"inner": {"x": {}}}, "it has no inner.x.on"),
        ({"inner": {"x": []}}, "inner.x must be an object"),
        ({"inner": {"x": {"on": 1}}}, "inner.x.on must be true or false"),
    ):
        with pytest.raises(json_file.Damaged, match=f"^{re.escape(message)}$"):
            json_file.check(SOUND | change, SCHEMA)
    with pytest.raises(json_file.Damaged, match=r"^it has no any$"):
        json_file.check({k: v for k, v in SOUND.items() if k != "any"}, SCHEMA)
    with pytest.raises(json_file.Damaged, match=r"^it must be an object$"):
        json_file.check(None, SCHEMA)
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UserError, match="is a folder, where a file should be"):
        json_file.read(tmp_path / "a.json", {}, "")


NO_CONFIG = ["null", "{}", "[]", "1", '{"task": "classify"}', '{"task": "toy"}', '{"seed": 0}', "", "{", '{"a.b": 1}']


@pytest.mark.parametrize("text", NO_CONFIG)
def test_a_config_that_is_none_is_nobody_s(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json (is no config|is damaged)") as caught:
        run(tmp_path, optim={"lr": 0.5})
    assert "\n" not in str(caught.value)
    assert (tmp_path / "config.json").read_text() == text and not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("config", [sweep.default_config(toy_config()), study.default_config({"a": toy_config()})])
def test_a_folder_of_another_command_is_told_as_that(tmp_path, config):
    claims.claim(tmp_path, config)
    with pytest.raises(UserError, match=r"is no config for jaxhw train; choose another --workdir"):
        run(tmp_path)


def test_results_that_are_damaged_or_not_known(tmp_path):
    results, _ = run(tmp_path)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results | {"val_error": math.nan}))  # as older versions wrote it
    assert metrics.results(tmp_path)["val_error"] is None
    for text in ("", "{}", "null", '{"seconds": "long"}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"results\.json is damaged \(.*\); delete it, and the command"):
            run(tmp_path)
    path.unlink()
    again, _ = run(tmp_path)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in results.items() if k != "seconds"}


def test_what_is_not_known_is_null(tmp_path):
    kind = type("Unknown", (Toy,), {"finish": lambda *_: {"spread": math.nan, "each": {"a": math.inf, "b": 1.0}}})
    results, _ = run(tmp_path, kind)
    assert results["spread"] is None and results["each"] == {"a": None, "b": 1.0}
    assert json_file.parse((tmp_path / "results.json").read_bytes()) == results


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("digits") / "run"
    flags = ("steps=1", "model.width=8", "model.depth=1", "model.heads=2", "model.mlp=8", "optim.warmup_steps=0")
    assert main.main(["--config=configs/vit.py:digits", f"--workdir={workdir}", *(f"--config.{f}" for f in flags)]) == 0
    return workdir


def told(capsys, *argv):
    """A command's exit code and the lines on stderr."""
    capsys.readouterr()
    return cli.main(list(map(str, argv))), capsys.readouterr().err.splitlines()


def rewrite(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["model"].update(rope=True),
        lambda config: config["model"].update(width="wide"),
        lambda config: config["model"].update(name="swin"),
        lambda config: config["model"].pop("name"),
        lambda config: config.update(model=1),
        lambda config: config.update(colour="red"),
        lambda config: config.pop("optim"),
    ],
)
def test_a_version_with_other_options_is_one_line_in_every_command(digits, tmp_path, capsys, change):
    shutil.copytree(digits, tmp_path / "run")
    rewrite(tmp_path / "run" / "config.json", change)
    for command in (("predict", "x.png"), ("eval",)):
        code, lines = told(capsys, command[0], f"--workdir={tmp_path / 'run'}", *command[1:])
        assert code == 2 and len(lines) == 1, lines


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"names": "ab", "image_size": 8}', '{"names": ["a", 1]}'])
def test_damaged_labels(digits, tmp_path, capsys, text):
    shutil.copytree(digits, tmp_path / "run")
    (tmp_path / "run" / "labels.json").write_text(text)
    code, lines = told(capsys, "predict", f"--workdir={tmp_path / 'run'}", "x.png")
    assert code == 2 and len(lines) == 1 and "labels.json is damaged (" in lines[0]
    for labels in ({"names": ["a", "a"], "image_size": 8}, {"names": ["a", "b"], "image_size": 10**9}):
        (tmp_path / "run" / "labels.json").write_text(json.dumps(labels))
        with pytest.raises(UserError, match="is damaged"):
            classify.read_labels(tmp_path / "run")


VIEW = {
    "columns": ["a"],
    "curves": [],
    "points": [[1.0, "r"]],
    "x": "",
    "runs": [{"run": "r", "state": "", "seeds": {}}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"runs": None},
        {"runs": [{"run": "r"}]},
        {"points": [[1.0]]},
        {"points": [[1.0, "s"]]},
        {"points": [[1.0, ["r"]]]},
        {"runs": [{"run": "../r", "state": "", "seeds": {}}], "points": []},
        {"runs": [{"run": "r", "state": "", "seeds": {"../0": {"a": 1.0}}}]},
        {"runs": [{"run": "r", "state": "", "seeds": {"0": {}}}]},
    ],
)
def test_a_damaged_study_is_one_line_in_compare(tmp_path, capsys, change):
    (tmp_path / "study.json").write_text(json.dumps(VIEW))
    assert study.read_view(tmp_path) == VIEW and study.read_view(tmp_path / "nowhere") == {}
    (tmp_path / "study.json").write_text(json.dumps(VIEW | change))
    code, lines = told(capsys, "compare", tmp_path, f"--out={tmp_path / 'out'}")
    assert code == 2 and len(lines) == 1 and "study.json is damaged (" in lines[0]
    assert not (tmp_path / "out").exists()

"""`jaxhw params` of tasks other than classification, and the usage of the commands that take a config."""

import pytest

from jaxhw import __main__ as cli
from jaxhw import main

SMALL = ["--config.dataset=digits", "--config.image_size=32", "--config.model.width=4", "--config.batch_size=8"]


def test_a_pre_training_run_s_own_parameters(capsys):
    assert cli.main(["params", "--config=configs/simclr.py", *SMALL]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[0].split("/")[0] for line in lines} == {"Layer", "backbone", "projector", "Total"}
    assert not any("head" in line[0] for line in lines)
    assert sum(int(line[-1]) for line in lines[1:-1]) == int(lines[-1][-1])


@pytest.mark.parametrize(
    ("command", "config", "use"),
    [
        ("params", "configs/sweep_vit.py", "sweep"),
        ("train", "configs/sweep_vit.py", "sweep"),
        ("train", "configs/study_size.py", "study"),
        ("sweep", "configs/vit.py:digits", "train"),
        ("study", "configs/vit.py", "train"),
    ],
)
def test_a_config_for_another_command_is_one_line(capsys, command, config, use):
    assert cli.main([command, f"--config={config}"]) == 2
    errors = capsys.readouterr().err
    assert errors.endswith(f"use jaxhw {use}\n") and len(errors.splitlines()) == 1


@pytest.mark.parametrize("config", ["sweep_vit", "study_size"])
def test_several_processes_do_not_share_a_search_or_a_study(capsys, monkeypatch, tmp_path, config):
    said = {"JAX_COORDINATOR_ADDRESS": "localhost:1234", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
    for variable, value in said.items():
        monkeypatch.setenv(variable, value)
    command = config.partition("_")[0]
    assert cli.main([command, f"--config=configs/{config}.py", f"--workdir={tmp_path / 'x'}"]) == 2
    errors = capsys.readouterr().err
    assert f"jaxhw {command} runs in one process" in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize("command", ["train", "sweep", "study", "params"])
def test_help_names_the_flags(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    assert f"usage: jaxhw {command} --config=FILE[:VARIANT] [--config.KEY=VALUE ...]" in printed
    assert ("--workdir=DIR" in printed) == (command != "params")


def test_help_of_the_training_program(capsys):
    assert main.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(flag in printed for flag in ("--config=FILE", "--config.key=value", "--workdir=DIR"))

"""The command makes the mesh that the config asks for, and gives the sweep its workdir."""

from jaxhw import sweep
from jaxhw.__main__ import main


def test_the_sweep_gets_its_mesh_and_workdir(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(sweep, "run", lambda *args: calls.append(args))
    flags = ["--config=configs/sweep_vit.py:digits", "--config.run.mesh.data=2", f"--workdir={tmp_path}"]
    assert main(["sweep", *flags]) == 0
    config, mesh, workdir = calls[0]
    assert mesh.size == 2 == config.run.mesh.data and workdir == tmp_path
    assert capsys.readouterr().out == "stopped; the same command continues\n"

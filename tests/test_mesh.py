import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxhw import mesh as meshes
from jaxhw.errors import UserError

ROOT = Path(__file__).resolve().parent.parent

RUN = """
import jax
from pathlib import Path
from jaxhw import mesh as meshes, train
from tests.toy import Toy, toy_config
meshes.start_up()
config, mesh = toy_config(), meshes.make_mesh()
assert mesh.size == 2 and len(jax.local_devices()) == 2 // jax.process_count()
train.run(Toy(config, mesh), config, mesh, Path({workdir!r}))
"""


def test_a_mesh_takes_the_first_devices():
    assert meshes.make_mesh().size == 8 and meshes.make_mesh(3).shape == {"data": 3}
    with pytest.raises(UserError, match="there are 8 devices"):
        meshes.make_mesh(9)


def test_the_batch_must_divide():
    with pytest.raises(UserError, match="batch_size=12 cannot be divided among 8 devices"):
        meshes.check_batch_size(12, meshes.make_mesh())
    with pytest.raises(UserError, match="batch_size=-8 must be at least 1"):
        meshes.check_batch_size(-8, meshes.make_mesh())
    meshes.check_batch_size(16, meshes.make_mesh())


def start(workdir, devices, **more):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PYTHONPATH": str(ROOT)}
    code = RUN.format(workdir=str(workdir))
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **flags, **more}, stderr=subprocess.PIPE)


def test_two_processes_give_what_one_gives(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [start(tmp_path / "two", 1, JAX_PROCESS_ID=str(i), **common) for i in range(2)]
    processes.append(start(tmp_path / "one", 2))
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors.decode()[-3000:]
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) > 10
    last = [json.loads(text[-1])["val_error"] for text in lines]
    assert last[0] == pytest.approx(last[1], rel=1e-6)

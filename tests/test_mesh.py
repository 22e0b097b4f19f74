import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.tree import by_name
from tests import processes

RUN = """
import jax
from pathlib import Path
from jaxhw import job, joining, mesh as meshes, train
from tests.toy import Toy, toy_config
with joining.joined(job.find()):
    fsdp, layout = {fsdp}, (("w", 0),) if {fsdp} > 1 else ()
    config, mesh = toy_config(mesh={{"layout": layout}}), meshes.make_mesh(fsdp=fsdp)
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
    with pytest.raises(UserError, match=r"config\.batch_size=-8 must be a whole number of at least 1"):
        meshes.check_batch_size(-8, meshes.make_mesh())
    meshes.check_batch_size(16, meshes.make_mesh())


def test_a_layout_goes_by_the_last_rule_that_fits():
    state = {
        "params": {"blocks": {"kernel": np.zeros((16, 3)), "bias": np.zeros(16)}, "head": np.zeros((3, 8))},
        "opt_state": [{"mu": {"blocks": {"kernel": np.zeros((16, 3))}}}],
        "step": np.zeros(()),
    }
    rules = (("*", 0), ("head", -1), ("bias", None))
    found = meshes.layout(state, meshes.make_mesh(), rules)
    parts = {name: tuple(sharding.spec) for name, sharding in by_name(found).items()}
    assert parts == {
        "params/blocks/kernel": ("data",),
        "params/blocks/bias": (),  # by the last rule
        "params/head": (None, "data"),
        "opt_state/0/mu/blocks/kernel": ("data",),  # a parameter's moments lie where it lies
        "step": (),  # has no such axis
    }
    whole = meshes.layout(state, meshes.make_mesh(3), rules)
    assert not any(any(sharding.spec) for sharding in by_name(whole).values())  # what three devices don't divide
    with pytest.raises(
        UserError, match=r"config.mesh.layout=\('kernel',\) must be a tuple of \(path pattern, axis\) pairs"
    ):
        meshes.layout(state, meshes.make_mesh(), ("kernel",))


def test_a_second_axis_is_for_the_state():
    mesh = meshes.make_mesh(fsdp=4)
    assert mesh.shape == {"data": 2, "fsdp": 4} and meshes.make_mesh(1, fsdp=2).shape == {"data": 1, "fsdp": 2}
    assert meshes.by_row(mesh).shard_shape((16, 3)) == (2, 3)  # a batch is divided over both


@pytest.mark.parametrize(
    ("data", "fsdp", "says"),
    [
        (-1, 3, r"config\.mesh\.fsdp=3 does not divide the 8 devices"),
        (4, 4, r"config\.mesh\.data=4 times config\.mesh\.fsdp=4, but there are 8 devices"),
        (-1, 0, r"config\.mesh\.fsdp=0 must be a whole number of at least 1"),
    ],
)
def test_axes_that_cannot_be_are_one_line(data, fsdp, says):
    with pytest.raises(UserError, match=says):
        meshes.make_mesh(data, fsdp=fsdp)


def test_fsdp_divides_large_arrays_along_their_longest_axis():
    large = np.zeros((12, 64, 128))
    state = {
        "params": {
            "kernel": large,
            "odd": np.zeros((129, 3, 513)),
            "bias": np.zeros(128),
            "table": np.zeros((9, 2**14)),
        },
        "opt_state": [{"mu": {"kernel": large}}],
        "step": np.zeros(()),
    }
    parts = lambda *rules: {
        name: tuple(sharding.spec)
        for name, sharding in by_name(meshes.layout(state, meshes.make_mesh(fsdp=4), rules)).items()
    }
    assert parts() == {
        "params/kernel": (None, None, "fsdp"),
        "params/odd": (),  # four devices divide none of its axes
        "params/bias": (),  # small
        "params/table": (None, "fsdp"),
        "opt_state/0/mu/kernel": (None, None, "fsdp"),
        "step": (),
    }
    assert parts(("kernel", 0), ("table", None), ("bias", 0)) == {
        "params/kernel": ("fsdp",),
        "params/odd": (),
        "params/bias": ("fsdp",),
        "params/table": (),
        "opt_state/0/mu/kernel": ("fsdp",),
        "step": (),
    }


def test_a_rule_must_be_for_something():
    state = {"params": {"blocks": {"kernel": np.zeros(8)}}}
    meshes.check_rules(state, (("kernel", 0), ("blocks/*", None)))
    says = r"config\.mesh\.layout: 'block/\*' matches no parameter; they have names such as params/blocks/kernel"
    with pytest.raises(UserError, match=says):
        meshes.check_rules(state, (("kernel", 0), ("block/*", 0)))


def test_parts_of_a_batch_must_divide():
    meshes.check_batch_size(32, meshes.make_mesh(fsdp=2), accumulate=4)
    says = r"batch_size=24 cannot be divided among 8 devices in config\.accumulate=2 parts; use a multiple of 16"
    with pytest.raises(UserError, match=says):
        meshes.check_batch_size(24, meshes.make_mesh(), accumulate=2)
    with pytest.raises(UserError, match=r"config\.accumulate=0 must be a whole number of at least 1"):
        meshes.check_batch_size(24, meshes.make_mesh(), accumulate=0)


DIVIDED = """
import jax
from jaxhw import mesh as meshes
meshes.divide_cpu(2)
assert [meshes.make_mesh(cpu_devices=n).size for n in (1, 2, 1)] == [1, 2, 1] and len(jax.devices()) == 2
"""


def test_a_cpu_divided_once_serves_meshes_of_several_sizes():
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(processes.ROOT)}
    subprocess.run([sys.executable, "-c", DIVIDED], env=environment, check=True)


@pytest.mark.parametrize("fsdp", [1, 2])
def test_two_processes_give_what_one_gives(tmp_path, fsdp):
    """Also where each has a part of the weights."""
    processes.two_and_one(*(["-c", RUN.format(workdir=str(tmp_path / name), fsdp=fsdp)] for name in ("two", "one")))
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) > 10
    last = [json.loads(text[-1])["val_error"] for text in lines]
    assert last[0] == pytest.approx(last[1], rel=1e-6)

"""Which job a process belongs to: by flags, by variables, by what SLURM and Open MPI leave in the environment."""

import pytest

from jaxhw import job
from jaxhw.__main__ import main
from jaxhw.errors import UserError
from jaxhw.job import Job

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
SLURM = {"SLURM_JOB_ID": "17", "SLURM_STEP_NODELIST": "node[07-09]", "SLURM_NTASKS": "3"}
SLURM |= {"SLURM_PROCID": "2", "SLURM_LOCALID": "0"}
MPI = {"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp://10.96.0.1,10.148.0.1:34911", "OMPI_COMM_WORLD_SIZE": "4"}
MPI |= {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}


def find(monkeypatch, variables, **flags):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return job.find(job.FLAGS | flags)


def test_a_process_of_no_job_is_alone(monkeypatch):
    assert find(monkeypatch, {}) is None
    assert find(monkeypatch, SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_flags_come_before_variables(monkeypatch):
    variables = {ADDRESS: "there:1", COUNT: "3", INDEX: "1"}
    assert find(monkeypatch, variables) == Job("there", 1, 3, 1)
    assert find(monkeypatch, variables, coordinator="[fe80::1]:2", process="2") == Job("fe80::1", 2, 3, 2)


def test_launchers_say_it_all(monkeypatch):
    found = find(monkeypatch, SLURM)
    assert found == Job("node07", 61457, 3, 2, (0,)) and str(found) == "process 2 of 3"
    assert find(monkeypatch, {}, coordinator="node08:99") == Job("node08", 99, 3, 2, (0,))
    assert find(monkeypatch, {}, coordinator="h:9", processes="2", process="1") == Job("h", 9, 2, 1)
    for name in SLURM:
        monkeypatch.delenv(name)
    found = find(monkeypatch, MPI)
    assert (found.host, found.count, found.index, found.local_devices) == ("10.96.0.1", 4, 3, (1,))


@pytest.mark.parametrize(
    ("variables", "flags", "message"),
    [
        ({ADDRESS: "nonsense"}, {}, "JAX_COORDINATOR_ADDRESS=nonsense must be HOST:PORT"),
        ({}, {"coordinator": "a b:1"}, "--coordinator=a b:1 must be HOST:PORT"),
        ({ADDRESS: "host:123", COUNT: "x"}, {}, "JAX_NUM_PROCESSES=x must be a whole number of at least 1"),
        ({ADDRESS: "host:123"}, {"process": "-1"}, "--process=-1 must be a whole number of at least 0"),
        ({ADDRESS: "h:123", COUNT: "2"}, {"process": "5"}, "--process=5 must be below JAX_NUM_PROCESSES=2"),
        ({}, {"processes": "2"}, "several processes need --coordinator=HOST:PORT, --processes=N and --process=I"),
        (SLURM | {"SLURM_JOB_ID": "x"}, {}, "SLURM has started this process, but does not say where the others are"),
    ],
)
def test_what_makes_no_sense_is_one_line(monkeypatch, variables, flags, message):
    with pytest.raises(UserError) as error:
        find(monkeypatch, variables, **flags)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_commands_of_one_process_say_so(monkeypatch, capsys):
    for name, value in {ADDRESS: "host:123", COUNT: "2", INDEX: "1"}.items():
        monkeypatch.setenv(name, value)
    for command, config in (("sweep", "sweep_vit"), ("study", "study_size")):
        assert main([command, f"--config=configs/{config}.py", "--workdir=runs/none"]) == 2
        told = capsys.readouterr().err
        [line] = told.splitlines()
        assert line.startswith(
            f"error: jaxhw {command} runs in one process, and this is process 1 of 2: start it several"
        )

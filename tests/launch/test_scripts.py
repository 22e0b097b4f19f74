"""The scripts of launch/ without what they start: shellcheck, dry runs, the forms that clusters want."""

import re
import subprocess
import tomllib

import pytest
import yaml

from tests import processes
from tests.launch import launched

TPU = {"NAME": "mine", "ZONE": "us-central1-a", "TYPE": "v5litepod-16", "BUCKET": "bucket", "SPOT": "yes"}
RUN = ["python", "-m", "jaxhw.main", "--config=configs/vit.py"]


@launched.needs("shellcheck")
def test_shellcheck_finds_nothing():
    scripts = [str(p) for p in launched.LAUNCH.iterdir() if p.read_text().startswith("#!")]
    assert len(scripts) == 4
    launched.run("shellcheck", *scripts)


def dry(*arguments):
    return launched.run("launch/tpu_vm.sh", "--dry-run", *arguments, **TPU)


def test_a_dry_run_prints_each_command():
    made = dry("create")
    assert (
        made.startswith("gcloud compute tpus tpu-vm create mine --accelerator-type=v5litepod-16 ") and "--spot" in made
    )
    assert "--worker=all" in (installed := dry("install")) and "git clone" in installed and "gcsfuse" in installed
    assert "jaxhw.main\\ --config=configs/vit.py" in dry("run", *RUN)
    assert "TERM" in dry("stop") and "delete mine --quiet" in dry("delete")
    kept = dry("keep", *RUN)
    assert [re.search(r"tpu-vm (\w+)", line)[1] for line in kept.splitlines()] == [
        "ssh",
        "delete",
        "create",
        "ssh",
        "ssh",
    ]


@pytest.mark.parametrize("script", ["local.sh", "mpi.sh", "slurm.sbatch", "tpu_vm.sh"])
def test_a_script_without_arguments_says_how_it_is_used(script):
    done = subprocess.run([str(launched.LAUNCH / script)], capture_output=True, text=True)
    assert done.returncode == 2 and f"launch/{script}" in done.stderr and not done.stdout


def test_the_jobset_counts_its_hosts_once():
    [made] = yaml.safe_load_all((launched.LAUNCH / "gke_jobset.yaml").read_text())
    assert made["kind"] == "JobSet"
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4 and job["completionMode"] == "Indexed"
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


def test_the_dockerfile_installs_extras_that_exist():
    text = (launched.LAUNCH / "Dockerfile").read_text()
    extras = tomllib.loads((processes.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"(\S+)\) extra=\"\[", text)[1].split("|")
    assert set(named) <= extras.keys() and all((processes.ROOT / name).exists() for name in ("LICENSE", "README.md"))


def test_one_address_of_the_repository_everywhere():
    address = tomllib.loads((processes.ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert f"REPO=${{REPO:-{address}}}" in (launched.LAUNCH / "tpu_vm.sh").read_text()
    for name in ("mkdocs.yml", "CITATION.cff"):
        assert f"{address}\n" in (processes.ROOT / name).read_text()

"""Two processes of four devices each learn what one of eight learns, whatever the task."""

import jax
import numpy as np
import pytest

from jaxhw import checkpoint, metrics
from jaxhw import mesh as meshes
from tests import processes


def variables(workdir):
    return checkpoint.restore_variables(workdir, meshes.replicated(meshes.make_mesh(1)))


SLACK = {"simclr": 2e-4}  # of a loss that agrees to 1e-6: before batch norms some gradients are rounding alone


def distance(a, b):
    """Of two arrays, in units of their norm, of a hundredth at least: what is zero but for rounding has none."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))  # some are flags
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classify", "simclr", "dvgo", "nerfacto"])
def test_two_processes_of_four_devices_learn_what_one_of_eight_does(kind, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    run = lambda workdir: ["-m", "tests.shared_run", kind, str(workdir)]
    for process in (*processes.two_of(run(two), 4), processes.start(run(one), 8)):
        _, told = process.communicate(timeout=600)
        assert process.returncode == 0, told.decode()[-3000:]
    losses = [[line["loss"] for line in metrics.read(w / "metrics.jsonl") if "loss" in line] for w in (two, one)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    distances = jax.tree.map(distance, variables(two), variables(one))
    assert max(jax.tree.leaves(distances)) < SLACK.get(kind, 1e-6), distances
    scores = [{k: v for k, v in metrics.results(w).items() if k.startswith("test_psnr")} for w in (two, one)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)  # of processes that share the pictures' rows

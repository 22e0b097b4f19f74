"""Runs of tiny scenes through the loop, whole or stopped."""

import os
import signal
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxhw import mesh as meshes
from jaxhw import metrics, train
from jaxhw.nerf.task import Nerf


class Stopping(Nerf):
    """Sends itself SIGTERM in the evaluation after step ``at``."""

    at = 0

    def evaluate(self, variables, step):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluate(variables, step)


def trained(workdir: Path, config: ConfigDict, kind: type[Nerf] = Nerf) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(results, what was logged but for times) of a run on one device."""
    mesh = meshes.make_mesh(1)
    results = train.run(kind(config, mesh), config, mesh, workdir)
    lines = metrics.read(workdir / "metrics.jsonl")
    return results, [{k: v for k, v in line.items() if k not in ("time", "rays_per_second")} for line in lines]

"""A sweep or a study of the toy task, slow enough to be shared: python -m tests.sharing sweep|study WORKDIR."""

import sys
import time
from pathlib import Path

import numpy as np

from jaxhw import errors, lock, study, sweep, task
from jaxhw import mesh as meshes
from tests.toy import Toy, toy_config


class Slow(Toy):
    """Says of each batch which process made it; may start from another run."""

    def batch(self, step):
        time.sleep(0.02)
        return super().batch(step)

    def init_from(self, shapes):
        return {"params": {"w": np.full(4, float(len(Path(self.config.init_from).parts)))}}


def runs(name: str):
    return (name, "short", ()), (f"after {name}", "short", (("init_from", f"@{name}"),))


def main() -> None:
    kind, workdir = sys.argv[1], Path(sys.argv[2])
    task.TASKS["toy"] = "tests.sharing:Slow"
    lock.RENEWED = 0.5
    run = toy_config(steps=40, checkpoint_every=5)
    if kind == "sweep":
        config = sweep.default_config(run)
        config.update({"metric": "val_score", "trials": 8, "sampler": "random", "prune": False})
        finished = sweep.run(config, meshes.make_mesh(1), workdir)
    else:
        config = study.default_config({"short": run})
        config.update({"runs": (*runs("one"), *runs("two")), "seeds": (0, 1), "columns": ("val_score",)})
        finished = study.run(config, workdir)
    assert finished
    print("finished", flush=True)


if __name__ == "__main__":
    sys.exit(errors.exit_code(main))

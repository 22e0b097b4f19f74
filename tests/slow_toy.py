"""A run of the toy task, slow enough to be interrupted: python -m tests.slow_toy WORKDIR [STEPS [CHECKPOINT_EVERY]].

It is one of several processes where the environment says so; with ``FAIL_AT=STEP`` there its data are damaged.
"""

import os
import sys
import time
from pathlib import Path

from jaxhw import errors, job, joining, train
from jaxhw import mesh as meshes
from tests.toy import Toy, toy_config


class SlowToy(Toy):
    def batch(self, step):
        time.sleep(0.05)
        if step == int(os.environ.get("FAIL_AT", "-1")):
            raise errors.UserError("a picture is damaged")
        return super().batch(step)


def main() -> None:
    workdir, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10**6
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    with joining.joined(job.find()):
        config, mesh = toy_config(steps=steps, checkpoint_every=every, eval_every=50, log_every=40), meshes.make_mesh()
        train.run(SlowToy(config, mesh), config, mesh, workdir)


if __name__ == "__main__":
    sys.exit(errors.exit_code(main))

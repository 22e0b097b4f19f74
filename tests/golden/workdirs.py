"""Small workdirs as an older revision left them, for the test that today's commands still open them.

Run it on a checkout of that revision, with the same configs: `python tests/golden/workdirs.py OUT.tar.gz`. They hold
what a run leaves but pictures and TensorBoard files. workdirs_3633523.tar.gz was made by revision 3633523.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SMALL = ["--config.log_every=5", "--config.checkpoint_every=10"]
VIT = {"width": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp": 8}
GRID = {"voxels": 8**3, "stride": 1.0, "alpha": 0.01, "blocks": 4.0, "samples": 20.0, "shaded": 20.0}
DEMO = [
    "--config=configs/dvgo.py:demo",
    "--config.downscale=16",
    "--config.batch_size=64",
    "--config.eval_every=10",
    "--config.lpips=none",
    "--config.model.coarse_steps=12",
    "--config.model.grow_at=(6,)",
    "--config.model.tighten_every=8",
    "--config.model.channels=3",
    "--config.model.widths=(8,)",
    *(f"--config.model.{stage}.{key}={value}" for stage in ("coarse", "fine") for key, value in GRID.items()),
]
RUNS = {
    "digits": [
        "--config=configs/vit.py:digits", "--config.steps=10", "--config.optim.warmup_steps=2",
        *(f"--config.model.{key}={value}" for key, value in VIT.items()),
    ],
    "simclr": [
        "--config=configs/simclr.py", "--config.dataset=digits", "--config.image_size=16", "--config.steps=4",
        "--config.batch_size=32", "--config.eval_every=4", "--config.model.width=2", "--config.method.hidden=8",
        "--config.method.dim=4",
    ],
    "demo": [*DEMO, "--config.steps=24"],
    "coarse": [*DEMO, "--config.steps=19"],
}  # fmt: skip
KEPT = ("config.json", "labels.json", "scene.json", "results.json", "metrics.jsonl", "checkpoints")

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sys.argv[1], "w:gz") as archive:
        for name, flags in RUNS.items():
            workdir = Path(folder) / name
            subprocess.run([sys.executable, "-m", "jaxhw.main", f"--workdir={workdir}", *flags, *SMALL], check=True)
            for path in workdir.iterdir():
                if path.name not in KEPT:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        # One that was stopped in its coarse stage: only the checkpoint of step 10 is left.
        shutil.rmtree(Path(folder) / "coarse" / "checkpoints" / "step_19")
        (Path(folder) / "coarse" / "results.json").unlink()
        archive.add(folder, arcname=".")

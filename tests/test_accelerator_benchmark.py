"""The accelerator's benchmark tests itself with tiny sizes, on whatever JAX has here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "accelerator.py"


def run(*flags):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(SCRIPT), *flags], env=environment, capture_output=True, text=True)


def test_unknown_parts_are_told(tmp_path):
    done = run(f"--out={tmp_path}", "--only=speed", "--workloads=vit,alexnet")
    assert done.returncode == 2 and "error: --workloads=alexnet must be of vit, " in done.stderr


@pytest.mark.slow
def test_everything_in_tiny(tmp_path):
    rng = np.random.default_rng(0)
    for split, label in [(split, label) for split in ("train", "test") for label in "ab"]:
        (tmp_path / "set" / split / label).mkdir(parents=True)
        for i in range(256 if split == "train" else 8):
            picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
            picture.save(tmp_path / "set" / split / label / f"{i}.png")
    flags = ["--tiny", "--workloads=vit,simclr,nerfacto_fast,dvgo,vanilla", "--minutes=30"]
    done = run(f"--out={tmp_path / 'out'}", f"--cifar100={tmp_path / 'set'}", "--lego=demo", *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "accelerator.json").read_text())
    differences = found["agreement"]["differences"]
    assert len(differences) == 11 and all(value < found["agreement"]["bound"] for value in differences.values())
    assert found["peak"]["bfloat16"] > 0 and found["peak"]["bytes"] > 0
    for name in ("vit", "simclr", "nerfacto_fast", "dvgo", "vanilla"):
        assert found["speed"][name]["jaxhw, float32"]["rate"] > 0, found["speed"][name]
    assert len(found["recipes"]) == 3 and all("steps" in results for results in found["recipes"].values()), done.stdout
    assert "| vit: jaxhw, float32 |" in (tmp_path / "out" / "accelerator.md").read_text()

# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Features without labels
#
# SimCLR learns from pictures alone; then a linear classifier on its frozen features tells how much it has learnt,
# beside one on a network that has learnt nothing. About ten minutes on a free runtime with a GPU; a CPU sees fewer
# pictures.

# %%
REPO = "https://github.com/jaxhw/jaxhw"

import glob
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec("jaxhw"):  # with what the runtime's processor needs
    gpu, tpu = glob.glob("/dev/nvidia[0-9]*"), glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    extra = "[cuda12]" if gpu else "[tpu]" if tpu else ""
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"jaxhw{extra} @ git+{REPO}"], check=True)

import jax

PROCESSOR = jax.default_backend()
print(f"{len(jax.devices())} x {jax.devices()[0].device_kind} ({PROCESSOR})")

# %% [markdown]
# What is trained, and for how long. Any key of a config can stand in `MORE`.

# %% tags=["parameters"]
RUNS = "runs"
PRETRAINING, DATA = "simclr", "tfds:cifar10"  # or byol, simsiam, barlow_twins, vicreg, moco
STEPS = 150 if PROCESSOR == "cpu" else 3000
MORE = []

# %%
import json
from pathlib import Path

from IPython.display import Image, display

from jaxhw.__main__ import main


def jaxhw(*arguments):
    """The command of that name; stops the notebook where it fails."""
    assert main([str(argument) for argument in arguments]) == 0


def train(config, workdir, *options):
    """Trains, or continues what was interrupted; gives results.json."""
    jaxhw("train", f"--config=configs/{config}.py", f"--workdir={workdir}", f"--config.dataset={DATA}", *options, *MORE)
    return json.loads((Path(workdir) / "results.json").read_text())


# %% [markdown]
# ## Pre-training
#
# The curves say whether features form: `knn_accuracy` of held-out pictures rises, `feature_std` does not fall to zero.

# %%
train(PRETRAINING, f"{RUNS}/{PRETRAINING}", f"--config.steps={STEPS}", f"--config.eval_every={max(1, STEPS // 5)}")
display(Image(f"{RUNS}/{PRETRAINING}/curves.png"))

# %% [markdown]
# ## What the features are good for

# %%
learnt = train("linear", f"{RUNS}/linear", f"--config.init_from={RUNS}/{PRETRAINING}")
random = train("linear", f"{RUNS}/linear_random")
for name, results in (("learnt", learnt), ("random", random)):
    print(f"a linear classifier on {name} features: {results['test_accuracy']:.1%} of the test set")

# %% [markdown]
# ## The long version
#
# 50 epochs, the recipe of `configs/simclr.py`: an hour or two. Interrupt it and run the cell again: it goes on.

# %%
LONG = False
if LONG:
    train(PRETRAINING, f"{RUNS}/{PRETRAINING}_long")
    train("linear", f"{RUNS}/linear_long", f"--config.init_from={RUNS}/{PRETRAINING}_long")
    display(Image(f"{RUNS}/{PRETRAINING}_long/curves.png"))

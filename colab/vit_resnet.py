# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # ViT against ResNet
#
# The same data, the same number of steps, nearly the same number of parameters: a vision transformer beside a
# residual network. About ten minutes on a free runtime with a GPU. With so little data and time the ResNet wins; the
# long version shows how far a ViT comes with the augmentation that it needs.

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
DATA = "tfds:cifar100"
STEPS = 100 if PROCESSOR == "cpu" else 2000
MORE, ONLY_VIT = [], []

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
    jaxhw("train", f"--config=configs/{config}", f"--workdir={workdir}", f"--config.dataset={DATA}", *options, *MORE)
    return json.loads((Path(workdir) / "results.json").read_text())


# %%
short = (f"--config.steps={STEPS}", f"--config.eval_every={max(1, STEPS // 5)}")
vit = train("vit.py", f"{RUNS}/vit", *short, *ONLY_VIT)
resnet = train("resnet18.py", f"{RUNS}/resnet18", *short)
for name, results in (("ViT", vit), ("ResNet-18", resnet)):
    accuracy, seconds = results["test_accuracy"], results["seconds"]
    print(f"{name}: {results['parameters']:,} parameters, {accuracy:.1%} of the test set, {seconds:.0f} s")

# %% [markdown]
# ## Their curves over each other, and what the ViT takes for what

# %%
jaxhw("compare", f"{RUNS}/vit", f"{RUNS}/resnet18", f"--out={RUNS}/compared")
for picture in sorted(Path(f"{RUNS}/compared").glob("*.png")):
    display(Image(str(picture)))
display(Image(f"{RUNS}/vit/test_confusion.png"))

# %% [markdown]
# ## The long version
#
# 100 epochs of the ViT with AdamW, mixup, CutMix and stochastic depth, 60 of the ResNet, both in bfloat16: for a GPU or
# TPU, an hour or more on a free one. Interrupt it and run the cell again: it goes on.

# %%
LONG = False
if LONG:
    train("vit.py:accelerator", f"{RUNS}/vit_long")
    train("resnet18.py:accelerator", f"{RUNS}/resnet18_long")
    jaxhw("compare", f"{RUNS}/vit_long", f"{RUNS}/resnet18_long", f"--out={RUNS}/compared_long")

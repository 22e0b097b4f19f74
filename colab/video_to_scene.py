# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # From a video to a scene one can walk through
#
# Walk once around an object with your phone, half a minute, slowly; upload the video here. COLMAP finds where each
# frame was taken, a radiance field learns the scene, and you look at it from where no camera was. About ten minutes
# with a GPU.

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
# Your video, or a folder of photos; empty: you are asked for one, and without any a small ray-traced scene is learnt.

# %% tags=["parameters"]
RUNS = "runs"
VIDEO = ""
FRAMES = 150
STEPS = 900 if PROCESSOR == "cpu" else 3000
PORT = 8080
MORE = []

# %%
from pathlib import Path

from IPython.display import IFrame, Image, Video, display

from jaxhw.__main__ import main


def jaxhw(*arguments):
    """The command of that name; stops the notebook where it fails."""
    assert main([str(argument) for argument in arguments]) == 0


IN_COLAB = "google.colab" in sys.modules
if not VIDEO and IN_COLAB:
    from google.colab import files

    VIDEO = next(iter(files.upload()), "")

# %% [markdown]
# ## Where was each frame taken?

# %%
SCENE = "demo"
if VIDEO:
    SCENE = f"{RUNS}/scene"
    jaxhw("capture", VIDEO, f"--out={SCENE}", f"--frames={FRAMES}")
    for picture in sorted(Path(SCENE).glob("*.png")):
        display(Image(str(picture)))

# %% [markdown]
# ## Learning the scene
#
# The pictures beside their truth, error and depth are held-out ones, which the run has not seen.

# %%
CONFIG = "configs/nerfacto.py" if VIDEO else "configs/dvgo.py:demo"
NERF = f"{RUNS}/nerf"
LENGTH = [f"--config.steps={STEPS}"] if VIDEO else []
jaxhw("train", f"--config={CONFIG}", f"--config.scene={SCENE}", f"--workdir={NERF}", *LENGTH, *MORE)
display(Image(f"{NERF}/curves.png"))
for picture in [path for split in ("test", "val") for path in sorted(Path(f"{NERF}/{split}").glob("*.png"))][:3]:
    display(Image(str(picture)))

# %% [markdown]
# ## A flight around it

# %%
jaxhw("render", f"--workdir={NERF}", "--path=orbit", f"--frames={FRAMES}")
display(Video(f"{NERF}/orbit.mp4", embed=True))

# %% [markdown]
# ## Walk through it
#
# Drag to turn, WASD to walk; click a camera to look through it.

# %%
import time
import urllib.request

viewer = subprocess.Popen([sys.executable, "-m", "jaxhw", "view", f"--workdir={NERF}", f"--port={PORT}"])
for _ in range(120):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}")
        break
    except OSError:  # not yet
        assert viewer.poll() is None, "the viewer has ended"
        time.sleep(1)
if IN_COLAB:
    from google.colab import output

    output.serve_kernel_port_as_iframe(PORT, height=600)
else:
    display(IFrame(f"http://127.0.0.1:{PORT}", width="100%", height=600))

# %% [markdown]
# Take it along: a point cloud and a mesh, in the video's own frame.

# %%
TAKE = False
if TAKE:
    viewer.terminate()  # it needs the processor as well
    jaxhw("export", f"--workdir={NERF}", "--what=points", "--count=1000000")
    jaxhw("export", f"--workdir={NERF}", "--what=mesh", f"--out={NERF}/mesh.glb")

# %% [markdown]
# ## The long version
#
# 20,000 steps, with the cameras refined as well. Interrupt it and run the cell again: it goes on.

# %%
LONG = False
if LONG:
    refined = ("--config.cameras.refine=SE3", "--config.cameras.preconditioned=True", "--config.steps=20000")
    jaxhw("train", f"--config={CONFIG}", f"--config.scene={SCENE}", f"--workdir={NERF}_long", *refined)
    jaxhw("render", f"--workdir={NERF}_long", "--path=orbit", f"--frames={FRAMES}")
    display(Video(f"{NERF}_long/orbit.mp4", embed=True))

"""A tiny run and its viewer, served."""

import contextlib
import dataclasses
import threading

from jaxhw import mesh as meshes
from jaxhw.nerf.results import pictures
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.task import Nerf
from jaxhw.nerf.viewer.viewer import Viewer
from jaxhw.serving import Address
from tests.nerf.running import trained
from tests.nerf.test_task import tiny
from tests.ports import free_port


def run_of(workdir, **changes):
    """A workdir with a few steps of the demo in it, opened with its pictures."""
    trained(workdir, tiny(**changes), Nerf)
    return opened(workdir)


def opened(workdir):
    run = Run.open(workdir, meshes.make_mesh(1))
    return run.with_scene(pictures.of_run(run, workdir))


@contextlib.contextmanager
def served(run, workdir, **changes):
    """A viewer that renders in a thread; small chunks, as pictures are small."""
    viewer = Viewer(dataclasses.replace(run, **changes), workdir, Address(port=free_port()), "--port")
    viewer.loop.chunk, ended = 256, threading.Event()

    def render():
        while not ended.is_set():
            if not viewer.advance():
                viewer.wait(0.05)

    thread = threading.Thread(target=render)
    thread.start()
    try:
        yield viewer
    finally:
        ended.set()
        thread.join()
        viewer.close()

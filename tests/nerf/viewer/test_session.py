"""A browser's snapshot, and threads that overtake each other; without a browser."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.viewer import comparison
from jaxhw.nerf.viewer import session as session_module
from jaxhw.nerf.viewer.crop import EVERYWHERE
from jaxhw.nerf.viewer.render_loop import Picture, View, Wanted
from jaxhw.nerf.viewer.session import Session
from tests.nerf.fields.dvgo.made import ring
from tests.nerf.viewer.fakes import namespace


@pytest.fixture
def saved():
    """What the browser was sent: (name, picture)."""
    return []


@pytest.fixture
def session(saved):
    """A session with what a snapshot needs, which wants the picture of a camera."""
    one = object.__new__(Session)
    one.lock = threading.RLock()
    one.client = namespace(
        scene=namespace(set_background_image=lambda *args, **values: None),
        flush=lambda: None,
        send_file_download=lambda name, content, **values: saved.append((name, Image.open(io.BytesIO(content)))),
    )
    one.mode, one.problem, one.workdir = namespace(value="colour"), namespace(content=""), Path("runs/toy")
    one.last, one.saving, one.main = None, False, View(one._show, one._fail)
    one.crops, one.wake = namespace(value=False), lambda: None
    one.main.wanted = Wanted(ring(n=3)[0], EVERYWHERE)
    return one


def show(session, size, finest):
    """The session gets a grey picture of what it wants."""
    flat = np.full(size[::-1], 0.5, np.float32)
    rendered = Rendered(np.repeat(flat[..., None], 3, -1), flat, flat)
    wanted = session.main.wanted
    session._show(Picture(wanted, wanted.camera.resized(size), rendered, finest))


def test_it_waits_for_the_finest_picture(session, saved):
    session.snapshot()
    assert session.problem.content == "the picture is saved when it is complete"
    show(session, (8, 6), finest=False)
    assert not saved
    show(session, (16, 12), finest=True)
    show(session, (16, 12), finest=True)  # newer variables: one snapshot is enough
    ((name, picture),) = saved
    assert name == "toy_colour.png" and picture.size == (16, 12) and np.unique(picture).tolist() == [128]


def test_a_complete_picture_is_saved_at_once_unless_the_camera_has_moved(session, saved):
    show(session, (16, 12), finest=True)
    session.snapshot()
    assert len(saved) == 1
    session.main.wanted = Wanted(ring(n=3)[1], EVERYWHERE)
    session.snapshot()
    assert len(saved) == 1
    show(session, (16, 12), finest=True)
    assert len(saved) == 2


def test_a_thread_that_is_overtaken_brings_no_older_camera_back(session):
    older, newer = ring(n=3)[1], ring(n=3)[2]
    window, read, go_on = namespace(camera=older), threading.Event(), threading.Event()

    def camera():
        shown = window.camera
        if shown is older:
            read.set()
            go_on.wait()
        return shown

    session.camera = camera
    threads = [threading.Thread(target=session.want) for _ in range(2)]
    threads[0].start()
    read.wait()
    window.camera = newer
    threads[1].start()
    threads[1].join(0.3)  # it may end first, and must not be the one that counts less
    go_on.set()
    for thread in threads:
        thread.join()
    assert session.main.wanted.camera is newer


def test_the_panel_waits_for_the_frame_that_was_clicked_last(session, monkeypatch):
    cameras, shown = ring(n=3), []
    run = namespace(cameras=cameras, scene=None, renderer=namespace(background=None))
    session.run, session.frame = lambda: run, View(None, None)
    session.panel, session.panel_line = namespace(), namespace()
    monkeypatch.setattr(comparison, "panel", lambda scene, frame, *rest: (None, shown.append(frame)))
    monkeypatch.setattr(session_module, "put_browser", lambda *args: None)
    session.look_through(0)
    before = session.frame.wanted
    session.look_through(1)
    for wanted in (before, session.frame.wanted):
        session._show_frame(Picture(wanted, wanted.camera, None, finest=True))
    assert shown == [1]

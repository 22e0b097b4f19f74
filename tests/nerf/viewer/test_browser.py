"""A real page in a headless Chromium: the scene, moving, a frustum that is clicked, a path that is filmed."""

import itertools
import time

import mediapy
import numpy as np
import pytest
from PIL import Image

from jaxhw.__main__ import main
from jaxhw.nerf.cameras.cameras import project
from jaxhw.nerf.results import panels
from jaxhw.nerf.viewer import path_editor
from jaxhw.nerf.viewer.cameras import from_browser
from tests.nerf.viewer import browser
from tests.nerf.viewer.made import run_of, served
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,  # half a minute: the page is drawn in software
    pytest.mark.skipif(browser.chromium() is None, reason="no chromium (Debian: apt-get install chromium)"),
]
SIZE = (960, 700)
SCENE = np.s_[100:560, 40:560]  # rows and columns of the window that no panel covers


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("seen")


@pytest.fixture(scope="module")
def run(workdir):
    return run_of(workdir)


@pytest.fixture(scope="module")
def viewer(run, workdir):
    with served(run, workdir) as viewer:
        viewer.loop.chunk = 2048
        yield viewer


@pytest.fixture(scope="module")
def page(viewer, tmp_path_factory):
    url = f"http://127.0.0.1:{viewer.server.get_port()}"
    with browser.opened(url, tmp_path_factory.mktemp("profile"), SIZE) as page:
        wait_for(lambda: viewer.sessions)
        wait_for(lambda: complete(viewer))
        yield page


def session(viewer):
    return next(iter(viewer.sessions.values()))


def complete(viewer):
    """Whether the picture of where the camera is now is on the page in its finest size."""
    one = session(viewer)
    return one.last and one.last.finest and one.last.wanted is one.main.wanted


def rests(camera):
    """Whether a browser's camera, which glides on for a while, stands still."""
    before = camera.position
    time.sleep(1.5)
    return np.array_equal(before, camera.position)


def drag(viewer, page, start, end):
    """Drags the scene; returns when the picture of where the camera has come to is complete."""
    position = session(viewer).client.camera.position
    page.drag(start, end)
    wait_for(lambda: np.linalg.norm(session(viewer).client.camera.position - position) > 0.1)
    wait_for(lambda: rests(session(viewer).client.camera) and complete(viewer))


def seen(page):
    return page.screenshot()[SCENE].astype(float)


def test_the_page_shows_the_scene_as_it_is_rendered(viewer, page):
    one = session(viewer)
    viewer.set_visible(viewer.frusta.now, False)
    rendered = Image.fromarray(panels.to_uint8(one.last.rendered.colour)).resize(page.size())
    expected = np.asarray(rendered)[SCENE].astype(float)
    assert expected.std() > 10
    wait_for(lambda: np.abs(seen(page) - expected).mean() < 6)
    viewer.set_visible(viewer.frusta.now, True)


def test_a_frustum_that_is_clicked_is_looked_through(run, viewer, page):
    # From farther back, the camera that the page began with is ahead, in the window's middle.
    one, frame = session(viewer), run.scene.split["train"][0]
    pose, depth = np.asarray(run.cameras.pose[frame]), viewer.frusta.depth
    page.wheel(300, 300, 600)
    wait_for(lambda: np.linalg.norm(one.client.camera.position - pose[:, 3]) > 2 * depth)
    wait_for(lambda: rests(one.client.camera))
    camera = from_browser(one.client.camera, page.size()[1])
    middle = pose[:, 3] + 0.95 * depth * pose[:, 2]  # of the frustum's picture
    x, y = np.asarray(project(camera, camera.pose[:, :3].T @ (middle - camera.pose[:, 3]))).tolist()
    page.click(x, y)
    wait_for(lambda: one.looking == frame)
    wait_for(lambda: np.abs(one.client.camera.position - pose[:, 3]).max() < 1e-3)
    wait_for(lambda: "picture, rendered; error, depth" in page.text())
    wait_for(lambda: complete(viewer))


def test_dragging_moves_the_camera_and_the_picture(viewer, page):
    before = seen(page)
    drag(viewer, page, (300, 350), (420, 330))
    wait_for(lambda: np.abs(seen(page) - before).mean() > 2)


def test_a_path_is_made_saved_and_filmed(viewer, page, workdir, monkeypatch):
    monkeypatch.setattr(path_editor, "FPS", 2.0)  # a minute of playing: a busy machine renders little of it
    page.unfold("Path")
    page.press("add this view")
    wait_for(lambda: "1 views" in page.text())
    drag(viewer, page, (300, 350), (450, 350))
    page.press("add this view")
    wait_for(lambda: "2 views" in page.text())
    page.press("play")
    passed = set()  # where pictures were rendered from
    wait_for(lambda: passed.add(tuple(session(viewer).last.camera.pose[:, 3].tolist())) or len(passed) > 3)
    page.press("play")  # which stops it
    page.press("save")
    path = workdir / "camera_path.json"
    wait_for(path.exists)
    assert main(["render", f"--workdir={workdir}", f"--path={path}", "--scale=0.1"]) == 0
    video = mediapy.read_video(workdir / "camera_path.mp4")
    assert len(video) == 120 and np.abs(video[0].astype(float) - video[-1]).mean() > 2


def test_a_camera_that_is_dragged_is_followed_before_the_mouse_rests(viewer, page):
    one = session(viewer)
    wait_for(lambda: rests(one.client.camera) and complete(viewer))
    start = one.client.camera.position
    page.mouse("mousePressed", 300, 350)
    there_and_back = itertools.cycle([*range(300, 420, 2), *range(420, 300, -2)])

    def followed():
        page.mouse("mouseMoved", next(there_and_back), 350)
        return np.linalg.norm(one.last.camera.pose[:, 3] - start) > 0.1

    wait_for(followed, every=0.03)
    page.mouse("mouseReleased", 420, 350)
    wait_for(lambda: complete(viewer))

"""Browsers at a viewer, as the server sees them: real connections, no browser."""

import contextlib
import copy
import json
from typing import ClassVar

import jax
import numpy as np
import pytest
import viser

from jaxhw.errors import UserError
from jaxhw.nerf.results import camera_path
from jaxhw.nerf.viewer import viewer as viewer_module
from jaxhw.nerf.viewer.viewer import Viewer
from jaxhw.serving import Address
from tests.nerf.viewer.client import Client
from tests.nerf.viewer.made import run_of, served


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("viewed")


@pytest.fixture(scope="module")
def run(workdir):
    return run_of(workdir)


@pytest.fixture
def viewer(run, workdir):
    with served(run, workdir) as viewer:
        yield viewer


@pytest.fixture
def client(viewer):
    with Client(f"http://127.0.0.1:{viewer.server.get_port()}") as client:
        client.look()
        yield client


def finest(client, count=1):
    """The newest picture in its finest size, once there are so many."""
    fine = lambda: [p for p in tuple(client.pictures) if p.shape == (240, 320, 3)]
    client.wait(lambda: len(fine()) >= count)
    return fine()[-1].astype(float)


def small(client):
    client.set("size", "240 rows")
    return finest(client)


def test_a_browser_gets_pictures_and_moving_changes_them(client):
    first = small(client)
    assert first.std() > 5
    client.look(turn=0.4)
    assert np.abs(finest(client, 2) - first).mean() > 1


def test_two_browsers_have_cameras_of_their_own(viewer, client):
    small(client)
    with Client(f"http://127.0.0.1:{viewer.server.get_port()}") as other:
        other.look((0.0, 2.0, 0.5))
        assert np.abs(small(other) - finest(client)).mean() > 1
        assert len(viewer.sessions) == 2


def test_all_cameras_are_there_and_a_click_looks_through_one(run, viewer, client):
    client.wait(lambda: f"/cameras/{len(run.cameras) - 1}" in client.nodes)
    frame = 3
    small(client)
    client.click(f"/cameras/{frame}")
    client.wait(lambda: "SetCameraPositionMessage" in client.sets)
    client.wait(lambda: f"{run.scene.names[frame]}: picture, rendered; error, depth" in client.text())
    position = next(iter(viewer.sessions.values())).client.camera.position
    np.testing.assert_allclose(position, run.cameras.pose[frame][:, 3], atol=1e-6)


def test_a_browser_that_still_says_where_it_was_is_led_all_the_same(run, viewer, client, monkeypatch):
    small(client)
    handle = type(next(iter(viewer.sessions.values())).client.camera)
    position = handle.position

    def late(camera, value):  # what the browser sent before comes in now
        before = copy.copy(camera._state)
        position.fset(camera, value)
        camera._state = before

    monkeypatch.setattr(handle, "position", property(position.fget, late))
    pose = run.cameras.pose[3]
    client.click("/cameras/3")
    sent = lambda kind, name: np.array(client.sets[f"SetCamera{kind}Message"][name])
    client.wait(lambda: np.allclose(sent("Position", "position"), pose[:, 3], atol=1e-6))
    client.wait(lambda: "SetCameraFovMessage" in client.sets and not sent("Fov", "initial"))  # the last of them
    ahead = sent("LookAt", "look_at") - pose[:, 3]
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), pose[:, 2], atol=1e-6)


def test_modes_and_the_crop_box_change_the_picture(client):
    colour = small(client)
    client.set("show", "opacity")
    client.wait(lambda: np.ptp(client.pictures[-1].astype(int), axis=-1).max() < 8)  # grey
    client.set("show", "colour")
    client.set("lower corner", (50.0, 50.0, 50.0))
    client.set("upper corner", (51.0, 51.0, 51.0))
    client.set("crop", True)
    client.wait(lambda: client.pictures[-1].shape == colour.shape and client.pictures[-1].std() < 1)  # nothing is there


def test_a_path_is_made_and_saved_and_reads_as_it_was(run, workdir, client):
    small(client)
    client.set("save", True)
    client.wait(lambda: "the path has no views yet" in client.text())
    client.set("add this view", True)
    client.wait(lambda: "1 views" in client.text())
    client.look((0.0, 2.0, 0.5))
    finest(client, 2)
    client.set("add this view", True)
    client.wait(lambda: "2 views" in client.text())
    client.set("frames", 7)
    client.set("save", True)
    client.wait(lambda: "films it" in client.text())
    path = camera_path.read(workdir / "camera_path.json", run.scene.to_capture)
    assert len(path) == 7 and json.loads((workdir / "camera_path.json").read_text())["fps"] == 30
    np.testing.assert_allclose(path.pose[[0, -1], :, 3], [[2, 0, 0.5], [0, 2, 0.5]], atol=1e-5)
    assert path.focal[0, 1] == pytest.approx(path.size[0, 1] / 2 / np.tan(0.4), rel=1e-4)
    client.set("save", True)  # nothing is written over
    client.wait(lambda: (workdir / "camera_path_2.json").exists())


def test_a_workdir_that_has_gone_costs_the_path_alone(run, tmp_path):
    gone = tmp_path / "gone"
    with served(run, gone) as viewer, Client(f"http://127.0.0.1:{viewer.server.get_port()}") as client:
        client.look()
        small(client)
        client.set("orbit", True)
        client.wait(lambda: "25 views" in client.text())
        client.set("save", True)
        client.wait(lambda: "gone is not there any more: nothing is saved" in client.text())
        assert not gone.exists()


def test_a_render_error_is_on_the_page_and_the_next_picture_takes_it_away(viewer, client):
    small(client)
    draw = viewer.loop.draw

    def fails(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating")

    viewer.loop.draw = fails
    client.look(turn=0.1)
    client.wait(lambda: "this picture cannot be rendered: RESOURCE_EXHAUSTED" in client.text())
    viewer.loop.draw = draw
    client.look(turn=0.2)
    client.wait(lambda: "cannot be rendered" not in client.text())


def test_weights_that_diverged_make_a_picture_all_the_same(run, workdir):
    broken = jax.tree.map(lambda a: a * np.nan if np.issubdtype(a.dtype, np.floating) else a, run.variables.params)
    with contextlib.ExitStack() as closing:
        viewer = closing.enter_context(served(run, workdir, variables=run.variables.replace(params=broken)))
        client = closing.enter_context(Client(f"http://127.0.0.1:{viewer.server.get_port()}"))
        client.look()
        small(client)
        assert "cannot be rendered" not in client.text()


def test_browsers_that_leave_in_the_midst_of_a_picture_cost_nothing(viewer, client):
    with contextlib.ExitStack() as closing:
        many = [closing.enter_context(Client(f"http://127.0.0.1:{viewer.server.get_port()}")) for _ in range(10)]
        for other in many:
            other.look()
        client.wait(lambda: len(viewer.sessions) == 11)
    client.wait(lambda: len(viewer.sessions) == 1 and len(viewer.loop.views) == 2)
    small(client)


def test_a_taken_port_is_an_error_that_names_a_free_one(run, workdir, viewer):
    port = viewer.server.get_port()
    with pytest.raises(UserError, match=rf"port {port} is in use; --port=\d+ is free"):
        Viewer(run, workdir, Address(port=port), "--port")


def test_it_listens_to_this_machine_alone_and_says_how_to_reach_it(viewer):
    assert viewer.server.get_host() == "127.0.0.1"
    lines = Address(port=8123).lines()
    assert "http://127.0.0.1:8123" in lines and "ssh -L 8123:127.0.0.1:8123" in lines
    assert "no password" in Address("0.0.0.0", 8123).lines()


class Tunnel:
    """Stands for viser's way to its server: it gives an address, or never anything."""

    address: ClassVar[str | None] = "https://shared"
    opened: ClassVar[list[int]] = []

    def __init__(self, domain, port):
        self.opened.append(port)

    def on_disconnect(self, callback):
        pass

    def on_connect(self, callback):
        if self.address:
            callback(1)

    def get_status(self):
        return "connected" if self.address else "connecting"

    def get_url(self):
        return self.address

    def close(self):
        pass


@pytest.fixture
def tunnel(monkeypatch):
    monkeypatch.setattr(viser._viser, "ViserTunnel", Tunnel)
    monkeypatch.setattr(Tunnel, "opened", [])
    return Tunnel


def test_it_is_shared_when_its_owner_asks_and_not_when_a_browser_does(viewer, client, tunnel):
    client.send("ShareUrlRequest")
    small(client)
    client.set("show", "opacity")  # which is answered after it
    client.wait(lambda: np.ptp(client.pictures[-1].astype(int), axis=-1).max() < 8)
    assert not tunnel.opened
    assert viewer.share() == "https://shared" and tunnel.opened == [viewer.server.get_port()]


def test_a_server_that_gives_no_address_is_one_line(viewer, tunnel, monkeypatch):
    monkeypatch.setattr(tunnel, "address", None)
    monkeypatch.setattr(viewer_module, "PATIENCE", 0.3)
    with pytest.raises(UserError, match="gives no address to share"):
        viewer.share()

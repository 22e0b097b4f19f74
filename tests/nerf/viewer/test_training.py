"""A run that is watched: the same numbers, a share of its time, and faults that end nothing."""

import threading

import jax
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw import metrics, train
from jaxhw.errors import UserError
from jaxhw.nerf.task import Nerf
from jaxhw.nerf.viewer import session, training
from tests.nerf.running import trained
from tests.nerf.test_task import tiny
from tests.nerf.viewer.client import Client
from tests.ports import free_port


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Copies and small pictures in every step."""
    monkeypatch.setitem(session.HEIGHTS, "480 rows", 24)
    monkeypatch.setattr(training, "RENEWED", 0.0)
    monkeypatch.setattr(training, "TOLD", 0.0)


def short(**changes):
    """30 steps with two evaluations of one picture."""
    return tiny(**{"eval_every": 15, "eval_all_every": 0} | changes)


class Browsing(Nerf):
    """Opens a browser after the first step, and goes on when it has a picture; `at` that step something happens."""

    client: Client
    happens = staticmethod(lambda client: None)

    def observers(self, workdir):
        (watching,) = super().observers(workdir)
        original = watching.after_step
        port = self.config.viewer_port

        def after_step(step, snapshot):
            original(step, snapshot)
            if step == 1:
                Browsing.client = Client(f"http://127.0.0.1:{port}")
                self.client.look()
                self.client.wait(lambda: watching.viewer.watched)
                type(self).happens(self.client)

        watching.after_step = after_step
        return (watching,)


def watched(workdir, **changes):
    return trained(workdir, short(viewer=True, viewer_port=free_port(), viewer_share=1.0, **changes), Browsing)


def test_numbers_are_the_same_with_a_browser_that_looks_on(tmp_path):
    alone, lines = trained(tmp_path / "alone", short())
    seen, watched_lines = watched(tmp_path / "watched")
    assert len(Browsing.client.pictures) > 1
    assert lines == watched_lines
    assert {k: v for k, v in alone.items() if k != "seconds"} == {k: v for k, v in seen.items() if k != "seconds"}
    assert "the training has ended" in Browsing.client.text()


@pytest.mark.slow
def test_refined_cameras_are_shown_and_numbers_stay(tmp_path):
    refined = {"cameras": {"refine": "SO3xR3", "perturb": (1.0, 0.01)}}
    _, lines = trained(tmp_path / "alone", short(**refined))
    _, seen = watched(tmp_path / "watched", **refined)
    assert lines == seen and len(Browsing.client.pictures) > 1
    assert any(name.startswith("/given/") for name in Browsing.client.nodes)


def test_nothing_is_rendered_nor_copied_while_nobody_is_there(tmp_path, monkeypatch):
    copies, copy = [], training.Watching._renew
    monkeypatch.setattr(training.Watching, "_renew", lambda *a: (copies.append(1), copy(*a)))
    trained(tmp_path, short(viewer=True, viewer_port=free_port()))
    assert not copies


def test_a_render_error_ends_no_training(tmp_path, monkeypatch, capsys):
    def fails(*args):
        raise RuntimeError("no memory for the copy")

    monkeypatch.setattr(training.Watching, "_renew", fails)
    results, _ = watched(tmp_path)
    assert results["test_psnr"] > 5
    assert "warning: the viewer shows nothing of step" in capsys.readouterr().err


def test_a_run_that_diverges_while_it_is_watched_says_so_and_frees_its_port(tmp_path):
    class Diverging(Browsing):
        def batch(self, step):
            batch = super().batch(step)
            return batch if step < 8 else batch | {"pixel": batch["pixel"] * np.nan}

    port = free_port()
    config = short(viewer=True, viewer_port=port, viewer_share=1.0)
    mesh = meshes.make_mesh(1)
    with pytest.raises(train.Diverged, match="not finite"):
        train.run(Diverging(config, mesh), config, mesh, tmp_path)
    Nerf(config, mesh)  # which refuses a taken port


def test_training_pauses_and_goes_on_when_the_browser_leaves(tmp_path):
    class Pausing(Browsing):
        @staticmethod
        def happens(client):
            client.set("pause training", True)
            client.wait(lambda: "go on training" in client.controls)
            threading.Thread(target=lambda: (client.wait(lambda: client.pictures), client.socket.close())).start()

    config = short(viewer=True, viewer_port=free_port(), viewer_share=0.1)
    results, _ = trained(tmp_path, config, Pausing)
    assert results["steps"] == 30 and Browsing.client.pictures


def test_the_port_is_looked_at_before_anything_is_written(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use; --config.viewer_port=\d+ is free"):
            trained(tmp_path / "run", short(viewer=True, viewer_port=port))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_shares_that_cannot_be(share):
    with pytest.raises(UserError, match=r"config\.viewer_share="):
        Nerf(short(viewer=True, viewer_share=share), meshes.make_mesh(1))


def test_a_run_goes_on_with_another_viewer(tmp_path):
    results, _ = trained(tmp_path, short())
    again, _ = trained(tmp_path, short(viewer=True, viewer_port=free_port(), viewer_share=0.5))
    assert results == again and metrics.results(tmp_path) == jax.tree.map(lambda v: v, results)

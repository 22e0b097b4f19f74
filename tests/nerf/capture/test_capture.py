"""From photos of a room whose cameras are known to a scene, through COLMAP; kills, added photos, wrong input."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw.errors import UserError
from jaxhw.nerf.capture import capture
from jaxhw.nerf.capture.capture import Request
from jaxhw.nerf.scenes import scene
from tests.nerf.capture import room

COUNT = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """(the folder, its cameras)"""
    folder = tmp_path_factory.mktemp("photos") / "room"
    return folder, room.photograph(folder, COUNT)


@pytest.fixture(scope="module")
def captured(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("captured") / "room"
    told = capture.run(Request((photos[0],), out, camera="SIMPLE_PINHOLE"))
    assert told.startswith(f"{COUNT} of {COUNT} pictures have a pose")
    return out


def report(out):
    return json.loads((out / "report.json").read_text())


def aligned(found, truth):
    """(found positions moved onto the true ones by a similarity, rotation errors in radians)."""
    a, b = found[:, :, 3], truth[:, :, 3]
    u, s, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u * signs @ vt
    scale = (s * signs).sum() / ((a - a.mean(0)) ** 2).sum()
    turned = np.einsum("ij,njk->nik", rotation, found[:, :, :3])
    cosine = (np.einsum("nij,nij->n", turned, truth[:, :, :3]) - 1) / 2
    return scale * (a - a.mean(0)) @ rotation.T + b.mean(0), np.arccos(np.clip(cosine, -1, 1))


def test_the_true_cameras_are_found_within_a_percent(captured, photos):
    loaded, truth = scene.load(str(captured), split="every:4"), photos[1]
    assert [Path(name).stem for name in loaded.names] == [f"{i:03d}" for i in range(COUNT)]
    found, angles = aligned(np.asarray(loaded.cameras.pose, float), np.asarray(truth.pose, float))
    extent = np.linalg.norm(np.ptp(truth.pose[:, :, 3], axis=0))
    assert np.linalg.norm(found - truth.pose[:, :, 3], axis=1).max() < 0.01 * extent
    assert np.degrees(angles.max()) < 0.5
    np.testing.assert_allclose(loaded.cameras.focal, room.FOCAL, rtol=0.01)


def test_what_a_capture_leaves(captured, photos):
    content = json.loads((captured / "transforms.json").read_text())
    assert content["w"] == room.WIDTH and content["camera_model"] == "OPENCV" and len(content["frames"]) == COUNT
    assert all((captured / frame["file_path"]).is_file() for frame in content["frames"])
    assert (captured / "sparse_pc.ply").read_bytes().startswith(b"ply")
    for name in ("cameras.png", "contact_sheet.jpg", "points.jpg"):
        assert Image.open(captured / "report" / name).size[0] > 100
    told = report(captured)
    assert told["registered"] == COUNT and told["reprojection_error"] < 1
    assert all(picture["features"] > 500 and picture["matches"] > 2 for picture in told["pictures"])
    assert (photos[0] / "000.png").read_bytes() == (captured / "images" / "000.png").read_bytes()
    text = (captured / "report.md").read_text()
    assert f"{COUNT} of {COUNT} pictures" in text and str(told["well_seen_points"][0]["id"]) in text


def test_the_same_command_does_nothing_twice(captured, photos, capsys):
    before = (captured / "transforms.json").stat().st_mtime_ns
    capture.run(Request((photos[0],), captured, camera="SIMPLE_PINHOLE"))
    told = capsys.readouterr().err
    for phase in ("frames", "features", "matches 1", "model 1", "scene"):
        assert f"{phase}: done before" in told
    assert (captured / "transforms.json").stat().st_mtime_ns == before


def copied(captured, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(captured, out)
    return out


def test_two_points_and_a_length_make_metres(captured, photos, tmp_path):
    out = copied(captured, tmp_path)
    a, b = report(out)["well_seen_points"][0], report(out)["well_seen_points"][7]
    request = Request((photos[0],), out, camera="SIMPLE_PINHOLE", metres=(a["id"], b["id"], 0.3))
    capture.run(request)
    places = {point["id"]: np.array(point["position"]) for point in report(out)["well_seen_points"]}
    assert np.linalg.norm(places[a["id"]] - places[b["id"]]) == pytest.approx(0.3, rel=1e-6)
    # A scene's way back to the capture has that scale.
    positions = lambda folder: np.array(
        [f["transform_matrix"] for f in json.loads((folder / "transforms.json").read_text())["frames"]]
    )[:, :3, 3]
    ratio = 0.3 / np.linalg.norm(np.subtract(a["position"], b["position"]))
    np.testing.assert_allclose(positions(out), positions(captured) * ratio, rtol=1e-6, atol=1e-9)
    with pytest.raises(UserError, match="--metres names the point 999999, which the model does not have"):
        capture.run(Request((photos[0],), out, camera="SIMPLE_PINHOLE", metres=(a["id"], 999999, 0.3)))


def test_photos_that_were_added_extend_a_capture(photos, tmp_path, capsys):
    some, out = tmp_path / "some", tmp_path / "out"
    some.mkdir()
    for path in sorted(photos[0].iterdir())[:-3]:
        shutil.copy2(path, some)
    capture.run(Request((some,), out, camera="SIMPLE_PINHOLE"))
    features = (out / "capture" / "colmap.log").read_text().count("Features:")
    for path in sorted(photos[0].iterdir())[-3:]:
        shutil.copy2(path, some)
    assert capture.run(Request((some,), out, camera="SIMPLE_PINHOLE")).startswith(f"{COUNT} of {COUNT}")
    assert (out / "capture" / "colmap.log").read_text().count("Features:") == features + 3  # of the new ones alone


def test_masks_keep_features_away_and_are_the_scenes(photos, tmp_path):
    """The left half of every picture is masked."""
    masks, out = tmp_path / "given", tmp_path / "out"
    masks.mkdir()
    mask = np.full((room.HEIGHT, room.WIDTH), 255, np.uint8)
    mask[:, : room.WIDTH // 2] = 0
    for i in range(COUNT):
        Image.fromarray(mask).save(masks / f"{i:03d}.png")
    capture.run(Request((photos[0],), out, camera="SIMPLE_PINHOLE", masks=masks))
    seen = [place for point in report(out)["well_seen_points"] for place in point["seen"]]
    assert len(seen) > 50 and all(x >= room.WIDTH // 2 for _, x, _ in seen)
    pictures = scene.load(str(out), split="every:4").pictures
    assert not pictures.mask(0)[:, : room.WIDTH // 2].any() and pictures.mask(0)[:, room.WIDTH // 2 :].all()
    Image.fromarray(mask[:-1]).save(masks / "003.png")
    with pytest.raises(UserError, match=r"003\.png is 320 x 239, but its picture 003\.png is 320 x 240"):
        capture.run(Request((photos[0],), out, camera="SIMPLE_PINHOLE", masks=masks))


def test_a_model_that_exists_is_taken(captured, photos, tmp_path):
    out = tmp_path / "out"
    told = capture.run(Request((photos[0],), out, colmap=captured / "sparse" / "0"))
    assert told.startswith(f"{COUNT} of {COUNT}") and not (out / "capture" / "database.db").exists()
    one, other = ((folder / "transforms.json").read_text() for folder in (out, captured))
    assert json.loads(one) == json.loads(other)
    with pytest.raises(UserError, match=r"none of the 12 pictures that .* names is in"):
        capture.run(Request((tmp_path / "out" / "report",), tmp_path / "x", colmap=captured / "sparse" / "0"))
    with pytest.raises(UserError, match="has no model of COLMAP's"):
        capture.run(Request((photos[0],), tmp_path / "x", colmap=photos[0]))


def flags(photos, out):
    return [sys.executable, "-m", "jaxhw", "capture", str(photos[0]), f"--out={out}", "--camera=SIMPLE_PINHOLE"]


@pytest.mark.slow
def test_a_kill_in_each_phase_changes_nothing(captured, photos, tmp_path):
    """kill -9 as soon as a phase has begun; the next start does the finished ones no second time, with one result."""
    out = tmp_path / "out"
    for phase in ("features", "matches", "mapping", "export"):
        process = subprocess.Popen(flags(photos, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.time() + 120
        while process.poll() is None and not running(phase, process.pid):
            assert time.time() < end
            time.sleep(0.005)
        process.kill()
        process.wait()
        while running(phase, None):  # COLMAP ends with its parent
            assert time.time() < end
            time.sleep(0.05)
    done = subprocess.run(flags(photos, out), capture_output=True, text=True)
    assert done.returncode == 0 and "model 1: done before" in done.stderr and "features: done before" in done.stderr
    one, other = (json.loads((folder / "transforms.json").read_text()) for folder in (out, captured))
    assert one == other


def running(step, parent):
    """Whether a worker of a process runs a step."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        worker = b"jaxhw.nerf.capture.colmap_worker" in words and step.encode() in words
        if worker and parent in (None, int(fields[1])):
            return fields[0] != "Z"
    return False


def test_a_full_disk_is_one_line_and_finished_phases_stay(photos, tmp_path):
    """No file may grow past 400 KB: the pictures fit, COLMAP's database does not."""
    out = tmp_path / "out"
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 400; exec "$@"', "bash", *flags(photos, out)]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert "cannot write" in errors[0] and "finished phases stay" in errors[0]
    done = subprocess.run(flags(photos, out), capture_output=True, text=True)
    assert done.returncode == 0 and "frames: done before" in done.stderr


def wall(folder, count=4):
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (320, 240), (240, 240, 238)).save(folder / f"{i}.png")
    return folder


def test_a_white_wall_ends_in_a_line_and_a_report_that_says_why(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"none of 4 pictures has a pose: no features: blank walls.*report\.md"):
        capture.run(Request((wall(tmp_path / "wall"),), out))
    told = report(out)
    assert told["registered"] == 0 and len(told["attempts"]) == 2
    assert all("no features" in picture["reason"] for picture in told["pictures"])
    assert "Few pictures have a pose" in (out / "report.md").read_text()
    assert not (out / "transforms.json").exists()


def test_photos_of_two_places_say_which_was_taken(photos, tmp_path):
    """The second place is the same room with other wallpaper: nothing in it looks like the first."""
    both, out, other = tmp_path / "both", tmp_path / "out", tmp_path / "other"
    shutil.copytree(photos[0], both)
    room.photograph(other, COUNT, seed=1)
    for i in range(4, 9):
        shutil.copy(other / f"{i:03d}.png", both / f"m{i}.png")
    told = capture.run(Request((both,), out, camera="SIMPLE_PINHOLE"))
    assert told.startswith(f"{COUNT} of {COUNT + 5} pictures have a pose, 5 have none")
    odd = {picture["name"]: picture["reason"] for picture in report(out)["pictures"] if not picture["registered"]}
    assert set(odd) == {f"m{i}.png" for i in range(4, 9)} and all(odd.values())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--camera=PINHOL"], "--camera=PINHOL must be one of SIMPLE_PINHOLE, PINHOLE"),
        (["--shared=all"], "--shared=all must be one of one, folder, picture"),
        (["--metres=1,1,0.3"], "must be two points' ids and the metres between them"),
        (["--metres=1,2,-3"], "must be two points' ids and the metres between them"),
        (["--masks=nowhere"], "--masks=nowhere is not a folder"),
        (["--frames=1"], "at least two pictures"),
    ],
)
def test_mistakes_are_one_line(argv, message, photos, tmp_path, capsys):
    code = cli.main(["capture", str(photos[0]), f"--out={tmp_path / 'out'}", *argv])
    told = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and message in told[-1] and len([line for line in told if "error:" in line]) == 1


def test_nothing_that_a_capture_did_not_make_is_written_over(photos, tmp_path):
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / "images" / "mine.png").touch()
    with pytest.raises(UserError, match="has pictures that no capture put there"):
        capture.run(Request((photos[0],), out))
    for inside in (photos[0], photos[0] / "scene", photos[0].parent):
        with pytest.raises(UserError, match="lie in each other"):
            capture.run(Request((photos[0],), inside))
    assert (out / "images" / "mine.png").exists() and len(list(photos[0].iterdir())) == COUNT


def test_a_crash_of_colmap_is_one_line(photos, tmp_path, monkeypatch):
    """The worker dies as by a signal; its parent names the step and where the log is."""
    from jaxhw.nerf.capture import colmap

    program = "import os, signal; print('Check failed: a == b', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    start = subprocess.Popen
    monkeypatch.setattr(colmap.subprocess, "Popen", lambda command, **k: start([sys.executable, "-c", program], **k))
    with pytest.raises(UserError, match=r"COLMAP was ended by SIGSEGV in the step mapping: Check failed: a == b; see"):
        colmap.run(tmp_path, "mapping")
    assert os.listdir(tmp_path) == ["colmap.log"]

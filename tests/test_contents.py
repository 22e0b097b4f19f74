"""Folders of data that move, grow or change while a run is stopped: in training, evaluation and rendering."""

import json
import shutil

import mediapy
import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw import contents, main
from jaxhw.vision.data import datasets
from tests.golden.workdirs import VIT
from tests.nerf import folders

VIT_FLAGS = ["--config=configs/vit.py:digits", *(f"--config.model.{key}={value}" for key, value in VIT.items())]
VIT_FLAGS += ["--config.steps=4", "--config.checkpoint_every=2", "--config.optim.warmup_steps=0"]
SCENE_FLAGS = ["--config=configs/vanilla.py:small", "--config.steps=4", "--config.checkpoint_every=2"]
SCENE_FLAGS += ["--config.downscale=1", "--config.batch_size=64", "--config.lpips=none"]
SCENE_FLAGS += [f"--config.model.{value}" for value in ("width=8", "depth=1", "skip=0", "samples=4", "importance=4")]


def write_set(folder, names=("a", "b"), count=5):
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), 90 * label + i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


def stop(workdir):
    """Makes of a finished run of four steps what a kill before its last checkpoint would have left."""
    (workdir / "results.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "step_4")


def train(workdir, where, *more, kind="folder"):
    return main.main([*VIT_FLAGS, f"--workdir={workdir}", f"--config.dataset={kind}:{where}", *more])


@pytest.fixture
def run(tmp_path):
    """A run that was stopped, and its data set."""
    folder, workdir = write_set(tmp_path / "set"), tmp_path / "run"
    assert train(workdir, folder) == 0
    stop(workdir)
    return workdir, folder


def last_error(capsys):
    return capsys.readouterr().err.splitlines()[-1]


# --- what a folder holds


def test_a_content_is_that_of_its_files_wherever_they_lie(tmp_path):
    one, other = write_set(tmp_path / "one"), write_set(tmp_path / "deep" / "other")
    content = datasets.content(f"folder:{one}", ["train", "test"])
    assert content == datasets.content(f"folder:{other}/", ["test", "train"])
    assert (content.kind, content.images, content.classes) == ("folder", 10, ("a", "b"))
    with (other / "a" / "0.png").open("ab") as file:
        file.write(b"longer")
    assert datasets.content(f"folder:{other}", ["train", "test"]).hash != content.hash
    assert datasets.content("digits", ["train"]) is None and datasets.content("tfds:cifar10", ["train"]) is None


def test_of_domains_the_chosen_ones_count(tmp_path):
    for name in ("photo", "sketch"):
        write_set(tmp_path / name)
    whole = datasets.content(f"domains:{tmp_path}", ["train", "test"])
    photo = datasets.content(f"domains:{tmp_path}:photo", ["train", "test"])
    assert (whole.kind, whole.images, photo.kind, photo.images) == ("domains", 20, "domains:photo", 10)


def test_a_damaged_record_is_one_line(tmp_path, capsys):
    folder, workdir = write_set(tmp_path / "set"), tmp_path / "run"
    workdir.mkdir()
    (workdir / "data.json").write_text('{"dataset": 3}')
    assert train(workdir, folder) == 2
    assert "data.json is damaged (dataset must be an object); delete it to" in last_error(capsys)


# --- training


def test_a_run_goes_on_where_its_folder_was_moved_to(run, tmp_path, capsys):
    """Its config.json then says where the data lie, so that the other commands find them."""
    workdir, folder = run
    moved = folder.rename(tmp_path / "elsewhere")
    assert train(workdir, folder) == 2
    assert last_error(capsys).endswith("set: there is no such directory; if it was moved, name its new place")
    assert train(workdir, moved) == 0
    assert json.loads((workdir / "config.json").read_text())["dataset"] == f"folder:{moved}"
    assert [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()][-1] == 4
    assert cli.main(["eval", f"--workdir={workdir}"]) == 0


@pytest.mark.parametrize("moves", [True, False])
def test_a_folder_that_grew_is_refused(run, tmp_path, capsys, moves):
    workdir, folder = run
    folder = folder.rename(tmp_path / "elsewhere") if moves else folder
    for name in "ab":
        shutil.copy(folder / name / "0.png", folder / name / "more.png")
    before = (workdir / "config.json").read_text()
    assert train(workdir, folder) == 2
    assert last_error(capsys) == (
        f"error: config.dataset=folder:{folder} holds 12 images in 2 classes where the run in {workdir} began with 10 "
        "images in 2 classes: put back what it began with, or choose another --workdir"
    )
    assert (workdir / "config.json").read_text() == before


def test_other_files_and_other_classes_are_refused(run, capsys):
    workdir, folder = run
    (folder / "a" / "0.png").rename(folder / "a" / "zero.png")
    assert train(workdir, folder) == 2
    told = last_error(capsys)
    assert "holds 10 images in 2 classes, some files of another name or size, where the run in" in told
    (folder / "b").rename(folder / "c")
    assert train(workdir, folder) == 2
    assert "holds the class c where the run in" in (told := last_error(capsys)) and "began with b: put" in told


def test_another_kind_of_set_is_refused(run, tmp_path, capsys):
    workdir, folder = run
    domain = write_set(tmp_path / "domains" / "photo").parent
    assert train(workdir, domain, kind="domains") == 2
    assert f"belongs to another config (dataset: folder:{folder} there, domains:{domain} here)" in last_error(capsys)
    assert main.main([*VIT_FLAGS, f"--workdir={workdir}"]) == 2
    assert "belongs to another config (dataset: " in last_error(capsys)


def test_a_run_older_than_the_record_goes_by_the_path_and_gets_one(run, tmp_path, capsys):
    workdir, folder = run
    (workdir / "data.json").unlink()
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert train(workdir, copy) == 2
    assert "belongs to another config (dataset: " in last_error(capsys)
    assert train(workdir, folder) == 0
    assert contents.read(workdir)["dataset"].images == 10


def test_pretraining_and_the_set_of_its_neighbours_may_move(tmp_path, capsys):
    """Pictures without labels to learn from, and labelled ones for kNN."""
    flags = ["--config=configs/simclr.py", "--config.image_size=16", "--config.steps=4", "--config.checkpoint_every=2"]
    flags += ["--config.batch_size=8", "--config.model.width=2", "--config.method.hidden=8", "--config.method.dim=4"]
    flags += [f"--workdir={tmp_path / 'run'}", "--config.validation=0.25", "--config.eval_every=4"]
    write_set(tmp_path / "one" / "unlabelled", ("",), 16)
    write_set(tmp_path / "one" / "labelled")
    places = lambda at: [
        f"--config.dataset=folder:{tmp_path / at / 'unlabelled'}",
        f"--config.knn_dataset=folder:{tmp_path / at / 'labelled'}",
    ]
    assert main.main([*flags, *places("one")]) == 0
    stop(tmp_path / "run")
    (tmp_path / "one").rename(tmp_path / "two")
    (picture := tmp_path / "two" / "labelled" / "a" / "0.png").rename(picture.with_name("zero.png"))
    assert main.main([*flags, *places("two")]) == 2
    assert f"error: config.knn_dataset=folder:{tmp_path}/two/labelled holds 10 images" in last_error(capsys)
    picture.with_name("zero.png").rename(picture)
    assert main.main([*flags, *places("two")]) == 0


# --- the other commands


def test_eval_takes_the_place_that_the_data_were_moved_to(run, tmp_path, capsys):
    """Their scores are the run's, and go into its workdir; those of another set do not."""
    workdir, folder = run
    moved = folder.rename(tmp_path / "elsewhere")
    assert cli.main(["eval", f"--workdir={workdir}"]) == 2
    assert last_error(capsys) == (
        f"error: folder:{folder}, the run's data set, is not there: if it was moved, name its new place with --dataset="
    )
    assert cli.main(["eval", f"--workdir={workdir}", f"--dataset=folder:{moved}"]) == 0
    assert f"written: {workdir}/test_confusion.png" in capsys.readouterr().out
    other = write_set(tmp_path / "other", count=6)
    assert cli.main(["eval", f"--workdir={workdir}", f"--dataset=folder:{other}"]) == 2
    assert last_error(capsys).startswith("error: --dataset needs --out=DIR")


def test_a_scene_that_was_moved_is_trained_and_filmed(tmp_path, capsys):
    folder, workdir = folders.write_blender(tmp_path / "scene"), tmp_path / "run"
    train = lambda scene: main.main([*SCENE_FLAGS, f"--workdir={workdir}", f"--config.scene={scene}"])
    film = lambda *more: cli.main(["render", f"--workdir={workdir}", "--path=test", f"--out={tmp_path}", *more])
    assert train(folder) == 0
    stop(workdir)
    moved = folder.rename(tmp_path / "elsewhere")
    assert train(folder) == 2 and "is not a folder: if it was moved, name its new place" in last_error(capsys)
    assert film() == 2
    assert last_error(capsys).endswith("scene is not there: if it was moved, name its new place with --scene=DIR")
    assert film(f"--scene={moved}") == 0
    assert len(mediapy.read_video(tmp_path / "test.mp4")) == 3

    grown = shutil.copytree(moved, tmp_path / "grown")
    Image.new("RGB", (folders.WIDTH, folders.HEIGHT)).save(grown / "test" / "r_0.png")
    assert train(grown) == 2
    assert f"config.scene={grown} holds 9 images, some files of another name or size, where" in last_error(capsys)
    assert film(f"--scene={grown}") == 2
    assert f"error: the scene {grown} holds 9 images, some files of" in last_error(capsys)
    assert train("demo") == 2 and "belongs to another config (scene: " in last_error(capsys)
    assert train(moved) == 0
    assert json.loads((workdir / "config.json").read_text())["scene"] == str(moved)

"""The page of a run on images: what it shows, what it says where something is missing, and that nobody gets further."""

import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw import polling, train
from jaxhw.checkpoint import restore_variables
from jaxhw.serving import Address
from jaxhw.vision.tasks.classify import Classify, load_splits
from jaxhw.vision.viewer.page import Watched, served
from tests.ports import free_port
from tests.vision.tasks.test_classify import config_of


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir, mesh = tmp_path_factory.mktemp("digits") / "run", meshes.make_mesh(1)
    config = config_of(steps=20)
    train.run(Classify(config, mesh), config, mesh, workdir)
    return workdir


@pytest.fixture
def watched(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(polling, "EVERY", 0.0)
    (tmp_path / "pictures").mkdir()
    return Watched(workdir, "", tmp_path / "pictures")


def test_it_shows_curves_confusions_and_the_worst_pictures(watched, workdir):
    watched.look()
    text = watched.page()
    assert not watched.told and "step 20" in text and 'src="/curves.png' in text and 'src="/confusion.png' in text
    # The share of right answers and the worst picture, by the run's own classifier.
    config = config_of(steps=20)
    _, splits = load_splits(config)
    classifier, variables = (
        Classify(config, meshes.make_mesh(1)).classifier,
        restore_variables(workdir, meshes.replicated(meshes.make_mesh(1))),
    )
    logits = np.asarray(classifier.logits(variables, splits["test"].take(np.arange(len(splits["test"])))))
    labels = splits["test"].labels
    right = (logits.argmax(1) == labels).mean()
    assert f"{right:.1%} of {len(labels)} pictures of the split test are right" in text
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True))[np.arange(len(labels)), labels]
    worst = shares.argmin()
    names = classifier.names
    assert watched.examples.worst[0].text.startswith(f"{names[labels[worst]]} ({shares[worst]:.1%}), taken for")


def test_numbers_do_not_wait_for_pictures(watched):
    pages = []
    watched.publish = pages.append
    watched.look()
    assert (
        "step 20" in pages[0] and "curves.png" in pages[0] and "Confusions" not in pages[0] and "Confusions" in pages[1]
    )


def test_only_its_pictures_are_served(watched, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    watched.look()
    address = Address(port=free_port())
    get = lambda path: urllib.request.urlopen(f"http://127.0.0.1:{address.port}{path}")
    with served(address) as shown:
        assert b'http-equiv="refresh"' in get("/").read()  # nothing is made yet, and is asked for again
        shown.page, shown.folder = watched.page(), watched.folder
        assert b"Confusions" in get("/").read()
        assert get("/confusion.png?1").read()[:4] == b"\x89PNG"
        for path in ("/../secret.png", "/%2e%2e/secret.png", "/none.png", "/config.json"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(path)


def test_a_workdir_that_goes_is_told_and_what_was_made_stays(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(polling, "EVERY", 0.0)
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    watched = Watched(copy, "", tmp_path)
    watched.look()
    shutil.rmtree(copy)
    watched.look()
    text = watched.page()
    assert "is not there any more" in text and "Confusions" in text and not copy.exists()
    assert capsys.readouterr().err.count("is not there any more") == 1


def test_a_data_set_that_is_not_there_costs_the_examples_alone(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(polling, "EVERY", 0.0)
    watched = Watched(workdir, "folder:/nowhere", tmp_path)
    watched.look()
    text = watched.page()
    assert "/nowhere" in text and 'src="/curves.png' in text and "Confusions" not in text


def test_names_are_text(workdir, tmp_path):
    watched = Watched(tmp_path / "<script>", "", tmp_path)
    watched.look()
    assert "<script>" not in watched.page().split("<h1>")[1] and "&lt;script&gt;" in watched.page()

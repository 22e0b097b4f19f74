import sys

import pytest
from ml_collections import ConfigDict

from jaxhw import claims, task
from jaxhw import config as configs
from jaxhw.errors import UserError

FILE = """
from jaxhw import config
def get_config(variant=""):
    c = config.base("toy")
    if variant == "typo":
        c.batch_sise = 3
    if variant not in ("", "typo"):
        raise ValueError(f"no variant {variant!r}")
    return c
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "c.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)


def parse(*argv):
    return configs.parse(argv, workdir="")


def test_overrides_take_the_types_of_what_they_replace(file):
    flags = ["--config.seed=3", "--config.optim.lr=2", "--config.optim.nesterov=false"]
    config, rest = parse("--config=c.py", "--workdir=x", "--config.optim.step_milestones=(0.5,0.75)", *flags)
    assert (config.seed, config.optim.lr, config.optim.nesterov) == (3, 2.0, False)
    assert config.optim.step_milestones == (0.5, 0.75) and rest == {"workdir": "x"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no config given"),
        (["--config=missing.py"], "missing.py does not exist"),
        (["--config=c.py:nope"], "no variant 'nope'"),
        (["--config=c.py:typo"], 'Did you mean "batch_size"'),
        (["--config=c.py", "--config.sed=1"], "no key config.sed; did you mean config.seed"),
        (["--config=c.py", "--config.optim.learning_rate=1"], "no key config.optim.learning_rate"),
        (["--config=c.py", "--config.zzz.y=1"], "its keys: accumulate, batch_size, "),
        (["--config=c.py", "--config.seed=abc"], "config.seed=abc"),
        (["--config=c.py", "--config.seed=1.5"], "config.seed=1.5"),
        (["--config=c.py", "--config.optim=sgd"], "config.optim is a group of keys, set one of them: config.optim.b1,"),
        (["--config=c.py", "--bogus=1"], "bogus"),
        (["--config=c.py", "word"], "unexpected argument 'word'"),
        (["--config"], "no config given"),
    ],
)
def test_errors_are_one_line(file, argv, message):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not str(caught.value).startswith("ValueError")


def test_the_file_may_follow_after_a_space(file):
    assert parse("--config", "c.py", "--config.seed", "3", "--workdir", "x")[0].seed == 3


def test_a_file_imports_its_neighbours_wherever_they_lie(tmp_path, monkeypatch):
    """As in an installed package, of which no folder of configs is on the path."""
    folder = tmp_path / "installed" / "configs"
    folder.mkdir(parents=True)
    (folder / "first_of_two.py").write_text(FILE)
    (folder / "second_of_two.py").write_text("from configs import first_of_two\nget_config = first_of_two.get_config\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert parse(f"--config={folder}/second_of_two.py")[0].task == "toy"
    assert sys.path == before


@pytest.mark.parametrize("written", ["vit", "configs/vit.py"])
def test_shipped_configs_are_found_from_any_folder_behind_those_of_that_folder(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    assert parse(f"--config={written}:digits")[0].dataset == "digits"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "vit.py").write_text(FILE)
    assert parse(f"--config={written}")[0].task == "toy"


SWEEP = """
from jaxhw import config, sweep
def get_config():
    return sweep.default_config(config.base("toy"))
"""


def test_a_config_for_another_command_is_refused_with_its_name(file, tmp_path):
    (tmp_path / "s.py").write_text(SWEEP)
    assert configs.parse(["--config=c.py"], "task")[0].task == "toy"
    with pytest.raises(UserError, match=r"s\.py is no config for jaxhw train: use jaxhw sweep"):
        configs.parse(["--config=s.py"], "task")
    with pytest.raises(UserError, match=r"c\.py is no config for jaxhw study: use jaxhw train"):
        configs.parse(["--config=c.py"], "bases")


def test_a_config_file_with_an_error_says_which(tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(UserError, match="nothing_of_that_name"):
        parse(f"--config={tmp_path}/broken.py")


def test_json_round_trip(tmp_path):
    config = configs.base("toy")
    claims.claim(tmp_path / "new", config)
    back = configs.load(tmp_path / "new" / "config.json")
    assert back.to_dict() == config.to_dict() and isinstance(back.optim.step_milestones, tuple)
    assert claims.differences(config, back) == []


def test_claim_names_what_differs_and_ignores_what_it_is_told(tmp_path):
    claims.claim(tmp_path, ConfigDict({"a": 1, "b": {"c": (1, 2), "d": 0}}))
    other = ConfigDict({"a": 1, "b": {"c": (1, 3), "d": 9}})
    with pytest.raises(UserError, match=r"b.c: \(1, 2\) there, \(1, 3\) here\); choose another"):
        claims.claim(tmp_path, other, ignore=("b.d:",))
    claims.claim(tmp_path, other, ignore=("b.",))
    younger = ConfigDict(
        {"a": 1, "b": {"c": (1, 2), "d": 0}, "e": 1}
    )  # e: an option that the workdir is too old to have
    claims.claim(tmp_path, younger)


def test_changed_is_a_copy_of_the_same_keys_and_types():
    config = ConfigDict({"a": 1, "b": {"c": 0.5}}).lock()
    assert configs.changed(config, {"b.c": 2, "a": 3}).to_dict() == {"a": 3, "b": {"c": 2.0}}
    assert config.a == 1
    for changes, message in (({"b.d": 1}, "no key b.d"), ({"b": 1}, "no key b;"), ({"b.c": "x"}, r"config\.b\.c='x'")):
        with pytest.raises(UserError, match=message):
            configs.changed(config, changes)


def test_load_says_what_is_no_workdir(tmp_path):
    with pytest.raises(UserError, match="is no workdir"):
        configs.load(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged \(line 1, column 2 is no JSON\)"):
        configs.load(tmp_path / "config.json")


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "weights.pth").write_text("")
    with pytest.raises(UserError, match="is no workdir"):
        configs.load(tmp_path / "weights.pth" / "config.json")
    for workdir in (tmp_path / "weights.pth", tmp_path / "weights.pth" / "below"):
        with pytest.raises(UserError, match=r"cannot make the folder .*; choose another --workdir"):
            claims.claim(workdir, configs.base("toy"))


@pytest.mark.parametrize("key, value", [("seed", -1), ("epochs", float("nan")), ("epochs", float("inf"))])
def test_numbers_that_make_no_sense_for_any_task(key, value):
    with pytest.raises(UserError, match=f"config.{key}="):
        task.make(configs.changed(configs.base("classify"), {key: value}), mesh=None)

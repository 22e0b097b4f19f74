"""The documents: every block of code in them runs on tiny settings, or at least goes through the real parsers."""

import importlib
import re
import shlex
import tomllib
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw import config as configs
from tests.processes import ROOT, run_script
from tests.test_configs import VARIANTS, read

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "launch/README.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)
# What a session adds to the commands that a pattern is found in; the last of two values of a flag counts.
IMAGES = "--config.dataset=digits --config.normalise=none --config.image_size=0 --config.batch_size=32 --config.steps=2"
CONSTANT = "--config.optim.schedule=constant --config.optim.warmup_steps=0"
SCENE = "--config.scene=demo --config.split=given --config.downscale=8 --config.batch_size=256 --config.lpips=none"
GRIDS = "--config.model.hash.levels=3 --config.model.hash.table_size=16384 --config.model.proposal.voxels=16"
TINY = {
    r"--config=(vit|resnet18|simclr|linear|finetune)\b": f"{IMAGES} {CONSTANT}",
    r"--config=(resnet18|finetune)\b": "--config.earlier_sizes=()",
    r"--config=vit\b": "--config.model.depth=1 --config.model.width=16 --config.model.mlp=16",
    r"--config=dvgo\b": f"{SCENE} --config.batch_size=512 --config.steps=400 --config.eval_every=120",
    r"--config=nerfacto\b": f"{SCENE} {GRIDS} --config.steps=30 --config.eval_every=30",
    r"jaxhw render": "--frames=2",
}
# What a session leaves out.
ONLY_PARSED = {
    r"jaxhw (capture|plan|study|sweep)\b": "takes a video, a compiler for TPUs, hours",
    r"jaxhw view|viewer=True": "serves until it is stopped",
    r"~/|nerf_synthetic/": "data of the reader's own",
    r"--what=(points|mesh)": "a scene that has hardly been learnt has no surface",
    r"--coordinator": "waits for others",
    r"mesh\.fsdp": "a process divides its CPU once, and the session is one",
}


class Block(NamedTuple):
    language: str
    title: str  # the file that it is, if any
    text: str


class Parsed(Exception):
    """A command was understood; its work would begin now."""


def text(document):
    return (ROOT / document).read_text()


def blocks(document):
    fences = re.findall(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', text(document), re.M | re.S)
    return [Block(*fence) for fence in fences]


def commands(document):
    """The words of every command in the document's shell blocks."""
    lines = "\n".join(block.text for block in blocks(document) if block.language == "bash").replace("\\\n", " ")
    return [words for line in lines.splitlines() if (words := shlex.split(line, comments=True))]


def of_jaxhw(words):
    """The arguments of `jaxhw`, where the words are one of its commands in either spelling."""
    if words[0] == "sbatch":
        words = words[words.index("launch/slurm.sbatch") + 1 :]
    if words[:3] == ["python", "-m", "jaxhw.main"]:
        return ["train", *words[3:]]
    return words[1:] if words[0] == "jaxhw" else None


def write_files(document, folder):
    for block in blocks(document):
        if block.title:
            (folder / block.title).write_text(block.text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_one_that_a_test_knows(document):
    assert text(document).count("\n```") == 2 * len(blocks(document))
    assert {block.language for block in blocks(document)} <= {"bash", "python", "text"}
    assert not re.search(r"^    (jaxhw|python|pip|make) ", text(document), re.M), "an indented command: fence it"


@pytest.fixture
def only_parsing(monkeypatch):
    """Ends each command where its work would begin."""

    def parse(*args, real=configs.parse, **strings):
        raise Parsed(real(*args, **strings)[1])

    def run(arguments):
        raise Parsed({})

    monkeypatch.setattr(configs, "parse", parse)
    for name in cli.COMMANDS:
        module = importlib.import_module(f"jaxhw.commands.{name}")
        if not getattr(module, "TAKES_CONFIG", False):
            monkeypatch.setattr(module, "run", run)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_understood(document, only_parsing, tmp_path, monkeypatch):
    write_files(document, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for words in commands(document):
        arguments = of_jaxhw(words)
        if arguments is None:
            assert is_known(words), shlex.join(words)
            continue
        with pytest.raises(Parsed) as parsed:
            cli.run(arguments)
        assert parsed.value.args[0].get("workdir", "given"), f"no workdir: {shlex.join(words)}"


def is_known(words):
    """Whether a command of another program can be given in a checkout."""
    match words:
        case ["make", target]:
            return bool(re.search(rf"^{target}:", text("Makefile"), re.M))
        case ["jupytext", "--to", "ipynb", file]:
            return (ROOT / file).is_file()
    return words in (["export", "PYTHONPATH=."], ["pip", "install", "-e", "."])


def test_a_command_that_is_not_understood_is_found(only_parsing):
    for flags in ("--config=vti", "--config=vit --config.lrr=1", "--config=vit:none", "--config=vit --nothing=1"):
        with pytest.raises(configs.UserError):
            cli.run(["train", *flags.split()])
    with pytest.raises(configs.UserError):
        cli.run(["render", "--workdir=x", "--angle=3"])
    assert not is_known(["make", "coffee"]) and not is_known(["curl", "example.org"])


def test_every_key_of_a_config_and_every_extra_that_prose_names_exists():
    whole = "\n".join(map(text, DOCUMENTS))
    keys = set().union(*(configs.leaves(read(name, v)) for name, variants in VARIANTS.items() for v in variants))
    named = set(re.findall(r"--config\.([a-z_.0-9]*[a-z_0-9])", whole))
    assert named and named <= keys, named - keys
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    assert set(re.findall(r"jaxhw\[(\w+)\]", whole)) <= extras.keys()


def test_one_version_everywhere():
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    assert re.search(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.M)[1] == version


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_its_blocks_run_one_after_the_other(document, tmp_path):
    write_files(document, tmp_path)
    (tmp_path / "holidays").mkdir()
    for name in ("cat.jpg", "holidays/beach.jpg"):
        Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(tmp_path / name)
    run_script("\n".join(["from jaxhw.__main__ import main", *map(runnable, blocks(document))]), tmp_path)


def runnable(block):
    """Python that does what a block says, on tiny settings."""
    if block.language == "python":
        return block.text
    lines = []
    for line in block.text.replace("\\\n", " ").splitlines() if block.language == "bash" else ():
        words = shlex.split(line, comments=True)
        if words and (arguments := of_jaxhw(words)) and not any(re.search(p, line) for p in ONLY_PARSED):
            more = [word for pattern, added in TINY.items() if re.search(pattern, line) for word in added.split()]
            lines.append(f"assert main({arguments + more}) == 0, {line!r}")
    return "\n".join(lines)

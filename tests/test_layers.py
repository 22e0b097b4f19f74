"""Imports point one way: commands -> tasks -> spine; the tasks' packages do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "jaxhw"
ROOMS = ("vision", "nerf")
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """Dotted names that a file imports from jaxhw, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0]
    forbidden = {"jaxhw.commands", *(f"jaxhw.{other}" for other in ROOMS if other != room)}
    if room == "commands":
        forbidden = set()
    if room == "__main__.py":
        forbidden.discard("jaxhw.commands")
    for name in imported(path):
        assert not any(name == bad or name.startswith(f"{bad}.") for bad in forbidden), f"{path} imports {name}"


def test_the_check_sees_the_package():
    assert len(FILES) > 20
    assert "jaxhw.errors.UserError" in set(imported(PACKAGE / "main.py"))

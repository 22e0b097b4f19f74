"""Imports point one way, between the wings of the house and between the rooms of a wing, and never in a circle.

Every import counts, wherever it stands in a file: at its top, in a function, or under TYPE_CHECKING.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "jaxhw"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(("jaxhw", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in FILES}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}

# Each wing's rooms from the bottom up: a room may import from those before it. Rooms in one line don't know each other.
ORDER = {
    "vision": (("data", "augment", "models"), ("weights",), ("evaluation",), ("ssl",), ("tasks",), ("viewer",)),
    "nerf": (
        ("cameras",),
        ("scenes",),
        ("sampling", "networks", "rendering"),
        ("fields",),
        ("results", "capture"),
        ("viewer",),
        ("task",),
    ),
}


def imported(path: Path) -> set[str]:
    """The modules of jaxhw that a file imports, anywhere in it; of a package, the package itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return {name for name in found if name in MODULES}


def wing(module: str) -> str:
    """ "vision", "nerf", "commands", or "spine" for the files beside main.py."""
    part = module.split(".")[1] if "." in module else ""
    return part if part in (*ORDER, "commands") else "spine"


def floor(module: str) -> tuple[str, int]:
    """(the room, how high it lies) of a module of vision or nerf."""
    _, wing, *rest = module.split(".")
    room = rest[0] if rest else ""
    return room, next((i for i, rooms in enumerate(ORDER[wing]) if room in rooms), -1)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way_between_wings(module):
    allowed = {"commands": {"commands", *ORDER, "spine"}, "spine": {"spine"}}.get(wing(module), {wing(module), "spine"})
    if module == "jaxhw.__main__":
        allowed = {"spine", "commands"}
    for name in imported(MODULES[module]):
        assert wing(name) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if wing(name) in ORDER and name.count(".") > 1))
def test_imports_point_one_way_between_rooms(module):
    room, height = floor(module)
    assert height >= 0, f"{room} is in no line of ORDER"
    for name in imported(MODULES[module]):
        if wing(name) == wing(module):
            other, below = floor(name)
            assert other == room or below < height, f"{module} imports {name}"


def test_no_circles():
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle of imports: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_check_sees_the_package():
    assert len(FILES) > 20
    assert "jaxhw.errors" in imported(PACKAGE / "main.py")
    assert wing("jaxhw.nerf.task") == "nerf" and wing("jaxhw.task") == "spine"
    assert floor("jaxhw.nerf.fields.vanilla") == ("fields", 3)

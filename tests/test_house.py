"""The house: imports walk one way, modules carry the field's names, and nothing shadows a standard module."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {"kernels": 0, "gradlog": 1, "cli": 2}
MODULES = sorted(path for room in FLOORS for path in (ROOT / room).rglob("*.py"))
GRADLOG_FLOORS = (
    {""},
    {"results"},
    {"logs", "statistics", "gates"},
    {"engine"},
    {"measures"},
    {"cluster"},
    {"runs", "importing", "recording"},
    {"comparisons"},
    {"guarantees", "advice", "findings", "plots", "exports"},
    {"documents"},
    {"reports"},
    {"pages"},
)
"""Of the folders of gradlog, from the ground up; "" is what lies in none."""
FORBIDDEN = {
    "kernels": {"zarr", "click", "rich"},
    "gradlog": {"click", "rich"},
    "cli": {"zarr", "numba"},
}


STORES = {"zarr", "zarrs", "numcodecs"}
"""What gradlog/logs alone may import."""


def imported(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["gradmf", *path.relative_to(ROOT).parts[:-1]]
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_walk_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "gradmf" and len(parts) > 1 and parts[1] in FLOORS:
            assert FLOORS[room] - FLOORS[parts[1]] in (0, 1), f"{room} imports {name}"
        assert parts[0] not in FORBIDDEN[room], f"{room} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "gradlog").rglob("*.py")), ids=lambda path: path.stem)
def test_only_logs_touches_zarr(path: Path) -> None:
    if path.relative_to(ROOT).parts[1] == "logs":
        return
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & STORES, "only gradlog/logs opens stores"
    # The array of a tensor is that of one kind of log: others have none.
    assert not re.search(r"\b(tensors?(\[[^]]*\])?|t)\.array\b", path.read_text())


def test_what_a_log_is_says_nothing_of_zarr() -> None:
    """What the engine takes stands on no store, so that another kind of log is one class."""
    waiting, seen = [ROOT / "gradlog" / "logs" / "log.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for name in imported(path):
            assert name.split(".")[0] not in STORES, f"{path.name} imports {name}"
            if name.startswith("gradmf."):
                other = ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py")
                waiting += [other] if other.is_file() and other not in seen else []
    assert ROOT / "gradlog" / "logs" / "inventory.py" in seen


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_they_hold(path: Path) -> None:
    documentation = ast.get_docstring(ast.parse(path.read_text()))
    assert documentation, "a module without a docstring"
    if path.stem != "__init__":
        assert path.stem not in sys.stdlib_module_names
        assert path.stem not in ("utils", "helpers", "common", "misc")


@pytest.mark.parametrize("path", sorted((ROOT / "gradlog").rglob("*.py")), ids=lambda path: path.stem)
def test_folders_of_gradlog_stand_on_each_other(path: Path) -> None:
    def folder(parts: tuple[str, ...]) -> str:
        return parts[0] if (ROOT / "gradlog" / parts[0]).is_dir() else ""

    def floor(name: str) -> int:
        return next(at for at, names in enumerate(GRADLOG_FLOORS) if name in names)

    own = folder(path.relative_to(ROOT / "gradlog").parts)
    for name in imported(path):
        parts = tuple(name.split("."))
        if parts[:2] == ("gradmf", "gradlog") and len(parts) > 2 and folder(parts[2:]) != own:
            assert floor(folder(parts[2:])) < floor(own), f"{own} imports {name}"


@pytest.mark.parametrize("room", sorted(FLOORS))
def test_modules_import_each_other_in_no_circle(room: str) -> None:
    """Not for types either: what two modules need of each other belongs in a third."""
    known = {".".join(("gradmf", *path.relative_to(ROOT).with_suffix("").parts)): path for path in MODULES}
    needs = {
        name: {other for other in imported(path) if other in known and other != name}
        for name, path in known.items()
        if name.split(".")[1] == room
    }
    while needs:
        free = {name for name, others in needs.items() if not others & needs.keys()}
        assert free, f"a circle among {sorted(needs)}"
        needs = {name: others for name, others in needs.items() if name not in free}


def test_all_folders_are_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).parts for path in MODULES}
    rooms = {".".join(("gradmf", *parts)) for parts in folders}
    assert sorted(settings["packages"]) == sorted({"gradmf", *rooms})

"""One way only: problems, then dynamics, then spectra; the ground truth imports nothing of the theory."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "spectral_dynamics"
MODULES = sorted(LIBRARY.rglob("*.py"))
COMMON = {"arguments", "errors"}


def imported(path: Path) -> set[str]:
    """Rooms of the library that a module imports, as the first names below the package."""
    package = path.relative_to(LIBRARY).parent.parts
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)]
            for alias in node.names:
                rooms.add((*base, *(node.module or alias.name).split("."))[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spectral_dynamics"):
            rooms.update([*node.module.split(".")[1:2]] or [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            rooms.update(a.name.split(".")[1] for a in node.names if a.name.startswith("spectral_dynamics."))
    return rooms


def room(path: Path) -> str:
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


ALLOWED = {
    "arguments": set(),
    "errors": set(),
    "problems": COMMON,
    "networks": COMMON | {"problems"},
    "dynamics": COMMON | {"problems", "dynamics"},
    "spectra": COMMON | {"problems", "dynamics", "spectra"},
    "sweeps": COMMON,
    "symbols": COMMON,
    "plots": set(),
    "checks": set(),
    "__init__": {"dynamics", "networks", "problems", "spectra"},
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_room_imports_only_what_stands_before_it(path):
    assert imported(path) <= ALLOWED[room(path)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_only_the_rooms_for_chapters_need_sympy(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    needed = {name.split(".")[0] for name in named}
    assert "sympy" not in needed or room(path) in {"symbols", "checks"}


def test_spectra_take_from_level_one_the_order_parameters_alone():
    for path in (LIBRARY / "spectra").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and "dynamics" in (node.module or ""):
                names = {alias.name for alias in node.names}
                assert node.module.endswith("order") or names <= {"order", "OrderParameters"}, path.name

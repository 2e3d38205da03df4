"""One way only: problems, then dynamics, then spectra; the ground truth imports nothing of the theory."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "spectral_dynamics"
MODULES = sorted(LIBRARY.rglob("*.py"))
COMMON = {"arguments", "errors", "progress"}


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


def siblings(path: Path) -> set[Path]:
    """Modules of its own package that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            found.update(path.with_name(f"{name}.py") for name in names)
    return found & set(MODULES)


def room(path: Path) -> str:
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


ALLOWED = {
    "arguments": set(),
    "errors": set(),
    "progress": set(),
    "problems": COMMON,
    "networks": COMMON | {"problems", "networks"},
    "dynamics": COMMON | {"problems", "dynamics"},
    "spectra": COMMON | {"problems", "dynamics", "spectra"},
    "entries": set(),
    "extrapolation": COMMON,
    "sweeps": COMMON | {"entries", "extrapolation"},
    "symbols": COMMON,
    "plots": set(),
    "texts": set(),
    "arithmetic": {"texts"},
    "formulas": {"texts", "arithmetic"},
    "checks": {"texts", "arithmetic", "formulas"},
    "claims": {"checks"},
    "__init__": {"dynamics", "networks", "problems", "spectra"},
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_room_imports_only_what_stands_before_it(path):
    assert imported(path) <= ALLOWED[room(path)]


BELOW = {  # rooms of networks/, and which others each of them stands on
    "run": set(),
    "curvature": set(),
    "mlp": {"run", "curvature"},
    "deep_linear": {"run", "curvature"},
    "classifier": {"run"},
    "least_squares": {"run"},
    "gradient_flow": set(),
}


def test_kinds_of_networks_know_nothing_of_each_other():
    rooms = {path.stem: path for path in (LIBRARY / "networks").glob("*.py")}
    assert set(rooms) == set(BELOW) | {"__init__"}
    for name, path in rooms.items():
        tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1):
            found |= {node.module} if node.module else {alias.name for alias in node.names}
        assert found <= BELOW.get(name, set(BELOW)), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_no_module_is_imported_by_what_it_imports(path):
    seen, ahead = set(), siblings(path)
    while ahead:
        seen |= ahead
        ahead = {further for one in ahead for further in siblings(one)} - seen
    assert path not in seen


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_only_the_rooms_for_chapters_need_sympy(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    needed = {name.split(".")[0] for name in named}
    assert "sympy" not in needed or room(path) in {"symbols", "checks", "formulas", "arithmetic"}


def test_spectra_take_from_level_one_the_order_parameters_alone():
    for path in (LIBRARY / "spectra").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and "dynamics" in (node.module or ""):
                names = {alias.name for alias in node.names}
                assert node.module.endswith("order") or names <= {"order", "OrderParameters"}, path.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_modules_and_functions_are_short_enough_to_be_read(path):
    """450 lines for a room, 40 for a function, docstrings included."""
    source = path.read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    lengths = [(node.end_lineno - node.lineno + 1, node.name) for node in functions]
    assert not [(lines, name) for lines, name in lengths if lines > 40]
    lines = source.count("\n")
    assert lines <= 450

"""The chapters as documents: every cell run, every numbered equation checked, every figure described."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from spectral_dynamics import checks, texts

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import chapters  # noqa: E402

PAGES = chapters.pages()
NOTEBOOKS = chapters.notebooks()
EXEMPT = re.compile(r"nbval-ignore-output|nbval-skip|NBVAL_IGNORE_OUTPUT|NBVAL_SKIP|nbval-raises-exception", re.I)
MOST_EXEMPT = 5
MOST_UNREAD = 0.1

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in cells(path, "code") if "".join(cell["source"]).strip()]


def is_exempt(cell: dict) -> bool:
    """Whether nbval is told not to compare, or not to run, this cell."""
    return bool(EXEMPT.search("".join(cell["source"]) + json.dumps(cell["metadata"].get("tags", []))))


@each_notebook
def test_every_cell_was_run_in_order_and_none_failed(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), f"run it from top to bottom: {counts}"
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "a warning is stored in the chapter"


@each_notebook
def test_every_numbered_equation_has_an_executed_check(path):
    labels = checks.numbered_equations(path)
    assert len(set(labels)) == len(labels), f"a label stands twice: {labels}"
    checked = {check.label for check in checks.ledger(path)}
    assert set(labels) - checked == set(), "numbered equations without a check"
    assert checked - set(labels) == set(), "checks of equations that do not exist"


@each_notebook
def test_the_text_of_every_numbered_equation_is_read(path):
    """Each of its statements is parsed, or left for a reason; and there are as many as when the chapter was run."""
    found, folder = checks.readings(path), path.parent
    owed = checks.numbered_equations(path)
    assert [label for label in owed if label not in found or not found[label].whole] == []
    now = {label: len(texts.statements(texts.display(label, folder))) for label in found}
    assert now == {label: one.statements for label, one in found.items()}


@each_notebook
def test_every_check_passed_within_its_tolerance(path):
    assert all(check.error <= check.tolerance for check in checks.ledger(path))


@each_notebook
def test_the_number_of_checks_stored_is_the_number_called(path):
    called = sum("".join(cell["source"]).count("checks.check(") for cell in code_cells(path))
    assert len(checks.ledger(path)) >= called


def test_few_statements_are_left_unread():
    found = [one for path in NOTEBOOKS for one in checks.readings(path).values()]
    left, read = sum(len(one.left) for one in found), sum(len(one.read) for one in found)
    assert left < MOST_UNREAD * (left + read), f"{left} of {left + read}"


@each_notebook
def test_every_figure_announced_is_stored(path):
    assert chapters.flaws(json.loads(path.read_text(encoding="utf-8")), path.stem) == []


@each_notebook
def test_every_figure_has_a_description_and_a_caption(path):
    for cell in code_cells(path):
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            shown = cell["metadata"].get("mystnb", {})
            where = "".join(cell["source"])[:80]
            assert len(shown.get("image", {}).get("alt", "")) >= 20, f"no alt text: {where}"
            assert shown.get("figure", {}).get("caption"), f"no caption: {where}"


@each_notebook
def test_references_to_equations_have_a_target(path):
    text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    labels = {label for notebook in NOTEBOOKS for label in checks.numbered_equations(notebook)}
    assert set(re.findall(r"\{eq\}`([\w-]+)`", text)) <= labels


def test_pages_without_code_number_no_equation():
    assert [label for page in set(PAGES) - set(NOTEBOOKS) for label in checks.numbered_equations(page)] == []


def test_at_most_a_handful_of_cells_is_exempt_from_comparison():
    exempt = [(path.stem, cell["source"]) for path in NOTEBOOKS for cell in code_cells(path) if is_exempt(cell)]
    assert len(exempt) <= MOST_EXEMPT, exempt


def test_chapters_are_stored_with_outputs_of_text_figures_and_movies_only():
    allowed = {"text/plain", "text/latex", "text/markdown", "image/png", "text/html"}
    for path in NOTEBOOKS:
        kinds = {kind for cell in code_cells(path) for output in cell["outputs"] for kind in output.get("data", {})}
        assert kinds <= allowed, f"{path.stem}: {kinds - allowed}"


LONG = 5  # lines: what two chapters may not both define


def bodies(path: Path) -> dict[str, str]:
    """Every function of a chapter whose body is LONG: {what it does, whatever the names: its name}."""
    found = {}
    for cell in code_cells(path):
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.FunctionDef) and len(ast.unparse(without_names(node)).splitlines()) >= LONG:
                found[ast.dump(without_names(node))] = node.name
    return found


def without_names(function: ast.FunctionDef) -> ast.Module:
    """Its body without a docstring, in which every name, as it comes first, is a number."""
    body = ast.parse(ast.unparse(function)).body[0].body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    numbers: dict[str, str] = {}
    tree = ast.Module(body, [])
    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, numbers.setdefault(getattr(node, field), f"_{len(numbers)}"))
    return tree


def test_no_two_chapters_define_the_same_function_of_five_lines_or_more():
    first, twice = {}, []
    for path in NOTEBOOKS:
        found = bodies(path)
        twice += [f"{first[body]} and {name} of {path.stem}" for body, name in found.items() if body in first]
        first |= {body: f"{name} of {path.stem}" for body, name in found.items() if body not in first}
    assert first and not twice, "what chapters repeat stands once in the library"

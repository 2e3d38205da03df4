"""What a reader takes along: a notebook runs in an empty folder, with the wheel and nothing else of the checkout."""

import ast
import builtins
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import downloads  # noqa: E402

NOTEBOOKS = [page for page in downloads.pages(ROOT) if page.suffix == ".ipynb"]
PACKED = {"spectral_dynamics", "spectral_experiments"}
READER = "experiments.table"  # as chapters write it
QUICK = ("preface",)


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    """What is offered beside the pages; the pages themselves are looked at in test_pages.py."""
    folder = tmp_path_factory.mktemp("html")
    downloads.offer(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def interpreter(html, tmp_path_factory) -> Path:
    """A Python with the wheel that is offered."""
    return downloads.fresh(tmp_path_factory.mktemp("fresh") / "python", html / "downloads" / downloads.WHEEL)


def offered(html: Path, name: str) -> Path:
    return html / "_sources" / "chapters" / f"{name}.ipynb"


def code(path: Path) -> list[ast.stmt]:
    """The statements of a chapter, in order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [statement for cell in text for statement in ast.parse(cell).body]


def modules(statements) -> set[str]:
    """The packages that are imported, anywhere."""
    found = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else node.module.split(".")[0])
    return found


def installed_with(requirement: str, seen: set[str]) -> set[str]:
    """A distribution and all that it brings."""
    wanted = Requirement(requirement)
    name = re.sub(r"[-_.]+", "-", wanted.name).lower()
    if name not in seen and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
        seen.add(name)
        for one in requires(name) or []:
            installed_with(one, seen)
    return seen


def test_every_notebook_says_first_what_it_is_and_how_the_library_is_installed(html):
    assert len(NOTEBOOKS) >= 24
    for path in NOTEBOOKS:
        notebook, chapter = nbformat.read(offered(html, path.stem), 4), nbformat.read(path, 4)
        nbformat.validate(notebook)
        first = notebook.cells[0].source
        title = chapter.cells[0].source.splitlines()[0].removeprefix("# ")
        needed = (title, "Outlier Escape", downloads.WHEEL, f'pip install "./{downloads.WHEEL}[book]"', "Python 3.11")
        assert [text for text in needed if text not in first] == [], path.stem
        assert notebook.cells[1:] == chapter.cells and notebook.metadata == chapter.metadata, path.stem


def test_the_link_in_a_first_cell_leads_from_the_page_to_the_wheel(html):
    text = nbformat.read(offered(html, "bulk"), 4).cells[0].source
    (link,) = re.findall(r"`(\.\./\S+)`", text)
    assert (html / "chapters" / link).resolve().is_file()


def test_the_first_page_links_to_the_wheel_and_to_the_archive(html):
    text = "".join("".join(cell.source) for cell in nbformat.read(NOTEBOOKS[0], 4).cells)
    links = re.findall(r'<a href="\.\./([^"]+)"', text)
    assert set(links) == {f"downloads/{downloads.WHEEL}", f"downloads/{downloads.ARCHIVE}"}
    assert all((html / link).is_file() for link in links)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_chapter_reaches_for_a_file_outside_its_folder(path):
    nodes = [node for statement in code(path) for node in ast.walk(statement)]
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in strings if re.search(r"\.\.[/\\]", text)] == []


def test_chapters_import_only_what_the_wheel_and_its_extra_bring():
    brought: set[str] = set()
    for requirement in downloads.PROJECT["dependencies"] + downloads.PROJECT["optional-dependencies"]["book"]:
        installed_with(requirement, brought)
    homes = packages_distributions()
    for path in NOTEBOOKS:
        for name in modules(code(path)) - PACKED - sys.stdlib_module_names:
            assert {home.lower() for home in homes.get(name, [])} & brought, f"{path.stem} imports {name}"


def calls(statement: ast.stmt, readers: set[str]) -> bool:
    """Whether one of these functions is called."""
    return bool(readers & {ast.unparse(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)})


def names(statement: ast.stmt, context) -> set[str]:
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    return found | {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}


def set_up(path: Path) -> str:
    """Of a chapter the imports, and the statements that read stored tables."""
    kept, known, readers = [], set(dir(builtins)), {READER}
    for statement in code(path):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        elif calls(statement, readers):
            known |= names(statement, ast.Store)
            if isinstance(statement, ast.FunctionDef):
                known.add(statement.name)
                readers.add(statement.name)
            needs = names(statement, ast.Load) - known
            assert not needs, f"{path.stem} needs {needs} to read a table: read it in a statement of its own"
        else:
            continue
        kept.append(statement)
    return ast.unparse(ast.Module(kept, []))


LOADED = """
import sys
print(*(sys.modules[name].__file__ for name in sys.modules if name.startswith("spectral_")), sep="\\n")
"""


def test_the_imports_and_the_tables_of_every_chapter_are_in_the_wheel(interpreter, tmp_path):
    chapters = "".join(f"exec({set_up(path)!r}, {{}})\n" for path in NOTEBOOKS)
    assert chapters.count(READER) > 10
    run = [str(interpreter), "-c", chapters + LOADED]
    result = subprocess.run(run, cwd=tmp_path, env=downloads.clean(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    homes = [Path(line) for line in result.stdout.splitlines()]
    assert len(homes) > 10 and not list(tmp_path.iterdir())
    assert all(interpreter.parent.parent in home.parents for home in homes), homes


@pytest.mark.parametrize("name", downloads.SAYS)
def test_what_reads_the_others_says_so_alone_and_runs_in_the_archive(html, interpreter, tmp_path, name):
    outcome = downloads.run_alone(offered(html, name), interpreter)
    assert outcome.startswith(f"FileNotFoundError: The {name}") and downloads.ARCHIVE in outcome
    assert outcome.count(". ") == 0 and outcome.endswith(".")
    with zipfile.ZipFile(html / "downloads" / downloads.ARCHIVE) as packed:
        packed.extractall(tmp_path)
    assert downloads.run(tmp_path / downloads.NAME / f"{name}.ipynb", interpreter) == "ran"


@pytest.mark.parametrize("name", QUICK)
def test_a_chapter_runs_in_an_empty_folder(html, interpreter, name):
    assert downloads.run_alone(offered(html, name), interpreter) == "ran"


def test_the_archive_holds_every_page_and_the_licence_and_no_pictures(html):
    with zipfile.ZipFile(html / "downloads" / downloads.ARCHIVE) as packed:
        files = {Path(name).name for name in packed.namelist()}
        text = packed.read(f"{downloads.NAME}/preface.ipynb") + packed.read(f"{downloads.NAME}/bulk.ipynb")
    assert {page.name for page in downloads.pages(ROOT)} | {"LICENSE", "README.txt", "_toc.yml"} <= files
    assert b"image/png" not in text and b"max-width" not in text


def test_the_same_sources_give_the_same_wheel_and_are_left_as_they_were(html, tmp_path):
    before = sorted((ROOT / "lib").rglob("*"))
    again = downloads.wheel(tmp_path)
    assert again.read_bytes() == (html / "downloads" / downloads.WHEEL).read_bytes()
    assert sorted((ROOT / "lib").rglob("*")) == before

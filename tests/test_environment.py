"""What the reader has set up for other work stays outside; a checkout may be copied, moved, or be read-only."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import book  # noqa: E402
import checkout  # noqa: E402
import environment  # noqa: E402
import rerun  # noqa: E402

import chapters  # noqa: E402

DESCRIBED = {"mystnb": {"figure": {"caption": "A line."}, "image": {"alt": "A straight line that rises."}}}
FIGURE = "import matplotlib.pyplot as plt\n_ = plt.plot([0, 1])"
ASKED = """\
import json, matplotlib, os, sys
taken = {"python": sys.executable, "usetex": matplotlib.rcParams["text.usetex"], "profile": "intruder" in globals(),
         "width": matplotlib.rcParams["lines.linewidth"], "path": "/intruder" in sys.path, "asserts": __debug__}
open("taken.json", "w").write(json.dumps(taken))"""


def small_book(root: Path, *cells: tuple[str, dict]) -> Path:
    """A book of one chapter, its path. Stored as if it had been run, without outputs."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for number, (source, metadata) in enumerate(cells, start=1):
        cell = nbformat.v4.new_code_cell(source, metadata=metadata, execution_count=number)
        cell.id = f"cell-{number}"
        notebook.cells.append(cell)
    (root / "chapters").mkdir(parents=True)
    nbformat.write(notebook, root / "chapters" / "small.ipynb")
    (root / "_toc.yml").write_text("format: jb-book\nroot: chapters/small\n", encoding="utf-8")
    return root / "chapters" / "small.ipynb"


def backend(home: Path, monkeypatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")


def usetex(home: Path, monkeypatch) -> None:
    settings = "text.usetex: True\nlines.linewidth: 9\n"
    places = [home / ".config" / "matplotlib", home / "elsewhere", home / "here"]
    for place in places:
        place.mkdir(parents=True)
        (place / "matplotlibrc").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("MATPLOTLIBRC", str(home / "elsewhere"))
    monkeypatch.chdir(home / "here")


def ipython_profile(home: Path, monkeypatch) -> None:
    startup = home / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("intruder = True\n", encoding="utf-8")
    settings = "c = get_config()\nc.InlineBackend.figure_formats = {'jpeg'}\n"
    (startup.parent / "ipython_kernel_config.py").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("IPYTHONDIR", str(home / ".ipython"))


def jupyter_path(home: Path, monkeypatch) -> None:
    """Another kernel of the same name, in JUPYTER_PATH and in the reader's own folder."""
    for share in (home / "jupyter", home / ".local" / "share" / "jupyter"):
        place = share / "kernels" / "python3"
        place.mkdir(parents=True)
        kernel = {"argv": ["false", "{connection_file}"], "display_name": "Python 3", "language": "python"}
        (place / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(home / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))


def python_variables(home: Path, monkeypatch) -> None:
    (home / "start.py").write_text("intruder = True\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONSTARTUP", str(home / "start.py"))
    monkeypatch.setenv("PYTHONPATH", "/intruder")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")  # without asserts no check would fail


INTRUDERS = [backend, usetex, ipython_profile, jupyter_path, python_variables]
USUAL = {"usetex": False, "width": 1.5, "profile": False, "path": False, "asserts": True, "python": sys.executable}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The folder of a reader who has set up this machine for something else."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize("intruder", INTRUDERS, ids=lambda intruder: intruder.__name__)
def test_a_chapter_is_executed_in_the_environment_of_the_book(intruder, home, tmp_path, monkeypatch):
    intruder(home, monkeypatch)
    path = small_book(tmp_path / "book", (FIGURE, DESCRIBED), (ASKED, {}))
    book.execute([path])
    outputs = nbformat.read(path, as_version=4).cells[0].outputs
    assert [set(output.data) & chapters.PICTURES for output in outputs] == [{"image/png"}]
    assert json.loads((path.parent / "taken.json").read_text(encoding="utf-8")) == USUAL


def run_again(root: Path) -> subprocess.CompletedProcess:
    return rerun.rerun([], root, ["-n", "0", "-p", "no:hypothesispytest"], capture_output=True, encoding="utf-8")


def test_a_chapter_is_run_again_in_the_environment_of_the_book(home, tmp_path, monkeypatch):
    for intruder in INTRUDERS:
        intruder(home, monkeypatch)
    asked = ASKED.replace('"taken.json"', repr(str(tmp_path / "taken.json")))
    path = small_book(tmp_path / "book", (FIGURE, DESCRIBED), (asked, {}))
    book.execute([path])
    (tmp_path / "taken.json").unlink()
    assert (result := run_again(tmp_path / "book")).returncode == 0, result.stdout
    assert json.loads((tmp_path / "taken.json").read_text(encoding="utf-8")) == USUAL


def test_a_cell_without_its_figure_ends_the_build_with_its_name(tmp_path):
    path = small_book(tmp_path / "book", ("x = 1", {}), ("# nothing is drawn\nx", DESCRIBED))
    stored = path.read_bytes()
    with pytest.raises(SystemExit, match=r"small, code cell 2 .*# nothing is drawn.* stored no picture"):
        book.execute([path])
    assert path.read_bytes() == stored


def test_an_error_among_the_outputs_is_a_flaw_even_where_it_is_allowed():
    error = nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0", outputs=[error])])
    assert chapters.flaws(notebook, "small") == ["small, code cell 1 ('1 / 0') ended in ZeroDivisionError"]


def test_a_cell_without_its_figure_fails_the_rerun(tmp_path):
    small_book(tmp_path / "book", ("x = 1;", DESCRIBED))
    result = run_again(tmp_path / "book")
    assert result.returncode == 1
    assert "made no picture" in result.stdout


def test_a_stray_notebook_changes_nothing(tmp_path):
    path = small_book(tmp_path / "book", ("x = 1", {}))
    for stray in ("Untitled.ipynb", "loose.md", "matplotlibrc", ".ipynb_checkpoints/small-checkpoint.ipynb"):
        (path.parent / stray).parent.mkdir(exist_ok=True)
        (path.parent / stray).write_text("no notebook at all", encoding="utf-8")
    copy = book.stage(tmp_path / "copy", tmp_path / "book")
    assert [item.name for item in (copy / "chapters").iterdir()] == ["small.ipynb"]
    assert chapters.pages(tmp_path / "book") == [path]
    book.execute_in_place([], tmp_path / "book")
    assert chapters.named([], tmp_path / "book") == [path]  # what is run again


@pytest.mark.parametrize("word", ["bulk", "bulk.ipynb", "chapters/bulk.ipynb", "chapters\\bulk.ipynb"])
def test_a_chapter_goes_by_several_names(word):
    assert chapters.named([word, "bulk"]) == [ROOT / "chapters" / "bulk.ipynb"]
    assert [path.stem for path in chapters.named(["width", word])] == ["width", "bulk"]


def test_a_wrong_name_gets_the_list_of_chapters():
    with pytest.raises(SystemExit, match=r"No chapter is called bulks: the chapters are preface, .*ledger\.$"):
        chapters.named(["bulk", "bulks"])


# The set-up, with a small environment in place of the packages.


@pytest.fixture
def sources(tmp_path) -> Path:
    root = tmp_path / "Bücher und mehr" / "first"
    for name in checkout.REQUIREMENTS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n", encoding="utf-8")
    return root


@pytest.fixture
def made(monkeypatch) -> list[Path]:
    """The environments made so far; each has a library that says where its sources are."""
    venvs = []

    def run(command, **options):
        venv = Path(command[-1])
        checkout.scripts(venv).mkdir(parents=True)  # fails when something stands there
        checkout.interpreter(venv).touch()
        venvs.append(venv)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(checkout.subprocess, "run", run)
    return venvs


def install(python: Path) -> None:
    root = python.parent.parent.parent
    (root / ".venv" / "library").write_text(str(root / "lib"), encoding="utf-8")


def library(root: Path) -> str:
    return (root / ".venv" / "library").read_text(encoding="utf-8")


def test_a_set_up_is_made_once(sources, made):
    assert checkout.set_up(sources, install) == checkout.set_up(sources, install)
    assert made == [sources / ".venv"]


@pytest.mark.parametrize("go", [shutil.copytree, shutil.move])
def test_a_checkout_elsewhere_imports_its_own_library(sources, made, go):
    checkout.set_up(sources, install)
    second = sources.with_name("second")
    go(sources, second)
    checkout.set_up(second, install)
    assert library(second) == str(second / "lib")


def test_another_python_or_other_requirements_make_the_set_up_afresh(sources, made, monkeypatch):
    checkout.set_up(sources, install)
    monkeypatch.setattr(sys, "version", "3.14.0 (of another build)")
    checkout.set_up(sources, install)
    monkeypatch.setattr(sys, "_base_executable", "/another/python3")
    checkout.set_up(sources, install)
    (sources / "requirements.txt").write_text("numpy==3\n", encoding="utf-8")
    checkout.set_up(sources, install)
    checkout.set_up(sources, install)
    assert len(made) == 4


def test_an_interrupted_set_up_leaves_nothing_behind(sources, made):
    def interrupted(python):
        (python.parent / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkout.set_up(sources, interrupted)
    checkout.set_up(sources, install)
    assert not (checkout.scripts(sources / ".venv") / "half").exists()
    with pytest.raises(KeyboardInterrupt):  # begun again over one that was finished
        (sources / "requirements.txt").write_text("numpy==3\n", encoding="utf-8")
        checkout.set_up(sources, interrupted)
    assert checkout.recorded(sources) == {}


def test_an_interrupted_removal_does_not_pass_for_a_set_up(sources, made, monkeypatch):
    checkout.set_up(sources, install)
    before = (sources / "requirements.txt").read_bytes()
    (sources / "requirements.txt").write_text("numpy==3\n", encoding="utf-8")
    with monkeypatch.context() as patient, pytest.raises(KeyboardInterrupt):
        patient.setattr(checkout.shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        checkout.set_up(sources, install)
    (sources / "requirements.txt").write_bytes(before)
    checkout.set_up(sources, install)
    assert len(made) == 2


def test_an_older_python_is_told_so_and_may_start_what_stands(sources, made, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        checkout.set_up(sources, install)
    with monkeypatch.context() as newer:
        newer.setattr(sys, "version_info", (3, 12, 0))
        newer.setattr(sys, "version", "3.12.0 (of another build)")
        checkout.set_up(sources, install)
    assert checkout.set_up(sources, install) == checkout.interpreter(sources / ".venv")
    assert len(made) == 1


def test_what_the_reader_asks_of_pip_does_not_send_packages_elsewhere(monkeypatch):
    for name in ("USER", "TARGET", "PREFIX", "ROOT", "REQUIRE_VIRTUALENV", "NO_DEPS", "CONSTRAINT"):
        monkeypatch.setenv(f"PIP_{name}", "1")
    sources = {
        "PIP_INDEX_URL": "a",
        "PIP_CERT": "b",
        "PIP_FIND_LINKS": "c",
        "PIP_CONFIG_FILE": "d",
        "HTTPS_PROXY": "e",
    }
    for name, value in sources.items():
        monkeypatch.setenv(name, value)
    seen = environment.purged()
    assert seen.items() >= sources.items()
    assert {name for name in seen if name.startswith("PIP_")} - sources.keys() <= {"PIP_USER", *kept_by_the_machine()}
    assert seen["PIP_USER"] == "0"


def kept_by_the_machine() -> set[str]:
    return {f"PIP_{name}" for name in environment.PIP_SOURCES}


def test_pip_installs_into_the_environment_under_pip_user(monkeypatch, tmp_path):
    """With PIP_USER=1 pip refuses to install into an environment at all."""
    monkeypatch.setenv("PIP_USER", "1")
    (tmp_path / "pyproject.toml").write_text("[broken", encoding="utf-8")  # reached only when pip goes on
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", str(tmp_path)]
    said = subprocess.run(command, env=environment.purged(), capture_output=True, text=True).stderr
    assert "--user" not in said, said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no users to change to")
def test_a_checkout_of_another_user_gets_one_clear_sentence():
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o555)
        stack.callback(folder.chmod, 0o755)
        if os.geteuid() == 0:  # to whom no folder is closed
            stack.callback(os.seteuid, 0)
            os.seteuid(65534)
        with pytest.raises(SystemExit, match=f"^The folder {folder} cannot be written.*copy the whole folder"):
            checkout.demand_writable(folder)


def test_numbers_of_threads_given_by_the_reader_win(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    seen = environment.purged()
    assert (seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"]) == ("1", "2")


def test_the_door_opens_without_an_environment_at_all():
    """As `env -i` leaves it, with Python's own encoding of the language C."""
    variables = {"PATH": os.environ["PATH"], "LANG": "C", "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
    command = [sys.executable, "-I", str(ROOT / "tools" / "make.py"), "no-such-target"]
    result = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert "book      " in result.stderr
    assert result.returncode == 1


def test_the_makefile_calls_the_door_and_nothing_else():
    recipes = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if line[:1] == "\t"]
    assert len(recipes) == 1
    assert recipes[0].startswith("\t@$(PYTHON) tools/make.py $@")

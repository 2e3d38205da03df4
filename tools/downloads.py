"""What a reader takes along: the library's wheel, each chapter's notebook, and all chapters in one archive.

`book.py` calls `offer` after every build. `--run [NAME ...]`: execute what the built pages offer, each notebook in an
empty folder of its own with nothing but the wheel and the packages of .venv, and say how each one ended.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

import nbformat
import yaml
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "lib" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WHEEL = f"spectral_dynamics-{PROJECT['version']}-py3-none-any.whl"
NAME = "outlier-escape-notebooks"
ARCHIVE = f"{NAME}.zip"
FOLDER = "downloads"  # below the pages
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file knows: the same sources give the same bytes
SAYS = ("claims", "ledger")  # they stop with a sentence when they stand alone; in the archive they run
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"

FIRST_CELL = """\
**“{title}”, a chapter of the book *Outlier Escape: the spectral dynamics of deep networks, derived and executed*.**

This notebook runs in a folder of its own. It needs Python {python} and the book's library, which is on no package \
index. The first page of the book has the file under *Take it with you*; seen from the page of this chapter it is \
`../{folder}/{wheel}`. Put it beside this notebook and type in a terminal

    pip install "./{wheel}[book]" jupyterlab

The book's links to chapters, equations and sources are written `{{doc}}`, `{{eq}}`, `{{cite}}`, and plain Jupyter \
shows them so; `pip install jupyterlab-myst` has them drawn, as far as one notebook allows. Figures are those of the \
pages until their cells are run; movies appear when theirs are."""

README = """\
Outlier Escape: the spectral dynamics of deep networks, derived and executed. All chapters as notebooks.

1. The library of the book is one more file, {wheel}: the first page of the book
   offers it beside this archive. Put it into this folder. Python {python} is needed.
2. In this folder: pip install "./{wheel}[book]" jupyterlab
3. jupyter lab preface.ipynb

_toc.yml has the order of the chapters, references.bib the literature. The ledger and the claims read what the other
chapters have printed. Their pictures were left out, to keep this file small, and come back when a chapter is run.
Code: MIT licence. Text and figures: CC BY 4.0. See LICENSE.
"""


def python() -> str:
    """Which Pythons the library takes, in words."""
    return PROJECT["requires-python"].removeprefix(">=") + " or newer"


def pages(source: Path) -> list[Path]:
    """The files of the table of contents, in its order."""
    contents = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    named = [contents["root"]] + [page["file"] for part in contents["parts"] for page in part["chapters"]]
    return [next(path for end in (".ipynb", ".md") if (path := source / f"{name}{end}").exists()) for name in named]


def wheel(folder: Path) -> Path:
    """The library and the experiments with their tables, as a wheel in `folder`; nothing is fetched."""
    with tempfile.TemporaryDirectory() as staged:  # setuptools writes beside what it packs
        skip = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", ".store")
        for name in ("lib", "experiments"):
            shutil.copytree(ROOT / name, Path(staged) / name, ignore=skip)
        for path in Path(staged).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        subprocess.run(
            [sys.executable, "-I", "-c", BUILD, str(folder.resolve())],
            cwd=Path(staged) / "lib",
            env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},  # LONG_AGO
            umask=0o022,
            check=True,
            capture_output=True,
        )
    return folder / WHEEL


def to_take(path: Path) -> dict:
    """The notebook of a chapter with a first cell that says what it is and what it needs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    title = "".join(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")
    text = FIRST_CELL.format(title=title, python=python(), folder=FOLDER, wheel=WHEEL)
    first = {"cell_type": "markdown", "id": "to-take", "metadata": {}, "source": text.splitlines(keepends=True)}
    return notebook | {"cells": [first, *notebook["cells"]]}


def without_pictures(notebook: dict) -> dict:
    """A notebook with the text that its cells have printed, and no figures or movies."""
    cells = []
    for cell in notebook["cells"]:
        if "outputs" in cell:
            kept = [one for one in cell["outputs"] if not {"image/png", "text/html"} & set(one.get("data", {}))]
            cell = cell | {"outputs": kept}
        cells.append(cell)
    return notebook | {"cells": cells}


def archive(source: Path, path: Path) -> None:
    """All pages of the table of contents in one folder."""
    text = {"README.txt": README.format(wheel=WHEEL, python=python())}
    others = (ROOT / "LICENSE", source / "_toc.yml", source / "references.bib")
    text |= {path.name: path.read_text(encoding="utf-8") for path in others}
    for page in pages(source):
        notebook = page.suffix == ".ipynb"
        text[page.name] = _dump(without_pictures(to_take(page))) if notebook else page.read_text(encoding="utf-8")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in text.items():
            entry = zipfile.ZipInfo(f"{NAME}/{name}", LONG_AGO)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content, zipfile.ZIP_DEFLATED)


def offer(source: Path, html: Path) -> None:
    """Put beside the pages what they offer: `source` is the staged book, `html` its pages."""
    shutil.rmtree(html / FOLDER, ignore_errors=True)
    (html / FOLDER).mkdir(parents=True)
    wheel(html / FOLDER)
    archive(source, html / FOLDER / ARCHIVE)
    for page in pages(source):
        if page.suffix == ".ipynb":  # the pages link to their sources, which Sphinx has put here
            target = html / "_sources" / "chapters" / page.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_dump(to_take(page)), encoding="utf-8")


def _dump(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


# Running what was downloaded


def fresh(folder: Path, wheel: Path) -> Path:
    """A Python in `folder` that has the wheel and the packages of .venv, but not the checkout's library."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    bin_, lib = (Path(sysconfig.get_path(p, "venv", {"base": str(folder)})) for p in ("scripts", "purelib"))
    install = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"]
    install += ["--no-index", "--no-deps", "--no-compile", "--target", str(lib), str(wheel)]
    subprocess.run(install, check=True)
    # A folder named in a .pth file is searched, but the .pth files in it, the checkout's among them, are not obeyed.
    (lib / "packages.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    interpreter = bin_ / Path(sys.executable).name
    kernel = folder / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [str(interpreter), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    return interpreter


def clean() -> dict[str, str]:
    """The environment without what would lead Python or Jupyter elsewhere; one thread, unless it says otherwise."""
    foreign = "PYTHON", "MPL", "JUPYTER", "IPYTHON"
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return threads | {key: value for key, value in os.environ.items() if not key.startswith(foreign)}


def run(path: Path, interpreter: Path) -> str:
    """Execute a notebook where it lies: "ran", or the type and the message of the error that stopped it."""
    places = [str(interpreter.parent.parent / "share" / "jupyter" / "kernels")]
    kernels = KernelSpecManager(kernel_dirs=places, ensure_native_kernel=False)
    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=900,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels),
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.extra_arguments = ["--log-level=ERROR"]
    try:
        client.execute(env=clean(), cleanup_kc=True)
    except CellExecutionError as problem:
        return f"{problem.ename}: {problem.evalue}"
    return "ran"


def run_alone(path: Path, interpreter: Path) -> str:
    """Execute a copy of a notebook in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(shutil.copy(path, folder)), interpreter)


def run_all(html: Path, names: list[str]) -> int:
    """Execute what the pages offer, one after another, with a line for each; how many failed."""
    notebooks = [page.stem for page in pages(ROOT) if page.suffix == ".ipynb"]
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        interpreter = fresh(Path(place) / "python", html / FOLDER / WHEEL)
        with zipfile.ZipFile(html / FOLDER / ARCHIVE) as packed:
            packed.extractall(place)
        jobs = [(name, run_alone, html / "_sources" / "chapters" / f"{name}.ipynb") for name in notebooks]
        jobs += [(f"{name}, in the archive", run, Path(place) / NAME / f"{name}.ipynb") for name in SAYS]
        for name, how, path in jobs:
            if names and path.stem not in names:
                continue
            started = time.perf_counter()
            outcome = how(path, interpreter)
            wanted = (name in SAYS and outcome.startswith("FileNotFoundError")) or outcome == "ran"
            failed += not wanted
            seconds = time.perf_counter() - started
            print(f"{name:<24} {seconds:6.1f} s  {'' if wanted else 'FAILED '}{outcome}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", nargs="*", metavar="NAME", required=True, help="all chapters, or those named")
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html", help="the built pages")
    options = parser.parse_args()
    if not (options.html / FOLDER / WHEEL).exists():
        sys.exit(f"{options.html} offers no {WHEEL}: build the pages first (make html)")
    sys.exit(run_all(options.html, options.run) > 0)


if __name__ == "__main__":
    main()

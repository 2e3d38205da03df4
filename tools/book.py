"""Build the book. `--execute`: run every chapter afresh first, in a copy, so that the sources stay as they are.
`--in-place [NAME ...]`: run chapters (all, or those named) and store their outputs, and build nothing."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import downloads
import environment
import figures
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import chapters

ROOT = environment.ROOT
SOURCES = (
    "_config.yml",
    "_toc.yml",
    "_static",
    "references.bib",
    "chapters/movies",
    "experiments",
    "tools",
    "vendor",
)
LAST = {"ledger", "claims"}  # they read what the other chapters have printed


def stage(target: Path, root: Path = ROOT) -> Path:
    """A fresh copy of all that a build reads: of the folder of chapters, the pages that `_toc.yml` names."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    passed_over = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".store")
    for source in (*(root / name for name in SOURCES), *chapters.pages(root)):
        copy = target / source.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=passed_over)
        elif source.exists():
            shutil.copy(source, copy)
    return target


def execute_chapter(path: Path) -> float:
    """Run one notebook from top to bottom and store its outputs; seconds taken.

    Raises ValueError when a cell ends in an error or lacks its picture; then nothing is stored.
    """
    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False, coalesce_streams=True)
    client.resources = {"metadata": {"path": str(path.parent)}}
    client.extra_arguments = ["--log-level=ERROR"]
    client.execute()
    if flaws := chapters.flaws(notebook, path.stem):
        raise ValueError("\n".join(flaws))
    figures.shrink(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)
    return time.perf_counter() - started


def execute(paths: list[Path]) -> None:
    """Run chapters side by side, with a line for each as it ends."""
    first = [path for path in paths if path.stem not in LAST]
    last = [path for path in paths if path.stem in LAST]
    done = 0
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), initializer=environment.enter) as pool:
        for group in (first, last):
            running = {pool.submit(execute_chapter, path): path for path in group}
            for future in as_completed(running):
                done += 1
                report(running[future], future.result, f"{done}/{len(paths)}")


def execute_in_place(words: list[str], root: Path = ROOT) -> None:
    """Run chapters in a copy, where nothing stray lies about, and store them when all have ended well."""
    paths = [path.relative_to(root) for path in chapters.named(words, root)]
    with tempfile.TemporaryDirectory() as folder:
        copy = stage(Path(folder) / "book", root)
        execute([copy / path for path in paths])
        for path in paths:
            shutil.copy(copy / path, root / path)
        if (copy / "chapters" / "movies").is_dir():
            shutil.copytree(copy / "chapters" / "movies", root / "chapters" / "movies", dirs_exist_ok=True)


def report(path: Path, seconds, place: str) -> None:
    try:
        print(f"  {place}  {path.stem:<28} {seconds():5.1f} s", flush=True)
    except (CellExecutionError, ValueError) as problem:
        sys.exit(f"  {place}  {path.stem} FAILED\n{problem}")


def build(source: Path, output: Path) -> Path:
    """Sphinx, warnings as errors; the path of the first page."""
    start = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "build", "-W", "-n", "--keep-going", "--quiet"]
    command += ["--path-output", str(output), str(source)]
    inside = environment.child(sys.executable)
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=inside)
    first_page = output / "_build" / "html" / "index.html"
    if result.returncode or not first_page.exists():
        sys.exit("The build failed\n" + result.stdout[-6000:] + result.stderr[-6000:])
    downloads.offer(source, first_page.parent)
    return first_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", action="store_true")
    parser.add_argument("--in-place", nargs="*", metavar="NAME")
    parser.add_argument("--output", type=Path, default=ROOT)
    options = parser.parse_args()
    if options.in_place is not None:
        execute_in_place(options.in_place)
        return
    source = stage(options.output / "_build" / "source")
    if options.execute:
        print("Executing the chapters", flush=True)
        execute(chapters.notebooks(source))
    print("Building the pages", flush=True)
    print(f"Open {build(source, options.output).as_uri()}")


if __name__ == "__main__":
    main()

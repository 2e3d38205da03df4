"""Build the book. `--execute`: run every chapter afresh first, in a copy, so that the sources stay as they are.
`--in-place [NAME ...]`: run chapters (all, or those named) and store their outputs, and build nothing."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import figures
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("_config.yml", "_toc.yml", "_static", "references.bib", "chapters", "experiments", "tools", "vendor")
LAST = "ledger"  # it reads what the other chapters have printed


def stage(target: Path) -> Path:
    """A fresh copy of all that a build reads."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".store")
            )
        elif source.exists():
            shutil.copy(source, target / name)
    return target


def execute_chapter(path: Path) -> float:
    """Run one notebook from top to bottom and store its outputs; seconds taken."""
    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False)
    client.resources = {"metadata": {"path": str(path.parent)}}
    client.extra_arguments = ["--log-level=ERROR"]
    client.execute()
    figures.shrink(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)
    return time.perf_counter() - started


def execute(chapters: list[Path]) -> None:
    """Run chapters side by side, with a line for each as it ends."""
    first = [path for path in chapters if path.stem != LAST]
    workers = min(4, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(execute_chapter, path): path for path in first}
        for number, future in enumerate(as_completed(running), start=1):
            report(running[future], future.result, f"{number}/{len(chapters)}")
    for path in (path for path in chapters if path.stem == LAST):
        report(path, lambda path=path: execute_chapter(path), f"{len(chapters)}/{len(chapters)}")


def report(path: Path, seconds, place: str) -> None:
    try:
        print(f"  {place}  {path.stem:<28} {seconds():5.1f} s", flush=True)
    except CellExecutionError as problem:
        sys.exit(f"  {place}  {path.stem} FAILED\n{problem}")


def build(source: Path, output: Path) -> Path:
    """Sphinx, warnings as errors; the path of the first page."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [str(jupyter_book), "build", "-W", "-n", "--keep-going", "--quiet"]
    command += ["--path-output", str(output), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    first_page = output / "_build" / "html" / "index.html"
    if result.returncode or not first_page.exists():
        sys.exit("The build failed\n" + result.stdout[-6000:] + result.stderr[-6000:])
    return first_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", action="store_true")
    parser.add_argument("--in-place", nargs="*", metavar="NAME")
    parser.add_argument("--output", type=Path, default=ROOT)
    options = parser.parse_args()
    if options.in_place is not None:
        names = options.in_place or [path.stem for path in sorted((ROOT / "chapters").glob("*.ipynb"))]
        execute([ROOT / "chapters" / f"{name}.ipynb" for name in names])
        return
    source = stage(options.output / "_build" / "source")
    if options.execute:
        print("Executing the chapters", flush=True)
        execute(sorted((source / "chapters").glob("*.ipynb")))
    print("Building the pages", flush=True)
    print(f"Open {build(source, options.output).as_uri()}")


if __name__ == "__main__":
    main()

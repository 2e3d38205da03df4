"""One door to everything: `python tools/make.py book`, and so on. The Makefile calls this and nothing else.

    book                  execute every chapter afresh and build the pages, warnings as errors
    html                  build the pages from the outputs stored in the chapters
    test                  the library, then every chapter re-run and compared, then the pages in a browser
    lab                   open the chapters in JupyterLab
    chapters [NAME ...]   authors: execute the chapters in place and store their outputs
    kernels [OPTION ...]  what rounding must not choose: tests and chapters on other processors' arithmetic
    benchmarks            speed, as ratios within one run
    tasks                 simple and large tasks once more, reduced: from the data to the number that decides, minutes
    mutants [OPTION ...]  break formulas of the library and of chapters, one at a time: what turns red; an hour
    pins                  compile requirements.in into requirements.txt
    clean                 remove what was set up and built

Runs on any Python from 3.11 on, which is the one that `.venv` is made with. Standard library only.
"""

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
import checkout
import environment

ROOT = environment.ROOT


def commands(target: str, arguments: list) -> list:
    """What a target runs, in order, each as the arguments of the interpreter in `.venv`."""
    scripts = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("_"))
    table = {
        "book": [["tools/book.py", "--execute"]],
        "html": [["tools/book.py"]],
        "test": [["tools/suite.py"]],
        "lab": [["-m", "jupyterlab", "chapters"]],
        "chapters": [["tools/book.py", "--in-place"]],
        "kernels": [["tools/kernels.py"]],
        "benchmarks": [[str(path.relative_to(ROOT))] for path in scripts],
        "tasks": [["experiments/real_tasks.py", "reduced", "2"]],
        "mutants": [["tests/mutants.py"]],
        "pins": [["-m", "pip", "install", "--quiet", "uv"], ["tools/pin.py"]],
    }
    steps = table[target]
    return [[*step, *arguments] for step in steps] if target in ("chapters", "kernels", "lab", "mutants") else steps


def main() -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not know the letters of the folder's name
    target, *arguments = sys.argv[1:] or ["--help"]
    if target == "clean":
        for name in (".venv", "_build"):
            shutil.rmtree(ROOT / name, ignore_errors=True)
        return
    try:
        commands(target, arguments)
    except KeyError:
        sys.exit(__doc__)
    written = ["chapters"] if target in ("chapters", "lab", "mutants") else []
    checkout.demand_writable(ROOT, *(ROOT / name for name in ("_build", *written)))
    python = checkout.set_up()
    inside = environment.child(python)
    for step in commands(target, arguments):
        if target == "benchmarks":
            print("== " + step[0], flush=True)
        code = subprocess.run([str(python), *step], cwd=ROOT, env=inside).returncode
        if code:
            sys.exit(code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

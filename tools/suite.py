"""The tests, in order: lint, the library, every chapter re-run and compared, the pages in a browser."""

import subprocess
import sys

import environment

import chapters

ROOT = environment.ROOT
FOLDERS = ("lib", "tests", "tools", "experiments", "benchmarks")


def steps() -> list[list[str]]:
    """Arguments of the interpreter. A notebook that is no chapter is not looked at."""
    sources = [*FOLDERS, *(str(path.relative_to(ROOT)) for path in chapters.notebooks())]
    return [
        ["-m", "ruff", "check", *sources],
        ["-m", "ruff", "format", "--check", *sources],
        ["-m", "pytest", "tests", "--ignore", "tests/test_pages.py", "-n", "auto", "--maxprocesses", "4", "-q"],
        ["tools/rerun.py"],
        ["-m", "pytest", "tests/test_pages.py", "-q", "-rs"],
    ]


def main() -> None:
    """Ends at the first step that fails; with `--to-the-end`, after all of them."""
    inside = environment.child(sys.executable, backend="agg")
    failed = 0
    for step in steps():
        code = subprocess.run([sys.executable, *step], cwd=ROOT, env=inside).returncode
        failed = failed or code
        if failed and "--to-the-end" not in sys.argv:
            break
    sys.exit(failed)


if __name__ == "__main__":
    main()

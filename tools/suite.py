"""The tests, in order: lint, the library, every chapter re-run and compared, the pages in a browser."""

import subprocess
import sys
import tempfile
from pathlib import Path

import environment

import chapters

ROOT = environment.ROOT
FOLDERS = ("lib", "tests", "tools", "experiments", "benchmarks")


def steps(pages: Path) -> list[list[str]]:
    """Arguments of the interpreter. A notebook that is no chapter is not looked at. `pages`: a folder to build in."""
    side_by_side = ["-n", "auto", "--maxprocesses", "4", "-q"]
    sources = [*FOLDERS, *(str(path.relative_to(ROOT)) for path in chapters.notebooks())]
    return [
        ["-m", "ruff", "check", *sources],
        ["-m", "ruff", "format", "--check", *sources],
        ["-m", "pytest", "tests", "--ignore", "tests/test_pages.py", *side_by_side],
        ["tools/rerun.py"],
        ["tools/book.py", "--output", str(pages)],  # once, for all who look at pages
        ["-m", "pytest", "tests/test_pages.py", *side_by_side, "--dist", "loadgroup", "-rs"],
    ]


def main() -> None:
    """Ends at the first step that fails; with `--to-the-end`, after all of them."""
    inside = environment.child(sys.executable, backend="agg")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder)
        inside["BOOK_HTML"] = str(pages / "_build" / "html")
        for step in steps(pages):
            code = subprocess.run([sys.executable, *step], cwd=ROOT, env=inside).returncode
            failed = failed or code
            if failed and "--to-the-end" not in sys.argv:
                break
    sys.exit(failed)


if __name__ == "__main__":
    main()

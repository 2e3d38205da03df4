"""Re-run chapters (all, or those named) with nbval and compare with the stored outputs; in a copy, so that the
sources stay clean."""

import subprocess
import sys
import tempfile
from pathlib import Path

import environment
from book import ROOT, stage

import chapters

OPTIONS = ["--nbval", "-q", "-n", "auto", "--maxprocesses", "4", "--dist", "loadscope", "--nbval-cell-timeout", "300"]


def rerun(words: list[str] = (), root: Path = ROOT, options: list[str] = (), **run) -> subprocess.CompletedProcess:
    """`options` go to pytest, `run` to subprocess.run."""
    paths = [str(path.relative_to(root)) for path in chapters.named(list(words), root)]
    with tempfile.TemporaryDirectory() as folder:
        copy = stage(Path(folder) / "book", root)
        (copy / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # so that none is looked for further up
        places = [str(ROOT / "tests"), str(ROOT / "tools")]
        plugin = f"import sys\n\nsys.path[:0] = {places!r}\nimport nbval_tolerance  # noqa\n"
        (copy / "conftest.py").write_text(plugin, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *OPTIONS, *options, *paths]
        return subprocess.run(command, cwd=copy, env=environment.child(sys.executable), **run)


if __name__ == "__main__":
    sys.exit(rerun(sys.argv[1:]).returncode)

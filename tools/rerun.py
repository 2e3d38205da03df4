"""Re-run every chapter with nbval and compare with the stored outputs; in a copy, so that the sources stay clean."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from book import ROOT, stage


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = stage(Path(folder) / "book")
        command = [sys.executable, "-m", "pytest", "--nbval", "-p", "nbval_tolerance", "-q", "-n", "auto"]
        command += [
            "--maxprocesses",
            "4",
            "--dist",
            "loadscope",
            "--nbval-cell-timeout",
            "300",
            "chapters",
            *sys.argv[1:],
        ]
        return subprocess.run(command, cwd=copy, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}).returncode


if __name__ == "__main__":
    sys.exit(main())

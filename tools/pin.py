"""Compile requirements.in into requirements.txt: the whole closure, exact, for Python 3.11 to 3.13."""

import subprocess
import sys
from pathlib import Path

HEADER = """\
# The whole closure, exact. Compiled from requirements.in by `make pins`; do not edit by hand.
-e ./lib
# 2.x is another program: it needs Node, ignores _config.yml and fetches its theme at build time.
jupyter-book<2
"""


def main() -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "requirements.in", "--universal"]
    command += ["--python-version", "3.11", "--quiet", "--no-header", "--no-emit-index-url"]
    command += ["--no-annotate"]
    pins = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    Path("requirements.txt").write_text(HEADER + pins)


if __name__ == "__main__":
    main()

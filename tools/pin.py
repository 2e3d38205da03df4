"""Compile requirements.in into requirements.txt: the whole closure, exact, for Python 3.11 to 3.13.

Versions that are there stay; `--upgrade` takes the newest of all, `--upgrade-package NAME` of one.
"""

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
    target = Path("requirements.txt")
    command = [sys.executable, "-m", "uv", "pip", "compile", "requirements.in", "--universal"]
    command += ["--python-version", "3.11", "--quiet", "--no-header", "--no-emit-index-url", "--no-annotate"]
    # uv keeps the versions that it finds where it writes: a new requirement moves no other one.
    command += ["--output-file", str(target), *sys.argv[1:]]
    target.write_text(target.read_text().removeprefix(HEADER))
    subprocess.run(command, check=True)
    target.write_text(HEADER + target.read_text())


if __name__ == "__main__":
    main()

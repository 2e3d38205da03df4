"""The environment of everything that the book starts: pip, kernels, JupyterLab, the tests and the builder.

What a reader has set up for other work (a matplotlib backend or style, an IPython profile, Jupyter kernels, pip
options, paths of Python) neither helps nor harms here. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "_build" / "home"  # instead of the reader's folders of settings
PROFILE = Path(__file__).resolve().parent / "ipython"

# One thread per process: the work is spread over processes. Another value may be given in the environment.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# They change no result.
HARMLESS = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPYCACHEPREFIX", "PYTHONFAULTHANDLER"}
HARMLESS |= {"PYTEST_XDIST_AUTO_NUM_WORKERS"}
OUTSIDE = ("PYTHON", "PYTEST_", "IPYTHON", "JUPYTER", "MPL", "MATPLOTLIB", "NBVAL", "RUFF_", "SPHINX")
# Where packages come from and how they are fetched is the reader's business; where they go to is ours.
PIP_SOURCES = {"INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX", "FIND_LINKS", "CONFIG_FILE", "PROXY", "TRUSTED_HOST"}
PIP_SOURCES |= {"CERT", "CLIENT_CERT", "KEYRING_PROVIDER", "USE_FEATURE", "RETRIES", "TIMEOUT", "DEFAULT_TIMEOUT"}
PIP_SOURCES |= {"CACHE_DIR", "NO_CACHE_DIR", "NO_BINARY", "ONLY_BINARY", "PREFER_BINARY", "DISABLE_PIP_VERSION_CHECK"}


def _is_outside(name: str) -> bool:
    if name.startswith("PIP_"):
        return name[len("PIP_") :] not in PIP_SOURCES
    return name.startswith(OUTSIDE) and name not in HARMLESS


def purged() -> dict[str, str]:
    """The reader's variables without those that reach into Python, pip, Jupyter, matplotlib or the tests."""
    kept = {name: value for name, value in os.environ.items() if not _is_outside(name.upper())}
    # UTF-8 as the chapters are, whatever the language of the machine; a file may ask pip for the user's folder too.
    return {**THREADS, **kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PIP_USER": "0"}


def child(python: str | Path, backend: str = "", home: Path = HOME) -> dict[str, str]:
    """Variables for a child process whose kernels run on the interpreter `python`.

    `backend` is matplotlib's; empty where kernels are started, which choose the one that stores figures.
    `home` takes the place of the reader's folders of settings and is filled here.
    """
    variables = {
        **purged(),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PATH": str(home / "jupyter"),  # searched first: our kernel
        "JUPYTER_DATA_DIR": str(home / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter_config"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter_runtime"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    if backend:
        variables["MPLBACKEND"] = backend
    furnish(Path(python), home)
    if not any((home / "matplotlib").glob("fontlist*")):  # else every kernel would look for the fonts, and say so
        command = [str(python), "-c", "import matplotlib.font_manager"]
        subprocess.run(command, env=variables, cwd=home, capture_output=True)
    return variables


def enter() -> None:
    """Put this very process, which is about to start kernels, into the book's environment."""
    inside = child(sys.executable)
    os.environ.clear()
    os.environ.update(inside)


def furnish(python: Path, home: Path) -> None:
    """A kernel tied to `python`, the book's IPython profile, and an empty folder for matplotlib."""
    for name in ("matplotlib", "jupyter_config", "jupyter_runtime"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "jupyter_runtime").chmod(0o700)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": "Python 3", "language": "python", "metadata": {"debugger": True}}
    _write(home / "jupyter" / "kernels" / "python3" / "kernel.json", json.dumps(kernel, indent=1).encode())
    for path in PROFILE.rglob("*"):
        if path.is_file():
            _write(home / "ipython" / path.relative_to(PROFILE), path.read_bytes())


def _write(path: Path, content: bytes) -> None:
    """Only when it differs, and in one stroke: other processes may be reading."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)

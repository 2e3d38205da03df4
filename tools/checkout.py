"""The environment of Python packages in `.venv`: made once for this folder, this Python and these requirements.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

ROOT = environment.ROOT
OLDEST = (3, 11)
REQUIREMENTS = ("requirements.txt", "lib/pyproject.toml")


def scripts(venv: Path) -> Path:
    return venv / ("Scripts" if os.name == "nt" else "bin")


def interpreter(venv: Path) -> Path:
    return scripts(venv) / ("python.exe" if os.name == "nt" else "python")


def identity(root: Path) -> dict[str, str]:
    """What a set-up is made for; when any of it differs, it is made afresh."""
    digest = hashlib.sha256()
    for name in REQUIREMENTS:
        digest.update((root / name).read_bytes())
    # Inside a virtual environment: the Python that it stands on.
    base = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    return {
        "checkout": str(root.resolve()),
        "python": str(base),
        "version": sys.version.split()[0],
        "requirements": digest.hexdigest(),
    }


def recorded(root: Path) -> dict[str, str]:
    """What the set-up in `.venv` was made for; nothing when there is none or it was interrupted."""
    try:
        return json.loads((root / ".venv" / "ready").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def set_up(root: Path = ROOT, install=None) -> Path:
    """The interpreter of a finished `.venv`, which is made afresh when it is not of this checkout and this Python.

    `install(python)` fills a new environment (default: pip, with requirements.txt).
    """
    venv, wanted, found = root / ".venv", identity(root), recorded(root)
    if sys.version_info < OLDEST:
        # A Python too old to make an environment can still start one that stands.
        if {**found, "python": "", "version": ""} == {**wanted, "python": "", "version": ""}:
            return interpreter(venv)
        sys.exit(f"Python 3.11 or newer is needed, this is {wanted['version']}: make PYTHON=python3.12 ...")
    if found == wanted and interpreter(venv).exists():
        return interpreter(venv)
    demand_writable(root, root / "lib")
    print(f"Setting up .venv{_why(venv, found, wanted)} (about a minute, once)", flush=True)
    _remove(venv)
    if subprocess.run([sys.executable, "-m", "venv", str(venv)], env=environment.purged()).returncode:
        sys.exit("Python could not make a virtual environment: the lines above say what it lacks.")
    (install or _install)(interpreter(venv))
    draft = venv / "ready.draft"
    draft.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    draft.replace(venv / "ready")  # the last act: what is interrupted before it, is begun again
    return interpreter(venv)


def demand_writable(*folders: Path) -> None:
    """End with one sentence when a folder that the work writes into is closed to this user."""
    for folder in filter(Path.is_dir, folders):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            sys.exit(
                f"The folder {folder} cannot be written, and the book is set up and built inside its own folder: "
                "copy the whole folder to a place of yours and work there."
            )


def _why(venv: Path, found: dict, wanted: dict) -> str:
    if not os.path.lexists(venv):
        return ""
    if not found:
        return " afresh: the last set-up did not end"
    names = {"checkout": "another folder", "python": "another Python", "version": "another version of Python"}
    reasons = [names.get(key, "other requirements") for key in wanted if found.get(key) != wanted[key]]
    return f" afresh: it was made for {', '.join(reasons)}" if reasons else " afresh: its Python is gone"


def _install(python: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*command, "-r", "requirements.txt"], cwd=ROOT, env=environment.purged())
    if result.returncode:
        sys.exit(
            "The packages could not be installed: the lines above say why. Run the command again when it is mended."
        )


def _remove(venv: Path) -> None:
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        with contextlib.suppress(OSError):
            (venv / "ready").unlink()  # half a removal must not pass for a set-up
        shutil.rmtree(venv)

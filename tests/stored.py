"""The scripts under experiments/, as modules: tests read their stored results and re-run a small case."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "experiments"


def experiment(name: str):
    """experiments/NAME.py, under a name of its own, since library rooms may have the same."""
    specification = importlib.util.spec_from_file_location(f"experiment_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses and source look-up ask for it there
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)  # one script may import another, as they do when they are run
        specification.loader.exec_module(module)
    return module


def table(module) -> dict[str, np.ndarray]:
    """What the script has stored."""
    with np.load(module.STORED) as file:
        return {name: file[name] for name in file.files}

"""What takes minutes of training: scripts, seeds, stored tables. Installed as `spectral_experiments`.

`spectral_experiments.table("wide")` reads what `experiments/wide.py` has stored. The script itself, with its settings
and the functions that made the table: `from spectral_experiments import wide`.
"""

from pathlib import Path

import numpy as np
from spectral_dynamics import sweeps

NAMES = (
    "deep_linear",
    "digits",
    "digits_all",
    "digits_widths",
    "edge",
    "edge_more",
    "escape",
    "few_digits",
    "many_outputs",
    "nonlinear_modes",
    "nonlinear_modes_theory",
    "own_rates",
    "predicted",
    "predicted_all",
    "real_tasks",
    "sharpness",
    "transfer",
    "transformer",
    "wide",
    "wide_theory",
    "width_curves",
    "widths",
)


def table(name: str) -> dict[str, np.ndarray]:
    """The arrays of a stored table, as the docstring of its script names them.

    Raises ValueError for a name that is not in NAMES and for a damaged file, FileNotFoundError for a missing one.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return sweeps.read(Path(__file__).with_name(f"{name}.npz"))


def seeded(name: str, counts: dict[int, int], rounds: int = 1) -> list[dict]:
    """What `case` is given for every network of a setting; `counts`: {size: networks in each of the rounds}."""
    pairs = [(size, seed) for size, count in counts.items() for seed in range(count * rounds)]
    return [{"name": name, "size": size, "seed": seed} for size, seed in pairs]


def first_row(table: dict, **values) -> int:
    """The first row of a table in which each named column has its value. Raises ValueError if there is none."""
    found = np.logical_and.reduce([np.asarray(table[column]) == value for column, value in values.items()])
    if not np.any(found):
        raise ValueError(f"values must be those of a row, got {values}")
    return int(np.argmax(found))

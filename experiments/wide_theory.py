"""What the theory of infinite width says of the networks of experiments/wide.py, on many sites.

Run from the repository's root, a quarter of an hour on one core:

    python experiments/wide_theory.py [workers]

It writes experiments/wide_theory.npz. Arrays have one row for each setting of `wide`, in its order and its units:
`loss`, `kernels`, `values`, `right`, `left`, with their Monte Carlo standard errors `loss_error` and so on, by the
scatter of replicas; `number` (settings, LAYERS - 1): how many outliers there are in all; `parted` (settings,):
whether replicas parted.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.spectra import outliers
from spectral_experiments import wide

SITES, REPLICAS = 200_000, 8


def case(name: str, sites: int, replicas: int, last: int | None = None, faster: float = 1.0) -> dict[str, np.ndarray]:
    """All that is stored of one setting, or of `last` steps in place of its own, at `faster` times its rate."""
    problem, last = wide.problem(name, faster), last or wide.steps(name)
    rng = np.random.default_rng(wide.NAMES.index(name))
    theory = mlp.solve(problem, last, sites=sites, rng=rng, replicas=replicas)
    found = {key: np.zeros(shape) for key, shape in shapes().items()}
    fill(found, "loss", slice(0, last + 1), theory.train_loss, theory.standard_error(lambda one: one.train_loss))
    part = slice(0, problem.depth), slice(0, problem.samples), slice(0, problem.samples)
    fill(found, "kernels", part, theory.kernels[-1], theory.standard_error(lambda one: one.kernels[-1]))
    for row in range(problem.depth - 1):
        result = outliers.outliers(theory.order(row + 1, last))
        kept = slice(0, min(wide.KEPT, len(result.singular_values)))
        found["number"][row] = len(result.singular_values)
        fill(found, "values", (row, kept), result.singular_values[kept], result.standard_error[kept])
        if found["number"][row]:
            both = cosines(name, theory, row + 1, last)
            errors = theory.standard_error(lambda one, layer=row + 1: cosines(name, one, layer, last))
            for key, value, error in zip(("right", "left"), both, errors, strict=True):
                fill(found, key, row, value, error)
    return found | {"parted": theory.parted is not None}


def shapes() -> dict[str, tuple]:
    """Of everything that is kept of one setting, but for `parted`."""
    one = {
        "loss": (wide.STEPS + 1,),
        "kernels": (wide.LAYERS, wide.SAMPLES, wide.SAMPLES),
        "values": (wide.LAYERS - 1, wide.KEPT),
        "right": (wide.LAYERS - 1, 3),
        "left": (wide.LAYERS - 1, 3),
    }
    return one | {f"{key}_error": shape for key, shape in one.items()} | {"number": (wide.LAYERS - 1,)}


def fill(found: dict, key: str, part, value, error) -> None:
    """Writes a value and its standard error where they belong."""
    found[key][part], found[f"{key}_error"][part] = value, error


def cosines(name: str, theory, layer: int, last: int) -> np.ndarray:
    """Right and left alignments (2, 3) of the top outlier, with the sign of `wide`."""
    columns, sign = recorded(name, theory, last)
    found = outliers.outliers(theory.order(layer, last))
    both = np.array([found.right_alignment[0, columns], found.left_alignment[0, columns]])
    return np.sign(found.right_alignment[0, sign]) * both


def recorded(name: str, theory, last: int) -> tuple[list[int], int]:
    """`wide.pairs`, whose columns follow the batches, in the order of the theory's record."""
    columns, sign = wide.pairs(name, last)
    visited = [[step, sample] for step in range(last) for sample in wide.problem(name).batch(step)]
    order = theory.index.tolist()
    *columns, sign = (order.index(visited[column]) for column in (*columns, sign))
    return columns, sign


def again(name: str, table: dict) -> tuple[dict, dict]:
    """One setting solved once more, and as it is stored."""
    stored = {key: table[key][wide.NAMES.index(name)] for key in (*shapes(), "parted")}
    return case(name, SITES, REPLICAS), stored


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(SITES=SITES, REPLICAS=REPLICAS) | wide.TABLE.constants,
    witnesses={name: partial(case, name, 1200, 2, last=4, faster=4.0) for name in wide.NAMES},
    rows={name: partial(again, name) for name in wide.NAMES},
)


def main(workers: int) -> None:
    """Solves every setting and writes the table."""
    chosen = [{"name": name, "sites": SITES, "replicas": REPLICAS} for name in wide.NAMES]
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    TABLE.write(names=wide.NAMES, **{key: np.array([row[key] for row in rows]) for key in rows[0]})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

"""Deep linear networks of eleven widths, muP and NTK, on a training set and with fresh batches: outliers and losses.

Run from the repository's root, a quarter of an hour on one core:

    python experiments/width_curves.py [workers]

It writes experiments/width_curves.npz, which the chapter on width draws and asserts on. There is no theory in it.
Cases that are done are kept in experiments/.store, so that it can be interrupted. The network is that of the chapter,
two hidden layers, with ALPHA samples per dimension: in a training set, or new ones at every step. At the width ratio
1 the two parametrizations are one network, which is stored as muP.

Arrays with a row for each network: `parametrization` (0 muP, 1 NTK), `fresh` (0 a training set, 1 fresh batches),
`width_ratio`, `size` (the dimension D), `seed`; `tops` (runs, 2, len(RECORD)): the largest singular values of Wbar^0
and Wbar^1 after each of `steps` = RECORD updates; `loss` (runs, 13), test losses at every step that EVERY divides;
`controls` (runs, 8): those of experiments/sharpness.py for two layers, averages at the start less their expectations.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import first_row, sharpness

ALPHA, SCALE, RATE, STD, NOISE = 4.0, 3.0, 0.05, 0.5, 0.2
RECORD, EVERY = (10, 20, 30, 45, 60), 5
ACCURACY = 1e-5  # of the sparse solver
KINDS = ("mup", "ntk")
COUNT = {  # width ratio: {D: networks}
    0.25: {80: 240, 160: 120, 320: 60},
    0.5: {60: 240, 120: 120, 240: 24},
    1.0: {40: 240, 80: 120, 160: 40},
    2.0: {40: 240, 80: 80, 160: 24},
    4.0: {32: 160, 64: 80, 112: 24},
    8.0: {24: 160, 48: 60, 72: 20},
    16.0: {20: 160, 36: 60, 52: 20},
    32.0: {14: 120, 28: 80},
    64.0: {12: 40, 20: 18},
}
BETWEEN = {24.0: {16: 120, 32: 80}, 48.0: {12: 100, 24: 60}}  # NTK alone, about the crossing


def problem(parametrization: str, fresh: bool, width_ratio: float) -> problems.DeepLinear:
    """The reference network of the chapter on width."""
    samples = {"batch_ratio" if fresh else "data_ratio": ALPHA}
    return problems.DeepLinear(
        2,
        width_ratio,
        output_scale=SCALE,
        parametrization=parametrization,
        learning_rate=RATE,
        weight_std=STD,
        noise_std=NOISE,
        **samples,
    )


def largest(matrix, start) -> float:
    """The largest singular value: of a long matrix by its small square, else from `start`, near the right vector."""
    if max(matrix.shape) > 1.5 * min(matrix.shape):
        small = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
        return np.sqrt(linalg.eigvalsh(small, subset_by_index=(len(small) - 1,) * 2)[0])
    return svds(matrix, k=1, v0=start, tol=ACCURACY, return_singular_vectors=False)[0]


def case(parametrization: str, fresh: bool, width_ratio: float, size: int, seed: int, record=RECORD) -> dict:
    """Everything that is stored of one network, trained up to the last step of the record."""
    learned = problem(parametrization, fresh, width_ratio)
    rng = np.random.default_rng([KINDS.index(parametrization), int(fresh), round(4 * width_ratio), size, seed])
    run = networks.train(learned, size=size, steps=max(record), rng=rng, record=(0, *record))
    starts = [run.gradients(0)[:, 0] if len(run.readout(0)) < size else run.features(0)[:, 0], run.features(1)[:, 0]]
    tops = [[largest(run.weights(layer, step), start) for step in record] for layer, start in enumerate(starts)]
    controls = sharpness.controls(learned, run, size)[[0, 1, 2, 3, 4, 5, 8, 9]]
    return {"tops": np.array(tops), "loss": run.test_loss[::EVERY], "controls": controls}


def cases() -> list[dict]:
    """Every network of the table, small ones first."""
    settings = [(kind, fresh) for kind in KINDS for fresh in (False, True)]
    chosen = [
        {"parametrization": kind, "fresh": fresh, "width_ratio": width_ratio, "size": size, "seed": seed}
        for kind, fresh in settings
        for width_ratio, at_size in (COUNT | BETWEEN if kind == "ntk" else COUNT).items()
        for size, count in at_size.items()
        for seed in range(count)
        if kind == "mup" or width_ratio != 1
    ]
    return sorted(chosen, key=lambda one: one["width_ratio"] * one["size"])


def again(parametrization: str, fresh: bool, width_ratio: float, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest size of a setting: made once more, and as it is stored."""
    size = min((COUNT | BETWEEN)[width_ratio])
    columns = {"parametrization": KINDS.index(parametrization), "fresh": fresh, "width_ratio": width_ratio}
    row = first_row(table, **columns, size=size, seed=0)
    now = case(parametrization, fresh, width_ratio, size, 0)
    return now, {key: table[key][row] for key in now}


SETTINGS = [(kind, fresh, nu) for kind in KINDS for fresh in (False, True) for nu in (0.25, 2.0, 16.0)]
TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(ALPHA=ALPHA, SCALE=SCALE, RATE=RATE, STD=STD, NOISE=NOISE, RECORD=RECORD, EVERY=EVERY)
    | dict(ACCURACY=ACCURACY, KINDS=KINDS, COUNT=COUNT, BETWEEN=BETWEEN),
    witnesses={
        f"{kind}, {'fresh' if fresh else 'fixed'}, {nu:g}": partial(
            case, kind, fresh, nu, size=8 if nu > 1 else 16, seed=1, record=(3, 8)
        )
        for kind, fresh, nu in SETTINGS
    },
    rows={f"{kind}, {'fresh' if f else 'fixed'}, {nu:g}": partial(again, kind, f, nu) for kind, f, nu in SETTINGS},
)


def main(workers: int) -> None:
    """Trains every network and writes the table."""
    chosen = cases()
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    TABLE.write(
        parametrization=[KINDS.index(one["parametrization"]) for one in chosen],
        **{key: [one[key] for one in chosen] for key in ("fresh", "width_ratio", "size", "seed")},
        steps=RECORD,
        **{key: np.array([row[key] for row in rows]).astype(np.float32) for key in rows[0]},
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

"""One nonlinear network at many widths, in muP and in NTK parametrization: its outlier while it trains.

Run from the repository's root, about ten minutes on one core:

    python experiments/widths.py

It writes experiments/widths.npz. There is no theory in it. Cases that are done are kept in experiments/.store, so
that it can be interrupted. The output scale of the NTK parametrization is such that both are one at width `SAME`.

Arrays with a row for each network: `parametrization` (0 muP, 1 NTK), `size` (the width N), `seed`; `tops` (runs,
len(RECORD)): the largest singular value of Wbar^LAYER after each of `steps` = RECORD updates;
`loss` (runs, STEPS + 1); `controls` (runs, 4): quantities of the initial network whose expectation
is 0 at every width: <w w> - sigma^2, the trace and the label-weighted part of <h^1 h^1> - sigma^2 x.x'/D, and the
label-weighted sum of w.phi(W^1 phi(h^1)/sqrt(N))/sqrt(N).
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import first_row

SAMPLES, DIMENSION, DEPTH, STEPS, RECORD = 4, 20, 3, 24, (4, 6, 8, 10, 12, 16, 20, 24)
LAYER, SCALE, RATE, STD = 2, 3.0, 0.2, 0.7
SAME = 250
ACCURACY = 1e-5  # of the sparse solver
SEEDS = {  # how many networks at each width
    "mup": {60: 2500, 125: 2000, 250: 1500, 500: 600, 1000: 150, 2000: 30},
    "ntk": {500: 40, 1000: 24, 2000: 14, 4000: 4},
}


def problem(parametrization: str = "mup") -> problems.MLP:
    """Four inputs on a sphere, labels +1 and -1, three hidden layers of tanh."""
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((SAMPLES, DIMENSION))
    inputs *= np.sqrt(DIMENSION) / np.linalg.norm(inputs, axis=1)[:, None]
    scale = SCALE if parametrization == "mup" else SCALE * np.sqrt(SAME)
    return problems.MLP(inputs, np.resize([1.0, -1.0], SAMPLES), DEPTH, "tanh", scale, parametrization, RATE, STD)


def top(matrix, start) -> float:
    """The largest singular value; `start` is a vector not far from the first right one."""
    return svds(matrix, k=1, v0=start, tol=ACCURACY, return_singular_vectors=False)[0]


def controls(learned, run) -> np.ndarray:
    """Four numbers of the initial weights that are 0 on average."""
    h, w, y = run.weights(0, 0) @ learned.inputs.T, run.readout(0), learned.targets[:, 0]
    gram = h.T @ h / run.size - STD**2 * learned.inputs @ learned.inputs.T / DIMENSION
    output = w.ravel() @ learned.phi(run.weights(1, 0) @ learned.phi(h)) / np.sqrt(run.size)
    return np.array([np.mean(w**2) - STD**2, np.trace(gram), y @ gram @ y, y @ output])


def case(parametrization: str, size: int, seed: int, record=RECORD) -> dict[str, np.ndarray]:
    """Everything that is stored of one network, trained up to the last step of the record."""
    learned, rng = problem(parametrization), np.random.default_rng([size, seed])
    run = networks.train(learned, size=size, steps=max(record), rng=rng, record=record, subtract_initial=True)
    start = run.features(LAYER)[:, : learned.samples] @ learned.targets[:, 0]
    tops = [top(run.weights(LAYER, step), start) for step in record]
    return {"tops": np.array(tops), "loss": run.train_loss, "controls": controls(learned, run)}


def cases() -> list[dict]:
    """Every network of the table, small ones first."""
    return [
        {"parametrization": parametrization, "size": size, "seed": seed}
        for parametrization, seeds in SEEDS.items()
        for size, count in seeds.items()
        for seed in range(count)
    ]


def again(parametrization: str, size: int, table: dict) -> tuple[dict, dict]:
    """One network of a width: made once more, and as it is stored."""
    number, now = list(SEEDS).index(parametrization), case(parametrization, size, 3)
    row = first_row(table, parametrization=number, size=size, seed=3)
    return now, {key: table[key][row] for key in now}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(SAMPLES=SAMPLES, DIMENSION=DIMENSION, DEPTH=DEPTH, STEPS=STEPS, RECORD=RECORD, LAYER=LAYER)
    | dict(SCALE=SCALE, RATE=RATE, STD=STD, SAME=SAME, SEEDS=SEEDS, ACCURACY=ACCURACY),
    witnesses={name: partial(case, name, 16, 1, record=(3, 8)) for name in SEEDS},
    rows={
        f"{name}, width {size}": partial(again, name, size)
        for name, size in (("mup", 60), ("mup", 250), ("ntk", 500))
    },
)


def main() -> None:
    """Runs every case and writes the table."""
    chosen = cases()
    rows = sweeps.run(case, chosen, store=TABLE.store)
    table = {key: np.array([row[key] for row in rows]).astype(np.float32) for key in rows[0]}
    TABLE.write(
        parametrization=[list(SEEDS).index(one["parametrization"]) for one in chosen],
        size=[one["size"] for one in chosen],
        seed=[one["seed"] for one in chosen],
        steps=RECORD,
        **table,
    )


if __name__ == "__main__":
    main()

"""One nonlinear network at many widths, in muP and in NTK parametrization: its outlier while it trains.

Run from the repository's root, about ten minutes on one core:

    python experiments/widths.py

It writes experiments/widths.npz. There is no theory in it. Cases that are done are kept in experiments/.store, so
that it can be interrupted. A test re-runs one small case, and fails when the code or the settings that made a number
have changed since. The output scale of the NTK parametrization is such that both are one at width `SAME`.

Arrays with a row for each network: `parametrization` (0 muP, 1 NTK), `size` (the width N), `seed`; `tops` (runs,
len(RECORD)): the largest singular value of Wbar^LAYER after each of `steps` = RECORD updates;
`loss` (runs, STEPS + 1); `controls` (runs, 4): quantities of the initial network whose expectation
is 0 at every width: <w w> - sigma^2, the trace and the label-weighted part of <h^1 h^1> - sigma^2 x.x'/D, and the
label-weighted sum of w.phi(W^1 phi(h^1)/sqrt(N))/sqrt(N).
"""

from pathlib import Path

import numpy as np
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps

STORED = Path(__file__).with_suffix(".npz")
STORE = Path(__file__).parent / ".store" / "widths"
SAMPLES, DIMENSION, DEPTH, STEPS, RECORD = 4, 20, 3, 24, (4, 6, 8, 10, 12, 16, 20, 24)
LAYER, SCALE, RATE, STD = 2, 3.0, 0.2, 0.7
SAME = 250
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


def fingerprint() -> str:
    """Changes whenever a number of the table could: with the settings, the network, or what is measured on it."""
    trained = [problems.MLP, networks._train_mlp, networks._initial_weights, networks._forward]
    trained += [networks._backward, networks._updated, networks._LayeredRun]
    chosen = [SAMPLES, DIMENSION, DEPTH, STEPS, RECORD, LAYER, SCALE, RATE, STD, SAME, SEEDS]
    return sweeps.fingerprint(*trained, *chosen, problem, case, top, controls)


def top(matrix, start) -> float:
    """The largest singular value; `start` is a vector not far from the first right one."""
    return svds(matrix, k=1, v0=start, tol=1e-5, return_singular_vectors=False)[0]


def controls(learned, run) -> np.ndarray:
    """Four numbers of the initial weights that are 0 on average."""
    h, w, y = run.weights(0, 0) @ learned.inputs.T, run.readout(0), learned.targets[:, 0]
    gram = h.T @ h / run.size - STD**2 * learned.inputs @ learned.inputs.T / DIMENSION
    output = w.ravel() @ learned.phi(run.weights(1, 0) @ learned.phi(h)) / np.sqrt(run.size)
    return np.array([np.mean(w**2) - STD**2, np.trace(gram), y @ gram @ y, y @ output])


def case(parametrization: str, size: int, seed: int, made_by: str) -> dict[str, np.ndarray]:
    """Everything that is stored of one network; `made_by` only tells results of older code from newer ones."""
    learned, rng = problem(parametrization), np.random.default_rng([size, seed])
    run = networks.train(learned, size=size, steps=STEPS, rng=rng, record=RECORD, subtract_initial=True)
    start = run.features(LAYER)[:, : learned.samples] @ learned.targets[:, 0]
    tops = [top(run.weights(LAYER, step), start) for step in RECORD]
    return {"tops": np.array(tops), "loss": run.train_loss, "controls": controls(learned, run)}


def cases(made_by: str) -> list[dict]:
    """Every network of the table, small ones first."""
    return [
        {"parametrization": parametrization, "size": size, "seed": seed, "made_by": made_by}
        for parametrization, seeds in SEEDS.items()
        for size, count in seeds.items()
        for seed in range(count)
    ]


def main() -> None:
    """Runs every case and writes the table."""
    made_by = fingerprint()
    chosen = cases(made_by)
    rows = sweeps.run(case, chosen, store=STORE)
    table = {key: np.array([row[key] for row in rows]).astype(np.float32) for key in rows[0]}
    np.savez_compressed(
        STORED,
        parametrization=[list(SEEDS).index(one["parametrization"]) for one in chosen],
        size=[one["size"] for one in chosen],
        seed=[one["seed"] for one in chosen],
        steps=RECORD,
        fingerprint=made_by,
        **table,
    )


if __name__ == "__main__":
    main()

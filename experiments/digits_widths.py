"""300 handwritten digits of ten classes, learned by tanh networks of five widths: what their hidden matrix shows.

Run from the repository's root, about half an hour on one core:

    python experiments/digits_widths.py [workers]

The problem is that of `digits`, learned by two losses; there is no theory in it, and networks train f(t) - f(0).
Cases that are done are kept in experiments/.store, so that it can be interrupted. It writes
experiments/digits_widths.npz, with one row for each network: `setting`, `size`, `seed` (runs,): number of the
setting in `names`, width N, number of the network; `loss`, `accuracy` (runs, steps + 1), over the 300 images (at
step 0, where every output is 0, as if all were zeros); `values` (runs, marks, KEPT): largest singular values of
Wbar^1, descending, at the steps `marks`; `right`, `left` (runs, marks, KEPT, 10): squared cosines of their vectors
with the mean over the images of each class of phi(h^1) and of g^2 = phi'(h^2) sum_o Delta_o w_o, all at that step.
Summed over several vectors they are those of their span.

And, of the first network of width MOVIE of each setting, `movie` (settings, frames, MOVIE): all singular values after
each of the steps `frames`.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import first_row, seeded
from spectral_experiments.digits import digits

MARKS, KEPT = (10, 20, 30, 40), 14
MOVIE, FRAMES = 1000, tuple(range(0, 41, 2))
DENSE = 500  # up to this width all singular vectors are computed, and beyond it the leading ones
KRYLOV, ACCURACY = 80, 1e-9  # of the sparse solver
COUNT = {  # networks
    "squared": {250: 60, 500: 60, 1000: 60, 2000: 24, 4000: 16},
    "cross_entropy": {250: 32, 500: 32, 1000: 24, 2000: 8, 4000: 4},
}
SETTINGS = {  # what is not as in `digits`
    "squared": {},
    "cross_entropy": {"loss": "cross_entropy", "output_scale": 2.0, "learning_rate": 2.0},
}
NAMES = list(SETTINGS)
MEASURED = ("loss", "accuracy", "values", "right", "left")


def problem(name: str) -> problems.MLP:
    """The digits, as they are learned in a setting."""
    return replace(digits()[0], **SETTINGS[name])


def train(learned: problems.MLP, size: int, seed: int, record) -> networks.MLPRun:
    """One network, its weights kept at the steps of the record, of which the last ends the training."""
    options = {"record": record, "record_fields": False, "subtract_initial": True}
    return networks.train(learned, size=size, steps=max(record), rng=np.random.default_rng([size, seed]), **options)


def case(name: str, size: int, seed: int, marks=MARKS) -> dict[str, np.ndarray]:
    """Everything that is stored of one network."""
    return measured(train(problem(name), size, seed, marks), marks)


def measured(run: networks.MLPRun, marks) -> dict[str, np.ndarray]:
    """Loss and accuracy at every step, and at each of the marks `spectrum`."""
    right = run.problem.targets.argmax(axis=1) == run.predictions.argmax(axis=2)
    found = [spectrum(run, step) for step in marks]
    columns = {key: np.array([one[key] for one in found]) for key in found[0]}
    return {"loss": run.train_loss, "accuracy": right.mean(axis=1), **columns}


def spectrum(run: networks.MLPRun, step: int) -> dict[str, np.ndarray]:
    """Leading singular values of Wbar^1, and squared cosines (KEPT, classes) of their vectors with class means."""
    learned, matrix = run.problem, run.weights(1, step)
    phi = learned.phi(run.weights(0, step) @ learned.inputs.T)
    delta = learned.residual(run.predictions[step])
    g = learned.phi_prime(matrix @ phi) * (run.readout(step) @ delta.T)
    left, values, right = leading(matrix)
    means = [field @ learned.targets for field in (phi, g)]  # times the size of the class
    of_phi, of_g = (mean / np.linalg.norm(mean, axis=0) for mean in means)
    return {"values": values, "right": (right @ of_phi) ** 2, "left": (left.T @ of_g) ** 2}


def leading(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors u (N, KEPT), values (KEPT,), descending, and vectors v (KEPT, N)."""
    if len(matrix) <= DENSE:
        left, values, right = linalg.svd(matrix)
        return left[:, :KEPT], values[:KEPT], right[:KEPT]
    start = np.random.default_rng(0).standard_normal(len(matrix))  # the same for every matrix
    left, values, right = svds(matrix, k=KEPT, ncv=KRYLOV, v0=start, tol=ACCURACY)
    order = np.argsort(-values)
    return left[:, order], values[order], right[order]


def movie(name: str, size: int = MOVIE, frames=FRAMES) -> np.ndarray:
    """All singular values of Wbar^1 of the first network of a width, (frames, size)."""
    run = train(problem(name), size, 0, frames)
    return np.array([run.singular_values(1, step) for step in frames])


def again(name: str, size: int, table: dict) -> tuple[dict, dict]:
    """The first network of a width: made once more, and as it is stored."""
    row = first_row(table, setting=NAMES.index(name), size=size, seed=0)
    return case(name, size, 0), {key: table[key][row] for key in MEASURED}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(MARKS=MARKS, KEPT=KEPT, MOVIE=MOVIE, FRAMES=FRAMES, DENSE=DENSE, KRYLOV=KRYLOV, ACCURACY=ACCURACY)
    | dict(SETTINGS=SETTINGS),
    witnesses={name: partial(case, name, 24, 1, marks=(3, 8)) for name in NAMES}
    | {f"{name}, movie": partial(movie, name, 16, (0, 4)) for name in NAMES},
    rows={f"{name}, width {size}": partial(again, name, size) for name in NAMES for size in (250, 1000)},
)


def main(workers: int) -> None:
    """Trains all networks, narrow ones first, and writes the table."""
    chosen = [one for name in NAMES for one in seeded(name, COUNT[name])]
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    movies = sweeps.run(movie, [{"name": name} for name in NAMES], store=TABLE.store)
    table = {key: np.array([row[key] for row in rows]).astype(np.float32) for key in MEASURED}
    TABLE.write(
        setting=[NAMES.index(one["name"]) for one in chosen],
        size=[one["size"] for one in chosen],
        seed=[one["seed"] for one in chosen],
        names=NAMES,
        marks=MARKS,
        frames=FRAMES,
        movie=np.array(movies).astype(np.float32),
        **table,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

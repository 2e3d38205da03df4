"""Twelve handwritten digits, odd or even, learned by tanh networks of six widths: losses and kernels.

Run from the repository's root, about two minutes on one core:

    python experiments/few_digits.py [workers]

Nothing here knows the theory; networks train f(t) - f(0). It writes experiments/few_digits.npz, with one row for each
network: `size`, `seed` (runs,): width N, number of the network; `loss` (runs, STEPS + 1); `aligned` (runs, marks, 2):
y Phi y/(y y |Phi|) of Phi^l = <phi(h^l) phi(h^l)>, l = 1, 2, at the steps MARKS, |.| the Frobenius norm; and, for the
first of them, `kernels_of` (rows,), the network, and `kernels` (rows, 2, 12, 12), both kernels after the last step.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments.wide import kernels

STEPS, MARKS = 20, (0, 5, 10, 20)
ORDER, EACH = (0, 2, 4, 1, 3, 5), 2  # even ones first
COLUMNS = {"depth": 2, "activation": "tanh", "output_scale": 3.0, "weight_std": 1.0, "learning_rate": 0.3}
COUNT = {32: 4000, 64: 3000, 128: 2000, 256: 1200, 512: 600, 1024: 80}  # networks, in twenties
KERNELS = {128: 160, 256: 120, 512: 100, 1024: 80}  # of which so many keep their kernels


def images() -> tuple[np.ndarray, np.ndarray]:
    """The first two images of each digit, (12, 8, 8), and what they show."""
    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.target == digit)[:EACH] for digit in ORDER])
    return digits.images[rows], digits.target[rows]


def problem() -> problems.MLP:
    """Is it even? Images less their mean, on the sphere |x|^2 = D; labels +-1."""
    pictures, shown = images()
    x = pictures.reshape(len(pictures), -1)
    x = x - x.mean(axis=0)
    x *= np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1)[:, None]
    return problems.MLP(x, np.where(shown % 2 == 0, 1.0, -1.0), **COLUMNS)


def alignment(kernel: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y Phi y/(y y |Phi|), of one kernel or of many."""
    return np.einsum("...ij,i,j", kernel, y, y) / (y @ y * np.linalg.norm(kernel, axis=(-2, -1)))


def case(size: int, seeds: tuple[int, int], steps: int = STEPS) -> dict[str, np.ndarray]:
    """What is stored of the networks first .. last - 1 of one width."""
    learned, everything, loss, found = problem(), range(steps + 1), [], []
    for seed in range(*seeds):
        options = {"size": size, "steps": steps, "rng": np.random.default_rng([size, seed]), "record": everything}
        run = networks.train(learned, **options, record_fields=False, subtract_initial=True)
        loss.append(run.train_loss)
        found.append([kernels(learned, run, step) for step in everything])
    found = np.array(found)
    return {"loss": np.array(loss), "aligned": alignment(found, learned.targets[:, 0]), "kernels": found[:, -1]}


def again(size: int, table: dict) -> tuple[dict, dict]:
    """The first two networks of a width: made once more, and as they are stored."""
    now, rows = case(size, (0, 2)), np.flatnonzero(table["size"] == size)[:2]
    now["aligned"] = now["aligned"][:, MARKS]
    kept = np.flatnonzero(np.isin(table["kernels_of"], rows))
    return now, {"loss": table["loss"][rows], "aligned": table["aligned"][rows], "kernels": table["kernels"][kept]}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(STEPS=STEPS, MARKS=MARKS, ORDER=ORDER, EACH=EACH, COLUMNS=COLUMNS, COUNT=COUNT, KERNELS=KERNELS),
    witnesses={"two narrow networks": partial(case, 12, (1, 3), steps=8)},
    rows={"width 128": partial(again, 128)},
)


def main(workers: int) -> None:
    """Trains all networks, twenty at a time, and writes the table."""
    parts = [(size, (first, first + 20)) for size, count in COUNT.items() for first in range(0, count, 20)]
    chosen = [{"size": size, "seeds": seeds} for size, seeds in parts]
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    table = {key: np.concatenate([row[key] for row in rows]).astype(np.float32) for key in rows[0]}
    size = np.repeat([one["size"] for one in chosen], 20)
    seed = np.concatenate([np.arange(*one["seeds"]) for one in chosen])
    kept = np.flatnonzero(seed < np.array([KERNELS.get(width, 0) for width in size]))
    table |= {"aligned": table["aligned"][:, MARKS], "kernels": table["kernels"][kept], "kernels_of": kept}
    TABLE.write(size=size, seed=seed, **table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

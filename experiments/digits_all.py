"""All 1797 handwritten digits, learned in mini-batches by tanh networks of three widths: their hidden matrix.

Run from the repository's root, about ten minutes on one core:

    python experiments/digits_all.py [workers]

The problem is that of `digits`, with all images and batches of BATCH of them: each epoch goes through the images in
an order of its own, drawn once for all networks, and drops the 97 that fill no batch. There is no theory in it;
networks train f(t) - f(0). Cases that are done are kept in experiments/.store. It writes experiments/digits_all.npz,
with one row for each network: `size`, `seed` (runs,); `loss`, `accuracy` (runs, steps + 1), over all images after
each batch; `values`, `right`, `left` as in `digits_widths`, after each epoch, at the steps `marks`; and `batches`
(steps, BATCH).
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import problems, sweeps
from spectral_experiments import first_row, seeded
from spectral_experiments.digits import digits
from spectral_experiments.digits_widths import MEASURED, measured, train

IMAGES, BATCH, EPOCHS = 1797, 100, 2
EACH = IMAGES // BATCH  # batches in an epoch
MARKS = tuple(EACH * epoch for epoch in range(1, EPOCHS + 1))
SEED = 1  # of the batches
RATE = 0.5
COUNT = {500: 16, 1000: 12, 2000: 6, 4000: 4}  # networks
NAME = "all digits"


def batches() -> np.ndarray:
    """Which images make each step, (steps, BATCH): none comes twice in an epoch."""
    rng = np.random.default_rng(SEED)
    orders = [rng.permutation(IMAGES)[: EACH * BATCH] for _ in range(EPOCHS)]
    return np.concatenate(orders).reshape(-1, BATCH)


def problem() -> problems.MLP:
    """All digits; mean removed, root mean square norm 8, one-hot."""
    return replace(digits(IMAGES)[0], batches=batches(), learning_rate=RATE)


def case(name: str, size: int, seed: int, marks=MARKS) -> dict[str, np.ndarray]:
    """Everything that is stored of one network."""
    return measured(train(problem(), size, seed, marks), marks)


def again(size: int, table: dict) -> tuple[dict, dict]:
    """The first network of a width: made once more, and as it is stored."""
    row = first_row(table, size=size, seed=0)
    return case(NAME, size, 0), {key: table[key][row] for key in MEASURED}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(IMAGES=IMAGES, BATCH=BATCH, EPOCHS=EPOCHS, MARKS=MARKS, SEED=SEED, RATE=RATE, batches=batches()),
    witnesses={"a narrow network": partial(case, NAME, 24, 1, marks=(3, 8))},
    rows={"width 500": partial(again, 500)},
)


def main(workers: int) -> None:
    """Trains all networks, narrow ones first, and writes the table."""
    chosen = seeded(NAME, COUNT)
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    table = {key: np.array([row[key] for row in rows]).astype(np.float32) for key in MEASURED}
    size, seed = ([one[key] for one in chosen] for key in ("size", "seed"))
    TABLE.write(size=size, seed=seed, marks=MARKS, batches=batches(), **table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

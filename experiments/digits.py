"""Digits networks of several widths and seeds: every outlier of the hidden matrix, measured and predicted.

Run from the repository's root, a few minutes on one core:

    python experiments/digits.py

It writes experiments/digits.npz, which the chapter on the first real network draws and asserts on.

Arrays, one row for each case: `widths`, `seeds` (cases,); `accuracy`, `loss` (cases, steps + 1), on the training
images; `measured`, `predicted`, `independent` (cases, recorded, KEPT), the largest singular values of Wbar^1 and the
two predictions, which are 0 where nothing is predicted above the bulk edge. `fewer` (seeds, OPTIONS, recorded, KEPT):
predictions at the width SEARCHED from other numbers of directions and rounds of products with Wbar(0).
"""

from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from spectral_dynamics import networks, problems, sweeps
from spectral_dynamics.spectra import outliers
from spectral_experiments import first_row

CASES = [(width, seed) for width in (250, 500, 1000, 2000) for seed in (0, 1, 2)]
STEPS = np.arange(2, 41, 2)  # the recorded ones
DIRECTIONS, ROUNDS = 20, 2
OPTIONS = [(5, 0), (10, 0), (20, 0), (5, 1), (10, 1), (20, 1), (5, 2), (10, 2), (20, 2)]
SEARCHED = 1000  # the width at which the options are compared
KEPT = 14


def digits(count: int = 300) -> tuple[problems.MLP, np.ndarray]:
    """The problem of the chapter and the digits themselves: mean removed, root mean square norm 8, one-hot."""
    images, labels = load_digits(return_X_y=True)
    X = images[:count] - images[:count].mean(axis=0)
    X *= 8 / np.sqrt(np.mean(np.sum(X**2, axis=1)))
    problem = problems.MLP(X, np.eye(10)[labels[:count]], depth=2, output_scale=8.0, learning_rate=0.5)
    return problem, labels[:count]


def run(width: int, seed: int, steps=STEPS) -> networks.MLPRun:
    """One network, weights kept at 0 and at the recorded steps."""
    rng = np.random.default_rng(seed)
    return networks.train(digits()[0], size=width, steps=steps[-1], rng=rng, record=steps, record_fields=False)


def predict(network, step: int, directions: int, rounds: int, independent: bool = False) -> np.ndarray:
    """The outliers predicted from a recording, (KEPT,), padded with zeros."""
    recording = network.recording(layer=1, step=step, directions=directions, matvecs=rounds)
    return _padded(outliers.from_recording(recording, weight_variance=1.0, independent=independent).singular_values)


def case(width: int, seed: int, steps=STEPS, directions: int = DIRECTIONS, options=OPTIONS) -> dict[str, np.ndarray]:
    """Everything that is stored of one network; `fewer` only where there are `options`."""
    network = run(width, seed, steps)
    result = {
        "accuracy": np.mean(np.argmax(network.predictions, axis=2) == digits()[1], axis=1),
        "loss": network.train_loss,
        "measured": np.array([network.singular_values(1, step)[:KEPT] for step in steps]),
        "predicted": np.array([predict(network, step, directions, ROUNDS) for step in steps]),
        "independent": np.array([predict(network, step, directions, 0, independent=True) for step in steps]),
    }
    if options:
        result["fewer"] = np.array([[predict(network, step, *option) for step in steps] for option in options])
    return result


def _padded(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros(KEPT)])[:KEPT]


def again(width: int, table: dict) -> tuple[dict, dict]:
    """The first network of a width: made once more, and as it is stored."""
    row = first_row(table, widths=width, seeds=0)
    now = case(width, 0, options=())
    return now, {key: table[key][row] for key in now}


TINY = dict(steps=(2, 5, 8), directions=3, options=((1, 0), (3, 1), (7, 1)))  # sparse solvers, and a dense one
TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(CASES=CASES, STEPS=STEPS, DIRECTIONS=DIRECTIONS, ROUNDS=ROUNDS, OPTIONS=OPTIONS, KEPT=KEPT)
    | dict(SEARCHED=SEARCHED),
    witnesses={"a narrow network": partial(case, 24, 1, **TINY)},
    rows={"width 250": partial(again, 250)},
)


def main() -> None:
    """Runs every case and writes the table."""
    results = []
    for width, seed in CASES:
        results.append(case(width, seed, options=OPTIONS if width == SEARCHED else ()))
        print(f"width {width}, seed {seed}: {np.round(results[-1]['measured'][-1, :10], 3)}", flush=True)
    widths, seeds = np.array(CASES).T
    table = {name: np.array([result[name] for result in results]) for name in results[0]}
    table["fewer"] = np.array([result["fewer"] for result in results if "fewer" in result])
    TABLE.write(widths=widths, seeds=seeds, steps=STEPS, **table)


if __name__ == "__main__":
    main()

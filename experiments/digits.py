"""Digits networks of several widths and seeds: every outlier of the hidden matrix, measured and predicted.

Run from the repository's root, a few minutes on one core:

    python experiments/digits.py

It writes experiments/digits.npz, which the chapter on the first real network draws and asserts on. A test re-runs
the smallest case, and fails when the script or the library rooms it used have changed since.

Arrays, one row for each case: `widths`, `seeds` (cases,); `accuracy`, `loss` (cases, steps + 1), on the training
images; `measured`, `predicted`, `independent` (cases, recorded, KEPT), the largest singular values of Wbar^1 and the
two predictions, which are 0 where nothing is predicted above the bulk edge. `fewer` (seeds, OPTIONS, recorded, KEPT):
predictions at the width SEARCHED from other numbers of directions and rounds of products with Wbar(0).
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from spectral_dynamics import networks, problems, sweeps
from spectral_dynamics.spectra import outliers

STORED = Path(__file__).with_suffix(".npz")
CASES = [(width, seed) for width in (250, 500, 1000, 2000) for seed in (0, 1, 2)]
STEPS = np.arange(2, 41, 2)  # the recorded ones
DIRECTIONS, ROUNDS = 20, 2
OPTIONS = [(5, 0), (10, 0), (20, 0), (5, 1), (10, 1), (20, 1), (5, 2), (10, 2), (20, 2)]
SEARCHED = 1000  # the width at which the options are compared
KEPT = 14


def fingerprint() -> str:
    """Changes whenever a number of the table could: with the problem, the network, or the prediction."""
    trained = [problems.MLP, networks._train_mlp, networks._initial_weights, networks._forward]
    trained += [networks._backward, networks._updated, networks._LayeredRun, networks._leading_directions]
    chosen = [CASES, STEPS, DIRECTIONS, ROUNDS, OPTIONS, SEARCHED, KEPT]
    return sweeps.fingerprint(*trained, *chosen, outliers, digits, run, predict, case)


def digits(count: int = 300) -> tuple[problems.MLP, np.ndarray]:
    """The problem of the chapter and the digits themselves: mean removed, root mean square norm 8, one-hot."""
    images, labels = load_digits(return_X_y=True)
    X = images[:count] - images[:count].mean(axis=0)
    X *= 8 / np.sqrt(np.mean(np.sum(X**2, axis=1)))
    problem = problems.MLP(X, np.eye(10)[labels[:count]], depth=2, output_scale=8.0, learning_rate=0.5)
    return problem, labels[:count]


def run(width: int, seed: int) -> networks.MLPRun:
    """One network, weights kept at 0 and at the recorded steps."""
    rng = np.random.default_rng(seed)
    return networks.train(digits()[0], size=width, steps=STEPS[-1], rng=rng, record=STEPS, record_fields=False)


def predict(network, step: int, directions: int, rounds: int, independent: bool = False) -> np.ndarray:
    """The outliers predicted from a recording, (KEPT,), padded with zeros."""
    recording = network.recording(layer=1, step=step, directions=directions, matvecs=rounds)
    return _padded(outliers.from_recording(recording, weight_variance=1.0, independent=independent).singular_values)


def case(width: int, seed: int) -> dict[str, np.ndarray]:
    """Everything that is stored of one network."""
    network = run(width, seed)
    result = {
        "accuracy": np.mean(np.argmax(network.predictions, axis=2) == digits()[1], axis=1),
        "loss": network.train_loss,
        "measured": np.array([network.singular_values(1, step)[:KEPT] for step in STEPS]),
        "predicted": np.array([predict(network, step, DIRECTIONS, ROUNDS) for step in STEPS]),
        "independent": np.array([predict(network, step, DIRECTIONS, 0, independent=True) for step in STEPS]),
    }
    if width == SEARCHED:
        result["fewer"] = np.array([[predict(network, step, *option) for step in STEPS] for option in OPTIONS])
    return result


def _padded(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros(KEPT)])[:KEPT]


def main() -> None:
    """Runs every case and writes the table."""
    results, made_by = [], fingerprint()  # of the code as it is now, not as it is when the runs have ended
    for width, seed in CASES:
        results.append(case(width, seed))
        print(f"width {width}, seed {seed}: {np.round(results[-1]['measured'][-1, :10], 3)}", flush=True)
    widths, seeds = np.array(CASES).T
    table = {name: np.array([result[name] for result in results]) for name in results[0]}
    table["fewer"] = np.array([result["fewer"] for result in results if "fewer" in result])
    np.savez_compressed(STORED, widths=widths, seeds=seeds, steps=STEPS, fingerprint=made_by, **table)


if __name__ == "__main__":
    main()

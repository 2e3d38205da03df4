"""Deep linear networks of sixteen kinds, at three sizes and many seeds: losses, outliers and alignments.

Run from the repository's root; two hours of one core, less with more of them:

    python experiments/deep_linear.py [workers]

It can be interrupted: every network that was trained is kept in experiments/.store, and is not trained again. Seeds
are added until the statistical error of the limit of infinite size is small enough for what chapters and tests ask
of it (`ERRORS`). Nothing here knows the theory. It writes experiments/deep_linear.npz, with one row for each network:

`setting`, `size`, `seed` (runs,): number of the setting, dimension D, number of the network; `test_loss`,
`train_loss` (runs, STEPS + 1); `values` (runs, recorded, 4): top singular value of Wbar^l, l = 0, 1, ..., and 0 where
there is no such layer; `right`, `left` (runs, recorded, 4, 3): cosines of its singular vectors with h^l(s) (vhat for
l = 0) and g^{l+1}(s) at s = 0, n // 2 and n - 1, n the recorded step; the largest right one over all s < n is
positive. `controls` (runs, 8): <v v>, <Delta Delta>, <vhat vhat>, <beta vhat> and <g^l g^l>, l = 1, 2, ..., at the
start, less their exact expectations: they explain a good part of the scatter (`sweeps.extrapolate`). And `names`,
`parameters` (settings,), the latter as JSON of what problems.DeepLinear takes; `steps` (recorded,).
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import first_row, seeded

STEPS, RECORDED, LAYERS = 40, np.array([30, 40]), 4
WIDE, SQUARE, NARROW = (250, 500, 1000), (500, 1000, 2000), (800, 1600, 3200)
ROUND = (48, 24, 24)  # networks added in each round at the smallest, the middle and the largest size
ROUNDS = 12  # at most
ACCURACY = 1e-4  # of the sparse solver
LINE = 1.03  # what stands less than 3 % above the edge has corrections of N^(-2/3), not of 1/N
# Standard errors at which seeds are no longer added, of losses and singular values (relative) and of cosines.
ERRORS = {"losses": 0.0065, "values": 0.002, "cosines": 0.008}

COLUMNS = ("depth", "width_ratio", "output_scale", "learning_rate", "weight_std")
ROWS = {  # name: sizes D, the columns, everything else
    "one layer": (SQUARE, (1, 1.0, 3.0, 0.03, 0.3), dict(data_ratio=2.0)),
    "one wide layer, noise": (WIDE, (1, 4.0, 4.0, 0.015, 0.5), dict(data_ratio=1.0, noise_std=0.3)),
    "narrow, noise": (SQUARE, (2, 0.5, 10.0, 0.005, 1.0), dict(data_ratio=2.0, noise_std=0.5)),
    "bottleneck, few data": (NARROW, (2, 0.25, 4.0, 0.008, 0.6), dict(data_ratio=0.5)),
    "wide": (WIDE, (2, 2.0, 3.0, 0.012, 0.5), dict(data_ratio=2.0)),
    "very wide, noise": (WIDE, (2, 4.0, 4.0, 0.007, 0.7), dict(data_ratio=1.0, noise_std=0.2)),
    "three layers, noise": (SQUARE, (3, 1.0, 5.0, 0.007, 0.6), dict(data_ratio=2.0, noise_std=0.3)),
    "four layers, narrow": (SQUARE, (4, 0.5, 6.0, 0.0065, 0.6), dict(data_ratio=4.0)),
    "four layers, noise": (SQUARE, (4, 1.0, 5.0, 0.005, 0.7), dict(data_ratio=1.0, noise_std=0.3)),
    "population": (SQUARE, (2, 1.0, 5.0, 0.0085, 0.5), dict()),
    "NTK, wide": (WIDE, (2, 2.0, 4.0, 0.012, 0.5), dict(data_ratio=2.0, parametrization="ntk")),
    "NTK, narrow, noise": (
        SQUARE,
        (3, 0.5, 4.0, 0.0065, 0.6),
        dict(data_ratio=1.0, parametrization="ntk", noise_std=0.3),
    ),
    "SGD": (SQUARE, (2, 1.0, 4.0, 0.0085, 0.6), dict(batch_ratio=1.0, noise_std=0.3)),
    "momentum": (SQUARE, (2, 1.0, 4.0, 0.0024, 0.6), dict(data_ratio=2.0, momentum=0.8)),
    "weight decay": (SQUARE, (2, 1.0, 4.0, 0.01, 0.6), dict(data_ratio=1.0, noise_std=0.3, weight_decay=0.4)),
    "NTK, SGD, momentum, decay": (
        WIDE,
        (3, 2.0, 6.0, 0.0025, 0.65),
        dict(batch_ratio=2.0, parametrization="ntk", noise_std=0.3, momentum=0.7, weight_decay=0.2),
    ),
}
SETTINGS = {
    name: (sizes, dict(zip(COLUMNS, row, strict=True)) | others) for name, (sizes, row, others) in ROWS.items()
}
NAMES = list(SETTINGS)


def case(name: str, size: int, seed: int, recorded=RECORDED) -> dict[str, np.ndarray]:
    """Everything that is stored of one network, trained up to the last of the `recorded` steps."""
    problem = problems.DeepLinear(**SETTINGS[name][1])
    rng = np.random.default_rng([NAMES.index(name), size, seed])
    network = networks.train(problem, size=size, steps=max(recorded), rng=rng, record=recorded)
    values, cosines = np.zeros((len(recorded), LAYERS)), np.zeros((2, len(recorded), LAYERS, 3))
    for row, step in enumerate(recorded):
        for layer in range(problem.depth):
            values[row, layer], cosines[:, row, layer] = _top(network, layer, step)
    found = {"test_loss": network.test_loss, "train_loss": network.train_loss, "values": values}
    return found | {"right": cosines[0], "left": cosines[1], "controls": controls(problem, network, size)}


def controls(problem, network, size: int) -> np.ndarray:
    """(8,): averages at the start, less their exact expectations at this size, in the order of the docstring.

    The initial function beta is a product of independent Gaussian matrices, and the samples are Gaussian: second
    moments are elementary, and E[(X^T X)^2] = P (P + D + 1).
    """
    s2, depth, noise = problem.weight_std**2, problem.depth, problem.noise_std**2
    v_hat, g = network.features(0)[:, 0], [network.gradients(layer)[:, 0] for layer in range(depth)]
    beta = network.weights(0, 0).T @ g[0] * np.sqrt(size / len(g[0])) / problem.gamma
    start = s2 ** (depth + 1) / problem.gamma**2  # the expectation of <beta beta>
    ratio = problem.data_ratio or problem.batch_ratio
    samples = np.inf if ratio is None else round(ratio * size)
    squares = (1 + start) * (1 + (size + 1) / samples) + noise * size / samples
    deviations = [
        network.test_loss[0] - (1 + start),
        network.train_loss[0] - (1 + start + noise),
        np.mean(v_hat**2) - squares,
        np.mean(beta * v_hat) + start,
    ]
    deviations += [np.mean(g[layer] ** 2) - s2 ** (depth - layer) for layer in range(depth)]
    return np.array(deviations + [0.0] * (LAYERS - depth))


def _top(network, layer: int, step: int) -> tuple[float, np.ndarray]:
    """The top singular value of Wbar^layer, and cosines (2, 3) of its vectors with features and gradients."""
    features, gradients = network.features(layer, step), network.gradients(layer, step)
    start = features[:, -1] if len(features) <= len(gradients) else gradients[:, -1]  # svds asks for the shorter side
    left, value, right = svds(network.weights(layer, step), k=1, v0=start, tol=ACCURACY)
    cosines = [
        vector @ columns / np.linalg.norm(columns, axis=0)
        for vector, columns in ((right[0], features), (left[:, 0], gradients))
    ]
    sign = np.sign(cosines[0][np.argmax(np.abs(cosines[0]))])
    return value[0], sign * np.array(cosines)[:, [0, step // 2, step - 1]]


def uncertain(name: str, sizes: np.ndarray, results: list[dict]) -> dict[str, float]:
    """The largest standard error of the limit of infinite size, over everything that is clearly an outlier."""
    runs = {key: np.array([result[key] for result in results]) for key in results[0]}
    given = runs.pop("controls")
    limits = {key: sweeps.extrapolate(sizes, value, controls=given) for key, value in runs.items()}
    losses = [limits[key].standard_error / limits[key].limit for key in ("test_loss", "train_loss")]
    values, out = limits["values"], limits["values"].limit > LINE * edges(name)
    cosines = [limits[key].standard_error[out] for key in ("right", "left")]
    found = {"losses": losses, "values": (values.standard_error / values.limit.clip(1e-9))[out], "cosines": cosines}
    return {key: float(np.max(value, initial=0.0)) for key, value in found.items()}


def edges(name: str) -> np.ndarray:
    """(recorded, LAYERS): where the bulk ends, with what weight decay has left of it; infinite for no layer."""
    problem = problems.DeepLinear(**SETTINGS[name][1])
    decay = networks.train(problem, size=4, steps=STEPS, rng=np.random.default_rng(0)).decay[RECORDED]
    factors = [1 + np.sqrt(problem.width_ratio)] + [2.0] * (problem.depth - 1)
    return problem.weight_std * np.outer(decay, factors + [np.inf] * (LAYERS - problem.depth))


def cases(name: str, rounds: int) -> list[dict]:
    """The networks of the first `rounds` rounds of one setting."""
    return seeded(name, dict(zip(SETTINGS[name][0], ROUND, strict=True)), rounds)


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest size of a setting: made once more, and as it is stored."""
    size = min(SETTINGS[name][0])
    now, row = case(name, size, 0), first_row(table, setting=NAMES.index(name), size=size, seed=0)
    return now, {key: table[key][row] for key in now}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(SETTINGS=SETTINGS, STEPS=STEPS, RECORDED=RECORDED, LAYERS=LAYERS, ACCURACY=ACCURACY),
    witnesses={name: partial(case, name, 16, 1, recorded=(4, 8)) for name in NAMES},
    rows={name: partial(again, name) for name in NAMES},
)


def main(workers: int) -> None:
    """Adds rounds where they are needed, all settings in turn, and writes the table after each."""
    results, done = {}, set()
    for rounds in range(1, ROUNDS + 1):
        for name in NAMES:
            if name in done:
                continue
            chosen = cases(name, rounds)
            results[name] = (chosen, sweeps.run(case, chosen, store=TABLE.store, workers=workers))
            errors = uncertain(name, np.array([one["size"] for one in chosen]), results[name][1])
            if all(errors[key] <= ERRORS[key] for key in ERRORS):
                done.add(name)
            shown = ", ".join(f"{key} {value:.2%}" for key, value in errors.items())
            print(f"round {rounds}, {name}: standard errors {shown}{'; enough' * (name in done)}", flush=True)
            write(results)


def write(results: dict) -> None:
    """The table of everything so far."""
    rows = [(one, result) for name in results for one, result in zip(*results[name], strict=True)]
    table = {key: np.array([result[key] for _, result in rows], dtype=np.float32) for key in rows[0][1]}
    TABLE.write(
        setting=[NAMES.index(one["name"]) for one, _ in rows],
        size=[one["size"] for one, _ in rows],
        seed=[one["seed"] for one, _ in rows],
        names=NAMES,
        parameters=[json.dumps(parameters) for _, parameters in SETTINGS.values()],
        steps=RECORDED,
        **table,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

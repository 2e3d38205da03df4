"""Nonlinear networks of thirteen kinds in muP, at four widths and many seeds: losses, kernels, outliers, alignments.

Run from the repository's root; an hour and a half of one core, less with more of them:

    python experiments/wide.py [workers]

It can be interrupted: every network that was trained is kept in experiments/.store, and is not trained again. Seeds
are added until the statistical error of the limit of infinite width is small enough for what chapters and tests ask
of it (`ERRORS`). Nothing here knows the theory, save that the steps were chosen such that it expects outliers there,
`kept` that clearly stand out in each layer, and `sign` is a sample that the top direction sees. Networks train
f(t) - f(0). It writes experiments/wide.npz, with one row for each network:

`setting`, `size`, `seed` (runs,): number of the setting, width N, number of the network; `loss` (runs, STEPS + 1), 0
after the setting's last step; `kernels` (runs, LAYERS, SAMPLES, SAMPLES): <phi(h^l) phi(h^l)>, l = 1, 2, ..., after
the last step; `values` (runs, LAYERS - 1, KEPT): largest singular values of Wbar^l, l = 1, 2, ..., after the last
step; `right`, `left` (runs, LAYERS - 1, 3): cosines of the vectors of the top one with phi(h^l_k) and g^{l+1}_k at
the first, the middle and the last visited pair (step, sample) k; the right one with the last pair of sample `sign` is
positive. What a setting does not have is 0. And `names` (settings,).
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import first_row, seeded

LAYERS, SAMPLES, KEPT, STEPS = 4, 12, 5, 24
ROUND = {500: 60, 1000: 40, 2000: 30, 4000: 3}  # networks added in each round at each width
LEAST, ROUNDS = 4, 10  # rounds at least, so that the scatter at the largest width is known, and at most
SEED = 4  # of the data
ACCURACY = 1e-4  # of the sparse solver
LINE = 1.03  # what stands less than 3 % above the edge has corrections of N^(-2/3), not of 1/N
# Standard errors at which seeds are no longer added, of losses and singular values (relative) and of cosines.
ERRORS = {"loss": 0.0035, "values": 0.0018, "cosines": 0.007}

COLUMNS = ("depth", "activation", "output_scale", "weight_std", "learning_rate")
ROWS = {  # name: (samples, dimension, outputs, batch), steps, kept, sign, the columns
    "tanh, two layers": ((6, 20, 1, None), 11, (1,), 0, (2, "tanh", 3.0, 1.0, 0.2)),
    "erf, three layers": ((6, 20, 1, None), 13, (1, 1), 0, (3, "erf", 3.0, 0.8, 0.15)),
    "relu, batches": ((8, 20, 1, 3), 18, (1,), 3, (2, "relu", 5.0, 1.1, 0.07)),
    "tanh, four layers": ((6, 20, 1, None), 15, (1, 1, 1), 0, (4, "tanh", 4.0, 1.0, 0.12)),
    "nearly lazy": ((12, 12, 1, None), 20, (1,), 2, (2, "erf", 0.3, 0.5, 1.0)),
    "rich, small weights": ((6, 20, 1, None), 13, (1,), 0, (2, "tanh", 5.0, 0.6, 0.15)),
    "large weights": ((6, 20, 1, None), 20, (1, 1), 0, (3, "tanh", 5.0, 1.5, 0.08)),
    "ten outputs": ((10, 30, 10, None), 20, (4,), 0, (2, "tanh", 3.0, 1.0, 0.25)),
    "ten outputs, batches": ((10, 30, 10, 4), 20, (4,), 6, (2, "relu", 4.0, 1.2, 0.05)),
    "ten outputs, three layers, batches": ((10, 30, 10, 5), 24, (2, 4), 5, (3, "erf", 4.0, 1.0, 0.12)),
    "cross-entropy": ((9, 30, 3, None), 14, (2,), 1, (2, "tanh", 4.0, 1.0, 0.4)),
    "momentum": ((6, 20, 1, None), 14, (1,), 2, (2, "tanh", 3.0, 1.0, 0.06)),
    "weight decay, batches": ((8, 20, 1, 4), 8, (1,), 0, (2, "erf", 4.0, 1.0, 0.15)),
}
EXTRA = {  # further arguments of problems.MLP
    "cross-entropy": {"loss": "cross_entropy"},
    "momentum": {"momentum": 0.7},
    "weight decay, batches": {"momentum": 0.5, "weight_decay": 0.02},
}
NAMES = list(ROWS)
MEASURED = ("loss", "kernels", "values", "right", "left")


def problem(name: str, faster: float = 1.0) -> problems.MLP:
    """What is learned: inputs on a sphere; classes in turn, labels +-1 or, with several outputs, normal targets."""
    (samples, dimension, outputs, batch), steps, *_, row = ROWS[name]
    rng = np.random.default_rng([SEED, NAMES.index(name)])
    inputs = rng.standard_normal((samples, dimension))
    inputs *= np.sqrt(dimension) / np.linalg.norm(inputs, axis=1)[:, None]
    targets = rng.choice([-1.0, 1.0], samples) if outputs == 1 else rng.standard_normal((samples, outputs))
    extra = EXTRA.get(name, {})
    if "loss" in extra:
        targets = np.repeat(np.arange(3), (4, 3, 2))
    batches = batch and np.array([rng.choice(samples, batch, replace=False) for _ in range(steps)])
    columns = dict(zip(COLUMNS, row, strict=True))
    columns["learning_rate"] *= faster
    return problems.MLP(inputs, targets, **columns, **extra, batches=batches)


def steps(name: str) -> int:
    """How many updates a setting makes."""
    return ROWS[name][1]


def pairs(name: str, last: int | None = None) -> tuple[np.ndarray, int]:
    """The three recorded pairs whose cosines are kept, and the one that fixes the sign, as columns of the record."""
    learned, last = problem(name), last or steps(name)
    visited = np.concatenate([learned.batch(step) for step in range(last)])
    return np.array([0, len(visited) // 2, len(visited) - 1]), int(np.flatnonzero(visited == ROWS[name][3])[-1])


def case(name: str, size: int, seed: int, last: int | None = None) -> dict[str, np.ndarray]:
    """Everything that is stored of one network, after `last` steps in place of the setting's own."""
    last = last or steps(name)
    learned, kept = problem(name), ROWS[name][2]
    rng = np.random.default_rng([NAMES.index(name), size, seed])
    network = networks.train(learned, size=size, steps=last, rng=rng, record=(last,), subtract_initial=True)
    found = {
        "loss": np.zeros(STEPS + 1),
        "kernels": np.zeros((LAYERS, SAMPLES, SAMPLES)),
        "values": np.zeros((LAYERS - 1, KEPT)),
        "right": np.zeros((LAYERS - 1, 3)),
        "left": np.zeros((LAYERS - 1, 3)),
    }
    found["loss"][: last + 1] = network.train_loss
    found["kernels"][: learned.depth, : learned.samples, : learned.samples] = kernels(learned, network, last)
    for row, number in enumerate(kept):
        values, cosines = top(network, row + 1, last, number, *pairs(name, last))
        found["values"][row, :number] = values
        found["right"][row], found["left"][row] = cosines
    return found


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest width of a setting: made once more, and as it is stored."""
    row = first_row(table, setting=NAMES.index(name), size=min(ROUND))
    return case(name, min(ROUND), int(table["seed"][row])), {key: table[key][row] for key in MEASURED}


def kernels(learned, network, step: int) -> np.ndarray:
    """<phi(h^l) phi(h^l)>, (depth, P, P)."""
    found, phi = [], learned.inputs.T
    for layer in range(learned.depth):
        phi = learned.phi(network.weights(layer, step) @ phi)
        found.append(phi.T @ phi / len(phi))
    return np.array(found)


def top(network, layer: int, step: int, number: int, columns, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values of Wbar^layer, and cosines (2, columns) of the first one's vectors."""
    features, gradients = network.features(layer), network.gradients(layer)
    left, values, right = svds(network.weights(layer, step), k=number, v0=features[:, sign], tol=ACCURACY)
    first = np.argmax(values)
    direction = np.sign(right[first] @ features[:, sign])
    cosines = [
        direction * vector @ taken / np.linalg.norm(taken, axis=0)
        for vector, taken in ((right[first], features[:, columns]), (left[:, first], gradients[:, columns]))
    ]
    return np.sort(values)[::-1], np.array(cosines)


def limits(name: str, sizes: np.ndarray, results: dict[str, np.ndarray]) -> dict[str, sweeps.Extrapolation]:
    """Infinite width, of what one setting has: `loss` after each step, and the rest as stored."""
    last, depth = steps(name), problem(name).depth
    parts = {"loss": results["loss"][:, 1 : last + 1], "kernels": results["kernels"][:, :depth]}
    parts |= {key: results[key][:, : depth - 1] for key in ("values", "right", "left")}
    return {key: sweeps.extrapolate(sizes, part) for key, part in parts.items()}


def outside(name: str, values: np.ndarray) -> np.ndarray:
    """Which of the limits of `values` stand clearly above the bulk, as a mask."""
    return values > LINE * 2 * problem(name).weight_std * left(name)


def left(name: str) -> float:
    """What weight decay has left of the initial weights at the end."""
    learned, weight, velocity = problem(name), 1.0, 0.0
    for rate in learned.rates(steps(name)):
        velocity = learned.momentum * velocity - learned.weight_decay * weight
        weight += rate * velocity
    return weight


def uncertain(name: str, found: dict[str, sweeps.Extrapolation]) -> dict[str, float]:
    """The largest standard error of the limit of infinite width, over everything that is clearly an outlier."""
    out = outside(name, found["values"].limit)
    errors = {
        "loss": found["loss"].standard_error / found["loss"].limit,
        "values": (found["values"].standard_error / found["values"].limit.clip(1e-9))[out],
        "cosines": np.array([found[key].standard_error[out[:, 0]] for key in ("right", "left")]),
    }
    return {key: float(np.max(value, initial=0.0)) for key, value in errors.items()}


def cases(name: str, rounds: int) -> list[dict]:
    """The networks of the first `rounds` rounds of one setting."""
    return seeded(name, ROUND, rounds)


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(LAYERS=LAYERS, SAMPLES=SAMPLES, KEPT=KEPT, STEPS=STEPS, SEED=SEED, ACCURACY=ACCURACY, ROWS=ROWS)
    | {"EXTRA": EXTRA},
    witnesses={name: partial(case, name, 16, 1, last=8) for name in NAMES},
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
            rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
            results[name] = chosen, {key: np.array([row[key] for row in rows]) for key in rows[0]}
            errors = uncertain(name, limits(name, np.array([one["size"] for one in chosen]), results[name][1]))
            if rounds >= LEAST and all(errors[key] <= ERRORS[key] for key in ERRORS):
                done.add(name)
            shown = ", ".join(f"{key} {value:.2%}" for key, value in errors.items())
            print(f"round {rounds}, {name}: standard errors {shown}{'; enough' * (name in done)}", flush=True)
            write(results)


def write(results: dict) -> None:
    """The table of everything so far."""
    chosen = [one for name in results for one in results[name][0]]
    TABLE.write(
        setting=[NAMES.index(one["name"]) for one in chosen],
        size=[one["size"] for one in chosen],
        seed=[one["seed"] for one in chosen],
        names=NAMES,
        **{key: np.concatenate([results[name][1][key] for name in results]).astype(np.float32) for key in MEASURED},
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

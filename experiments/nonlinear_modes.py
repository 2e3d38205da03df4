"""The leading mode of the tangent kernel of nonlinear networks while they train, up to the edge of stability.

Run from the repository's root, a quarter of an hour on one core:

    python experiments/nonlinear_modes.py [workers]

It can be interrupted: every network that was trained is kept in experiments/.store, and is not trained again. Rounds
of seeds are added until the limit of infinite width is known to ERROR of itself at all steps up to the edge. Nothing
here knows the theory, save that rates and steps were chosen such that it expects the edge there. Networks train
f(t) - f(0). lambda is the largest eigenvalue of M K/P, of all samples, see networks.MLPRun.leading_mode; plain
descent is stable for eta lambda < 2. It writes experiments/nonlinear_modes.npz, with one row for each network:

`setting`, `size`, `seed` (runs,): number of the setting, width N, number of the network; `modes` (runs, MARKS):
lambda at the setting's steps; `controls` (runs, CONTROLS): averages at the start less their expectations
(sweeps.extrapolate). What a setting does not have is 0. And `names` (settings,).

Two more settings, `WIDTHS`, are one problem in muP and in NTK parametrization, the same network at width BASE, from
narrow to wide: `width_kind`, `width_size`, `width_seed`, `width_modes` (runs, steps), `width_controls`.

The edge of two settings, EDGES: `edge_setting`, `edge_size`, `edge_seed`, `edge`, the smallest rate at which eta
lambda reaches 2 in so many steps; `edge_controls`.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import networks, problems, sweeps
from spectral_dynamics.errors import DivergenceError
from spectral_experiments import edge, first_row, seeded

MARKS, CONTROLS = 8, 8
SINGLE = dict.fromkeys(("modes", "controls", "width_modes", "width_controls"), np.float32)  # as they are stored
ROUND = {250: 200, 500: 80, 1000: 18}  # networks added in each round at each width
LEAST, ROUNDS = 1, 12  # rounds at least, and at most
ERROR = 0.0045  # of the limit: where seeds are no longer added
SEED, DIMENSION = 17, 20  # of the data

CROSS = {"loss": "cross_entropy"}
COLUMNS = ("depth", "activation", "output_scale", "weight_std", "learning_rate")
ROWS = {  # name: (samples, outputs, common part of the inputs), steps, place of the edge among them, columns, more
    "tanh": ((8, 1, 1.0), (0, 1, 2, 3, 4, 6, 8, 10), 5, (2, "tanh", 1.0, 1.0, 2.3), {}),
    "relu": ((6, 1, 1.0), (0, 2, 4, 5, 6, 8, 11, 16), 5, (2, "relu", 2.0, 1.2, 0.36), {}),
    "erf, three layers": ((8, 1, 1.0), (0, 1, 2, 4, 8), None, (3, "erf", 1.0, 1.0, 1.0), {}),
    "tanh, three layers, two outputs": ((6, 2, 1.0), (0, 6, 12, 18, 24), None, (3, "tanh", 0.7, 1.0, 0.3), {}),
    "relu, three layers, two outputs": ((8, 2, 1.0), (0, 6, 10, 14, 17, 20), 4, (3, "relu", 1.0, 1.2, 0.26), {}),
    "erf, small output scale": ((8, 1, 1.0), (0, 3, 6, 9, 14, 20), 3, (2, "erf", 0.5, 1.0, 1.4), {}),
    "erf, momentum": ((8, 1, 1.0), (0, 2, 3, 4, 8), None, (2, "erf", 0.5, 1.0, 2.0), {"momentum": 0.5}),
    "tanh, cross-entropy": (
        (8, 2, 1.0),
        (0, 2, 4, 6, 10),
        None,
        (2, "tanh", 2.0, 1.0, 1.0),
        {"loss": "cross_entropy"},
    ),
    "tanh, small weights": ((8, 1, 1.0), (0, 2, 3, 4, 6), 3, (2, "tanh", 1.5, 0.7, 2.05), {}),
    "tanh, large output scale": ((6, 1, 0.0), (0, 1, 2, 4, 8), None, (2, "tanh", 5.0, 1.0, 0.5), {}),
}
NAMES = list(ROWS)

BASE = 64  # where both parametrizations are the same network
WIDTHS = {"mup": 1.0, "ntk": np.sqrt(BASE)}  # their output scales
WIDTH_RATE, WIDTH_STEPS = 1.0, (0, 4, 8, 12)
WIDTH_ROUND = {64: 1600, 128: 1600, 256: 800, 512: 300, 1024: 60}

EDGES = {"tanh": (16, 2.1), "relu": (20, 0.32)}  # steps, and the first rate that is tried
EDGE_ROUND = {200: 120, 400: 40}
BRACKET, PRECISION = 1.4, 1.003  # of the bisection: its beginning in first rates, its end


def problem(name: str, rate: float | None = None) -> problems.MLP:
    """What is learned, at its own rate or another.

    Inputs on a sphere, with a part in common. Labels that alternate, +-1; normal targets of two outputs.
    """
    (samples, outputs, common), _, _, row, more = ROWS[name]
    rng = np.random.default_rng([SEED, NAMES.index(name)])
    inputs = rng.standard_normal((samples, DIMENSION)) + common * rng.standard_normal(DIMENSION)
    inputs *= np.sqrt(DIMENSION) / np.linalg.norm(inputs, axis=1)[:, None]
    labels = np.arange(samples) % 2
    targets = 2.0 * labels - 1 if outputs == 1 else rng.standard_normal((samples, outputs))
    columns = dict(zip(COLUMNS, row, strict=True))
    columns["learning_rate"] = rate or columns["learning_rate"]
    return problems.MLP(inputs, labels if "loss" in more else targets, **columns, **more)


def width_problem(kind: str, output_scale: float | None = None) -> problems.MLP:
    """The first setting at WIDTH_RATE in a parametrization, with its output scale of WIDTHS or another."""
    first, scale = problem(NAMES[0], WIDTH_RATE), output_scale or WIDTHS[kind]
    changed = {"output_scale": scale, "parametrization": kind, "learning_rate": WIDTH_RATE}
    return problems.MLP(first.inputs, first.targets, depth=first.depth, activation=first.activation, **changed)


def train(learned, size: int, seed, steps) -> networks.MLPRun:
    """One network; the same seed is the same initial weights at every rate and in both parametrizations."""
    options = {"record": steps, "record_fields": False, "subtract_initial": True}
    return networks.train(learned, size=size, steps=max(steps), rng=np.random.default_rng(seed), **options)


def mode(run, step: int) -> float:
    """lambda, as run.leading_mode(step).value, from the kernel itself: M K is small here."""
    metric, (samples, outputs) = run.problem.output_metric(run.predictions[step]), run.problem.targets.shape
    operator = np.einsum("mab,mbnc->manc", metric, run.tangent_kernel(step)) / samples
    return float(np.abs(np.linalg.eigvals(operator.reshape([samples * outputs] * 2))).max())


def controls(run) -> np.ndarray:
    """(CONTROLS,): averages at the start that vanish on average, at any width.

    Of the read-out its variance; f(0) along the targets; of every layer the mean of h over neurons and samples, and
    the square of its mean over samples, less what the layer before it makes of it.
    """
    learned, width = run.problem, run.size
    found, phi, w = np.zeros(CONTROLS), learned.inputs.T, run.readout(0)
    for layer in range(learned.depth):
        before = phi.mean(axis=1)
        preactivations = run.weights(layer, 0) @ phi
        common = preactivations.mean(axis=1)
        expected = learned.weight_std**2 * before @ before / len(before)
        found[2 + 2 * layer : 4 + 2 * layer] = common.mean() * np.sqrt(width), common @ common / width - expected
        phi = learned.phi(preactivations)
    found[0] = np.mean(w**2) - learned.weight_std**2
    found[1] = np.sum((phi.T @ w) * (learned.targets - learned.targets.mean(axis=0))) / np.sqrt(width)
    return found


def case(name: str, size: int, seed: int, faster: int = 1) -> dict[str, np.ndarray]:
    """What is stored of one network, with steps divided by `faster`."""
    steps = [step // faster for step in ROWS[name][1]]
    run, found = train(problem(name), size, [NAMES.index(name), size, seed], steps), np.zeros(MARKS)
    found[: len(steps)] = [mode(run, step) for step in steps]
    return {"modes": found, "controls": controls(run)}


def width_case(name: str, size: int, seed: int) -> dict[str, np.ndarray]:
    """lambda of one network in the parametrization `name` at WIDTH_STEPS."""
    run = train(width_problem(name), size, [100, size, seed], WIDTH_STEPS)
    return {"width_modes": np.array([mode(run, step) for step in WIDTH_STEPS]), "width_controls": controls(run)}


def edge_case(name: str, size: int, seed: int, last: int | None = None) -> dict[str, np.ndarray]:
    """One network's own edge, in the setting's steps or `last` of them."""
    steps, first = range(1 + (last or EDGES[name][0])), EDGES[name][1]

    def reached(rate):
        try:
            run = train(problem(name, rate), size, [200, NAMES.index(name), size, seed], steps)
        except DivergenceError:
            return np.inf
        return rate * max(mode(run, step) for step in steps)

    low, high = first / BRACKET, first * BRACKET
    while high / low > PRECISION:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if reached(middle) >= 2 else (middle, high)
    start = train(problem(name), size, [200, NAMES.index(name), size, seed], (0,))
    return {"edge": np.sqrt(low * high), "edge_controls": controls(start)}


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest width of a setting: made once more, and as it is stored."""
    row = first_row(table, setting=NAMES.index(name), size=min(ROUND))
    now = case(name, min(ROUND), int(table["seed"][row]))
    return now, {key: table[key][row] for key in now}


def again_of_width(kind: str, table: dict) -> tuple[dict, dict]:
    """The first network of the base width in a parametrization."""
    row, now = first_row(table, width_kind=list(WIDTHS).index(kind), width_size=BASE), width_case(kind, BASE, 0)
    return now, {key: table[key][row] for key in now}


def again_of_edge(name: str, table: dict) -> tuple[dict, dict, float]:
    """The first small network's edge, to the precision of the search, which rounding may decide by one step."""
    row, size = first_row(table, edge_setting=NAMES.index(name), edge_size=min(EDGE_ROUND)), min(EDGE_ROUND)
    now = edge_case(name, size, 0)
    return now, {key: table[key][row] for key in now}, 2 * (PRECISION - 1)


def limit(name: str, table: dict) -> sweeps.Extrapolation:
    """Infinite width of `modes` at the steps of a setting.

    Lines in 1/N. But outputs of the squared loss have equal kernels at the start, and the larger of two equal
    eigenvalues is off by what they fluctuate, 1/sqrt N.
    """
    learned, rows, marks = problem(name), table["setting"] == NAMES.index(name), len(ROWS[name][1])
    values, used = table["modes"][rows][:, :marks], table["controls"][rows][:, : 2 + 2 * learned.depth]
    slow, found = (
        sweeps.extrapolate(table["size"][rows], values, power, controls=used, scatter=1.0) for power in (0.5, 1.0)
    )
    if learned.outputs == 1 or learned.loss != "squared":
        return found
    start, keys = np.arange(marks) == 0, ("limit", "standard_error", "slope", "chi_square")
    return replace(found, **{key: np.where(start, getattr(slow, key), getattr(found, key)) for key in keys})


def width_means(kind: str, table: dict, what) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Widths, means over networks of what(width_modes), an array of one row each, and standard errors.

    By linear regression on the controls at each width, whose mean is known to be 0.
    """
    chosen, found = table["width_kind"] == list(WIDTHS).index(kind), []
    sizes = np.unique(table["width_size"])
    for rows in (chosen & (table["width_size"] == size) for size in sizes):
        values = np.atleast_2d(np.transpose(what(table["width_modes"][rows].astype(float)))).T
        design = np.column_stack([np.ones(len(values)), table["width_controls"][rows][:, :6]])
        coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
        variance = np.sum((values - design @ coefficients) ** 2, axis=0) / (len(values) - 7)
        found.append((coefficients[0], np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])))
    means, errors = np.swapaxes(found, 0, 1)
    return sizes, means, errors


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(SEED=SEED, DIMENSION=DIMENSION, ROWS=ROWS, BASE=BASE, WIDTHS=WIDTHS, EDGES=EDGES)
    | dict(WIDTH_RATE=WIDTH_RATE, WIDTH_STEPS=WIDTH_STEPS, BRACKET=BRACKET, PRECISION=PRECISION),
    witnesses={name: partial(case, name, 16, 1, faster=4) for name in NAMES}
    | {f"width {kind}": partial(width_case, kind, 16, 1) for kind in WIDTHS}
    | {f"edge {name}": partial(edge_case, name, 24, 1, last=4) for name in EDGES},
    rows={name: partial(again, name) for name in NAMES}
    | {f"width {kind}": partial(again_of_width, kind) for kind in WIDTHS}
    | {f"edge {name}": partial(again_of_edge, name) for name in EDGES},
)


def main(workers: int) -> None:
    """The edges, the widths, then rounds where they are needed, all settings in turn; the table after each."""
    options, results, done = {"store": TABLE.store, "workers": workers}, {}, set()
    cases = networks_of(WIDTHS, WIDTH_ROUND)
    more = columns("width", list(WIDTHS), cases, sweeps.run(width_case, cases, **options))
    cases = networks_of(EDGES, EDGE_ROUND)
    more |= columns("edge", NAMES, cases, sweeps.run(edge_case, cases, **options))
    for rounds in range(1, ROUNDS + 1):
        for name in [name for name in NAMES if name not in done]:
            cases = networks_of([name], {size: count * rounds for size, count in ROUND.items()})
            results[name] = columns("", NAMES, cases, sweeps.run(case, cases, **options))
            found, last = limit(name, results[name]), ROWS[name][2]
            errors = (found.standard_error / found.limit)[: None if last is None else last + 1]
            if rounds >= LEAST and errors.max() < ERROR:
                done.add(name)
            told = f"round {rounds}, {name}: standard errors {errors.max():.2%}"
            print(told + "; enough" * (name in done), flush=True)
        parts = {key: np.concatenate([one[key] for one in results.values()]) for key in results[NAMES[0]]}
        single = {
            key: part.astype(np.float32) if part.dtype == float else part for key, part in (parts | more).items()
        }
        TABLE.write(names=NAMES, **single)


def networks_of(names, counts: dict) -> list[dict]:
    """So many of every width, of each setting."""
    return [one for name in names for one in seeded(name, counts)]


def columns(prefix: str, names: list, cases: list[dict], rows: list) -> dict[str, np.ndarray]:
    """What was found of networks of the settings `names`, as columns of the table."""
    head = f"{prefix}_" if prefix else ""
    found = {f"{head}size": [one["size"] for one in cases], f"{head}seed": [one["seed"] for one in cases]}
    found[f"{head}{'kind' if prefix == 'width' else 'setting'}"] = [names.index(one["name"]) for one in cases]
    return {key: np.array(value) for key, value in found.items()} | edge.stacked(rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

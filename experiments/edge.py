"""Deep linear networks at the edge of stability: their leading mode at every step, and when they rise or diverge.

Run from the repository's root, some ten minutes on one core:

    python experiments/edge.py

It writes experiments/edge.npz, which the chapter on the edge of stability draws and asserts on. Networks only: of the
theory there is nothing but a first rate for each setting (`SETTINGS`), its own edge, from which networks search for
theirs. Cases that are done are kept in experiments/.store, so that it can be interrupted. lambda is the largest
eigenvalue of X M X^T/P, M as in networks.DeepLinearRun.leading_mode; all trainings take STEPS steps of plain descent.

Edge: `names`, `parameters` (settings,), JSON for problems.DeepLinear without its rate, `first` rates; per network
`setting`, `size` (D), `seed`, `controls` (runs, 6), averages at the start less their expectations
(sweeps.extrapolate); `edge`, the rate at which eta max_t lambda = 2, and `reached`, that product at the last rate
tried; `highest` (runs, 2), the largest factor by which the train loss rose in a step, at 0.9 and 1.1 times `edge`,
and `highest_theory`, at 0.9 and 1.1 times the first rate. Losses below FLOOR times the start do not count.
Growth: lambda(t) at GROWTH_RATE, below every edge: `growth_names`, `growth_parameters`, `growth_setting`,
`growth_size`, `growth_controls`, `growth` (runs, STEPS).
Beyond: lambda(t) of the base setting at two rates: `beyond_rates`, `beyond` (runs, 2, STEPS), `beyond_loss`
(runs, 2, STEPS + 1), the train losses, `beyond_size`, `beyond_controls`.
Divergence, base setting: `divergence_factors`, in units of its first rate; `divergence_sizes`; `divergence_step`
(sizes, seeds, factors), where the loss passed networks.RUNAWAY times its start, -1 if it did not.
Fork: one network of size FORK_SIZE trained at each of `fork_rates`, `fork` (rates, FORK_LAST), its last lambdas.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg
from spectral_dynamics import networks, problems, sweeps
from spectral_dynamics.errors import ConvergenceError, DivergenceError
from spectral_experiments import deep_linear, first_row
from spectral_experiments.escape import dimension

STEPS, FLOOR = 80, 1e-12
START, TOLERANCE = 0.92, 2e-3  # of the search for an edge: its beginning in first rates, its end in eta lambda
LANCZOS = 60, 1e-4  # iterations at most, and the residual at which it stops
BASE = {"depth": 2, "data_ratio": 4.0, "output_scale": 3.0, "weight_std": 0.5}

SETTINGS = {  # what differs from BASE, and the first rate that is tried
    "base": ({}, 0.1297),
    "half as wide": ({"width_ratio": 0.5}, 0.1312),
    "four times as wide": ({"width_ratio": 4.0}, 0.1281),
    "four times as wide, NTK": ({"width_ratio": 4.0, "parametrization": "ntk"}, 0.3154),
    "one layer": ({"depth": 1}, 0.2578),
    "three layers": ({"depth": 3}, 0.0849),
    "large weights": ({"weight_std": 1.0}, 0.0913),
}
NAMES = list(SETTINGS)
ROUND = {100: 64, 200: 48, 400: 28}  # seeds at sizes sqrt(N D)

GROWTH_RATE, GROWTH_ROUND = 0.05, {100: 64, 200: 40, 400: 24}
WIDTHS = [("mup", 0.5), ("mup", 1.0), ("mup", 4.0), ("ntk", 0.5), ("ntk", 4.0)]
GROWTH = {f"{kind}, nu = {nu:g}": {"width_ratio": nu, "parametrization": kind} for kind, nu in WIDTHS}

BEYOND, BEYOND_ROUND = (0.143, 0.15), {100: 96, 200: 64, 400: 48, 800: 16}
DIVERGENCE_FACTORS, DIVERGENCE_ROUND = np.linspace(1.2, 3.0, 19), {100: 40, 200: 40, 400: 40}
FORK_FACTORS, FORK_SIZE, FORK_LAST = np.linspace(0.8, 2.3, 91), 400, 16


def problem_of(changed: dict, rate: float) -> problems.DeepLinear:
    """The base setting with some things changed, at a rate."""
    return problems.DeepLinear(**BASE | changed, learning_rate=float(rate))


def train(problem, size: int, seed, fields: bool = True, steps: int = STEPS) -> networks.DeepLinearRun:
    """One network; the same seed is the same weights, target and data at every rate."""
    rng, width_ratio = np.random.default_rng(seed), problem.width_ratio
    options = {"steps": steps, "record": (0,), "record_fields": fields}
    return networks.train(problem, size=dimension(size, width_ratio), rng=rng, **options)


def modes(run, steps=None) -> np.ndarray:
    """The largest eigenvalue of X M X^T/P at `steps`, all up to STEPS - 1 by default, of a run of plain descent.

    All steps at once, a column for each: Wbar^l(t) = Wbar^l(0) + sum_{s<t} c g^{l+1}(s) h^l(s)^T, so that every
    column is multiplied by the same matrix Wbar^l(0). The samples enter by a triangular R with R^T R = X^T X/P,
    and the operator is R M R^T, with the same eigenvalues.
    """
    steps, depth = np.arange(run.steps) if steps is None else np.asarray(steps), run.problem.depth
    D, N, inputs = run.size, len(run.readout(0)), run.inputs(0)
    R = linalg.cholesky(inputs.T @ inputs / len(inputs))
    h, g = [run.features(l) for l in range(depth)], [run.gradients(l) for l in range(depth)]
    start = [run.weights(l, 0) for l in range(depth)]
    gain = run.problem.gamma * np.sqrt(D / N) * run.problem.rates(run.steps)
    written = (np.arange(run.steps)[:, None] < steps) * gain[:, None]
    squares = [np.mean(columns[:, steps] ** 2, axis=0) for columns in g]  # g[l] is g^{l+1}, the last one w
    rho = [squares[0], *(square * D / N for square in squares[1:]), np.full(len(steps), D / N)]

    def product(columns):
        e = [R.T @ columns]
        for l in range(depth):
            e.append(start[l] @ e[l] + g[l] @ (written * (h[l].T @ e[l])) / len(h[l]))
        d = rho[depth] * e[depth]
        for l in reversed(range(depth)):
            d = rho[l] * e[l] + start[l].T @ d + h[l] @ (written * (g[l].T @ d)) / len(h[l])
        return R @ d

    return lanczos(product, R @ h[0][:, steps])


def lanczos(product, columns, iterations: int = LANCZOS[0], tolerance: float = LANCZOS[1]) -> np.ndarray:
    """The largest eigenvalue of each of many symmetric operators that act on a column each.

    It stops when no residual is above `tolerance` times its eigenvalue, whose own relative error is then of the order
    of tolerance^2 over the relative gap; or when the values no longer change (at an edge there is no gap).
    """
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(columns.shape)
    now = columns / linalg.norm(columns, axis=0) + 0.3 * noise / linalg.norm(noise, axis=0)
    now, before, beta, alphas, betas = now / linalg.norm(now, axis=0), 0.0, 0.0, [], []
    values = np.zeros(columns.shape[1])
    for iteration in range(1, iterations + 1):
        new = product(now) - beta * before
        alphas.append(np.sum(now * new, axis=0))
        new -= alphas[-1] * now
        beta = linalg.norm(new, axis=0)
        before, now = now, new / beta
        betas.append(beta)
        if iteration % 6 == 0:
            last = {"select": "i", "select_range": (iteration - 1,) * 2}
            pairs = zip(np.transpose(alphas), np.transpose(betas[:-1]), strict=True)
            found = [linalg.eigh_tridiagonal(*pair, **last) for pair in pairs]
            old, values = values, np.array([value[0] for value, _ in found])
            residuals = beta * np.abs([vector[-1, 0] for _, vector in found])
            if np.all((residuals < tolerance * values) | (np.abs(values - old) < 1e-6 * values)):
                return values
    if np.max(np.abs(values - old) / values) > 1e-3:
        raise ConvergenceError("Lanczos did not reach the largest eigenvalues", values)
    return values


def controls(run) -> np.ndarray:
    """(6,): those of experiments/deep_linear.py for three layers, without the overlap of data and function."""
    return deep_linear.controls(run.problem, run, run.size)[[0, 1, 2, 4, 5, 6]]


def rises(changed: dict, rate: float, size: int, seed, steps: int = STEPS) -> float:
    """The largest ratio of the train losses of two successive steps, the second above FLOOR times the start."""
    try:
        loss = train(problem_of(changed, rate), size, seed, fields=False, steps=steps).train_loss
    except DivergenceError:
        return np.inf
    return float(np.max((loss[1:] / loss[:-1])[loss[1:] > FLOOR * loss[0]]))


def edge_case(name: str, size: int, seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """One network's own edge, in `steps` steps."""
    (changed, first), rng = SETTINGS[name], [NAMES.index(name), size, seed]

    def train_at(rate):
        return train(problem_of(changed, rate), size, rng, steps=steps)

    edge, reached = stable_rate(lambda rate: modes(train_at(rate), np.arange(1, steps)).max(), START * first)
    highest, theory = ([rises(changed, k * rate, size, rng, steps) for k in (0.9, 1.1)] for rate in (edge, first))
    found = {"edge": edge, "reached": reached, "highest": highest, "highest_theory": theory}
    return {key: np.array(value) for key, value in found.items()} | {"controls": controls(train_at(first / 2))}


def stable_rate(peak, rate: float) -> tuple[float, float]:
    """The rate at which rate times peak(rate) is 2, and that product where it was last measured.

    Below the edge the peak depends on the rate weakly and smoothly, so that two rates below lead to it by a secant.
    Above it the peak is that of a spike, and only an upper bound is learned.
    """
    below, slope, high = None, 0.4, np.inf
    for _ in range(10):
        height = peak(rate)
        reached = rate * height
        guess = rate * (2 / reached) ** (1 / (1 + slope))
        if abs(reached / 2 - 1) < TOLERANCE:
            return guess, reached
        if reached < 2:
            if below is not None:
                slope = np.clip(np.log(height / below[1]) / np.log(rate / below[0]), -0.5, 3.0)
                guess = rate * (2 / reached) ** (1 / (1 + slope))
            below = rate, height
            rate = guess if guess < high else np.sqrt(rate * high)
        else:
            high = rate
            rate = 0.9 * rate if below is None else np.sqrt(below[0] * high)
    raise ConvergenceError("the edge was not found in ten trainings", rate)


def growth_case(name: str, size: int, seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """lambda(t), t < steps, of one network at a rate below its edge."""
    run = train(
        problem_of(GROWTH[name], GROWTH_RATE), size, [100 + list(GROWTH).index(name), size, seed], steps=steps
    )
    return {"growth": modes(run), "growth_controls": controls(run)}


def beyond_case(size: int, seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """lambda(t), t < steps, and the train loss of one network at each of the rates BEYOND."""
    runs = [train(problem_of({}, rate), size, [200, size, seed], steps=steps) for rate in BEYOND]
    losses, tops = [run.train_loss for run in runs], [modes(run) for run in runs]
    return {"beyond": np.array(tops), "beyond_loss": np.array(losses), "beyond_controls": controls(runs[0])}


def divergence_case(size: int, seed: int, steps: int = STEPS, factors=DIVERGENCE_FACTORS) -> np.ndarray:
    """At each factor, the step at which one network diverged, or -1."""
    found = []
    for factor in factors:
        problem = problem_of({}, factor * SETTINGS["base"][1])
        try:
            train(problem, size, [300, size, seed], fields=False, steps=steps)
            found.append(-1)
        except DivergenceError as failure:
            found.append(failure.step)
    return np.array(found)


def fork_case(factor: float, size: int = FORK_SIZE, steps: int = STEPS, last: int = FORK_LAST) -> np.ndarray:
    """The last lambdas of the one network; nan where it diverged."""
    try:
        run = train(problem_of({}, factor * SETTINGS["base"][1]), size, 400, steps=steps)
    except DivergenceError:
        return np.full(last, np.nan)
    return modes(run, np.arange(steps - last, steps))


def rows(names, counts: dict) -> list[dict]:
    """Small sizes first, so that trouble shows early."""
    seeds = [(size, seed) for size, count in counts.items() for seed in range(count)]
    return [{"name": n, "size": size, "seed": seed} for size, seed in seeds for n in names]


def stacked(results: list[dict]) -> dict[str, np.ndarray]:
    return {key: np.array([result[key] for result in results]) for key in results[0]}


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest size of a setting: made once more, and as it is stored.

    All of it is stable: rates below the edge, and one that exceeds it by a tenth, where the largest factor in a step
    is that of the first rise.
    """
    size, number = min(ROUND), NAMES.index(name)
    row = first_row(table, setting=number, seed=0)  # small sizes first
    now = edge_case(name, size, 0)
    return now, {key: table[key][row] for key in now}


def again_of_growth(name: str, table: dict) -> tuple[dict, dict]:
    """Below the edge, where training forgets rounding: all steps."""
    row = first_row(table, growth_setting=list(GROWTH).index(name))
    now = growth_case(name, min(GROWTH_ROUND), 0)
    return now, {key: table[key][row] for key in now}


def again_of_beyond(table: dict) -> tuple[dict, dict]:
    """Beyond the edge training is chaotic: the first steps, before it swings."""
    now, early = beyond_case(min(BEYOND_ROUND), 0, steps=10), slice(0, 10)
    stored = {key: table[key][0] for key in now}
    return now, stored | {"beyond": stored["beyond"][:, early], "beyond_loss": stored["beyond_loss"][:, :11]}


def again_of_divergence(table: dict) -> tuple[dict, dict]:
    """Whether it diverges, where rounding does not decide it: well below and well above where it begins."""
    calm = (DIVERGENCE_FACTORS < 1.5) | (DIVERGENCE_FACTORS > 2.7)
    now = divergence_case(min(DIVERGENCE_ROUND), 0, factors=DIVERGENCE_FACTORS[calm])
    return {"diverged": now >= 0}, {"diverged": table["divergence_step"][0, 0][calm] >= 0}


def again_of_fork(table: dict) -> tuple[dict, dict]:
    """The one network below its edge, where it ends at a fixed point."""
    return {"fork": fork_case(FORK_FACTORS[0])}, {"fork": table["fork"][0]}


TINY = dict(size=24, seed=2, steps=10)  # where every search for an edge ends
TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(STEPS=STEPS, FLOOR=FLOOR, START=START, TOLERANCE=TOLERANCE, BASE=BASE, SETTINGS=SETTINGS)
    | dict(ROUND=ROUND, GROWTH_RATE=GROWTH_RATE, GROWTH_ROUND=GROWTH_ROUND, GROWTH=GROWTH, BEYOND=BEYOND)
    | dict(BEYOND_ROUND=BEYOND_ROUND, DIVERGENCE_FACTORS=DIVERGENCE_FACTORS, DIVERGENCE_ROUND=DIVERGENCE_ROUND)
    | dict(FORK_FACTORS=FORK_FACTORS, FORK_SIZE=FORK_SIZE, FORK_LAST=FORK_LAST, LANCZOS=LANCZOS),
    witnesses={name: partial(edge_case, name, **TINY) for name in NAMES}
    | {f"growth, {name}": partial(growth_case, name, **TINY) for name in GROWTH}
    | {"beyond": partial(beyond_case, **TINY)}
    | {"divergence": partial(divergence_case, **TINY, factors=(1.0, 20.0, 50.0, 200.0))}
    | {f"fork, {factor:.3f}": partial(fork_case, factor, size=12, steps=8, last=3) for factor in FORK_FACTORS},
    rows={name: partial(again, name) for name in NAMES}
    | {f"growth, {name}": partial(again_of_growth, name) for name in GROWTH}
    | {"beyond": again_of_beyond, "divergence": again_of_divergence, "fork": again_of_fork},
)


def main() -> None:
    """Runs every case and writes the table."""
    store = TABLE.store
    plain = [{k: v for k, v in row.items() if k != "name"} for row in rows(["base"], BEYOND_ROUND)]
    beyond = stacked(sweeps.run(beyond_case, plain, store=store))
    fork = sweeps.run(fork_case, [{"factor": factor} for factor in FORK_FACTORS], store=store)
    short = [{k: v for k, v in row.items() if k != "name"} for row in rows(["base"], DIVERGENCE_ROUND)]
    diverged = np.array(sweeps.run(divergence_case, short, store=store))
    print("beyond, fork, divergence: done", flush=True)
    slow = rows(list(GROWTH), GROWTH_ROUND)
    growth = stacked(sweeps.run(growth_case, slow, store=store))
    print("growth: done", flush=True)
    chosen = rows(NAMES, ROUND)
    edges = stacked(sweeps.run(edge_case, chosen, store=store))
    ratios = [(BASE | changed).get("width_ratio", 1.0) for changed, _ in SETTINGS.values()]
    TABLE.write(
        names=NAMES,
        parameters=[json.dumps(BASE | changed) for changed, _ in SETTINGS.values()],
        first=[rate for _, rate in SETTINGS.values()],
        setting=[NAMES.index(row["name"]) for row in chosen],
        size=[dimension(row["size"], ratios[NAMES.index(row["name"])]) for row in chosen],
        seed=[row["seed"] for row in chosen],
        growth_names=list(GROWTH),
        growth_parameters=[json.dumps(BASE | c | {"learning_rate": GROWTH_RATE}) for c in GROWTH.values()],
        growth_setting=[list(GROWTH).index(row["name"]) for row in slow],
        growth_size=[dimension(row["size"], GROWTH[row["name"]]["width_ratio"]) for row in slow],
        beyond_rates=BEYOND,
        beyond_size=[row["size"] for row in plain],
        divergence_factors=DIVERGENCE_FACTORS,
        divergence_sizes=list(DIVERGENCE_ROUND),
        divergence_step=diverged.reshape(len(DIVERGENCE_ROUND), -1, len(DIVERGENCE_FACTORS)),
        fork_rates=FORK_FACTORS * SETTINGS["base"][1],
        fork=fork,
        **{key: value.astype(np.float32) for key, value in (edges | growth | beyond).items()},
    )


if __name__ == "__main__":
    main()

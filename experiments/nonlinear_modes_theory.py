"""What the theory of infinite width says of the leading modes of experiments/nonlinear_modes.py, on many sites.

Run from the repository's root, two minutes on one core:

    python experiments/nonlinear_modes_theory.py [workers]

It writes experiments/nonlinear_modes_theory.npz. One row for each setting of `nonlinear_modes`, in its order:
`modes`, `modes_error` (settings, STEPS + 1): the leading mode at every step, with its Monte Carlo standard error, 0
after the setting's last step; `parted` (settings,), the step from which on replicas have parted, -1 if they have not.
`scales` (scales,): output scales, 1 and of networks in NTK parametrization, sqrt(BASE/N) times it, at the widths
`widths` (scales,); `growth_modes`, `growth_modes_error` (scales, steps): the mode in muP with that output scale, at
the steps and the rate of that script. `edge`, `edge_error` (edges,): of the settings of EDGES, the smallest rate at
which eta lambda reaches 2, the mean over RUNS solutions.
"""

import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.errors import InstabilityWarning
from spectral_dynamics.spectra import sharpness
from spectral_experiments import nonlinear_modes

STEPS, SITES, REPLICAS = 24, 48_000, 6
MORE = {"relu": 2, "relu, three layers, two outputs": 3}  # times as many sites, where they scatter more
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
EDGE_SITES, RUNS, NEAR = 16_000, 3, 1.06  # sites of each solution, solutions, the bracket in first rates


def solved(problem, steps, sites: int, replicas: int, seed) -> dict[str, np.ndarray]:
    """The leading mode at `steps`, and its error."""
    rng, options = np.random.default_rng(seed), {"sites": sites, "replicas": replicas, "tangent_steps": steps}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InstabilityWarning)  # it is stored
        theory = mlp.solve(problem, max(steps), rng=rng, **options)
    error = theory.standard_error(lambda one: sharpness.trajectory(one).value)
    parted = -1 if theory.parted is None else theory.parted
    return {"modes": sharpness.trajectory(theory).value, "modes_error": error, "parted": np.array(parted)}


def case(name: str, sites: int, replicas: int, last: int | None = None) -> dict[str, np.ndarray]:
    """All that is stored of one setting, or of `last` steps in place of its own."""
    steps = range(1 + (last or max(nonlinear_modes.ROWS[name][1])))
    seed = nonlinear_modes.NAMES.index(name)
    found = solved(nonlinear_modes.problem(name), steps, MORE.get(name, 1) * sites, replicas, seed)
    padding = 0, STEPS + 1 - len(steps)
    return {key: np.pad(value, padding) if value.ndim else value for key, value in found.items()}


def growth_case(width: int, sites: int, replicas: int) -> dict[str, np.ndarray]:
    """The mode in muP with the output scale of the NTK parametrization at a width; at BASE they are the same."""
    problem = nonlinear_modes.width_problem("mup", nonlinear_modes.WIDTHS["ntk"] / np.sqrt(width))
    found = solved(problem, nonlinear_modes.WIDTH_STEPS, sites, replicas, 100)
    return {f"growth_{key}": found[key] for key in ("modes", "modes_error")}


def edge_case(name: str, run: int, sites: int, last: int | None = None) -> float:
    """The edge of one solution on few sites, always the same whatever the rate."""
    steps, first = nonlinear_modes.EDGES[name]

    def solve(rate):
        rng, options = np.random.default_rng([200, run]), {"sites": sites, "replicas": 1, "tangent_steps": None}
        return mlp.solve(nonlinear_modes.problem(name, rate), last or steps, rng=rng, **options)

    near = NEAR if last is None else 4.0
    return sharpness.stable_rate(solve, (first / near, near * first), nonlinear_modes.PRECISION - 1)


def again(name: str, table: dict) -> tuple[dict, dict]:
    """One setting solved once more, and as it is stored."""
    now = case(name, SITES, REPLICAS)
    return now, {key: table[key][nonlinear_modes.NAMES.index(name)] for key in now}


def again_of_growth(table: dict) -> tuple[dict, dict]:
    """The smallest of the output scales."""
    now = growth_case(WIDTHS[-1], SITES, REPLICAS)
    return now, {key: table[key][-1] for key in now}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(STEPS=STEPS, SITES=SITES, MORE=MORE, REPLICAS=REPLICAS, WIDTHS=WIDTHS)
    | dict(EDGE_SITES=EDGE_SITES, RUNS=RUNS)
    | nonlinear_modes.TABLE.constants,
    witnesses={name: partial(case, name, 1200, 2, last=2) for name in nonlinear_modes.NAMES}
    | {"growth": partial(growth_case, 256, 1200, 2)}
    | {f"edge {name}": partial(edge_case, name, 0, 1200, last=2) for name in nonlinear_modes.EDGES},
    rows={name: partial(again, name) for name in nonlinear_modes.NAMES} | {"growth": again_of_growth},
)


def main(workers: int) -> None:
    """Solves every setting and writes the table."""
    options, many = {"store": TABLE.store, "workers": workers}, {"sites": SITES, "replicas": REPLICAS}
    found = sweeps.run(case, [{"name": name} | many for name in nonlinear_modes.NAMES], **options)
    most = {nonlinear_modes.BASE: 8}  # the limit in muP, from which networks differ by little
    cases = [{"width": width, "sites": most.get(width, 1) * SITES, "replicas": REPLICAS} for width in WIDTHS]
    found_growth = sweeps.run(growth_case, cases, **options)
    cases = [{"name": name, "run": run, "sites": EDGE_SITES} for name in nonlinear_modes.EDGES for run in range(RUNS)]
    edges = np.reshape(sweeps.run(edge_case, cases, **options), (-1, RUNS))
    TABLE.write(
        names=nonlinear_modes.NAMES,
        widths=WIDTHS,
        scales=nonlinear_modes.WIDTHS["ntk"] / np.sqrt(WIDTHS),
        edge=edges.mean(axis=1),
        edge_error=edges.std(axis=1, ddof=1) / np.sqrt(RUNS),
        **{key: np.array([one[key] for one in part]) for part in (found, found_growth) for key in part[0]},
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

"""The leading mode of the tangent kernel in networks of fifteen kinds, at three sizes and many seeds, and its bulk.

Run from the repository's root; about an hour of one core, less with more of them:

    python experiments/sharpness.py [workers]

It can be interrupted: every network that was trained is kept in experiments/.store, and is not trained again. Seeds
are added until the statistical error of the limit of infinite size is small enough for what chapters and tests ask
of it (`ERROR`). Nothing here knows the theory; learning rates and steps were chosen with its help, so that the three
steps of a setting lie before, at or beyond the edge of stability and the mode stands clear of the bulk. Beyond the
edge networks of different seeds part, and a mean over them is no prediction. Rates and steps of the two settings with
the largest sizes were therefore chosen anew, after a first choice had scattered too much for a straight line in 1/D:
by the scatter alone, below an eighth between networks of D = 400 that are not in the table.

It writes experiments/sharpness.npz. Per setting: `names`, `parameters` (JSON of what problems.DeepLinear takes),
`steps` (settings, 3). One row for each network: `setting`, `size` (the dimension D), `seed`; `values` and
`alignments` (runs, 3, 2), the mode of the training set (with fresh batches, of the step's own) and of the
population, and their cosines with the error vector; `controls` (runs, 12), known averages of the start. Per case
of `BULKS`: `bulk_names`, `bulk_parameters`, `bulk_steps`, `bulk_population`; and one row for each of its networks:
`bulk`, `bulk_size`, `bulk_controls` and `bulk_quantiles` (runs, 251), of its eigenvalues but the largest one; of the
population's operator those of M - rho_0.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import deep_linear, first_row, seeded

WIDE, SQUARE, NARROW, LARGE = (150, 300, 600), (200, 400, 800), (250, 500, 1000), (400, 800, 1600)
ROUND = (24, 24, 24)  # networks added in each round at the smallest, the middle and the largest size
ROUNDS = 16  # at most
ERROR = 0.005  # relative standard error of both modes at which seeds are no longer added

COLUMNS = ("depth", "width_ratio", "output_scale", "learning_rate", "weight_std")
ROWS = {  # name: sizes D, the columns, everything else, the steps
    "before the edge": (SQUARE, (2, 1.0, 3.0, 0.05, 0.5), dict(data_ratio=4.0), (10, 20, 40)),
    "at the edge": (SQUARE, (2, 1.0, 3.0, 0.127, 0.5), dict(data_ratio=4.0), (5, 10, 40)),
    "beyond the edge": (LARGE, (2, 1.0, 3.0, 0.14, 0.5), dict(data_ratio=4.0), (6, 10, 16)),
    "one wide layer": (WIDE, (1, 2.0, 4.0, 0.05, 0.5), dict(data_ratio=4.0), (6, 12, 40)),
    "one narrow layer": (NARROW, (1, 0.5, 5.0, 0.08, 0.4), dict(data_ratio=1.0), (4, 6, 8)),
    "narrow, noise": (NARROW, (2, 0.5, 3.0, 0.05, 0.5), dict(data_ratio=1.0, noise_std=0.3), (14, 20, 40)),
    "wide": (WIDE, (2, 2.0, 3.0, 0.05, 0.7), dict(data_ratio=2.0), (5, 10, 30)),
    "very wide": (WIDE, (2, 4.0, 2.0, 0.2, 0.5), dict(data_ratio=8.0), (4, 8, 40)),
    "NTK, beyond": (WIDE, (2, 4.0, 3.0, 0.35, 0.5), dict(data_ratio=4.0, parametrization="ntk"), (4, 7, 10)),
    "three layers": (SQUARE, (3, 1.0, 3.0, 0.05, 0.5), dict(data_ratio=2.0), (18, 25, 40)),
    "three layers, beyond": (LARGE, (3, 1.0, 3.0, 0.094, 0.5), dict(data_ratio=4.0), (10, 12, 14)),
    "four layers": (NARROW, (4, 0.5, 3.0, 0.05, 0.7), dict(data_ratio=8.0), (10, 16, 40)),
    "fresh batches": (SQUARE, (2, 1.0, 3.0, 0.05, 0.5), dict(batch_ratio=4.0), (16, 20, 40)),
    "population": (NARROW, (3, 0.5, 3.0, 0.05, 0.6), dict(), (15, 20, 40)),
    "momentum, decay": (
        SQUARE,
        (2, 1.0, 3.0, 0.02, 0.6),
        dict(data_ratio=2.0, momentum=0.6, weight_decay=0.2),
        (8, 20, 40),
    ),
}
NAMES = list(ROWS)
PARAMETERS = {name: dict(zip(COLUMNS, values, strict=True)) | rest for name, (_, values, rest, _) in ROWS.items()}

# Of these the whole spectrum is taken: what is trained, the step, population or not. With few samples alpha < 1.
FEW = dict(depth=2, width_ratio=1.5, output_scale=2.0, learning_rate=0.05, weight_std=0.7, data_ratio=0.5)
BULKS = {
    "before the edge": (PARAMETERS["before the edge"], 20, False),
    "before the edge, population": (PARAMETERS["before the edge"], 20, True),
    "one narrow layer": (PARAMETERS["one narrow layer"], 8, False),
    "one wide layer, population": (PARAMETERS["one wide layer"], 12, True),
    "wide": (PARAMETERS["wide"], 30, False),
    "three layers, population": (PARAMETERS["three layers"], 25, True),
    "three layers": (PARAMETERS["three layers"], 0, False),
    "few samples": (FEW, 15, False),
}
BULK_NETWORKS = {150: 60, 300: 40, 600: 30}  # size D: networks
LEVELS = np.linspace(0, 1, 251)


def case(name: str, size: int, seed: int, steps=None) -> dict[str, np.ndarray]:
    """Everything that is stored of one network, after `steps` in place of the setting's own."""
    problem, steps = problems.DeepLinear(**PARAMETERS[name]), steps or ROWS[name][3]
    rng = np.random.default_rng([NAMES.index(name), size, seed, 4])
    run = networks.train(problem, size=size, steps=max(steps), rng=rng, record=(0, *steps))
    modes = [[run.leading_mode(step, population) for population in (False, True)] for step in steps]
    return {
        "values": np.array([[mode.value for mode in pair] for pair in modes]),
        "alignments": np.array([[mode.alignment for mode in pair] for pair in modes]),
        "controls": controls(problem, run, size),
    }


def spectrum(name: str, size: int, seed: int, last: int | None = None) -> dict[str, np.ndarray]:
    """Quantiles of the eigenvalues of one network without the leading mode; the population's, less rho_0.

    M = rho_0 + something positive, whose spectrum often starts at 0 with a density that is infinite there. The first
    part is a number that scatters from network to network; it would hide the law of the second.
    """
    parameters, step, population = BULKS[name]
    step = min(step, last or step)
    problem, rng = problems.DeepLinear(**parameters), np.random.default_rng([list(BULKS).index(name), size, seed, 5])
    run = networks.train(problem, size=size, steps=max(step, 1), rng=rng, record=(0, step))
    values = run.ntk_spectrum(step, population)[1 if step else 0 :]
    if population:
        values = values - run.tangent_rates(step)[0]
    return {"bulk_quantiles": np.quantile(values, LEVELS), "bulk_controls": controls(problem, run, size)}


def controls(problem, run, size: int) -> np.ndarray:
    """(12,): those of experiments/deep_linear.py; how long the target's own signal is in each layer at the start.

    With vhat* what vhat would be if f were 0 at the start, E<h^l h^l> = s2^l E<vhat* vhat*>: the weights know nothing
    of it. Early on, modes grow exponentially, at rates that these lengths decide.
    """
    target, inputs, noise = run.data()
    signal, square, lengths = target, 1.0, []
    if inputs is not None:
        samples = len(inputs)
        signal = (inputs.T @ (inputs @ target + np.sqrt(size) * noise)) / samples
        square = 1 + (size + 1) / samples + problem.noise_std**2 * size / samples
    for layer in range(problem.depth):
        signal = run.weights(layer, 0) @ signal
        lengths.append(np.mean(signal**2))
    expected = square * problem.weight_std ** (2 * np.arange(1, problem.depth + 1))
    return np.append(deep_linear.controls(problem, run, size), np.pad(lengths - expected, (0, 4 - problem.depth)))


def uncertain(sizes, results: list[dict]) -> float:
    """The largest relative standard error of the limit of infinite size of the modes."""
    values, given = (np.array([result[key] for result in results]) for key in ("values", "controls"))
    found = sweeps.extrapolate(sizes, values, controls=given)
    return float(np.max(found.standard_error / found.limit))


def cases(name: str, rounds: int) -> list[dict]:
    """The networks of the first `rounds` rounds of one setting."""
    return seeded(name, dict(zip(ROWS[name][0], ROUND, strict=True)), rounds)


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest size of a setting, made once more, and as it is stored: up to the edge.

    Beyond the edge of stability the first of the three steps alone is compared: it comes before training swings.
    """
    size, shown = min(ROWS[name][0]), 1 if "beyond" in name else 3
    row = first_row(table, setting=NAMES.index(name), size=size, seed=0)
    now = case(name, size, 0, ROWS[name][3][:shown])
    return now, {key: table[key][row][:shown] if key != "controls" else table[key][row] for key in now}


def again_of_bulk(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest size of a bulk."""
    size = min(BULK_NETWORKS)
    now, row = spectrum(name, size, 0), first_row(table, bulk=list(BULKS).index(name), bulk_size=size)
    return now, {key: table[key][row] for key in now}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(ROWS=ROWS, BULKS=BULKS, BULK_NETWORKS=BULK_NETWORKS, LEVELS=LEVELS),
    witnesses={name: partial(case, name, 24, 1, steps=(2, 5, 8)) for name in NAMES}
    | {f"bulk of {name}": partial(spectrum, name, 20, 1, last=8) for name in BULKS},
    rows={name: partial(again, name) for name in NAMES}
    | {f"bulk of {name}": partial(again_of_bulk, name) for name in BULKS},
)


def main(workers: int) -> None:
    """The bulks, then rounds of networks where they are needed, all settings in turn; then the table."""
    results, done = {}, set()
    keys = [(name, size, seed) for name in BULKS for size, count in BULK_NETWORKS.items() for seed in range(count)]
    chosen = [dict(zip(("name", "size", "seed"), key, strict=True)) for key in keys]
    spectra = chosen, sweeps.run(spectrum, chosen, store=TABLE.store, workers=workers)
    for rounds in range(1, ROUNDS + 1):
        for name in (name for name in NAMES if name not in done):
            chosen = cases(name, rounds)
            results[name] = (chosen, sweeps.run(case, chosen, store=TABLE.store, workers=workers))
            error = uncertain(np.array([one["size"] for one in chosen]), results[name][1])
            if error <= ERROR:
                done.add(name)
            print(f"round {rounds}, {name}: standard error {error:.2%}{'; enough' * (name in done)}", flush=True)
        write(results, spectra)
        if len(done) == len(NAMES):
            break


def write(results: dict, spectra) -> None:
    """The table of everything so far."""
    rows = [(one, result) for name in results for one, result in zip(*results[name], strict=True)]
    table = {key: np.array([result[key] for _, result in rows], dtype=np.float32) for key in rows[0][1]}
    bulks = {key: np.array([found[key] for found in spectra[1]], dtype=np.float32) for key in spectra[1][0]}
    TABLE.write(
        setting=[NAMES.index(one["name"]) for one, _ in rows],
        size=[one["size"] for one, _ in rows],
        seed=[one["seed"] for one, _ in rows],
        names=NAMES,
        parameters=[json.dumps(PARAMETERS[name]) for name in NAMES],
        steps=[ROWS[name][3] for name in NAMES],
        bulk_names=list(BULKS),
        bulk_parameters=[json.dumps(parameters) for parameters, _, _ in BULKS.values()],
        bulk_steps=[step for _, step, _ in BULKS.values()],
        bulk_population=[population for _, _, population in BULKS.values()],
        bulk=[list(BULKS).index(one["name"]) for one in spectra[0]],
        bulk_size=[one["size"] for one in spectra[0]],
        **table,
        **bulks,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

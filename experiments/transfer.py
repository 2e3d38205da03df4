"""Deep linear networks over a grid of learning rates: the losses of the same network, each rate in turn.

Run from the repository's root, about a quarter of an hour on one core:

    python experiments/transfer.py [workers]

It writes experiments/transfer.npz, which the chapter on learning-rate transfer draws and asserts on. There is no
theory in it, save that for each setting the grid was laid round the best rate that theory had predicted: from six
grid steps below to five above, and two places higher where it had predicted a lucky one. Cases that are done
are kept in experiments/.store, so that it can be interrupted.

Arrays. Per setting: `names`, `parameters` (JSON, for problems.DeepLinear, less the learning rate) and `rates`
(settings, RATES). Per network: `setting`, `size` (the dimension D), `seed`; `test_loss`, `train_loss` (networks,
RATES, 2) after each of `horizons` steps, infinite where training diverged before. One network is one draw of weights
and samples, trained from the start at every rate.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import networks, problems, sweeps
from spectral_dynamics.errors import DivergenceError
from spectral_experiments import first_row, seeded

BASE = {"depth": 2, "data_ratio": 4.0, "output_scale": 3.0, "weight_std": 0.5}
HORIZONS = (10, 20)
RATIO, SMALLEST, RATES = 1.1, 0.03, 12  # the grid SMALLEST RATIO^k, of which each setting takes RATES in a row

SETTINGS = {  # name: (width ratio, parametrization, first k, networks at each size)
    "nu 1": (1.0, "mup", 9, {200: 96, 400: 48, 800: 24, 1600: 10}),
    "nu 4, muP": (4.0, "mup", 9, {200: 96, 400: 40, 800: 8}),
    "nu 4, NTK": (4.0, "ntk", 18, {200: 96, 400: 40, 800: 8}),
    "nu 1/2, NTK": (0.5, "ntk", 4, {400: 48, 800: 24, 1600: 8}),
    "nu 1/2, muP": (0.5, "mup", 11, {400: 48, 800: 24, 1600: 8}),
}


def parameters(name: str) -> dict:
    """Of problems.DeepLinear, all but the learning rate."""
    ratio, parametrization, *_ = SETTINGS[name]
    return BASE | {"width_ratio": ratio, "parametrization": parametrization}


def rates(name: str) -> np.ndarray:
    """The learning rates of one setting, (RATES,)."""
    return SMALLEST * RATIO ** (SETTINGS[name][2] + np.arange(RATES))


def case(name: str, size: int, seed: int, horizons=HORIZONS) -> np.ndarray:
    """Test and train loss, (2, RATES, horizons), of one network."""
    losses = np.full((2, RATES, len(horizons)), np.inf)
    for column, rate in enumerate(rates(name)):
        problem = problems.DeepLinear(**parameters(name), learning_rate=rate)
        rng = np.random.default_rng([list(SETTINGS).index(name), size, seed])  # the same draws at every rate
        try:
            run = networks.train(problem, size=size, steps=max(horizons), rng=rng, record=(0,), record_fields=False)
        except DivergenceError as failure:
            run = failure.partial
        for row, loss in enumerate((run.test_loss, run.train_loss)):
            reached = [j for j, horizon in enumerate(horizons) if horizon < len(loss)]
            losses[row, column, reached] = loss[[horizons[j] for j in reached]]
    return losses


def cases() -> list[dict]:
    """Every network of the table."""
    return [one for name, (*_, counts) in SETTINGS.items() for one in seeded(name, counts)]


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest size of a setting, made once more, and as it is stored: where rates are calm.

    The first seven rates end at the theory's best one, below the edge of stability, where training forgets rounding;
    above, it is chaotic.
    """
    size = min(SETTINGS[name][3])
    now, row = case(name, size, 0), first_row(table, setting=list(SETTINGS).index(name), size=size, seed=0)
    pairs = zip(("test_loss", "train_loss"), now, strict=True)
    return {key: loss[:7] for key, loss in pairs}, {key: table[key][row, :7] for key in ("test_loss", "train_loss")}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(BASE=BASE, HORIZONS=HORIZONS, RATIO=RATIO, SMALLEST=SMALLEST, RATES=RATES, SETTINGS=SETTINGS),
    witnesses={name: partial(case, name, 12, 1, horizons=(3, 8)) for name in SETTINGS},
    rows={name: partial(again, name) for name in SETTINGS},
)


def main(workers: int) -> None:
    """Runs every case and writes the table."""
    chosen, names = cases(), list(SETTINGS)
    losses = np.array(sweeps.run(case, chosen, store=TABLE.store, workers=workers), dtype=np.float32)
    TABLE.write(
        names=names,
        parameters=[json.dumps(parameters(name)) for name in names],
        rates=[rates(name) for name in names],
        horizons=HORIZONS,
        setting=[names.index(one["name"]) for one in chosen],
        size=[one["size"] for one in chosen],
        seed=[one["seed"] for one in chosen],
        test_loss=losses[:, 0],
        train_loss=losses[:, 1],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

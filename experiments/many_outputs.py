"""Linear networks with as many outputs as neurons, by gradient flow: spectra at four times, edges at four widths.

Run from the repository's root, an hour on one core:

    python experiments/many_outputs.py [workers]

It writes experiments/many_outputs.npz. Nothing here knows the theory. Cases that are done are kept in
experiments/.store. Per setting: `names` and `parameters` (settings, 4), what problems.FrozenReadout takes. `times`.
Per network: `setting`, `size` (the width N), `seed`, `joint` (whether the readout was trained too); `top` (networks,
times): the largest singular value of Wbar. Of the first network of each setting at the width SHOWN, readout frozen
and trained: `spectra` (settings, 2, times, SHOWN), all N singular values of Wbar, descending, zeros included; and
`readouts` (settings, times, SHOWN), those of V where it was trained.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import networks, problems, sweeps
from spectral_experiments import first_row

TIMES = np.array([0.1, 0.5, 2.0, 5.0])
SHOWN, ACCURACY = 2000, 1e-4
FROZEN = {250: 192, 500: 96, 1000: 24, 2000: 8}  # networks at each width
MORE = {"few, wide": 3}  # times as many: the upper band has few values, and its edge scatters more
SETTINGS = {  # name: output ratio, width ratio, target scale, weight scale
    "half": (0.5, 1.0, 3.0, 1.0),
    "as many": (1.0, 1.0, 3.0, 1.0),
    "twice": (2.0, 0.5, 3.0, 1.0),
    "few, wide": (0.1, 2.0, 3.0, 0.7),
}
NAMES = list(SETTINGS)


def case(name: str, size: int, seed: int, joint: bool) -> np.ndarray:
    """Singular values (1 or 2, times, N) of Wbar and, if it is trained, of V."""
    rng = np.random.default_rng([NAMES.index(name), size, seed])
    problem = problems.FrozenReadout(*SETTINGS[name])
    run = networks.flow(problem, size=size, times=TIMES, rng=rng, joint=joint, accuracy=ACCURACY)
    sides = (False, True) if joint else (False,)
    return np.array([[run.singular_values(time, readout=side) for time in TIMES] for side in sides])


def cases() -> list[dict]:
    """Every network of the table."""
    frozen = [
        {"name": name, "size": size, "seed": seed, "joint": False}
        for name in NAMES
        for size, count in FROZEN.items()
        for seed in range(count * MORE.get(name, 1))
    ]
    joint = [{"name": name, "size": SHOWN, "seed": 0, "joint": True} for name in NAMES]
    return frozen + joint


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first network of the smallest width of a setting: made once more, and as it is stored."""
    row = first_row(table, setting=NAMES.index(name), size=min(FROZEN))
    values = case(name, min(FROZEN), int(table["seed"][row]), False)
    return {"top": values[0, :, 0]}, {"top": table["top"][row]}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(TIMES=TIMES, SHOWN=SHOWN, ACCURACY=ACCURACY, FROZEN=FROZEN, MORE=MORE, SETTINGS=SETTINGS),
    witnesses={
        f"{name}{', readout trained' * joint}": partial(case, name, 10, 1, joint)
        for name in NAMES
        for joint in (False, True)
    },
    rows={name: partial(again, name) for name in NAMES},
)


def main(workers: int) -> None:
    """Runs every case and writes the table."""
    chosen = cases()
    found = [one.astype(np.float32) for one in sweeps.run(case, chosen, store=TABLE.store, workers=workers)]
    first = {
        (one["name"], one["joint"]): values
        for one, values in zip(chosen, found, strict=True)
        if one["size"] == SHOWN and one["seed"] == 0
    }
    TABLE.write(
        names=NAMES,
        parameters=[SETTINGS[name] for name in NAMES],
        times=TIMES,
        setting=[NAMES.index(one["name"]) for one in chosen],
        size=[one["size"] for one in chosen],
        seed=[one["seed"] for one in chosen],
        joint=[one["joint"] for one in chosen],
        top=[values[0, :, 0] for values in found],
        spectra=[[first[name, joint][0] for joint in (False, True)] for name in NAMES],
        readouts=[first[name, True][1] for name in NAMES],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

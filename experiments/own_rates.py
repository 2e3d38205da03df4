"""The two large tasks with a number of outputs that grows with the width, at a rate of its own for every number.

Run from the repository's root, five minutes on two cores:

    python experiments/own_rates.py [workers]

In real_tasks.py every task has one learning rate, chosen with 1024 words or 512 patches. Here the same rule chooses
one for each number of outputs C, at the same width and after as many steps; nothing else differs. At the width 1024 C
is what it is there, and so is the rate. It writes experiments/own_rates.npz: `names`, `rates`; `tuned_task`,
`tuned_outputs` and `tuning` (cases, rates), losses of the sweep. Per network: `task`, `outputs`, `width`, `seed`,
`rate`; `loss` at the end; `distance` (networks, 2), the deciding number of W^1 and W^2 at the end; `moved`
(networks, 2), |dW|_F/|W(0)|_F. `values_I` of network I: (2, N), all singular values at the end, descending.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import linalg
from spectral_dynamics import networks, sweeps
from spectral_experiments import real_tasks

STORED = Path(__file__).with_suffix(".npz")
STORE = Path(__file__).parent / ".store" / "own_rates"
NAMES = real_tasks.LARGE
WIDTHS, SEEDS = (128, 256, 512), real_tasks.SEEDS


def fingerprint() -> str:
    """Changes whenever a number of the table could."""
    return sweeps.fingerprint(real_tasks.fingerprint(), trained, tune, case)


def trained(name: str, outputs: int, rate: float, width: int, seed: list, steps: int):
    """One network. Raises DivergenceError."""
    task, rng = real_tasks.maker(name, outputs)(rate), np.random.default_rng(seed)
    return networks.train(task, size=width, steps=steps, rng=rng, record=(0, steps), dtype=real_tasks.PRECISION)


def tune(name: str, outputs: int, rate: float, made_by: str) -> float:
    """Loss after real_tasks.TUNED steps; inf when they diverge."""
    seed = [real_tasks.NAMES.index(name), real_tasks.TUNED_AT]
    try:
        run = trained(name, outputs, rate, real_tasks.TUNED_AT, seed, real_tasks.TUNED)
    except networks.DivergenceError:
        return np.inf
    return float(run.train_loss[-real_tasks.AVERAGED :].mean())


def case(name: str, outputs: int, width: int, seed: int, rate: float, made_by: str) -> dict[str, np.ndarray]:
    """Everything that is stored of one network."""
    steps = real_tasks.STEPS
    run = trained(name, outputs, rate, width, [real_tasks.NAMES.index(name), outputs, width, seed], steps)
    ends = [run.weights(layer, steps).astype(float) for layer in (1, 2)]
    changes = [end - run.weights(layer, 0) for layer, end in enumerate(ends, start=1)]
    values = [linalg.svdvals(end) for end in ends]
    return {
        "values": np.array(values, np.float32),
        "loss": run.train_loss[-real_tasks.AVERAGED :].mean(),
        "distance": [real_tasks.deciding_number(one, outputs) for one in values],
        "moved": [np.linalg.norm(change) / np.sqrt(width) for change in changes],
    }


def kinds() -> list[tuple[str, int, int]]:
    """Task, outputs and width."""
    return [(name, real_tasks.outputs_of(name, width, True), width) for name in NAMES for width in WIDTHS]


def main(workers: int) -> None:
    """Tunes, trains every network and writes the table."""
    made_by = fingerprint()
    grid = [
        {"name": name, "outputs": outputs, "rate": rate, "made_by": made_by}
        for name, outputs, _ in kinds()
        for rate in real_tasks.RATES
    ]
    tuning = np.reshape(sweeps.run(tune, grid, store=STORE, workers=workers), (-1, len(real_tasks.RATES)))
    chosen = [
        {"name": name, "outputs": outputs, "width": width, "seed": seed, "rate": real_tasks.gentlest(losses)}
        for (name, outputs, width), losses in zip(kinds(), tuning, strict=True)
        for seed in SEEDS
    ]
    rows = sweeps.run(case, [one | {"made_by": made_by} for one in chosen], store=STORE, workers=workers)
    np.savez_compressed(
        STORED,
        names=NAMES,
        rates=real_tasks.RATES,
        tuned_task=[NAMES.index(name) for name, _, _ in kinds()],
        tuned_outputs=[outputs for _, outputs, _ in kinds()],
        tuning=tuning,
        task=[NAMES.index(one["name"]) for one in chosen],
        **{key: [one[key] for one in chosen] for key in ("outputs", "width", "seed", "rate")},
        **{key: np.array([row[key] for row in rows], np.float32) for key in ("loss", "distance", "moved")},
        **{f"values_{number}": row["values"] for number, row in enumerate(rows)},
        fingerprint=made_by,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

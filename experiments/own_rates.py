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
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg
from spectral_dynamics import networks, sweeps
from spectral_experiments import first_row, real_tasks

NAMES = real_tasks.LARGE
WIDTHS, SEEDS = (128, 256, 512), real_tasks.SEEDS


def case(
    name: str,
    outputs: int,
    width: int,
    seed: int,
    rate: float,
    steps: int = real_tasks.STEPS,
    dtype=real_tasks.PRECISION,
    **data,
) -> dict[str, np.ndarray]:
    """Everything that is stored of one network."""
    task = real_tasks.maker(name, outputs, **data)(rate)
    rng = np.random.default_rng([real_tasks.NAMES.index(name), outputs, width, seed])
    run = networks.train(task, size=width, steps=steps, rng=rng, record=(0, steps), dtype=dtype)
    ends = [run.weights(layer, steps).astype(float) for layer in (1, 2)]
    changes = [end - run.weights(layer, 0) for layer, end in enumerate(ends, start=1)]
    values = [linalg.svdvals(end) for end in ends]
    return {
        "values": np.array(values),
        "loss": run.train_loss[-real_tasks.AVERAGED :].mean(),
        "distance": [real_tasks.deciding_number(one, outputs) for one in values],
        "moved": [np.linalg.norm(change) / np.sqrt(width) for change in changes],
    }


def kinds(widths=WIDTHS) -> list[tuple[str, int, int]]:
    """Task, outputs and width."""
    return [(name, real_tasks.outputs_of(name, width, True), width) for name in NAMES for width in widths]


def again(name: str, table: dict) -> tuple[dict, dict, float]:
    """The narrowest training of the sweep at the smallest rate, made once more, and as it is stored.

    Single precision: at this rate rounding is not amplified in a thousand steps, and the loss is a mean over fifty.
    """
    row = first_row(table, tuned_task=NAMES.index(name))
    now = real_tasks.tune(name, float(table["rates"][0]), int(table["tuned_outputs"][row]))
    return {"loss": now}, {"loss": table["tuning"][row, 0]}, 1e-3


def again_at_the_end(table: dict) -> tuple[dict, dict, float]:
    """One network after all its steps, by sums over all neurons, words and late steps.

    Rounding of another processor was seen to move them by 0.7 % of the largest; single patches by five times as much.
    """
    row = first_row(table, task=NAMES.index("next word"), width=min(WIDTHS))
    keys = {key: table[key][row].item() for key in ("outputs", "width", "seed", "rate")}
    now = case("next word", **keys)
    found = {"loss": now["loss"], "moved": now["moved"], "length": np.sqrt(np.mean(now["values"] ** 2, axis=1))}
    stored = table[f"values_{row}"].astype(float)
    length = np.sqrt(np.mean(stored**2, axis=1))
    return found, {"loss": table["loss"][row], "moved": table["moved"][row], "length": length}, 0.03


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(NAMES=NAMES, OWN_WIDTHS=WIDTHS, OWN_SEEDS=SEEDS) | real_tasks.TABLE.constants,
    witnesses={
        f"{name}, {outputs} outputs": partial(case, name, outputs, width, 1, 0.5, steps=8, **real_tasks.tiny(name))
        for name, outputs, width in kinds((16, 24))
    }
    | {
        f"{name}, rate {rate:g}": partial(real_tasks.tune, name, rate, 16, width=8, steps=4, **real_tasks.tiny(name))
        for name in NAMES
        for rate in real_tasks.RATES
    },
    rows={f"{name}, gentle": partial(again, name) for name in NAMES} | {"at the end": again_at_the_end},
)


def main(workers: int) -> None:
    """Tunes, trains every network and writes the table."""
    grid = [
        {"name": name, "outputs": outputs, "rate": rate} for name, outputs, _ in kinds() for rate in real_tasks.RATES
    ]
    tuning = sweeps.run(real_tasks.tune, grid, store=TABLE.store, workers=workers)
    tuning = np.reshape(tuning, (-1, len(real_tasks.RATES)))
    chosen = [
        {"name": name, "outputs": outputs, "width": width, "seed": seed, "rate": real_tasks.gentlest(losses)}
        for (name, outputs, width), losses in zip(kinds(), tuning, strict=True)
        for seed in SEEDS
    ]
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    TABLE.write(
        names=NAMES,
        rates=real_tasks.RATES,
        tuned_task=[NAMES.index(name) for name, _, _ in kinds()],
        tuned_outputs=[outputs for _, outputs, _ in kinds()],
        tuning=tuning,
        task=[NAMES.index(one["name"]) for one in chosen],
        **{key: [one[key] for one in chosen] for key in ("outputs", "width", "seed", "rate")},
        **{key: np.array([row[key] for row in rows], np.float32) for key in ("loss", "distance", "moved")},
        **{f"values_{number}": row["values"].astype(np.float32) for number, row in enumerate(rows)},
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)

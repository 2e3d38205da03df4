"""Simple tasks and large tasks: spectra of the hidden matrices of the same network, trained in muP on real data.

Run from the repository's root, forty minutes on two cores; `reduced` is narrow, short, writes nothing, three minutes:

    python experiments/real_tasks.py [workers]
    python experiments/real_tasks.py reduced [workers]

Nothing here knows the theory, but for the Gram form of one real network (spectra.outliers.from_recording) and the law
of random matrices that the deciding number is a distance from. It writes experiments/real_tasks.npz.

The deciding number: the Kolmogorov-Smirnov distance between the singular values of a hidden N x N matrix, the k
largest removed, k = min(2 outputs, N/20), and the law of the start, the quarter circle. THRESHOLD was set on the two
tasks with digits, before the others were run: removing N/20 values of an unmoved bulk makes 0.05 by itself.

Arrays, per run: `task` (index into `names`), `outputs`, `width`, `seed`; `loss`, `accuracy` (runs, marks), means over
the last AVERAGED steps before each of the steps `marks`; `rank` (runs, marks, 2), the stable rank |dW|_F^2/|dW|^2 of
the change, and `moved`, |dW|_F/|W(0)|_F, of W^1 and W^2; `predicted` (runs, marks, 2, KEPT), outliers by the Gram
form from the k leading directions of the change, descending, 0 where there is none; `distance` (runs, marks, 2), the
deciding number. `values_I` of run I: (marks, 2, N), all singular values, descending. `tuning` (tasks, rates): loss
over the last AVERAGED of TUNED steps at the width TUNED_AT against `rates`. `text`: hash of the text.
"""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import linalg
from spectral_dynamics import networks, sweeps
from spectral_dynamics.spectra import laws, many_outputs, outliers
from spectral_experiments import first_row, tasks

TASKS = {  # name: its maker, learning rate, outputs for width N at a fixed number and at a fixed ratio
    "odd or even": (tasks.odd_or_even, 0.0625, 1, None),
    "ten digits": (tasks.ten_digits, 0.0625, 10, None),
    "next word": (tasks.next_word, 1.0, 1024, lambda width: width),
    "which patch": (tasks.which_patch, 2.0, 512, lambda width: width // 2),
}
NAMES, LARGE = list(TASKS), ("next word", "which patch")
WIDTHS, SEEDS, STEPS = (128, 256, 512, 1024), (0, 1, 2), 3000
MARKS = np.array([0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])  # of the training
AVERAGED = 50
RATES, TUNED, TUNED_AT, WITHIN = np.ldexp(1.0, np.arange(-4, 5)), 1000, 128, 0.05
THRESHOLD = 0.1
ROUNDS, KEPT = 1, 60  # of the Gram form
PRECISION = np.float32  # of the training; spectra are taken in double precision


def removed(outputs: int, width: int) -> int:
    """k = min(2 outputs, N/20)."""
    return min(2 * outputs, width // 20)


def deciding_number(values, outputs: int) -> float:
    """Of all singular values of one N x N matrix whose entries started with variance 1/N."""
    return many_outputs.distance(values, laws.quarter_circle(1.0), removed=removed(outputs, len(values)))


def gentlest(losses) -> float:
    """The rule of the learning rates: the smallest that comes within WITHIN of the best loss after TUNED steps."""
    return float(RATES[np.flatnonzero(losses <= np.nanmin(losses) + WITHIN)[0]])


def outputs_of(name: str, width: int, fixed_ratio: bool) -> int:
    """How many classes a task has at a width."""
    _, _, fixed, scaled = TASKS[name]
    return scaled(width) if fixed_ratio else fixed


def maker(name: str, outputs: int, **data):
    """The task as a function of the learning rate."""
    make = TASKS[name][0]
    return (lambda rate: make(rate, outputs, **data)) if name in LARGE else make


def tune(
    name: str,
    rate: float,
    outputs: int | None = None,
    width: int = TUNED_AT,
    steps: int = TUNED,
    dtype=PRECISION,
    **data,
) -> float:
    """Loss after TUNED steps, by default with the task's own number of outputs; inf when they diverge."""
    rng = np.random.default_rng([NAMES.index(name), width])
    task = maker(name, outputs or TASKS[name][2], **data)(rate)
    try:
        run = networks.train(task, size=width, steps=steps, rng=rng, record=(0,), dtype=dtype)
    except networks.DivergenceError:
        return np.inf
    return float(run.train_loss[-AVERAGED:].mean())


def marks_of(steps: int) -> tuple[int, ...]:
    """The steps at which a training is looked at."""
    return tuple(int(mark) for mark in np.round(MARKS * steps))


def case(name: str, outputs: int, width: int, seed: int, marks, faster=1.0, dtype=PRECISION, **data) -> dict:
    """Everything that is stored of one network, trained up to the last of the `marks`, at `faster` times its rate."""
    task = maker(name, outputs, **data)(faster * TASKS[name][1])
    rng = np.random.default_rng([NAMES.index(name), outputs, width, seed])
    run = networks.train(task, size=width, steps=marks[-1], rng=rng, record=marks, dtype=dtype)
    sides = [(mark, layer) for mark in marks for layer in (1, 2)]
    values = np.array([linalg.svdvals(run.weights(layer, mark).astype(float)) for mark, layer in sides])
    changes = [run.weights(layer, mark) - run.weights(layer, 0) for mark, layer in sides]
    norms = [(np.linalg.norm(change), linalg.svdvals(change)[0], np.sqrt(width)) for change in changes]
    found = {
        "values": values,
        "distance": [deciding_number(one, outputs) for one in values],
        "rank": [(whole / largest) ** 2 if largest else 0.0 for whole, largest, _ in norms],
        "moved": [whole / start for whole, _, start in norms],
        "predicted": [predicted(run, layer, mark, removed(outputs, width)) for mark, layer in sides],
    }
    found = {key: np.reshape(one, (len(marks), 2, *np.shape(one)[1:])) for key, one in found.items()}
    before = [slice(max(0, mark + 1 - AVERAGED), mark + 1) for mark in marks]
    return found | {key: [getattr(run, of)[s].mean() for s in before] for key, of in CURVES.items()}


CURVES = {"loss": "train_loss", "accuracy": "accuracy"}


def predicted(run, layer: int, step: int, directions: int) -> np.ndarray:
    """Outliers by the Gram form from the leading directions of the change, (KEPT,), padded with zeros."""
    if not step:
        return np.zeros(KEPT)
    recording = run.recording(layer, step, directions=directions, matvecs=ROUNDS)
    found = outliers.from_recording(recording, weight_variance=1.0).singular_values
    return np.concatenate([found, np.zeros(KEPT)])[:KEPT]


def cases(names=NAMES, widths=WIDTHS, seeds=SEEDS, steps=STEPS) -> list[dict]:
    """Every network of the table, the wide ones first."""
    chosen = {
        (name, outputs_of(name, width, fixed_ratio), width, seed)
        for name in names
        for width in widths
        for seed in seeds
        for fixed_ratio in ((False, True) if name in LARGE else (False,))
    }
    keys = ("name", "outputs", "width", "seed")
    order = sorted(chosen, key=lambda one: (-one[2], NAMES.index(one[0]), -one[1], one[3]))
    return [dict(zip(keys, one, strict=True)) | {"marks": marks_of(steps)} for one in order]


def again(name: str, outputs: int, table: dict) -> tuple[dict, dict, float]:
    """The first network of the smallest width of a task, made once more, and as it is stored: up to the second mark.

    It was trained in single precision. Digits and words leave rounding below 1e-4 in a sixteenth of the training. At
    the rate of the patches it is amplified from the first steps on: of them the start is compared, and the mean of
    the loss over AVERAGED steps, which was seen to move by 2 % from one processor to another.
    """
    row = first_row(table, task=NAMES.index(name), outputs=outputs, width=min(WIDTHS))
    early = slice(0, 2)
    now = case(name, outputs, min(WIDTHS), int(table["seed"][row]), table["marks"][early])
    stored = {key: table[key][row][early] for key in now if key != "values"}
    stored["values"] = table[f"values_{row}"][early]
    if name != "which patch":
        return now, stored, 3e-4
    calm = [{"start": found["values"][0], "loss": found["loss"]} for found in (now, stored)]
    return *calm, 0.06


def kinds(width: int) -> list[tuple[str, int]]:
    """Tasks and their numbers of outputs at a width, the fixed one first."""
    return [(n, outputs_of(n, width, ratio)) for n in NAMES for ratio in ((False, True) if n in LARGE else (False,))]


def tiny(name: str) -> dict:
    """What makes a witness of a run: double precision, and words that do not depend on the version of Python."""
    return {"dtype": np.float64} | ({"words": tasks.made_up(2000)} if name == "next word" else {})


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(TASKS={name: (rate, fixed) for name, (_, rate, fixed, _) in TASKS.items()}, WIDTHS=WIDTHS)
    | dict(SEEDS=SEEDS, STEPS=STEPS, MARKS=MARKS, AVERAGED=AVERAGED, RATES=RATES, TUNED=TUNED, TUNED_AT=TUNED_AT)
    | dict(WITHIN=WITHIN, ROUNDS=ROUNDS, KEPT=KEPT, PRECISION=np.dtype(PRECISION).name, BATCH=tasks.BATCH)
    | dict(WINDOW=tasks.WINDOW, NETWORK=tasks.NETWORK),
    witnesses={
        f"{name}, {outputs} outputs": partial(case, name, outputs, width, 1, marks_of(8), faster, **tiny(name))
        for large, width, faster in ((False, 60, 50.0), (True, 24, 2.0))  # wide and fast enough for outliers
        for name, outputs in kinds(width)
        if (name in LARGE) == large
    }
    | {
        f"{name}, rate {rate:g}": partial(tune, name, rate, width=8, steps=4, **tiny(name))
        for name in NAMES
        for rate in RATES
    },
    rows={f"{name}, {outputs} outputs": partial(again, name, outputs) for name, outputs in kinds(min(WIDTHS))},
)


def main(workers: int) -> None:
    """Tunes, trains every network and writes the table."""
    grid = [{"name": name, "rate": rate} for name in NAMES for rate in RATES]
    tuning = np.reshape(sweeps.run(tune, grid, store=TABLE.store, workers=workers), (len(NAMES), len(RATES)))
    chosen = cases()
    rows = sweeps.run(case, chosen, store=TABLE.store, workers=workers)
    same = ("distance", "rank", "moved", "predicted", "loss", "accuracy")
    TABLE.write(
        names=NAMES,
        marks=marks_of(STEPS),
        task=[NAMES.index(one["name"]) for one in chosen],
        **{key: [one[key] for one in chosen] for key in ("outputs", "width", "seed")},
        **{key: np.array([row[key] for row in rows], dtype=np.float32) for key in same},
        **{f"values_{number}": row["values"].astype(np.float32) for number, row in enumerate(rows)},
        rates=RATES,
        tuning=tuning,
        text=tasks.text_hash(),
    )


def reduced(workers: int, store: Path, widths=(128, 256), seeds=SEEDS, steps=1500) -> dict[str, np.ndarray]:
    """The same from end to end, narrow and short: by task, the deciding numbers (networks, 2) of W^1 and W^2."""
    chosen = cases(widths=widths, seeds=seeds, steps=steps)
    rows = sweeps.run(case, chosen, store=store, workers=workers)
    pairs = list(zip(chosen, rows, strict=True))
    return {name: np.array([row["distance"][-1] for one, row in pairs if one["name"] == name]) for name in NAMES}


def report(workers: int) -> None:
    """Runs the reduced version afresh, prints it and says whether it separates."""
    with TemporaryDirectory() as folder:
        found = reduced(workers, store=Path(folder))
    for name, numbers in found.items():
        print(f"{name:12s} deciding number of W^1, W^2: {numbers.min():.3f} to {numbers.max():.3f}")
    small = max(numbers.max() for name, numbers in found.items() if name not in LARGE)
    large = min(numbers.min() for name, numbers in found.items() if name in LARGE)
    if not small < THRESHOLD < large:
        sys.exit(f"the threshold {THRESHOLD} does not separate {small:.3f} from {large:.3f}")
    print(f"separated by the threshold {THRESHOLD}: at most {small:.3f}, at least {large:.3f}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    command = report if "reduced" in arguments else main
    numbers = [int(one) for one in arguments if one != "reduced"]
    command(numbers[0] if numbers else 1)

"""Digits networks of infinite width, predicted before any is trained: what `digits_widths` measures.

Run from the repository's root, a quarter of an hour on two cores:

    python experiments/predicted.py

The theory gets images, labels and the scale of the initial weights, and chooses its sites and replicas itself. It
writes experiments/predicted.npz, for each of `names`, the settings of `digits_widths`: `loss`, `correct` (settings,
STEPS + 1), the latter images of 300; `values` (settings, frames, KEPT): singular values of Wbar^1 beyond the bulk,
descending, at the steps `frames`; `independent` (settings, frames, KEPT), the same if spikes knew nothing of the
bulk; `right`, `left` (settings, marks, KEPT, 10): squared cosines with class means as in `digits_widths`; with Monte
Carlo standard errors `loss_error` and so on; 0 where nothing stands out. `sites` (settings,): neurons of a replica;
`directions`, `neglected` (settings, STEPS, 2): of features and gradients, how many directions were followed, and the
share of their variance that was not, at each step; `cpu`, `wall` (settings,): seconds of one core, and by the clock,
two replicas at once. And, of the first setting with CUTOFFS in place of the solver's own, one replica of PRICED sites
on the same random numbers: `cut_loss` (cutoffs,), `cut_values` (cutoffs, KEPT), after the last step, and
`cut_neglected` (cutoffs, 2), the largest shares.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg
from spectral_dynamics import sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.spectra import outliers
from spectral_experiments import digits_widths
from spectral_experiments.digits_widths import KEPT, MARKS, NAMES

STEPS, SEED = 40, 1
FRAMES = (6, 8, 10, 14, 20, 24, 30, 34, 40)
OPTIONS = {"cross_entropy": {"precision": "single"}}  # of the solver, where they are not its own
LINE = 2.06  # three per cent above the edge
CUTOFFS, PRICED = (0.01, 0.004), 9600
CLASSES = 10


def case(name: str, learned=None, frames=FRAMES, marks=MARKS, **options) -> dict[str, np.ndarray]:
    """Everything that is stored of one setting, or of another problem in its place."""
    learned, start, clock = learned or digits_widths.problem(name), time.process_time(), time.time()
    last, options = max(frames), {"workers": 2} | OPTIONS.get(name, {}) | options
    rng = np.random.default_rng([SEED, NAMES.index(name)])
    theory = mlp.solve(learned, last + 1, rng=rng, kernel_steps=marks, **options)
    found = {"loss": theory.train_loss[: last + 1], "correct": correct(theory)[: last + 1]}
    found["loss_error"] = theory.standard_error(lambda one: one.train_loss)[: last + 1]
    spectra = [outliers.outliers(theory.order(1, step)) for step in frames]
    found["values"] = padded([one.singular_values for one in spectra])
    found["values_error"] = padded([one.standard_error for one in spectra])
    classical = [outliers.outliers(theory.order(1, step).replicas[0].independent()) for step in frames]
    found["independent"] = padded([one.singular_values for one in classical])
    cosines = [[aligned(one, place, step) for place, step in enumerate(marks)] for one in theory.replicas]
    for side, key in enumerate(("right", "left")):
        squares = np.array([[at[side] for at in one] for one in cosines])
        found[key], found[f"{key}_error"] = squares.mean(axis=0), spread(squares)
    found["sites"], found["cpu"], found["wall"] = theory.sites, time.process_time() - start, time.time() - clock
    return found | {"directions": directions(theory)[:last], "neglected": theory.neglected[:last, 0]}


def correct(theory) -> np.ndarray:
    """How many samples each step's predictions place in their class."""
    right = theory.predictions.argmax(axis=2) == theory.problem.targets.argmax(axis=1)
    return right.sum(axis=1)


def aligned(one, place: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared cosines (KEPT, classes) of one replica's vectors with class means of features, and of gradients.

    Lengths of the features' means come from the kernel, which holds what is left to noise as well.
    """
    order, targets = one.order(1, step, through=step + 1), one.problem.targets
    now = one.index[: len(order.features), 0] == step
    h, g = targets.T @ order.features[now], targets.T @ order.gradients[now]
    found = outliers.outliers(replace(order, features=h, gradients=g))
    lengths = np.einsum("mc,mn,nc->c", targets, one.kernels[place, 0], targets)
    sides = found.right_overlaps**2 / lengths, found.left_alignment**2
    return tuple(padded([side[:, c] for c in range(targets.shape[1])]).T for side in sides)


def padded(rows) -> np.ndarray:
    """Rows of unequal length, KEPT entries of each."""
    return np.array([np.concatenate([row, np.zeros(KEPT)])[:KEPT] for row in rows])


def spread(values) -> np.ndarray:
    """Standard error of the mean over replicas."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def directions(theory) -> np.ndarray:
    """Followed of features and gradients after each step, (steps, 2), the mean over replicas."""
    sizes = [[one.order(1, step).c.shape[::-1] for step in range(1, one.steps + 1)] for one in theory.replicas]
    return np.mean(sizes, axis=0)


def price(cutoff: float) -> dict[str, np.ndarray]:
    """What one replica finds with a cut-off."""
    rng, options = np.random.default_rng(SEED), {"replicas": 1, "sites": PRICED, "precision": "single"}
    theory = mlp.solve(digits_widths.problem(NAMES[0]), STEPS, rng=rng, cutoff=cutoff, kernel_steps=(), **options)
    values = outliers.outliers(theory.order(1, STEPS)).singular_values
    largest = theory.neglected[:, 0].max(axis=0)
    return {"cut_loss": theory.train_loss[-1], "cut_values": padded([values])[0], "cut_neglected": largest}


def tiny(name: str) -> dict[str, np.ndarray]:
    """Thirty images and few sites, for the witness."""
    images = digits_widths.problem(name)
    few = replace(images, inputs=images.inputs[:30], targets=images.targets[:30], learning_rate=0.8)
    found = case(name, few, frames=(12, 16), marks=(10, 16), sites=4000, replicas=2, cutoff=1e-3, precision="double")
    return {key: found[key] for key in ("loss", "values", "right", "left")}


# Against the networks of `digits_widths`


def limit(table: dict, name: str, what, smallest: int = 500) -> sweeps.Extrapolation:
    """Infinite width, of `what` (runs, ...) the networks of a setting have, from a width on."""
    rows = (table["setting"] == NAMES.index(name)) & (table["size"] >= smallest)
    return sweeps.extrapolate(table["size"][rows], what[rows])


def compared(told: dict, table: dict, name: str, step: int) -> dict[str, np.ndarray]:
    """Of what stands outside on either side, (values,): predicted, without memory, measured, and errors."""
    k, frame = NAMES.index(name), list(told["frames"]).index(step)
    measured = limit(table, name, table["values"][:, list(table["marks"]).index(step)])
    predicted = told["values"][k, frame]
    out = np.maximum(predicted, measured.limit) > LINE
    edge = np.maximum(told["independent"][k, frame], 2)
    found = {"predicted": predicted, "error": told["values_error"][k, frame], "independent": edge}
    found |= {"limit": measured.limit, "limit_error": measured.standard_error, "chi_square": measured.chi_square}
    return {key: value[out] for key, value in found.items()}


def groups(table: dict, name: str, step: int, smallest: int = 500) -> list[np.ndarray]:
    """Places of values outside; together those closer than three scatters of the narrowest networks that count."""
    some = (table["setting"] == NAMES.index(name)) & (table["size"] == smallest)
    seen = table["values"][some, list(table["marks"]).index(step)]
    middle, scatter = seen.mean(axis=0), seen.std(axis=0, ddof=1)
    count = int(np.sum(middle > LINE))
    close = -np.diff(middle[:count]) < 3 * np.maximum(scatter[1:count], scatter[: count - 1])
    return np.split(np.arange(count), 1 + np.flatnonzero(~close))


def projections(told: dict, table: dict, name: str, step: int, side: str) -> tuple[np.ndarray, ...]:
    """Lengths of class means on groups of vectors, (groups, classes): predicted, measured, and an error."""
    k, place, found = NAMES.index(name), list(table["marks"]).index(step), []
    for places in groups(table, name, step):
        measured = limit(table, name, table[side][:, place, places].sum(axis=1))
        own = told[side][k, place, places].sum(axis=0)
        sampled = linalg.norm(told[f"{side}_error"][k, place, places], axis=0)
        found.append((own, measured.limit.clip(0), np.hypot(measured.standard_error, sampled)))
    own, seen, error = np.array(found).swapaxes(0, 1)
    return np.sqrt(own), np.sqrt(seen), error / (2 * np.sqrt(np.maximum(seen, error)))


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(STEPS=STEPS, SEED=SEED, FRAMES=FRAMES, OPTIONS=OPTIONS, CUTOFFS=CUTOFFS, PRICED=PRICED)
    | digits_widths.TABLE.constants,
    witnesses={name: partial(tiny, name) for name in NAMES},
    rows={},
)


def main() -> None:
    """Solves every setting and writes the table."""
    rows = sweeps.run(case, [{"name": name} for name in NAMES], store=TABLE.store)
    prices = sweeps.run(price, [{"cutoff": cutoff} for cutoff in CUTOFFS], store=TABLE.store)
    table = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    table |= {key: np.array([row[key] for row in prices]) for key in prices[0]}
    TABLE.write(names=NAMES, frames=FRAMES, marks=MARKS, cutoffs=CUTOFFS, **table)


if __name__ == "__main__":
    main()

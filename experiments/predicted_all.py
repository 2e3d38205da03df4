"""All 1797 digits in mini-batches, predicted before any network is trained: what `digits_all` measures.

Run from the repository's root, a quarter of an hour on two cores:

    python experiments/predicted_all.py

It writes experiments/predicted_all.npz: `loss` (steps + 1,) and `correct` (steps + 1,), images in their class, over
all images after each batch; `values` (epochs, KEPT): singular values of Wbar^1 beyond the bulk after each epoch,
descending, 0 where there are no more, and `independent`, the same if spikes knew nothing of the bulk; `loss_error`,
`values_error`, Monte Carlo standard errors; `sites`, neurons of a replica; `directions`, `neglected` (steps, 2): of
features and gradients, how many directions were followed, and the share of a batch's variance that was not; `cpu`,
`wall`: seconds.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from spectral_dynamics import sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.spectra import outliers
from spectral_experiments import digits_all
from spectral_experiments.digits_all import MARKS
from spectral_experiments.digits_widths import KEPT
from spectral_experiments.predicted import correct, directions, padded

SEED = 1


def case(learned=None, marks=MARKS, **options) -> dict[str, np.ndarray]:
    """Everything that is stored; of another problem in its place."""
    learned, start, clock = learned or digits_all.problem(), time.process_time(), time.time()
    options = {"precision": "single", "replicas": 2, "workers": 2, "sites": 38_400, "cutoff": 0.01} | options
    rng = np.random.default_rng(SEED)
    theory = mlp.solve(learned, max(marks), rng=rng, kernel_steps=(), **options)
    found = {"loss": theory.train_loss, "loss_error": theory.standard_error(lambda one: one.train_loss)}
    spectra = [outliers.outliers(theory.order(1, step)) for step in marks]
    classical = [outliers.outliers(theory.order(1, step).replicas[0].independent()) for step in marks]
    return found | {
        "correct": correct(theory),
        "values": padded([one.singular_values for one in spectra]),
        "values_error": padded([one.standard_error for one in spectra]),
        "independent": padded([one.singular_values for one in classical]),
        "sites": theory.sites,
        "directions": directions(theory),
        "neglected": theory.neglected[:, 0],
        "cpu": time.process_time() - start,
        "wall": time.time() - clock,
    }


def tiny() -> dict[str, np.ndarray]:
    """Sixty images in batches of ten and few sites, for the witness: in double precision, and at the same steps."""
    full = digits_all.problem()
    batches = full.batches[:12, :10] % 60
    few = replace(full, inputs=full.inputs[:60], targets=full.targets[:60], batches=batches)
    found = case(few, marks=(6, 12), sites=4000, replicas=2, cutoff=1e-3, precision="double")
    return {key: found[key] for key in ("loss", "values")}


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(SEED=SEED, KEPT=KEPT) | digits_all.TABLE.constants,
    witnesses={"sixty digits": tiny},
    rows={},
)


def main() -> None:
    """Solves and writes the table."""
    (row,) = sweeps.run(case, [{}], store=TABLE.store)
    TABLE.write(marks=MARKS, **row)


if __name__ == "__main__":
    main()

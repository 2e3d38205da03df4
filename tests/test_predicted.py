"""Handwritten digits of ten classes: the prediction from initial conditions against networks, on stored tables."""

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import sweeps
from spectral_dynamics.dynamics import mlp
from spectral_experiments import predicted
from spectral_experiments.digits_widths import MARKS, NAMES

LOSSES, VALUES, COSINES = 0.01, 0.01, 0.02  # allowed: relative, relative, absolute
KNOWN = {
    "squared": 0.003,
    "cross_entropy": 0.006,
}  # standard errors of networks' losses; of the latter there are fewer
CASES = [(name, step) for name in NAMES for step in MARKS]


@pytest.fixture(scope="module")
def tables():
    return spectral_experiments.table("predicted"), spectral_experiments.table("digits_widths")


def test_nothing_but_the_problem_is_given():
    """Sites, replicas and cut-off are the solver's own, and with the squared loss its precision too."""
    told = spectral_experiments.table("predicted")
    assert np.all(told["sites"] == mlp.EACH * mlp.MANY) and set(predicted.OPTIONS) == {"cross_entropy"}


@pytest.mark.parametrize("name", NAMES)
def test_losses_at_every_mark(name, tables):
    told, table = tables
    found = predicted.limit(table, name, table["loss"][:, MARKS])
    own = told["loss"][NAMES.index(name), list(MARKS)]
    error = found.standard_error / found.limit
    assert error.max() < KNOWN[name]
    assert np.all(np.abs(own / found.limit - 1) < LOSSES)
    assert np.abs(told["loss"][NAMES.index(name), 0] / found.limit - 1).min() > 10 * LOSSES


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_within_one_image(name, tables):
    told, table = tables
    widest = (table["setting"] == NAMES.index(name)) & (table["size"] == 4000)
    seen = 300 * table["accuracy"][widest][:, MARKS].mean(axis=0)
    assert np.abs(told["correct"][NAMES.index(name), list(MARKS)] - seen).max() <= 1


@pytest.mark.parametrize(("name", "step"), CASES)
def test_every_outlier_is_there_and_no_other(name, step, tables):
    """Whatever either side has clearly outside has its counterpart; without memory the worst would be far off."""
    both = predicted.compared(*tables, name, step)
    gap, naive = both["predicted"] / both["limit"] - 1, both["independent"] / both["limit"] - 1
    assert gap.size > 0 or name != "squared"
    assert np.abs(gap).max(initial=0) < VALUES
    assert np.abs(naive).max(initial=1) > 3 * VALUES
    assert (both["limit_error"] / both["limit"]).max(initial=0) < (VALUES / 3 if name == "squared" else VALUES / 2)


def test_lines_in_the_width_are_straight(tables):
    found = [predicted.compared(*tables, name, step)["chi_square"] for name, step in CASES]
    assert np.mean(np.concatenate(found)) < 3  # two degrees of freedom


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("name", "step"), CASES)
def test_projections_of_class_means(name, step, side, tables):
    own, seen, error = predicted.projections(*tables, name, step, side)
    sure = error < COSINES / 3
    assert np.abs(own - seen)[sure].max(initial=0) < COSINES
    assert np.sqrt(np.mean(((own - seen) / error) ** 2)) < 1.5  # of all, also where networks do not know it so well
    if len(own) > 1:
        other = np.roll(own, 1, axis=0) - seen
        assert np.sqrt(np.mean((other / error) ** 2)) > 5


def test_a_coarser_cut_off_changes_little(tables):
    """0.4 per cent, as the solver takes it, against 1, on the same random numbers."""
    told = tables[0]
    (loss, finer), (values, fine) = told["cut_loss"], told["cut_values"][:, :10]
    assert told["cut_neglected"][1, 1] < 0.6 * told["cut_neglected"][0, 1]
    assert np.abs(values / fine - 1).max() < VALUES and abs(loss / finer - 1) < LOSSES


@pytest.mark.parametrize("epoch", [0, 1])
def test_all_digits_in_batches(epoch):
    """1797 images: losses within one per cent, outliers within one and a half, the accuracy within two images."""
    told, table = (spectral_experiments.table(name) for name in ("predicted_all", "digits_all"))
    step, large = table["marks"][epoch], table["size"] >= 500
    loss, values = (sweeps.extrapolate(table["size"][large], table[key][large]) for key in ("loss", "values"))
    measured, own = values.limit[epoch], told["values"][epoch]
    out = np.maximum(measured, own) > predicted.LINE
    assert out.sum() == (7, 9)[epoch] and np.abs(own / measured - 1)[out].max() < 0.015
    assert (values.standard_error[epoch] / measured)[out].max() < 0.0075
    naive = np.maximum(told["independent"][epoch], 2)
    assert np.abs(naive / measured - 1)[out].min() > 0.03  # without memory each is off
    assert abs(told["loss"][step] / loss.limit[step] - 1) < 0.01
    widest = 1797 * table["accuracy"][table["size"] == 4000, step].mean()
    assert abs(told["correct"][step] - widest) <= 2

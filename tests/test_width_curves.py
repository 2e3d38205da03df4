"""Deep linear networks over widths, in both parametrizations, on their table: where theory puts them."""

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import networks, sweeps
from spectral_dynamics.dynamics import deep_linear
from spectral_dynamics.spectra import outliers
from spectral_experiments import width_curves

CLEAR = 1.03  # above the edge by this factor, a line in 1/size is the right one
KINDS = [(kind, fresh) for kind in width_curves.KINDS for fresh in (False, True)]


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("width_curves")


def rows(table, kind, fresh, width_ratio):
    number = 0 if width_ratio == 1 else width_curves.KINDS.index(kind)
    chosen = (table["parametrization"] == number) & (table["fresh"] == fresh)
    return chosen & (table["width_ratio"] == width_ratio)


def predicted(kind, fresh, width_ratio, independent=False):
    """The top singular values of both matrices after all steps, with their edges, and the test losses."""
    theory, tops = deep_linear.solve(width_curves.problem(kind, fresh, width_ratio), 60), []
    for layer in (0, 1):
        order = theory.order(layer, 60)
        found = outliers.outliers(order.independent() if independent else order)
        tops.append((found.singular_values.max(initial=found.bulk_edge), found.bulk_edge))
    return *np.transpose(tops), theory.test_loss[:: width_curves.EVERY]


@pytest.mark.parametrize("name", ["mup, fixed, 0.25", "ntk, fresh, 2", "ntk, fixed, 16"])
def test_a_small_case_runs_to_its_stored_row(name):
    assert not width_curves.TABLE.changed_rows(name)


@pytest.mark.parametrize("shape", [(30, 90), (70, 70), (60, 70)])
def test_the_largest_singular_value_is_found_in_long_and_in_square_matrices(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    for one in (matrix, matrix.T):
        assert width_curves.largest(one, np.ones(min(shape))) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-6)


@pytest.mark.parametrize(("kind", "fresh"), KINDS)
def test_outliers_are_where_the_theory_has_them_at_every_width(table, kind, fresh):
    other = dict(zip(width_curves.KINDS, reversed(width_curves.KINDS), strict=True))[kind]
    for width_ratio in width_curves.COUNT:
        chosen = rows(table, kind, fresh, width_ratio)
        tops, controls = table["tops"][chosen, :, -1].astype(float), table["controls"][chosen]
        fit = sweeps.extrapolate(table["size"][chosen], tops, controls=controls)
        expected, edges, _ = predicted(kind, fresh, width_ratio)
        clear = expected > CLEAR * edges
        assert clear[0]
        gap = np.abs(fit.limit - expected)[clear]
        assert np.all(gap < 4 * fit.standard_error[clear]) and np.all(gap < 0.015 * expected[clear])
        rival = predicted(other, fresh, width_ratio)[0]
        if width_ratio == 1:
            rival = predicted(kind, fresh, width_ratio, independent=True)[0]
        assert np.all(8 * fit.standard_error[clear] < np.abs(rival - expected)[clear])


@pytest.mark.parametrize(("kind", "fresh"), KINDS)
def test_losses_tell_a_training_set_from_fresh_batches(table, kind, fresh):
    for width_ratio in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
        chosen = rows(table, kind, fresh, width_ratio)
        loss, controls = np.log(table["loss"][chosen, -1]), table["controls"][chosen]
        fit = sweeps.extrapolate(table["size"][chosen], loss, controls=controls)
        ours, other = (np.log(predicted(kind, one, width_ratio)[2][-1]) for one in (fresh, not fresh))
        assert abs(fit.limit - ours) < 4 * fit.standard_error < 0.5 * abs(other - ours)


def test_the_outlier_of_the_square_matrix_is_gone_between_two_widths(table):
    """Height of the mean top value above the edge: that of pure noise is -0.8, of a spike at its threshold -0.1."""
    heights = {}
    for width_ratio in (24, 32, 48, 64):
        chosen = rows(table, "ntk", False, width_ratio)
        widths = width_ratio * table["size"][chosen]
        height = (table["tops"][chosen, 1, -1] / width_curves.STD - 2) * widths ** (2 / 3)
        heights[width_ratio] = height.mean(), height.std() / np.sqrt(len(height))
    for width_ratio, (height, error) in heights.items():
        assert (height > -0.1 + 4 * error) == (width_ratio < 38), heights
        assert (height < -0.1 - 2 * error) == (width_ratio > 38), heights


def test_both_parametrizations_are_one_network_where_width_and_inputs_are_equal():
    options = {"size": 20, "steps": 6, "record": (0, 6)}
    pair = [
        networks.train(width_curves.problem(kind, True, 1.0), rng=np.random.default_rng(2), **options).weights(1, 6)
        for kind in width_curves.KINDS
    ]
    np.testing.assert_allclose(*pair, rtol=0, atol=1e-13)

"""What the chapter on outlier escape in muP promises of width, on its stored table of networks and on the theory."""

from dataclasses import replace

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import networks, sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.spectra import outliers
from spectral_experiments import widths


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("widths")


def places(problem, steps, sites):
    """The theory's top singular value after each of `steps`, the edge where nothing has left."""
    theory = mlp.solve(problem, int(max(steps)), sites=sites, rng=np.random.default_rng(0))
    found = [outliers.outliers(theory.order(widths.LAYER, int(step))) for step in steps]
    return np.array([one.singular_values.max(initial=one.bulk_edge) for one in found])


@pytest.fixture(scope="module")
def limit(table):
    return places(widths.problem(), table["steps"], 12_000)


def rows(table, parametrization, key):
    chosen = table["parametrization"] == ("mup", "ntk").index(parametrization)
    return table["size"][chosen], table[key][chosen].astype(float)


@pytest.mark.parametrize("name", list(widths.TABLE.rows))
def test_a_small_case_runs_to_its_stored_row(name):
    """Two dozen steps at a stable rate: all that is stored."""
    assert not widths.TABLE.changed_rows(name)


def test_the_sparse_solver_gives_the_largest_singular_value_at_every_step(table):
    run = networks.train(
        widths.problem(), size=120, steps=12, rng=np.random.default_rng(0), record=(4, 12), subtract_initial=True
    )
    start = np.random.default_rng(1).standard_normal(120)
    for step in run.recorded:
        direct = run.singular_values(widths.LAYER, step)[0]
        assert widths.top(run.weights(widths.LAYER, step), start) == pytest.approx(direct, rel=1e-6)


def test_what_is_called_a_control_is_zero_on_average(table):
    sizes, controls = rows(table, "mup", "controls")
    for size in np.unique(sizes):
        part = controls[sizes == size]
        assert np.all(np.abs(part.mean(axis=0)) < 4.5 * part.std(axis=0) / np.sqrt(len(part)))


def test_networks_in_mup_converge_to_the_theory(table, limit):
    sizes, tops = rows(table, "mup", "tops")
    fit = sweeps.extrapolate(sizes, tops[:, 1:])
    assert np.all(fit.standard_error < 0.0025 * fit.limit)
    np.testing.assert_allclose(fit.limit, limit[1:], rtol=0.005)


def test_what_is_missing_at_finite_width_falls_as_one_over_width(table):
    sizes, tops = rows(table, "mup", "tops")
    rising = tops[:, 2:5].mean(axis=1)
    squares = {power: sweeps.extrapolate(sizes, rising, power=power).chi_square for power in (0.5, 1.0, 2.0)}
    assert squares[1.0] < 8 and min(squares[0.5], squares[2.0]) > squares[1.0] + 2
    fit = sweeps.extrapolate(sizes, rising)
    missing = 1 - rising[sizes == 60].mean() / fit.limit
    assert 0.005 < missing < 0.015


def test_losses_converge_as_well(table):
    sizes, loss = rows(table, "mup", "loss")
    theory = mlp.solve(widths.problem(), 8, sites=20_000, rng=np.random.default_rng(0))
    early = slice(1, 9)  # half of it is gone; later the theory's own error is near a per cent
    fit = sweeps.extrapolate(sizes[sizes > 60], loss[sizes > 60, early])
    np.testing.assert_allclose(fit.limit, theory.train_loss[early], rtol=0.01)


def test_outliers_sink_into_the_bulk_in_the_ntk_parametrization(table):
    sizes, tops = rows(table, "ntk", "tops")
    edge = 2 * widths.STD
    ends = [tops[sizes == size, -1].mean() / edge for size in np.unique(sizes)]
    assert np.all(np.diff(ends) < -0.08)
    assert ends[0] > 1.4 and ends[-1] < 1.03


def test_a_wide_network_in_the_ntk_parametrization_is_one_in_mup_with_a_small_output_scale(table):
    sizes, tops = rows(table, "ntk", "tops")
    for size in (500, 1000):
        diluted = replace(widths.problem(), output_scale=widths.SCALE * np.sqrt(widths.SAME / size))
        expected, mean = places(diluted, table["steps"], 3000), tops[sizes == size].mean(axis=0)
        out = expected > 1.03 * 2 * widths.STD
        assert out.sum() >= 3
        np.testing.assert_allclose(mean[out], expected[out], rtol=0.012)


def test_both_parametrizations_are_one_network_at_the_common_width():
    options = {"size": widths.SAME, "steps": 6, "subtract_initial": True}
    pair = [
        networks.train(widths.problem(name), rng=np.random.default_rng(2), **options).weights(2, 6)
        for name in ("mup", "ntk")
    ]
    np.testing.assert_allclose(*pair, rtol=0, atol=1e-13)

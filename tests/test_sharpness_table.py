"""The leading mode and its bulk against networks of fifteen kinds, extrapolated in size, on a stored table."""

import json

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import problems, sweeps
from spectral_dynamics.dynamics.deep_linear import solve
from spectral_dynamics.spectra import sharpness
from spectral_experiments import sharpness as experiment

MODE, BULK = 0.015, 0.01  # allowed: relative difference of modes, Kolmogorov-Smirnov distance of bulks


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("sharpness")


def test_the_settings_are_those_of_the_script(table):
    assert list(table["names"]) == experiment.NAMES
    assert [json.loads(text) for text in table["parameters"]] == list(experiment.PARAMETERS.values())


def test_the_settings_span_what_is_promised():
    rows = [problems.DeepLinear(**parameters) for parameters in experiment.PARAMETERS.values()]
    assert len(rows) >= 10 and {row.depth for row in rows} == {1, 2, 3, 4}
    assert {0.5, 1.0, 2.0, 4.0} <= {row.width_ratio for row in rows}
    assert {1.0, 2.0, 4.0, 8.0, None} <= {row.data_ratio for row in rows}
    assert any(row.batch_ratio for row in rows) and {row.parametrization for row in rows} == {"mup", "ntk"}


def test_the_settings_lie_before_at_and_beyond_the_edge():
    highest = {}
    for name, parameters in experiment.PARAMETERS.items():
        problem, steps = problems.DeepLinear(**parameters), experiment.ROWS[name][3]
        modes = sharpness.trajectory(solve(problem, max(steps)), steps)
        highest[name] = problem.learning_rate * modes.value.max() / (2 * (1 + problem.momentum))
    values = np.array(list(highest.values()))
    assert np.sum(values < 0.6) >= 3 and np.sum((values > 0.8) & (values < 1)) >= 3 and np.sum(values > 1.05) >= 3


@pytest.mark.parametrize("name", experiment.NAMES)
def test_networks_extrapolate_to_the_mode(name, table):
    rows = table["setting"] == experiment.NAMES.index(name)
    found = sweeps.extrapolate(table["size"][rows], table["values"][rows], controls=table["controls"][rows])
    steps = experiment.ROWS[name][3]
    theory = solve(problems.DeepLinear(**experiment.PARAMETERS[name]), max(steps))
    modes = [sharpness.trajectory(theory, steps, population) for population in (False, True)]
    assert all(np.all(mode.is_outlier & (mode.value > 1.08 * mode.bulk_edge)) for mode in modes)
    expected = np.transpose([mode.value for mode in modes])
    assert np.all(found.standard_error < MODE / 2 * expected)
    assert found.limit == pytest.approx(expected, rel=MODE)


@pytest.mark.parametrize("name", list(experiment.BULKS))
def test_the_bulk_is_that_of_networks(name, table):
    """Their quantiles, extrapolated to infinite size, are those of the theory: nothing is fitted to it."""
    parameters, step, population = experiment.BULKS[name]
    law = sharpness.bulk(solve(problems.DeepLinear(**parameters), step), step, population)
    rows = table["bulk"] == list(experiment.BULKS).index(name)
    found = sweeps.extrapolate(
        table["bulk_size"][rows], table["bulk_quantiles"][rows], controls=table["bulk_controls"][rows]
    )
    assert distance(found.limit, law, law.operator.rates[0] if population else 0.0) < BULK


def distance(quantiles, law, shift):
    """Kolmogorov-Smirnov distance from quantiles at equal levels; equal quantiles are an atom."""
    levels = np.linspace(0, 1, len(quantiles))
    x = np.maximum.accumulate(np.where(np.abs(quantiles) < 1e-6, 0, quantiles))
    below, above = (levels[np.searchsorted(x, x, side) - (side == "right")] for side in ("left", "right"))
    return max(np.abs(law.cdf(x + shift) - above).max(), np.abs(law.cdf(x + shift - 1e-9) - below)[x > 0].max())


@pytest.mark.parametrize("name", ["population", "bulk of few samples"])
def test_a_small_case_gives_what_is_stored(name):
    """Below the edge of stability, where training forgets rounding."""
    assert not experiment.TABLE.changed_rows(name)

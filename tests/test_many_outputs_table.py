"""The law of a bulk that moves against networks of up to 2000 neurons, on the stored table."""

import numpy as np
import pytest
import spectral_experiments
from scipy import stats
from spectral_dynamics import problems, sweeps
from spectral_dynamics.spectra import many_outputs
from spectral_experiments import many_outputs as experiment


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("many_outputs")


@pytest.fixture(scope="module", params=experiment.NAMES)
def setting(request):
    """Number of a setting, and its law at each time."""
    problem = problems.FrozenReadout(*experiment.SETTINGS[request.param])
    laws = [many_outputs.bulk(problem, time) for time in experiment.TIMES]
    return experiment.NAMES.index(request.param), laws


def tops(table, number, joint=False):
    rows = (table["setting"] == number) & (table["joint"] == joint)
    return table["size"][rows], table["top"][rows].astype(float)


def test_a_small_network_runs_to_its_stored_row():
    """Gradient flow of a linear network with a frozen readout: it contracts, and rounding with it."""
    assert not experiment.TABLE.changed_rows("twice")


def test_output_ratios_below_at_and_above_one(table):
    ratios = table["parameters"][:, 0]
    assert ratios.min() < 1 < ratios.max() and 1.0 in ratios
    assert [tuple(row) for row in table["parameters"]] == list(experiment.SETTINGS.values())


def test_spectra_at_every_time(table, setting):
    number, laws = setting
    for values, law in zip(table["spectra"][number, 0], laws, strict=True):
        assert values.shape == (2000,)
        assert many_outputs.distance(values, law) < 0.01


def test_edges_of_infinite_width(table, setting):
    number, laws = setting
    sizes, top = tops(table, number)
    assert min(np.unique(sizes, return_counts=True)[1]) >= 8
    limits = sweeps.extrapolate(sizes, top, power=2 / 3)
    edges = np.array([law.edges[-1, 1] for law in laws])
    assert np.all(limits.standard_error < 0.0025 * edges)
    assert limits.limit == pytest.approx(edges, rel=0.005)


def test_edges_are_reached_from_below_with_the_power_two_thirds(table):
    """Means over networks: the part of the edge that is missing, log-log slopes, weighed by their errors."""
    slopes, errors = [], []
    for number, name in enumerate(experiment.NAMES):
        problem = problems.FrozenReadout(*experiment.SETTINGS[name])
        edges = np.array([many_outputs.bulk(problem, time).edges[-1, 1] for time in experiment.TIMES])
        sizes, top = tops(table, number)
        widths = np.unique(sizes)
        missing = edges - np.array([top[sizes == width].mean(axis=0) for width in widths])
        error = np.array([stats.sem(top[sizes == width], axis=0) for width in widths])
        assert np.all(missing > 0)
        for part, its_error in zip(missing.T, error.T, strict=True):
            fit, covariance = np.polyfit(np.log(widths), np.log(part), 1, w=part / its_error, cov="unscaled")
            slopes.append(fit[0])
            errors.append(np.sqrt(covariance[0, 0]))
    weights = 1 / np.square(errors)
    assert 1 / np.sqrt(weights.sum()) < 0.025
    assert np.average(slopes, weights=weights) == pytest.approx(-2 / 3, abs=0.07)


def steepness(law):
    """a of the density (a/pi) sqrt(edge - z) at the upper edge, read off just below it."""
    edge = law.edges[-1, 1]
    return float(law.density(edge * (1 - 1e-6))) * np.pi / np.sqrt(1e-6 * edge)


def test_the_missing_part_has_the_size_of_tracy_and_widom(table):
    """<z_1> = edge - 1.2065 (N a)^(-2/3): the ratio to it, over all settings and times, on a line in N^(-1/3)."""
    ratios, weights = [], []
    for number, name in enumerate(experiment.NAMES):
        problem = problems.FrozenReadout(*experiment.SETTINGS[name])
        laws = [many_outputs.bulk(problem, time) for time in experiment.TIMES]
        sizes, top = tops(table, number)
        widths = np.unique(sizes)
        for law, values in zip(laws, top.T, strict=True):
            unit = 1.2065 * (widths * steepness(law)) ** (-2 / 3)
            groups = [values[sizes == width] for width in widths]
            ratios.append((law.edges[-1, 1] - np.array([group.mean() for group in groups])) / unit)
            weights.append((unit / np.array([stats.sem(group) for group in groups])) ** 2)
    means, errors = np.average(ratios, axis=0, weights=weights), 1 / np.sqrt(np.sum(weights, axis=0))
    line, covariance = np.polyfit(widths ** (-1 / 3), means, 1, w=1 / errors, cov="unscaled")
    assert np.sqrt(covariance[1, 1]) < 0.1
    assert line[1] == pytest.approx(1, abs=0.15)
    assert np.all(np.abs(means - 1) < 0.2)


def test_the_frozen_law_describes_joint_training_only_early(table, setting):
    number, laws = setting
    found = [
        many_outputs.distance(values, law) for values, law in zip(table["spectra"][number, 1], laws, strict=True)
    ]
    assert found[0] < 0.05 and found[0] < found[1] < found[2] < found[3]
    assert found[3] > 0.05

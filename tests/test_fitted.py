"""The bulk of any matrix, fitted without its start: on matrices whose variance is known."""

import numpy as np
import pytest
from scipy import linalg
from spectral_dynamics.spectra import fitted, outliers

SHAPES = [(300, 300), (150, 400), (400, 150), (80, 800)]


def values_of(shape, variance, spikes, rng):
    matrix = rng.standard_normal(shape) * np.sqrt(variance / shape[1])
    matrix[np.arange(len(spikes)), np.arange(len(spikes))] += spikes
    return linalg.svdvals(matrix)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [0, 3, 20])
def test_the_variance_is_found_with_and_without_outliers(shape, count):
    """Within four standard errors of 24 matrices, and better than the mean square or the median of all values."""
    rng, spikes = np.random.default_rng(1), np.linspace(3.0, 8.0, count)
    values = [values_of(shape, 0.49, spikes, rng) for _ in range(24)]
    fits = [fitted.bulk(one, shape) for one in values]
    found = np.array([fit.variance for fit in fits])
    allowed = 4 * found.std(ddof=1) / np.sqrt(24) + 0.02 * 0.49 * count / min(shape)  # k/p: the block is not exact
    assert abs(found.mean() - 0.49) < allowed
    assert [len(fit.beyond) for fit in fits].count(count) >= 22
    if count:
        rival = np.mean([np.sum(one**2) / shape[0] for one in values])
        assert abs(rival - 0.49) > 4 * allowed
    assert np.mean([fit.distance for fit in fits]) < 3.5 / min(shape)
    for fit, one in zip(fits, values, strict=True):
        np.testing.assert_array_equal(fit.beyond, one[: len(fit.beyond)])
        assert fit.stable_rank == pytest.approx(np.sum(one**2) / one[0] ** 2)


def test_the_untouched_block_is_what_twenty_outliers_leave():
    """Without it the bulk of a matrix (150, 400) with 20 outliers is found too narrow by more than it scatters."""
    rng, shape, spikes = np.random.default_rng(2), (150, 400), np.linspace(3, 8, 20)
    values = [values_of(shape, 0.49, spikes, rng) for _ in range(24)]
    right = np.array([fitted.bulk(one, shape).variance for one in values])
    wrong = np.array([fitted.bulk(one[20:], (130, 400)).variance for one in values])  # 20 rows gone, no column
    assert abs(right.mean() - 0.49) < abs(wrong.mean() - 0.49) / 3


def test_errors_are_the_scatter_of_such_matrices():
    rng, shape, spikes = np.random.default_rng(3), (150, 400), [3.0, 4.0]
    fits = [fitted.bulk(values_of(shape, 0.49, spikes, rng), shape) for _ in range(60)]
    told = fitted.bulk(values_of(shape, 0.49, spikes, rng), shape, resamples=60, rng=rng)
    for name in ("variance", "edge", "distance", "stable_rank"):
        scatter = np.std([getattr(fit, name) for fit in fits], ddof=1)
        assert told.errors[name] == pytest.approx(scatter, rel=0.35), name  # each is known to 1/sqrt(118)
    assert told.expected["distance"] == pytest.approx(np.mean([fit.distance for fit in fits]), rel=0.1)
    assert told.expected["count"] == pytest.approx(2, abs=0.1)


def test_one_random_matrix_in_a_hundred_has_a_value_beyond_the_edge():
    rng, shape = np.random.default_rng(4), (60, 90)
    counts = np.array([len(fitted.bulk(values_of(shape, 1.0, [], rng), shape).beyond) for _ in range(600)])
    assert 0 < np.mean(counts > 0) < 0.035
    bare = np.array([len(fitted.bulk(values_of(shape, 1.0, [], rng), shape, margin=0).beyond) for _ in range(300)])
    assert 0.1 < np.mean(bare > 0) < 0.3  # the Tracy-Widom law is above 0 with probability 0.17


def test_the_edge_and_its_unit_are_those_of_the_law_and_of_tracy_and_widom():
    rng, shape = np.random.default_rng(5), (200, 300)
    fit = fitted.bulk(values_of(shape, 0.64, [], rng), shape)
    assert fit.edge == pytest.approx(outliers.bulk_edge(fit.variance, 200 / 300))
    top = np.array([values_of((60, 90), 1.0, [], rng)[0] for _ in range(400)])
    edge, unit = fitted.bulk(values_of((60, 90), 1.0, [], rng), (60, 90)), None
    unit = edge.unit / np.sqrt(edge.variance)
    assert np.std(top, ddof=1) / unit == pytest.approx(1.268, rel=0.15)  # of the Tracy-Widom law


def test_the_fit_has_no_scale_and_does_not_see_a_transposition():
    values = values_of((100, 250), 1.0, [4.0], np.random.default_rng(6))
    fit, large = fitted.bulk(values, (100, 250)), fitted.bulk(1e6 * values, (100, 250))
    turned = fitted.bulk(values, (250, 100))
    assert large.variance == pytest.approx(1e12 * fit.variance)
    assert large.distance == pytest.approx(fit.distance)
    assert turned.variance == pytest.approx(fit.variance * 100 / 250)
    assert (turned.edge, turned.unit, turned.distance) == pytest.approx((fit.edge, fit.unit, fit.distance))


def test_strengths_are_where_free_addition_came_from():
    rng, shape = np.random.default_rng(7), (300, 600)
    fit = fitted.bulk(values_of(shape, 0.49, [3.0, 5.0], rng), shape)
    assert fitted.strengths(fit, shape) == pytest.approx([5, 3], rel=0.03)
    assert outliers.location(fitted.strengths(fit, shape), fit.variance, 0.5) == pytest.approx(fit.beyond)


def test_a_spectrum_with_another_shape_is_far_from_its_fit():
    rng, shape = np.random.default_rng(8), (200, 200)
    heavy = linalg.svdvals(rng.standard_t(1.5, shape))
    fit = fitted.bulk(heavy, shape, resamples=10, rng=rng)
    assert fit.distance > fit.expected["distance"] + 10 * fit.errors["distance"]


@pytest.mark.parametrize(
    ("values", "shape", "options", "message"),
    [
        (np.ones(10), (10, 20, 3), {}, "shape must be a pair"),
        (np.ones(4), (4, 20), {}, "shape must be at least 8"),
        (np.ones(9), (10, 20), {}, r"values must have shape \(10\), got \(9,\)"),
        (-np.ones(10), (10, 20), {}, "values must be at least 0"),
        (np.zeros(10), (10, 20), {}, "values must be at least 0"),
        (np.arange(10.0), (10, 20), {"margin": -1.0}, "margin must be at least 0"),
        (np.linspace(1, 2, 10), (10, 20), {"resamples": 1}, "resamples must be 0 or at least 2"),
        (np.linspace(1, 2, 10), (10, 20), {"resamples": 5}, "rng must be a numpy"),
        (10.0 ** np.arange(40), (40, 50), {}, "values have no bulk"),
    ],
)
def test_what_is_no_spectrum_is_refused(values, shape, options, message):
    with pytest.raises(ValueError, match=message):
        fitted.bulk(values, shape, **options)

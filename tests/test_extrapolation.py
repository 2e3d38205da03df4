"""To infinite size: the line, its errors, which are those of repeated experiments, and its chi square."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from spectral_dynamics import sweeps

# The line


def noisy(rng, runs_at, limit, slope, scatter, power=1.0):
    sizes = np.concatenate([[size] * count for size, count in runs_at])
    noise = rng.standard_normal((len(sizes), len(limit))) * scatter / np.sqrt(sizes)[:, None]
    return sizes, limit + slope * sizes[:, None] ** -power + noise


@settings(deadline=None, max_examples=50)
@given(st.floats(-5, 5), st.floats(-100, 100), st.floats(0.3, 2.0))
def test_a_line_without_scatter_is_found_exactly(limit, slope, power):
    sizes = np.repeat([100, 200, 400], 2)
    fit = sweeps.extrapolate(sizes, limit + slope * sizes**-power, power=power)
    assert fit.limit == pytest.approx(limit, abs=1e-9) and fit.slope == pytest.approx(slope, abs=1e-6)
    assert fit.standard_error < 1e-9


def test_the_fit_is_that_of_numpy():
    sizes, values = noisy(np.random.default_rng(0), [(100, 9), (200, 5), (400, 7)], np.array([1.0]), 30.0, 2.0)
    groups = [values[sizes == size, 0] for size in (100, 200, 400)]
    errors = [np.std(group, ddof=1) / np.sqrt(len(group)) for group in groups]
    x, means = 1 / np.array([100, 200, 400]), [group.mean() for group in groups]
    (slope, limit), covariance = np.polyfit(x, means, 1, w=1 / np.array(errors), cov="unscaled")
    fit = sweeps.extrapolate(sizes, values, scatter="own")
    assert fit.limit[0] == pytest.approx(limit, rel=1e-10) and fit.slope[0] == pytest.approx(slope, rel=1e-10)
    assert fit.standard_error[0] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-10)
    residual = (means - limit - slope * x) / errors
    assert fit.chi_square[0] == pytest.approx(residual @ residual, rel=1e-10)


@pytest.mark.parametrize(
    ("fitted", "runs", "seed"), [(sweeps.extrapolate, (40, 30, 20), 1), (sweeps.pooled, (40, 10, 2), 6)]
)
def test_the_standard_error_is_what_repeated_experiments_scatter_by(fitted, runs, seed):
    rng, truth, many = (
        np.random.default_rng(seed),
        np.array([1.0, -2.0]),
        list(zip((100, 200, 400), runs, strict=True)),
    )
    fits = [fitted(*noisy(rng, many, truth, 5.0, 3.0)) for _ in range(400)]
    distance = np.array([(fit.limit - truth) / fit.standard_error for fit in fits])
    assert np.abs(distance.mean(axis=0)).max() < 0.15 and np.abs(distance.std(axis=0) - 1).max() < 0.12
    assert np.mean([fit.chi_square for fit in fits]) == pytest.approx(1.0, abs=0.2)


def test_controls_remove_the_scatter_that_they_explain_and_nothing_else():
    rng, fits = np.random.default_rng(3), []
    for _ in range(300):
        sizes, values = noisy(rng, [(100, 40), (200, 40)], np.array([1.0]), 5.0, 1.0)
        controls = rng.standard_normal((80, 2)) / np.sqrt(sizes)[:, None]
        values = values + controls @ np.array([[5.0], [-3.0]])
        padded = np.column_stack(
            [controls, np.zeros(80), controls[:, 0]]
        )  # one that is nothing, one that is there twice
        pair = [sweeps.extrapolate(sizes, values), sweeps.extrapolate(sizes, values, controls=padded)]
        fits.append([(fit.limit[0], fit.standard_error[0]) for fit in pair])
    limits, errors = np.moveaxis(np.array(fits), 2, 0)
    assert np.median(errors[:, 1] / errors[:, 0]) < 0.2
    distance = (limits[:, 1] - 1) / errors[:, 1]
    assert abs(distance.mean()) < 0.2 and abs(distance.std() - 1) < 0.15


def test_controls_need_enough_runs():
    with pytest.raises(ValueError, match="each size at least 11 times"):
        sweeps.extrapolate([1, 1, 2, 2], np.ones(4), controls=np.ones((4, 1)))


def test_shapes_of_a_run_are_kept():
    values = np.random.default_rng(2).random((6, 3, 2))
    fit = sweeps.extrapolate([100, 100, 200, 200, 400, 400], values)
    assert fit.limit.shape == fit.slope.shape == fit.standard_error.shape == fit.chi_square.shape == (3, 2)


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        ([100, 100], np.ones(2), "two or more sizes"),
        ([100, 200], np.ones(2), "values must hold three or more runs, got 2"),
        ([100, 200], np.ones(3), "values must have one row for each of the 2 sizes"),
        ([-1, -1, 2, 2], np.ones(4), "sizes must be positive"),
        ([1, 1, 2, 2], np.array([1, 2, np.nan, 3]), "values holds 1 non-finite"),
    ],
)
def test_bad_sizes_and_values_are_refused_by_name(sizes, values, message):
    with pytest.raises(ValueError, match=message):
        sweeps.extrapolate(sizes, values)


@pytest.mark.parametrize("power", [1.0, 2 / 3])
def test_a_line_through_ready_means_is_that_of_numpy(power):
    rng, sizes = np.random.default_rng(4), np.array([50, 100, 200, 400])
    means, errors = rng.standard_normal((4, 3)), rng.uniform(0.1, 1, (4, 3))
    fit = sweeps.line(sizes, means, errors, power)
    for j in range(3):
        line, covariance = np.polyfit(sizes**-power, means[:, j], 1, w=1 / errors[:, j], cov="unscaled")
        misfit = np.sum(((means[:, j] - np.polyval(line, sizes**-power)) / errors[:, j]) ** 2)
        assert [fit.slope[j], fit.limit[j]] == pytest.approx(line, rel=1e-10)
        assert fit.standard_error[j] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-10)
        assert fit.chi_square[j] == pytest.approx(misfit, rel=1e-10)


def test_runs_pooled_over_sizes_are_fitted_as_by_numpy():
    sizes, values = noisy(np.random.default_rng(5), [(100, 9), (200, 5), (400, 1)], np.array([1.0, 2.0]), 30.0, 2.0)
    fit = sweeps.pooled(sizes, values)
    for j in range(2):
        line, covariance = np.polyfit(1 / sizes, values[:, j], 1, w=np.sqrt(sizes), cov=True)
        assert [fit.slope[j], fit.limit[j]] == pytest.approx(line, rel=1e-10)
        assert fit.standard_error[j] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-10)


def test_pooled_runs_without_scatter_have_no_error():
    fit = sweeps.pooled([100, 100, 200], np.full((3, 2), 5.0))
    assert np.all(fit.limit == 5) and not np.any([fit.slope, fit.standard_error, fit.chi_square])


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (sweeps.line, ([100, 100], np.ones(2), np.ones(2)), "sizes must name two or more sizes, got 100 alone"),
        (sweeps.line, ([0, 100], np.ones(2), np.ones(2)), "sizes must be positive"),
        (sweeps.line, ([100, 200], np.ones(3), np.ones(3)), "means must have one row for each of the 2 sizes"),
        (sweeps.line, ([100, 200], np.ones(2), np.ones(3)), "errors must have shape"),
        (sweeps.line, ([100, 200], np.ones(2), [1.0, 0.0]), "errors must be positive, got 0"),
        (sweeps.line, ([100, 200], np.ones(2), np.ones(2), -1), "power must be greater than 0"),
        (sweeps.pooled, ([100, 200], np.ones(2)), "values must hold three or more runs, got 2"),
        (sweeps.pooled, ([100, 100, 100], np.ones(3)), "name two or more"),
    ],
)
def test_bad_lines_are_refused_by_name(function, given, message):
    with pytest.raises(ValueError, match=message):
        function(*given)


# Scatter: of each size, or pooled

BOTH = np.array([100, 100, 200, 200])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scatter": "pooled"}, "scatter must be one of 'own', got 'pooled'"),
        ({"scatter": -1}, "scatter must be at least 0"),
        ({"scatter": True}, "scatter must be a finite real number"),
        ({"scatter": [1.0]}, "scatter must be a finite real number"),
        ({"counts": [1, 2]}, r"counts must have shape \(4\)"),
        ({"counts": [1, 1, 1, 0]}, "counts must be positive, got 0"),
        ({"power": "1"}, "power must be a finite real number"),
    ],
)
def test_a_bad_law_of_scatter_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        sweeps.extrapolate(BOTH, np.ones(4), **given)


def test_a_single_run_has_no_scatter_of_its_own():
    with pytest.raises(ValueError, match=r"each size at least 2 times, got 100 \(2 x\), 200 \(1 x\)"):
        sweeps.extrapolate(BOTH[:3], np.ones(3), scatter="own")


def repeated(rng, runs_at, fall, **given):
    """Many experiments in one call: (limits - 1, standard errors, chi squares)."""
    sizes = np.concatenate([[size] * count for size, count in runs_at])
    noise = rng.standard_normal((len(sizes), 1600)) * sizes[:, None] ** (-fall / 2)
    fit = sweeps.extrapolate(sizes, 1 + 30 / sizes[:, None] + noise, **given)
    return fit.limit - 1, fit.standard_error, fit.chi_square


def calibration(off, error):
    """How much wider limits scatter than they say, in the mean of squares."""
    return np.sqrt(np.mean(off**2) / np.mean(error**2))


RUNS = [[(100, 2), (200, 2), (400, 2)], [(100, 3), (200, 3), (400, 3)], [(100, 4), (200, 4), (400, 3), (800, 2)]]


@pytest.mark.parametrize("runs_at", RUNS, ids=["two", "three", "two to four"])
@pytest.mark.parametrize("fall", [1.0, 4 / 3])
def test_few_runs_pooled_say_truly_how_far_off_they_are(runs_at, fall):
    """The spread of 1600 limits is known to 1/sqrt(3200) = 1.8 %, and 7 % is allowed; the rival is off by more."""
    found = repeated(np.random.default_rng(10), runs_at, fall, scatter=fall)
    rival = repeated(np.random.default_rng(10), runs_at, fall, scatter="own")
    assert calibration(*found[:2]) == pytest.approx(1, abs=0.07)
    assert calibration(*rival[:2]) > 1.14
    expected, off = len(runs_at) - 2, np.sqrt(2 * (len(runs_at) - 2) / 1600)
    assert np.mean(found[2]) == pytest.approx(expected, abs=4 * off)
    assert np.mean(rival[2]) > expected + 8 * off
    freedom = sum(count for _, count in runs_at) - 2
    beyond = [np.mean(np.abs(off / error) > stats.t.ppf(0.95, freedom)) for off, error, _ in (found, rival)]
    assert beyond[0] == pytest.approx(0.1, abs=0.03) and beyond[1] > 0.16  # one standard error is 0.0075


@pytest.mark.parametrize(("fall", "wrong"), [(1.0, 2.0), (4 / 3, 0.0)])
def test_the_wrong_law_of_scatter_is_seen(fall, wrong):
    runs_at = [(100, 4), (200, 4), (400, 4), (800, 4), (1600, 4)]
    given = [repeated(np.random.default_rng(11), runs_at, fall, scatter=law)[:2] for law in (fall, wrong)]
    right, other = (calibration(*one) for one in given)
    assert abs(right - 1) < 0.07 and abs(other - 1) > 0.14


def test_by_default_few_runs_are_pooled_and_many_are_not():
    rng = np.random.default_rng(12)
    for least, law in ((9, 1.0), (10, "own")):
        sizes = np.repeat([100, 200, 400], [20, 15, least])
        values = rng.standard_normal((len(sizes), 2)) / np.sqrt(sizes)[:, None]
        fit, named = sweeps.extrapolate(sizes, values), sweeps.extrapolate(sizes, values, scatter=law)
        assert np.array_equal(fit.standard_error, named.standard_error)
        assert np.array_equal(fit.limit, named.limit) and fit.dof == 1


@pytest.mark.parametrize(("power", "fall"), [(1.0, 1.0), (2.0, 1.0), (2 / 3, 4 / 3), (0.5, 1.0)])
def test_the_law_of_scatter_goes_with_that_of_the_mean(power, fall):
    sizes, values = np.repeat([100, 200, 400], 3), np.random.default_rng(13).standard_normal(9)
    fits = [sweeps.extrapolate(sizes, values, power, scatter=law) for law in (None, fall, fall + 0.1)]
    assert fits[0].standard_error == fits[1].standard_error != fits[2].standard_error


def test_a_size_with_a_single_run_counts():
    """Three sizes of one run each: least squares with weights, as by numpy."""
    sizes, values = np.array([100, 200, 400]), np.array([1.3, 1.1, 1.2])
    fit = sweeps.extrapolate(sizes, values, scatter=1)
    line, covariance = np.polyfit(1 / sizes, values, 1, w=np.sqrt(sizes), cov=True)
    assert [fit.slope, fit.limit] == pytest.approx(line)
    assert fit.standard_error == pytest.approx(covariance[1, 1] ** 0.5)
    assert fit.chi_square == pytest.approx(1)


def test_a_mean_over_networks_counts_as_many():
    """Rows that are means of several runs, and the runs themselves: one line, whatever is known of the scatter."""
    rng, sizes = np.random.default_rng(14), np.repeat([100, 200, 400], [40, 30, 30])
    values = 1 + 5 / sizes + rng.standard_normal(len(sizes)) / np.sqrt(sizes)
    parts = np.split(np.arange(100), [2, 5, 9, 14, 20, 40, 45, 50, 60, 70, 72, 77, 82, 90])
    counts, few = np.array([len(part) for part in parts]), np.array([sizes[part[0]] for part in parts])
    means = np.array([values[part].mean() for part in parts])
    for law in (1.0, "own"):
        whole, given = sweeps.extrapolate(sizes, values, scatter=1.0), {"scatter": law, "counts": counts}
        fit = sweeps.extrapolate(few, means, **given)
        if law == 1.0:
            assert [fit.limit, fit.slope] == pytest.approx([whole.limit, whole.slope], rel=1e-10)
        assert 0.5 < fit.standard_error / whole.standard_error < 1.6
        alike = sweeps.extrapolate(few, means, scatter=law)
        assert abs(alike.limit - whole.limit) > 1e-3 * whole.standard_error


@pytest.mark.parametrize("law", [1.0, "own"])
def test_controls_that_are_nothing_change_nothing_whatever_the_counts(law):
    rng, sizes = np.random.default_rng(20), np.repeat([100, 200, 400], 12)
    values, given = rng.standard_normal(36), {"scatter": law, "counts": rng.integers(1, 9, 36)}
    fit, same = (sweeps.extrapolate(sizes, values, controls=c, **given) for c in (None, np.zeros((36, 2))))
    for key in ("limit", "standard_error", "slope", "chi_square"):
        assert getattr(same, key) == pytest.approx(getattr(fit, key), rel=1e-10)


def test_counts_are_honest_where_sizes_have_rows_of_different_counts():
    rows = {(200, 10): 5, (400, 10): 3, (800, 4): 3, (1600, 1): 3}
    sizes, counts = np.repeat(list(rows), list(rows.values()), axis=0).T
    found, rng = [], np.random.default_rng(15)
    noise = rng.standard_normal((len(sizes), 400)) / np.sqrt(sizes * counts)[:, None]
    for of in (counts, None):
        fit = sweeps.extrapolate(sizes, 1 + 30 / sizes[:, None] + noise, scatter=1, counts=of)
        found.append(calibration(fit.limit - 1, fit.standard_error))
    assert abs(found[0] - 1) < 0.12 and found[1] > 1.24


def test_controls_serve_pooled_runs_as_well():
    rng, sizes = np.random.default_rng(16), np.repeat([100, 200, 400], 12)
    noise, controls = (rng.standard_normal((36, k)) / np.sqrt(sizes)[:, None] for k in (400, 1))
    values = 1 + 30 / sizes[:, None] + noise + 3 * controls
    fit, blind = (sweeps.extrapolate(sizes, values, controls=c, scatter=1) for c in (controls, None))
    off = fit.limit - 1
    assert calibration(off - off.mean(), fit.standard_error) == pytest.approx(1, abs=0.12)
    assert np.median(blind.standard_error / fit.standard_error) > 2
    assert np.mean(fit.chi_square) == pytest.approx(1, abs=0.3)


# Sizes without scatter


def with_exact(exact, many=20):
    """Values at four sizes that scatter, but for those in `exact`, which are given: sizes and values."""
    sizes = np.repeat([100, 200, 400, 800], many)
    values = 1 + 5 / sizes + np.random.default_rng(17).standard_normal(len(sizes)) / np.sqrt(sizes)
    for size, value in exact.items():
        values[sizes == size] = value
    return sizes, values


def nearly(sizes, values, exact, error=1e-6):
    """The same by numpy, with a very small error in place of none."""
    points = np.unique(sizes)
    groups = [values[sizes == size] for size in points]
    errors = [
        error if size in exact else group.std(ddof=1) / np.sqrt(len(group))
        for size, group in zip(points, groups, strict=True)
    ]
    means = [group.mean() for group in groups]
    (slope, limit), covariance = np.polyfit(1 / points, means, 1, w=1 / np.array(errors), cov="unscaled")
    off = (means - limit - slope / points) / errors
    return limit, slope, np.sqrt(covariance[1, 1]), off @ off


@pytest.mark.parametrize("exact", [{100: 1.06}, {400: 1.0}, {100: 1.03, 800: 1.01}], ids=["small", "inner", "two"])
def test_a_line_passes_through_a_size_without_scatter(exact):
    sizes, values = with_exact(exact)
    fit = sweeps.extrapolate(sizes, values)
    for size, value in exact.items():
        assert fit.limit + fit.slope / size == pytest.approx(value, rel=1e-12)
    limit, slope, error, chi_square = nearly(sizes, values, exact)
    assert [fit.limit, fit.slope] == pytest.approx([limit, slope], rel=1e-5)
    assert fit.standard_error == pytest.approx(error, abs=1e-5) and fit.dof == 2
    assert fit.chi_square == pytest.approx(chi_square, rel=1e-3)
    assert len(exact) == 2 or fit.standard_error > 0.005


def test_of_three_exact_sizes_the_line_is_the_nearest_and_chi_square_says_whether_it_passes():
    on_line = {size: 1.01 + 3 / size for size in (100, 200, 800)}
    for shift, chance in ((0.0, True), (0.01, False)):
        exact = on_line | {200: on_line[200] + shift}
        fit = sweeps.extrapolate(*with_exact(exact))
        slope, limit = np.polyfit([1 / size for size in exact], list(exact.values()), 1)
        assert [fit.limit, fit.slope, fit.standard_error] == pytest.approx([limit, slope, 0], rel=1e-9)
        assert np.isfinite(fit.chi_square) == chance and (fit.p_value > 0) == chance


def test_the_error_beside_an_exact_size_is_what_repeated_experiments_scatter_by():
    rng, sizes = np.random.default_rng(18), np.repeat([100, 200, 400], 40)
    values = 1 + 30 / sizes[:, None] + rng.standard_normal((120, 400)) / np.sqrt(sizes)[:, None]
    values[sizes == 200] = 1 + 30 / 200
    fit = sweeps.extrapolate(sizes, values)
    assert calibration(fit.limit - 1, fit.standard_error) == pytest.approx(1, abs=0.12)
    assert np.mean(fit.chi_square) == pytest.approx(1, abs=0.3)


def test_each_entry_has_its_own_exact_sizes():
    sizes, first = with_exact({100: 1.06})
    _, second = with_exact({400: 1.0})
    _, third = with_exact({})
    fit = sweeps.extrapolate(sizes, np.stack([first, second, third], axis=1).reshape(-1, 1, 3))
    for place, values in enumerate((first, second, third)):
        alone = sweeps.extrapolate(sizes, values)
        for key in ("limit", "standard_error", "slope", "chi_square"):
            assert getattr(fit, key)[0, place] == pytest.approx(getattr(alone, key), rel=1e-10)


def test_a_size_whose_few_runs_agree_by_luck_is_not_taken_for_exact_when_pooled():
    sizes, values = with_exact({800: 1.0}, many=3)
    fit, own = sweeps.extrapolate(sizes, values), sweeps.extrapolate(sizes, values, scatter="own")
    assert own.limit + own.slope / 800 == pytest.approx(1.0, rel=1e-12)
    assert abs(fit.limit + fit.slope / 800 - 1) > 1e-4 and fit.standard_error > 0


# What a table prints


def test_scores_are_in_standard_errors_and_chi_square_has_its_probability():
    sizes, values = with_exact({})
    fit = sweeps.extrapolate(sizes, values)
    assert fit.score(1.0) == pytest.approx((fit.limit - 1) / fit.standard_error)
    assert fit.score(1.0, error=0.3) == pytest.approx((fit.limit - 1) / np.hypot(fit.standard_error, 0.3))
    assert fit.p_value == pytest.approx(stats.chi2.sf(fit.chi_square, 2)) and fit.dof == 2
    exact = sweeps.extrapolate(sizes, np.full(len(sizes), 0.1))
    assert [exact.score(x) for x in (exact.limit, 0.0, 1.0)] == [0, np.inf, -np.inf]
    assert sweeps.extrapolate(BOTH, np.array([1.0, 2, 3, 5])).p_value == 1


def test_p_values_are_spread_evenly_where_the_line_is_right():
    rng, sizes = np.random.default_rng(19), np.repeat([100, 200, 400, 800], 4)
    values = 1 + 30 / sizes[:, None] + rng.standard_normal((16, 400)) / np.sqrt(sizes)[:, None]
    right, bent = (sweeps.extrapolate(sizes, v, scatter=1) for v in (values, values + 1e3 / sizes[:, None] ** 1.5))
    assert stats.kstest(right.p_value, "uniform").statistic < 0.1
    assert np.mean(bent.p_value < 0.05) > 0.3

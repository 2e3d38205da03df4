"""What the chapter on the escape of outliers promises, on its stored table of networks and on the theory alone."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import spectral_experiments
from scipy import linalg
from scipy.interpolate import PchipInterpolator
from spectral_dynamics import networks, sweeps
from spectral_dynamics.dynamics import deep_linear
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra import outliers
from spectral_experiments import escape

MARKS = np.array([0.7, 0.85, 1.0, 1.2, 1.4])  # strengths of a spike, in thresholds
REFERENCE = "reference, first layer"


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("escape")


# The experiment


@pytest.mark.parametrize("name", ["scale 4", "map"])
def test_a_small_case_runs_to_its_stored_row(name):
    """Below the edge of stability, where training forgets rounding: all steps."""
    assert not escape.TABLE.changed_rows(name)


@pytest.mark.parametrize(("layer", "width_ratio"), [(0, 0.5), (0, 2.0), (1, 1.0)])
def test_all_steps_at_once_give_the_top_singular_value_of_every_step(layer, width_ratio):
    problem = DeepLinear(2, width_ratio, 2.0, output_scale=3.0, learning_rate=0.05, weight_std=0.5)
    rng = np.random.default_rng(0)
    run = escape.train(problem, escape.dimension(120, width_ratio), 10, rng, range(11))
    direct = [run.singular_values(layer, step)[0] for step in range(11)]
    np.testing.assert_allclose(escape.top_singular_values(run, layer, rng), direct, rtol=1e-6)


# Analysis of the table: no theory but the threshold of independent spikes


def watched(table, name, layer):
    """Problem, dimensions, networks per row, and top values over sigma."""
    j = table["names"].tolist().index(name)
    rows, side = table["setting"] == j, table["layers"][j].tolist().index(layer)
    problem = DeepLinear(**json.loads(str(table["parameters"][j])))
    tops = table["tops"][rows, side, : table["horizon"][j] + 1].astype(float) / problem.weight_std
    return problem, table["size"][rows], table["networks"][rows], tops


@cache
def ruler(rows, columns, samples=1000):
    """Mean top singular value of noise with a spike: bidiagonal form, one noise for all marks."""
    rng = np.random.default_rng(rows)
    k = min(rows, columns, round(6 * max(rows, columns) ** (1 / 3)))
    main = np.sqrt(rng.chisquare(rows - np.arange(k), (samples, k)))
    side = np.sqrt(rng.chisquare(columns - 1 - np.arange(k - 1), (samples, k - 1)))
    normal, rest = rng.standard_normal(samples), np.sqrt(rng.chisquare(rows - 1, samples))
    means = []
    for mark in MARKS:
        main[:, 0] = np.hypot(normal + mark * (rows * columns) ** 0.25, rest)
        diagonal = main**2
        diagonal[:, :-1] += side**2
        pairs = zip(diagonal, side * main[:, 1:], strict=True)
        tops = [linalg.eigvalsh_tridiagonal(*pair, select="i", select_range=(k - 1, k - 1))[0] for pair in pairs]
        means.append(np.mean(np.sqrt(np.array(tops) / columns)))
    return np.array(means)


def strengths(tops, marks):
    return PchipInterpolator(marks, MARKS)(np.clip(tops, marks[0], marks[-1]))


def passing(tops, marks):
    """First step from which on the mean stays above the mark of the threshold; inf if there is none."""
    below = np.flatnonzero(tops < marks[2])
    after = below[-1] + 1 if below.size else 0
    return after if after < len(tops) else np.inf


def marks_for(problem, layer, size):
    width = round(problem.width_ratio * size)
    return ruler(width, width if layer else size)


def extrapolated_time(table, name, layer):
    """When the strength passes one, as an intercept in size^(-2/3); inf if it does at no size."""
    problem, sizes, counts, tops = watched(table, name, layer)
    points, large = [], [size for size in np.unique(sizes) if counts[sizes == size].sum() >= 6]
    for size in large:  # three networks are too few for a mean to be compared with a mark
        marks, at = marks_for(problem, layer, size), sizes == size
        mean = tops[at].mean(axis=0)
        after = passing(mean, marks)
        if after < np.inf:
            low, high = strengths(mean[after - 1 : after + 1], marks)
            weight = size ** (1 / 3) * np.sqrt(counts[at].sum())  # the scatter of one falls as size^(-1/3)
            points.append((size ** (-2 / 3), after - (high - 1) / (high - low), weight))
    if not points:
        return np.inf
    assert len(points) == len(large) >= 3
    x, times, weights = np.array(points).T
    return np.polyfit(x, times, 1, w=weights)[1]


def step_of_escape(problem, layer, steps, independent=False):
    theory = deep_linear.solve(problem, steps)
    for step in range(1, steps + 1):
        order = theory.order(layer, step)
        if outliers.outliers(order.independent() if independent else order).singular_values.size:
            return step
    return np.inf


def points(table):
    pairs = [(str(n), int(l)) for n, pair in zip(table["names"], table["layers"], strict=True) for l in pair]
    return [(name, layer) for name, layer in pairs if layer >= 0 and "reference" not in name]


@pytest.fixture(scope="module")
def compared(table):
    """Name, layer, step of the theory, step of networks, time of networks."""
    rows = []
    for name, layer in points(table):
        problem, *_ = watched(table, name, layer)
        time = extrapolated_time(table, name, layer)
        rows.append((name, layer, step_of_escape(problem, layer, 40), np.ceil(time), time))
    return rows


def test_theory_and_networks_escape_within_one_step_of_each_other(compared):
    leaving = [row for row in compared if row[2] < np.inf]
    assert len(leaving) >= 20
    assert all(abs(theory - networks) <= 1 for _, _, theory, networks, _ in leaving), leaving
    steps = [row[2] for row in leaving]
    assert min(steps) <= 5 and max(steps) >= 20


def test_the_points_span_scales_widths_depths_and_both_parametrizations(table):
    problems = [watched(table, *point)[0] for point in points(table)]
    assert {p.depth for p in problems} == {1, 2, 3, 4}
    assert {p.width_ratio for p in problems} == {0.5, 1.0, 2.0}
    assert {p.parametrization for p in problems} == {"mup", "ntk"}
    assert len({p.output_scale for p in problems}) >= 5 and len({p.weight_std for p in problems}) >= 5


def rise(problem, layer, sizes, counts, tops):
    """How much the top value has risen since the start, over the mark's height above pure noise, and its error.

    In units of size^(-2/3), where the mark and the scatter of one network are the same at every size.
    """
    risen, dims = (tops[:, -1] - tops[:, 0]) * sizes ** (2 / 3), np.unique(sizes)
    groups = [sizes == size for size in dims]
    means = np.array([np.average(risen[group], weights=counts[group]) for group in groups])
    left = risen - means[np.searchsorted(dims, sizes)]
    error = np.sqrt(np.sum(counts * left**2) / (len(risen) - len(dims)) / counts.sum())
    weights = [counts[group].sum() for group in groups]
    starts = [np.average(tops[group, 0], weights=counts[group]) for group in groups]
    marks = [(marks_for(problem, layer, n)[2] - z) * n ** (2 / 3) for n, z in zip(dims, starts, strict=True)]
    mark = np.average(marks, weights=weights)
    return np.average(means, weights=weights) / mark, error / mark


def test_what_never_escapes_in_theory_does_not_in_networks(compared, table):
    staying = [row for row in compared if row[2] == np.inf]
    assert len(staying) == 6
    for name, layer, _, networks_step, _ in staying:
        assert networks_step == np.inf
        problem, *measured = watched(table, name, layer)
        assert step_of_escape(problem, layer, 120) == np.inf
        part, error = rise(problem, layer, *measured)
        assert part < 0.25 and 8 * error < 1 - part
    problem, sizes, counts, tops = watched(table, "base", 1)  # one that does let go, at its step of escape
    part, error = rise(problem, 1, sizes, counts, tops[:, : step_of_escape(problem, 1, 40) + 1])
    assert part > 1 - 2 * error


@pytest.mark.parametrize("name", ["fresh batches", "fresh batches, wide, NTK"])
def test_fresh_batches_delay_the_escape_by_steps(compared, table, name):
    for setting, layer, step, _, time in compared:
        if setting == name:
            problem = watched(table, name, layer)[0]
            kept = replace(problem, data_ratio=problem.batch_ratio, batch_ratio=None)
            fixed = step_of_escape(kept, layer, 40)
            assert step - 1.5 < time < step + 0.5 and fixed < step - 2


def test_independent_spikes_get_both_matrices_of_one_network_wrong(table):
    problem, *_ = watched(table, "half free", 0)
    assert step_of_escape(problem, 0, 60) == np.inf and step_of_escape(problem, 0, 60, independent=True) < 20
    assert step_of_escape(problem, 1, 60) < 20 and step_of_escape(problem, 1, 60, independent=True) == np.inf


def test_the_map_of_networks_agrees_with_the_theory(table):
    marks = ruler(escape.MAP_SIZE, escape.MAP_SIZE)
    off, split = [], 0
    for std, row in zip(table["map_stds"], table["map_tops"].astype(float), strict=True):
        for scale, tops in zip(table["map_scales"], row, strict=True):
            problem = DeepLinear(**escape.BASE | {"output_scale": scale, "weight_std": std})
            above = np.flatnonzero(tops / std > marks[2])
            pair = step_of_escape(problem, 1, escape.MAP_STEPS), above[0] if above.size else np.inf
            if max(pair) < np.inf:
                off.append(abs(pair[0] - pair[1]))
            split += (pair[0] == np.inf) != (pair[1] == np.inf)
    assert len(off) > 80 and split <= 4
    assert np.mean(np.array(off) <= 1) > 0.85
    assert np.mean(np.array(off) <= 2) > 0.93


def test_reference_values_and_alignments_in_networks(table):
    problem, sizes, counts, tops = watched(table, "reference", 1)
    theory = deep_linear.solve(problem, 80)
    fit = sweeps.extrapolate(sizes, tops[:, -1], counts=counts)
    assert 0.5 * fit.limit == pytest.approx(1.37594, rel=0.005)
    found = outliers.outliers(theory.order(1, escape.ALIGNED_STEP))
    right, left = (sweeps.extrapolate(sizes, table[side], counts=counts) for side in ("right", "left"))
    assert right.limit[10] == pytest.approx(0.9017, abs=0.02)
    gap = np.abs(right.limit - found.right_alignment[0])
    calm = np.abs(np.arange(len(gap)) - 15) > 2  # in between the cosine falls by a third, and scatters
    assert gap[calm].max() < 0.015 and np.all(gap < 3 * right.standard_error)
    alone = outliers.outliers(theory.order(1, escape.ALIGNED_STEP).independent()).right_alignment
    lost = np.abs(right.limit - alone[0]) if len(alone) else np.abs(right.limit)
    assert np.mean((lost > 8 * right.standard_error)[calm]) > 0.9  # here and there both have the same cosine
    assert np.abs(left.limit - found.left_alignment[0]).max() < 0.02
    _, sizes, counts, tops = watched(table, REFERENCE, 0)
    fit = sweeps.extrapolate(sizes, tops[:, -1], counts=counts)
    assert 0.5 * fit.limit == pytest.approx(1.78280, rel=0.005)


def test_the_ruler_reads_one_on_a_critical_spike_made_of_its_own_bulk():
    """The first column of noise made longer: lambda^2 = L - nu is known from a column argument, without A and B."""
    size, runs, rng = 150, 400, np.random.default_rng(3)
    for width_ratio in (0.5, 2.0):
        rows = round(width_ratio * size)
        noise = rng.standard_normal((runs, rows, size)) / np.sqrt(size)
        noise[:, :, 0] *= np.sqrt(1 + width_ratio**-0.5)
        mean = np.linalg.svd(noise, compute_uv=False)[:, 0].mean()
        assert strengths(mean, ruler(rows, size)) == pytest.approx(1, abs=0.07)


def test_an_outlier_leaves_and_returns_where_training_swings(table):
    corner = DeepLinear(**escape.BASE | {"output_scale": 6.0, "weight_std": 1.1})
    theory, steps = deep_linear.solve(corner, 17), np.arange(9, 18)
    out = [outliers.outliers(theory.order(1, step)).singular_values.size > 0 for step in steps]
    above = table["map_tops"][-1, -1] / 1.1 > ruler(escape.MAP_SIZE, escape.MAP_SIZE)[2]
    assert np.array_equal(out, steps % 2 == 1)
    assert np.array_equal(above[steps], steps % 2 == 1)


# Closed forms


def strength(order):
    """The largest lambda in units of the threshold, from the eigenproblem."""
    tables = order.C_h, order.C_g, order.A, order.B, order.c
    odd, even = outliers.transfer(*tables, order.weight_variance, order.width_ratio)
    squares = linalg.eigvals(even @ odd)
    real = squares[np.abs(squares.imag) < 1e-6 * np.abs(squares)].real
    return np.sqrt(max(real.max(), 0) / (order.weight_variance * np.sqrt(order.width_ratio)))


@pytest.mark.parametrize(("depth", "layer"), [(1, 0), (2, 1), (3, 0), (4, 2)])
def test_memory_multiplies_the_spike_of_slow_early_training(depth, layer):
    """lambda = gamma_0 tau sigma^L sqrt(l k)/arsinh sqrt(l k/(L + 1)), k = L - l; sqrt(L + 1) in the first layer."""
    turned, steps = 0.01, (40, 80)
    values = []
    for count in steps:
        rate = turned / (1e3 * 0.6 ** (depth - 1) * count)
        problem = DeepLinear(depth, 1e8, output_scale=1e3, learning_rate=rate, weight_std=0.6)
        values.append(strength(deep_linear.solve(problem, count).order(layer, count)))
    product = layer * (depth - layer)
    factor = np.sqrt(product) / np.arcsinh(np.sqrt(product / (depth + 1))) if layer else np.sqrt(depth + 1) * 100
    assert (2 * values[1] - values[0]) / turned == pytest.approx(factor, rel=1e-3)


def test_a_matrix_escapes_one_step_after_none_at_the_rate_of_the_closed_form():
    """lambda^2/sigma^2 after one step, inner layer: real networks on both sides of the threshold."""
    depth, layer, scale, std = 3, 2, 2.0, 0.6
    rates = np.linspace(0.5, 3, 2001)
    random = 1 + (1 + layer) * std ** (2 * depth + 2) / scale**2
    square = (rates * scale * std ** (depth - 1)) ** 2 * random - 2 * rates * std ** (2 * depth)
    critical = rates[np.flatnonzero(square < 1)[-1]]
    for factor, expected in ((0.99, np.inf), (1.01, 1)):
        problem = DeepLinear(depth, output_scale=scale, learning_rate=factor * critical, weight_std=std)
        assert step_of_escape(problem, layer, 1) == expected
    strong = DeepLinear(depth, output_scale=scale, learning_rate=1.7 * critical, weight_std=std)
    lam = np.sqrt((1.7 * critical * scale * std**2) ** 2 * random - 2 * 1.7 * critical * std**6)
    rng = np.random.default_rng(0)
    runs = [networks.train(strong, size=400, steps=1, rng=rng).singular_values(layer, 1)[0] for _ in range(6)]
    assert np.mean(runs) == pytest.approx(std * (lam + 1 / lam), rel=0.02)

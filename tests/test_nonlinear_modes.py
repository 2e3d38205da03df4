"""The leading mode of infinitely wide nonlinear networks against networks, up to the edge of stability."""

import numpy as np
import pytest
import spectral_experiments
from scipy.optimize import curve_fit
from spectral_dynamics import sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.spectra import sharpness
from spectral_experiments import nonlinear_modes as modes
from spectral_experiments import nonlinear_modes_theory as theory

MODES, EDGE = 0.015, 0.03  # allowed, relative


@pytest.fixture(scope="module")
def tables():
    return spectral_experiments.table("nonlinear_modes"), spectral_experiments.table("nonlinear_modes_theory")


@pytest.fixture(scope="module", params=modes.NAMES)
def setting(request, tables):
    """Number, steps, the limit of infinite width of networks, the theory and its error, and how many steps count."""
    number, steps = modes.NAMES.index(request.param), np.array(modes.ROWS[request.param][1])
    own, error = (tables[1][key][number, steps] for key in ("modes", "modes_error"))
    last = modes.ROWS[request.param][2]
    return number, modes.limit(request.param, tables[0]), own, error, len(steps) if last is None else last + 1


def powers(sizes, values, errors):
    """The exponent of values = b size^-p, and its standard error."""

    def law(x, b, p):
        return b * (x / sizes[0]) ** -p

    (_, p), covariance = curve_fit(law, sizes, values, (values[0], 1.0), errors, absolute_sigma=True)
    return p, np.sqrt(covariance[1, 1])


# The experiment


def test_the_settings_span_what_is_promised(tables):
    rows = [modes.problem(name) for name in modes.NAMES]
    assert all(list(table["names"]) == modes.NAMES for table in tables)
    assert len(rows) >= 8 and {row.activation for row in rows} == {"tanh", "relu", "erf"}
    assert {row.depth for row in rows} == {2, 3} and {row.outputs for row in rows} == {1, 2}
    assert min(row.output_scale for row in rows) <= 0.5 and max(row.output_scale for row in rows) >= 5
    assert max(row.momentum for row in rows) > 0 and min(row.weight_std for row in rows) <= 0.7
    assert {row.loss for row in rows} == {"squared", "cross_entropy"}
    assert sum(row[2] is not None for row in modes.ROWS.values()) >= len(rows) / 2


@pytest.mark.parametrize("name", ["relu", "tanh, cross-entropy", "width ntk", "edge tanh"])
def test_a_small_network_runs_to_its_stored_row(name):
    """Few steps, at rates at which nothing is unstable but in the last; there rounding may decide one step."""
    assert not modes.TABLE.changed_rows(name)


def test_the_mode_of_the_table_is_that_of_the_library():
    for name in ("tanh, cross-entropy", "relu, three layers, two outputs"):
        run = modes.train(modes.problem(name), 60, 0, (0, 4))
        assert modes.mode(run, 4) == pytest.approx(run.leading_mode(4).value, rel=1e-8)


def test_the_controls_vanish_on_average():
    problem, many = modes.problem("relu, three layers, two outputs"), 800
    found = np.array([modes.controls(modes.train(problem, 40, [9, seed], (0,))) for seed in range(many)])
    assert np.all(np.abs(found.mean(axis=0)) < 4 * found.std(axis=0) / np.sqrt(many))


# The mode


def test_a_small_theory_agrees_with_the_stored_one(tables):
    name = "erf, small output scale"
    number, steps = modes.NAMES.index(name), modes.ROWS[name][1]
    small = theory.solved(modes.problem(name), steps, 16_000, 4, 5)
    stored, error = (tables[1][key][number, list(steps)] for key in ("modes", "modes_error"))
    away = np.abs(small["modes"] - stored) / np.hypot(small["modes_error"], error)
    assert away.max() < 6 and np.max(small["modes_error"] / stored) < 0.012
    assert small["modes"] == pytest.approx(stored, rel=0.02)


def test_the_mode_before_and_at_the_edge(setting):
    """What two standard errors of both do not explain: one is half a per cent in the median, less with more seeds."""
    _, limit, own, error, counted = setting
    unsure = 2 * np.hypot(limit.standard_error, error) / own
    assert np.all((np.abs(limit.limit / own - 1) - unsure)[:counted] < MODES)
    assert np.median(unsure[:counted]) < 0.025


def test_the_mode_differs_by_no_more_than_its_errors(setting):
    _, limit, own, error, counted = setting
    assert np.abs(limit.score(own, error))[:counted].max() < 4


def test_the_kernel_of_the_start_does_not_say_it(setting):
    _, limit, own, error, counted = setting
    unsure = 2 * np.hypot(limit.standard_error, error) / own
    assert (np.abs(limit.limit / own[0] - 1) - unsure)[:counted].max() > 2 * MODES


def test_the_theory_says_where_the_edge_is(tables):
    for number, (name, row) in enumerate(modes.ROWS.items()):
        problem, steps = modes.problem(name), row[1]
        heights = problem.learning_rate * tables[1]["modes"][number, : steps[-1] + 1] / (2 * (1 + problem.momentum))
        if row[2] is None:
            assert heights.max() < 0.95
        else:
            assert heights[steps[row[2]]] == pytest.approx(1, abs=0.04)
            assert heights[: steps[row[2] - 1]].max() < 1


def test_beyond_the_edge_networks_follow_as_long_as_replicas_agree(setting, tables):
    """Less closely: where differences grow a straight line through small widths is not enough."""
    number, limit, own, error, counted = setting
    steps = np.array(modes.ROWS[modes.NAMES[number]][1])
    parted = int(tables[1]["parted"][number])
    beyond = np.arange(len(steps)) >= counted
    beyond &= (steps < parted) | (parted < 0)
    unsure = 2 * np.hypot(limit.standard_error, error) / own
    assert np.all((np.abs(limit.limit / own - 1) - unsure)[beyond] < 2 * MODES)


def test_equal_modes_of_two_outputs_part_as_one_over_the_root_of_the_width(tables):
    """At the start: the larger of two equal eigenvalues is off by what they fluctuate."""
    for name in ("tanh, three layers, two outputs", "relu, three layers, two outputs"):
        number = modes.NAMES.index(name)
        start = tables[0]["modes"][:, 0], tables[0]["size"], tables[0]["setting"] == number
        off = [
            start[0][start[2] & (start[1] == size)].mean() / tables[1]["modes"][number, 0] - 1 for size in (250, 1000)
        ]
        assert 0.35 < np.log(off[0] / off[1]) / np.log(4) < 0.9 and off[0] > 0.05


def test_the_lines_are_straight(tables):
    """chi^2 of three widths on a line, one degree of freedom."""
    found = [modes.limit(name, tables[0]).chi_square.mean() for name in modes.NAMES]
    assert 0.3 < np.mean(found) < 2.2


# Width


def gained(modes_):
    return modes_[:, 1:] - modes_[:, :1]


def test_in_mup_the_mode_approaches_its_limit_as_one_over_the_width(tables):
    expected, error = (tables[1][f"growth_{key}"][0, -1] for key in ("modes", "modes_error"))
    sizes, means, errors = modes.width_means("mup", tables[0], lambda one: one[:, -1])
    away, errors = means[:, 0] - expected, np.hypot(errors[:, 0], error)
    p, uncertain = powers(sizes, away, errors)
    assert uncertain < 0.2 and abs(p - 1) < 1.5 * uncertain
    assert abs(p - 0.5) > 3 * uncertain and abs(p) > 5 * uncertain  # neither 1/sqrt N nor no approach at all


def test_in_ntk_parametrization_it_is_that_of_a_smaller_output_scale(tables):
    sizes, growth, errors = modes.width_means("ntk", tables[0], gained)
    own = gained(tables[1]["growth_modes"])[: len(sizes)]
    assert np.all(np.abs(growth / own - 1) < 0.04 * modes.BASE / sizes[:, None] + 0.005 + 3 * errors / own)


def test_the_growth_of_the_mode_is_of_second_order_in_the_output_scale(tables):
    scales, found = tables[1]["scales"], tables[1]["growth_modes"]
    growth = gained(found)
    local = np.log(growth[1:] / growth[:-1]) / np.log(scales[1:] / scales[:-1])[:, None]
    assert local[-1] == pytest.approx(2, abs=0.15) and local[0, -1] < 1.2  # rich networks grow less than that


def test_so_it_dies_in_networks_as_one_over_the_width(tables):
    sizes, growth, errors = (part[2:] for part in modes.width_means("ntk", tables[0], gained))
    p, uncertain = powers(sizes, growth[:, 0], errors[:, 0])
    expected, _ = powers(sizes, gained(tables[1]["growth_modes"])[2:5, 0], errors[:, 0])
    assert uncertain < 0.05 and p == pytest.approx(expected, abs=3 * uncertain) and p == pytest.approx(1, abs=0.1)


# The edge as a learning rate


def test_theory_and_networks_reach_the_edge_at_the_same_rate(tables):
    for place, name in enumerate(modes.EDGES):
        rows = tables[0]["edge_setting"] == modes.NAMES.index(name)
        used = tables[0]["edge_controls"][rows][:, :6]
        limit = sweeps.extrapolate(tables[0]["edge_size"][rows], tables[0]["edge"][rows], controls=used)
        assert limit.limit == pytest.approx(tables[1]["edge"][place], rel=EDGE)
        assert limit.standard_error < EDGE * limit.limit
        assert tables[1]["edge"][place] * tables[1]["modes"][modes.NAMES.index(name), 0] < 2 / 1.5  # not of the start


def test_the_rate_is_found_again_on_few_sites(tables):
    name = "relu"
    steps, first = modes.EDGES[name]

    def solve(rate):
        options = {"sites": 4000, "replicas": 1, "tangent_steps": None}
        return mlp.solve(modes.problem(name, rate), steps, rng=np.random.default_rng(1), **options)

    found = sharpness.stable_rate(solve, (0.9 * first, 1.1 * first), 0.01)
    assert found == pytest.approx(tables[1]["edge"][list(modes.EDGES).index(name)], rel=0.05)

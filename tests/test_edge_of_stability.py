"""What the chapter on the edge of stability promises, on its stored table of networks and on the theory."""

import json

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import networks, sweeps
from spectral_dynamics.dynamics import deep_linear
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra import sharpness
from spectral_experiments import edge, edge_more

BASE = edge.NAMES.index("base")


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("edge")


@pytest.fixture(scope="module")
def beyond():
    """eta lambda of the theory at the first steps and at the last two, at the larger of the rates beyond the edge."""
    theory = deep_linear.solve(edge.problem_of({}, edge.BEYOND[1]), edge.STEPS)
    steps = [*range(6, 13), 15, 20, 30, 31, 78, 79]
    return dict(zip(steps, edge.BEYOND[1] * sharpness.trajectory(theory, steps).value, strict=True))


def theory_of(table, number, rate):
    problem = DeepLinear(**json.loads(str(table["parameters"][number])), learning_rate=rate)
    return deep_linear.solve(problem, edge.STEPS)


# The experiment


@pytest.mark.parametrize("name", ["base", "beyond", "divergence", "fork"])
def test_a_small_case_runs_to_its_stored_row(name):
    """What rounding does not decide of it: why, the docstrings of `again` and its like say."""
    assert not edge.TABLE.changed_rows(name)


@pytest.mark.parametrize(
    "changed", [{"depth": 1}, {"width_ratio": 4.0, "parametrization": "ntk"}, {"depth": 3, "width_ratio": 0.5}]
)
def test_all_steps_at_once_give_the_leading_mode_of_every_step(changed):
    problem = edge.problem_of(changed, 0.06)
    size = edge.dimension(60, problem.width_ratio)
    run = networks.train(problem, size=size, steps=40, rng=np.random.default_rng(0), record=range(41))
    steps = np.array([0, 1, 3, 6, 10, 20, 39])
    direct = [run.leading_mode(int(step)).value for step in steps]
    np.testing.assert_allclose(edge.modes(run, steps), direct, rtol=1e-5)
    np.testing.assert_allclose(edge.modes(run)[steps], direct, rtol=1e-5)


def test_the_search_finds_the_rate_from_below_and_past_a_spike():
    for slope, start in ((0.3, 0.5), (0.0, 0.9), (1.0, 1.4)):
        found, reached = edge.stable_rate(lambda r, k=slope: 2 * r**k * (1 + 3 * max(r - 1, 0)), start)
        assert found == pytest.approx(1, rel=3e-3) and reached == pytest.approx(2, rel=3e-3)


# The edge


@pytest.mark.parametrize("number", range(len(edge.NAMES)), ids=edge.NAMES)
def test_theory_and_networks_reach_the_limit_at_the_same_rate(table, number):
    rows, near = table["setting"] == number, float(table["first"][number])
    fit = sweeps.extrapolate(table["size"][rows], table["edge"][rows], controls=table["controls"][rows])
    assert fit.standard_error < 0.01 * near
    ours = sharpness.stable_rate(lambda r: theory_of(table, number, r), (0.995 * near, 1.005 * near), 0.01)
    assert ours == pytest.approx(fit.limit, rel=0.03)
    assert np.all(np.abs(table["reached"][rows] / 2 - 1) < edge.TOLERANCE)


@pytest.mark.parametrize("number", range(len(edge.NAMES)), ids=edge.NAMES)
def test_the_train_loss_falls_below_the_edge_and_not_above_it(table, number):
    for factor in (0.9, 1.1):
        loss = theory_of(table, number, factor * table["first"][number]).train_loss
        seen = loss[1:] > edge.FLOOR * loss[0]
        assert (np.max((loss[1:] / loss[:-1])[seen]) > 1) == (factor > 1)
    rows = table["setting"] == number
    assert np.all(table["highest"][rows, 0] < 1) and np.all(table["highest"][rows, 1] > 1)
    assert np.mean(table["highest_theory"][rows] > 1, axis=0) == pytest.approx([0, 1], abs=0.15)


# Three layers, and momentum


@pytest.fixture(scope="module")
def more():
    return spectral_experiments.table("edge_more")


@pytest.mark.parametrize("name", list(edge_more.TABLE.rows))
def test_a_small_case_of_these_runs_to_its_stored_row(name):
    assert not edge_more.TABLE.changed_rows(name)


def test_three_layers_reach_the_height_of_the_theory_below_their_edge(more):
    theory = deep_linear.solve(edge.problem_of({"depth": 3}, edge_more.THREE_RATE), 80)
    start, *expected = sharpness.trajectory(theory, [0, 19, 40, 60, 79]).value
    sizes, controls = more["three_size"], more["three_controls"]
    fit = sweeps.extrapolate(sizes, more["three_top"], controls=controls)
    assert abs(fit.limit - expected[0]) < 3 * fit.standard_error and fit.standard_error < 0.006 * expected[0]
    fit = sweeps.extrapolate(sizes, more["three"][:, 7:], controls=controls)
    assert np.all(np.abs(fit.limit - expected[1:]) < 3 * fit.standard_error)
    assert np.all(np.abs(start - expected[1:]) > 8 * fit.standard_error)  # a kernel that stays


def test_the_highest_of_many_steps_is_above_the_highest_mean(more):
    for size in np.unique(more["three_size"]):
        rows = more["three_size"] == size
        assert more["three_top"][rows].mean() > 1.003 * more["three"][rows].mean(axis=0).max()


@pytest.mark.parametrize("momentum", edge_more.MOMENTA)
def test_networks_converge_up_to_the_limit_with_momentum(more, momentum):
    """From below: the slowest convergence seen in LONG steps is two per cent from none, some networks stop before."""
    heights = more["height"][np.isclose(more["momentum"], momentum)] / (2 * (1 + momentum))
    assert np.median(heights) == pytest.approx(0.992, abs=0.006) and heights.max() < 1.003
    assert np.mean(heights > 0.97) > 0.8


# Beyond


def test_the_theory_goes_through_the_edge_as_it_did_before_the_library_was_written(beyond):
    found = [beyond[step] / 0.15 for step in (10, 15, 20, 30, 79)]
    assert found == pytest.approx([13.97, 17.34, 9.80, 9.68, 17.83], abs=6e-3)


def test_networks_follow_the_theory_until_the_largest_part(table, beyond):
    steps = np.arange(6, 12)
    fit = sweeps.extrapolate(
        table["beyond_size"], 0.15 * table["beyond"][:, 1, steps], controls=table["beyond_controls"]
    )
    expected = np.array([beyond[step] for step in steps])
    off = np.abs(fit.limit / expected - 1)
    assert off[0] < 0.015 and np.all(off < 0.03)  # at the first step no size has parted
    assert np.all(np.abs(fit.limit - expected) < 3 * fit.standard_error)
    late = np.array([beyond[step + 1] for step in steps])
    assert np.all(np.abs(late - expected) > 8 * fit.standard_error)


def test_networks_of_different_seeds_part_later_when_they_are_larger(table):
    tops, parted = table["beyond"][:, 1].astype(float), []
    for size in np.unique(table["beyond_size"]):
        some = tops[table["beyond_size"] == size]
        spread = some.std(axis=0) / some.mean(axis=0)
        assert spread[30:].min() > 0.15
        parted.append(6 + np.argmax(spread[6:] > 0.15))
    assert parted == sorted(parted) and parted[0] < 9 and parted[-1] >= 12


@pytest.mark.parametrize("step", [30, 78])
def test_networks_end_on_average_on_the_cycle_of_the_theory_in_one_phase_or_the_other(table, beyond, step):
    pairs = np.sort(0.15 * table["beyond"][:, 1, step : step + 2].astype(float), axis=1)
    fit = sweeps.extrapolate(table["beyond_size"], pairs, controls=table["beyond_controls"])
    expected = np.sort([beyond[step], beyond[step + 1]])
    assert fit.limit == pytest.approx(expected, rel=0.015)
    assert np.sqrt(expected.prod()) == pytest.approx(2, rel=0.005)  # the limit is their geometric mean
    assert np.sqrt(fit.limit.prod()) == pytest.approx(2, rel=0.005)


def test_the_cycles_of_networks_come_closer_to_each_other_with_size(table):
    pairs = np.sort(0.15 * table["beyond"][:, 1, 78:80].astype(float), axis=1)
    scatter = np.array([pairs[table["beyond_size"] == size].std(axis=0) for size in np.unique(table["beyond_size"])])
    assert np.all(np.diff(scatter, axis=0) < 0) and np.all(scatter[-1] < 0.45 * scatter[0])
    assert np.all(np.diff(pairs[table["beyond_size"] == 800]) > 0.5)  # every large one jumps


def test_one_network_doubles_its_period_twice_before_chaos(table):
    late = np.sort(table["fork_rates"][:, None] * table["fork"], axis=1)
    branches = 1 + np.sum(np.diff(late) > 0.1, axis=1)
    factors = table["fork_rates"] / table["first"][BASE]
    assert np.all(branches[factors < 1] == 1) and np.all(branches[(factors > 1.05) & (factors < 1.3)] == 2)
    assert np.all(branches[(factors > 1.36) & (factors < 1.41)] == 4) and branches[factors > 1.5].max() > 8


def test_divergence_is_another_matter_well_above_the_edge(table):
    fractions = np.mean(table["divergence_step"] >= 0, axis=1)
    factors = table["divergence_factors"]
    assert np.all(fractions[:, factors < 1.8] == 0) and np.all(fractions[:, -1] == 1)
    between = fractions[:, (factors > 2.05) & (factors < 2.25)]
    assert np.all((between > 0.3) & (between < 0.9))


# Width


def test_growth_of_sharpness_collapses_in_mup_and_not_in_ntk(table):
    def growth(width_ratio, kind):
        changed = {"width_ratio": width_ratio, "parametrization": kind}
        return sharpness.trajectory(deep_linear.solve(edge.problem_of(changed, 0.05), 60), steps).value

    steps = [12, 20, 30, 60]
    limit = growth(1e6, "mup")
    distance = np.array([np.abs(growth(nu, "mup") / limit - 1) for nu in (0.5, 1.0, 8.0, 16.0)])
    assert np.log2(distance[3] / distance[2]) == pytest.approx(-1, abs=0.1)
    assert distance[:, 2:].max() < 0.03
    narrow, wide = growth(1.0, "ntk"), growth(16.0, "ntk")
    assert np.all(narrow > 4 * wide)


def test_networks_grow_sharp_as_the_theory_says(table):
    steps = np.array([12, 20, 40, 79])
    for number, parameters in enumerate(table["growth_parameters"]):
        rows = table["growth_setting"] == number
        theory = deep_linear.solve(DeepLinear(**json.loads(str(parameters))), edge.STEPS)
        start, *expected = sharpness.trajectory(theory, [0, *steps.tolist()]).value
        values, controls = table["growth"][rows][:, steps], table["growth_controls"][rows]
        fit = sweeps.extrapolate(table["growth_size"][rows], values, controls=controls)
        assert np.all(np.abs(fit.limit - expected) < 3.5 * fit.standard_error)
        assert np.all(np.abs(start - expected) > 8 * fit.standard_error)  # a kernel that stays
        assert fit.limit[1:] == pytest.approx(expected[1:], rel=0.02)

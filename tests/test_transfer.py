"""What the chapter on learning-rate transfer promises, on its stored table of networks and on the theory alone."""

import json
from functools import cache

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics.dynamics import deep_linear
from spectral_dynamics.errors import DivergenceError
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra import sharpness
from spectral_experiments import transfer

RATES = 0.03 * 1.1 ** np.arange(36)
BEST = 6  # place of the theory's best rate among the twelve of a setting, where it is no accident


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("transfer")


# The experiment


@pytest.mark.parametrize("name", ["nu 1", "nu 4, NTK"])
def test_the_smallest_case_runs_to_its_stored_row(name):
    """Up to the best rate; beyond it training is chaotic, and rounding would be compared."""
    assert not transfer.TABLE.changed_rows(name)


def test_a_run_that_diverges_is_infinite_from_there_on(monkeypatch):
    monkeypatch.setattr(transfer, "rates", lambda name: np.full(transfer.RATES, 3.0))
    assert np.all(np.isinf(transfer.case("nu 1", 40, 0)))


# The theory


def solve(nu, kind, rate, steps=20, noise=0.0):
    return deep_linear.solve(DeepLinear(2, nu, 4.0, None, 3.0, kind, float(rate), 0.5, noise), steps)


@cache
def final(nu, kind, rate, which="test_loss", steps=20):
    try:
        return getattr(solve(nu, kind, rate, steps), which)[-1]
    except DivergenceError:
        return np.inf


def best(nu, kind, **options):
    return RATES[np.argmin([final(nu, kind, rate, **options) for rate in RATES])]


WIDE = (1.0, 2.0, 4.0, 8.0, 16.0)


def test_in_mup_the_best_rate_stays_within_a_step_of_the_grid():
    found = [best(nu, "mup") for nu in WIDE] + [best(nu, "mup", which="train_loss") for nu in (0.5, *WIDE)]
    assert max(found) / min(found) < 1.1 * (1 + 1e-9)
    assert best(1.0, "mup", steps=40) / best(16.0, "mup", steps=40) < 1.1 * (1 + 1e-9)


def test_in_ntk_parametrization_the_best_rate_and_the_leading_mode_shift_by_two_and_more():
    one, four = best(1.0, "ntk"), best(4.0, "ntk")
    assert four / one > 2
    modes = [sharpness.leading_mode(solve(nu, "ntk", rate), 20).value for nu, rate in ((1.0, one), (4.0, four))]
    assert modes[0] / modes[1] > 2
    assert best(16.0, "ntk") / one > 5


@pytest.mark.parametrize("kind", ["mup", "ntk"])
def test_the_optimum_is_sharp(kind):
    for nu in WIDE:
        rate = best(nu, kind)
        assert min(final(nu, kind, rate * 1.5), final(nu, kind, rate / 1.5)) > 3 * final(nu, kind, rate)


def test_the_best_rate_of_the_narrowest_network_is_an_accident():
    lucky = best(0.5, "mup")
    assert lucky == pytest.approx(0.2018, abs=1e-4)
    assert min(final(0.5, "mup", lucky * k) for k in (0.98, 1.02)) > 20 * final(0.5, "mup", lucky)
    valley = [final(0.5, "mup", rate) for rate in RATES[:19]]
    assert RATES[np.argmin(valley)] == best(1.0, "mup")


def test_in_mup_the_leading_mode_has_a_limit_that_it_reaches_as_one_over_the_width():
    steps = (20, 22, 25, 30, 40, 60)
    far = sharpness.trajectory(solve(1e6, "mup", 0.05, 60, 0.2), steps).value
    widths = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    away = [np.abs(sharpness.trajectory(solve(n, "mup", 0.05, 60, 0.2), steps).value / far - 1) for n in widths]
    assert np.max(away) < 0.03
    np.testing.assert_allclose(np.diff(np.log(away), axis=0)[-2:] / np.log(2), -1, atol=0.05)


@pytest.mark.parametrize(("kind", "nu", "rate"), [("mup", 1.0, 0.1239), ("mup", 16.0, 0.1218), ("ntk", 16.0, 0.6947)])
def test_after_long_training_the_best_rate_is_two_over_the_largest_and_the_smallest_eigenvalue(kind, nu, rate):
    """`rate` is the minimum of the loss of 80 steps, to its four digits."""
    for factor in (0.99, 1.01):
        assert final(nu, kind, rate * factor, steps=80) > final(nu, kind, rate, steps=80)
    theory = solve(nu, kind, rate, 80)
    lowest = sharpness.bulk(theory, 80).edges[0, 0]
    assert 2 / (sharpness.leading_mode(theory, 80).value + lowest) == pytest.approx(rate, rel=0.02)


# Networks


def rows(table, name):
    """Sizes, and log losses after twenty steps: (networks, rates, test and train)."""
    j = table["names"].tolist().index(name)
    chosen = table["setting"] == j
    both = [table[loss][chosen, :, 1] for loss in ("test_loss", "train_loss")]
    return table["size"][chosen], np.log(np.minimum(both, 1e3)).transpose(1, 2, 0)


def to_infinity(sizes, logs):
    """The limit of a line in 1/D and its standard error, from all networks with one scatter, of variance as 1/D.

    Errors estimated at each size by itself would rest on eight networks at the largest, where they were seen to be
    too small by a factor of three.
    """
    root = np.sqrt(sizes)[:, None]
    design = np.hstack([root, 1 / root])
    fit, squares, *_ = np.linalg.lstsq(design, root * logs.reshape(len(sizes), -1), rcond=None)
    errors = np.sqrt(np.linalg.inv(design.T @ design)[0, 0] * squares / (len(sizes) - 2))
    return fit[0].reshape(logs.shape[1:]), errors.reshape(logs.shape[1:])


def test_the_scatter_of_log_losses_falls_as_the_root_of_the_size(table):
    for name in table["names"]:
        sizes, logs = rows(table, name)
        slow = logs[:, :3, 0]  # rates well below the best
        scaled = [slow[sizes == size].std(axis=0, ddof=1).mean() * np.sqrt(size) for size in np.unique(sizes)]
        assert max(scaled) < 2.6 * min(scaled), (name, scaled)  # eight networks: a quarter, either way


def test_networks_that_agree_with_one_another_agree_with_the_theory(table):
    compared = 0
    for name, text in zip(table["names"], table["parameters"], strict=True):
        sizes, logs = rows(table, name)
        (limit, error), largest = to_infinity(sizes, logs), sizes == sizes.max()
        problem = json.loads(str(text))
        for k in np.flatnonzero(logs[largest].std(axis=0, ddof=1).max(axis=1) < 0.25):
            rate = table["rates"][table["names"].tolist().index(name), k]
            theory = deep_linear.solve(DeepLinear(**problem, learning_rate=rate), 20)
            stated = np.log([theory.test_loss[-1], theory.train_loss[-1]])
            assert np.all(np.abs(limit[k] - stated) < 3 * error[k]), (name, rate)
            assert np.all(error[k] < 0.18)
            compared += 1
    assert compared >= 24


def test_single_networks_have_their_best_rate_where_the_theory_has_it(table):
    for name in ("nu 1", "nu 4, muP", "nu 4, NTK", "nu 1/2, NTK"):
        sizes, logs = rows(table, name)
        off = np.abs(logs[sizes == sizes.max(), :, 0].argmin(axis=1) - BEST)
        assert np.mean(off <= 1) > 0.9, (name, off)


def test_single_networks_do_not_share_the_accident(table):
    sizes, logs = rows(table, "nu 1/2, muP")
    rates = table["rates"][table["names"].tolist().index("nu 1/2, muP")]
    lucky = np.argmin(np.abs(rates - best(0.5, "mup")))
    largest = logs[sizes == sizes.max(), lucky, 0]
    assert largest.std(ddof=1) > 1

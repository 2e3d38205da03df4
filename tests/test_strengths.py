"""The strength of a spike: that of the classical theory, one at the threshold, the library's outlier above it."""

import numpy as np
import pytest
from spectral_dynamics.dynamics import deep_linear
from spectral_dynamics.dynamics.order import OrderParameters
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra import outliers, strengths


def spiked(theta, weight_variance=1.0, width_ratio=1.0):
    one, zero = np.eye(len(theta)), np.zeros((len(theta), len(theta)))
    return OrderParameters(one, one, zero, zero, np.diag(theta), weight_variance, width_ratio)


@pytest.mark.parametrize("theta", [[0.2], [1.7, 0.9], [0.4, 3.0]])
@pytest.mark.parametrize(("weight_variance", "width_ratio"), [(1.0, 1.0), (0.49, 2.0), (1.21, 0.5)])
def test_the_strength_of_a_planted_spike_is_its_own_over_the_threshold(theta, weight_variance, width_ratio):
    threshold = np.sqrt(weight_variance) * width_ratio**0.25
    found = strengths.strength(spiked(theta, weight_variance, width_ratio))
    assert found == pytest.approx(max(theta) / threshold, rel=1e-12)


@pytest.mark.parametrize("layer", [0, 1])
def test_there_is_an_outlier_when_the_strength_is_above_one_and_it_is_where_the_strength_says(layer):
    problem = DeepLinear(2, 0.7, 2.0, None, 3.0, "mup", 0.05, 0.5)
    theory, seen = deep_linear.solve(problem, 40), set()
    for step in (1, 4, 8, 12, 20, 40):
        order = theory.order(layer, step)
        found, values = strengths.strength(order, cutoff=order.cutoff), outliers.outliers(order).singular_values
        seen.add(found > 1)
        assert (found > 1) == (values.size > 0)
        if values.size:
            absolute = found * np.sqrt(order.weight_variance) * order.width_ratio**0.25
            place = outliers.location(absolute, order.weight_variance, order.width_ratio)
            assert values[0] == pytest.approx(place, rel=1e-10)
    assert seen == {False, True}


def test_what_no_real_matrix_has_is_no_strength():
    zero = np.zeros((1, 1))
    unlearning = OrderParameters(np.eye(1), np.eye(1), -np.eye(1), np.eye(1), zero)  # lambda^2 < 0
    assert strengths.strength(unlearning) == 0


def test_directions_below_a_cut_off_do_not_count():
    order = spiked([0.5, 3e4])
    faint = OrderParameters(np.diag([1.0, 1e-7]), order.C_g, order.A, order.B, order.c)
    assert strengths.strength(faint) == pytest.approx(3e4 * np.sqrt(1e-7))
    assert strengths.strength(faint, cutoff=1e-4) == pytest.approx(0.5)


@pytest.mark.parametrize("step", [8, 40])
def test_a_small_cut_off_changes_nothing_that_can_be_seen(step):
    problem = DeepLinear(2, 0.7, 2.0, None, 3.0, "mup", 0.05, 0.5)
    order = deep_linear.solve(problem, 40).order(1, step)
    assert strengths.strength(order, cutoff=1e-10) == pytest.approx(strengths.strength(order), rel=1e-6)


def test_anything_but_order_parameters_is_refused():
    with pytest.raises(ValueError, match="order must be OrderParameters, got ndarray"):
        strengths.strength(np.eye(2))
    with pytest.raises(ValueError, match="cutoff must be below 1"):
        strengths.strength(spiked([1.0]), cutoff=1.5)

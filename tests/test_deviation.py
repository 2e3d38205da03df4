"""Free addition of a learned change beside what training makes: exact toys, their matrices, distances, quantiles."""

import numpy as np
import pytest
from scipy import linalg
from spectral_dynamics.problems import FrozenReadout
from spectral_dynamics.spectra import deviation, laws, many_outputs

PROBLEM = FrozenReadout(0.5, 1.0, 3.0, 1.0)


def values_of(matrix, count):
    found = linalg.svdvals(matrix)
    return np.append(found, np.zeros(count - found.size))


def started(problem, neurons, seed=0):
    rng = np.random.default_rng(seed)
    inputs, outputs = round(neurons / problem.width_ratio), round(neurons * problem.output_ratio)
    w = problem.weight_std * rng.standard_normal((neurons, inputs)) / np.sqrt(inputs)
    v = rng.standard_normal((outputs, neurons)) / np.sqrt(neurons)
    return rng, w, v, problem.target_scale * rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)


def learned(w, v, target, time):
    """Wbar(t) - Wbar(0) of one network, by the exponential of the whole flow."""
    n = len(w)
    flow = linalg.expm(np.block([[-time * v.T @ v, time * v.T @ target], [np.zeros((w.shape[1], n + w.shape[1]))]]))
    return flow[:n, :n] @ w + flow[:n, n:] - w


@pytest.mark.parametrize(("kappa", "nu"), [(0.5, 1.0), (2.0, 0.5), (0.3, 2.0)])
def test_networks_have_the_three_laws_and_free_addition_is_not_training(kappa, nu):
    """A trained matrix has `exact`, its change `change`; the change rotated, on a fresh start, has `free`."""
    problem, n = FrozenReadout(kappa, nu, 3.0, 1.0), 300
    rng, w, v, target = started(problem, n)
    change, toy = learned(w, v, target, 0.5), deviation.frozen(problem, 0.5)
    turned = linalg.qr(rng.standard_normal((n, n)))[0] @ change
    fresh = started(problem, n, 1)[1]
    spectra = [values_of(matrix, n) for matrix in (w + change, change, fresh + turned)]
    for values, law in zip(spectra, (toy.exact, toy.change, toy.free), strict=True):
        assert many_outputs.distance(values, law) < 4 / n
    assert many_outputs.distance(spectra[0], toy.free) > 8 / n
    assert many_outputs.distance(spectra[2], toy.exact) > 8 / n
    assert toy.distance == pytest.approx(many_outputs.distance(spectra[0], toy.free), abs=4 / n)


def test_training_is_far_from_free_addition_in_the_middle_of_training():
    distances = [deviation.frozen(PROBLEM, time).distance for time in (0.02, 0.5, 2.0)]
    assert distances[1] > 3 * distances[0]
    assert distances[1] > distances[2] > 0.04


def test_at_small_times_the_change_is_small_and_the_distance_goes_with_the_time():
    distances = [deviation.frozen(PROBLEM, time).distance for time in (1e-3, 2e-3)]
    assert distances[1] / distances[0] == pytest.approx(2, abs=0.1)


def test_finer_ladders_change_nothing():
    change = many_outputs.change(PROBLEM, 2.0)
    coarse, fine = (deviation.free_addition(change, 1.0, 1.0, values=count) for count in (200, 800))
    assert deviation.between(coarse, fine) < 1e-5
    assert coarse.edges == pytest.approx(fine.edges, abs=1e-4)
    assert fine.moment(2) == pytest.approx(change.moment(2) + 1.0, rel=1e-5)


def test_the_mean_square_of_the_change_is_that_of_its_columns():
    s = np.maximum(laws.marchenko_pastur(2.0, 0.5).sample(2000, np.random.default_rng(0)), 0)
    expected = (1 - np.exp(-1.3 * s)) ** 2 * (1 + 9 / np.maximum(s, 1e-12))
    assert many_outputs.change(PROBLEM, 1.3).moment(2) == pytest.approx(expected.mean(), rel=0.01)
    assert many_outputs.change_variance(PROBLEM, [0.0, 1e300], 1.3) == pytest.approx([0.0, 1.0])


def test_one_joint_step_beside_free_addition():
    problem, n = FrozenReadout(2.0, 0.5, 3.0, 1.0), 400
    rng, w, v, target = started(problem, n)
    error = target - v @ w
    steps = 0.4 * v.T @ error, 0.2 * (error @ w.T).T
    for start, step, toy in zip((w, v.T), steps, deviation.one_step(problem, 0.4, 0.2), strict=True):
        turned = linalg.qr(rng.standard_normal((n, n)))[0] @ step
        fresh = rng.standard_normal(start.shape) * start.std()
        spectra = [values_of(matrix, n) for matrix in (start + step, step, fresh + turned)]
        for values, law in zip(spectra, (toy.exact, toy.change, toy.free), strict=True):
            assert many_outputs.distance(values, law) < 4 / n
        assert many_outputs.distance(spectra[2], toy.exact) > 8 / n


def test_quantiles_are_the_inverse_of_the_distribution_through_gaps_and_atoms():
    law = laws.information_plus_noise(2.0, [0.0, 5.0], 0.5, [0.6, 0.4])
    levels = np.array([[0.1, 0.5, 0.55], [0.7, 0.95, 1.0]])
    found = deviation.quantiles(law, levels)
    np.testing.assert_array_equal(found[0, :2], 0)
    assert law.cdf(found[levels > 0.5]) == pytest.approx(levels[levels > 0.5], abs=1e-6)
    assert found[1, 2] == pytest.approx(law.edges[-1, 1])
    quarter = deviation.quantiles(laws.quarter_circle(1.0), [0.0, 0.5, 1.0])
    assert quarter == pytest.approx([0, 0.8079455, 2], abs=1e-5)  # u sqrt(1 - u^2) + arcsin(u) = pi/4, u = x/2


def test_a_deviation_says_where():
    law = laws.quarter_circle(1.0)
    values = deviation.quantiles(law, (np.arange(200) + 0.5) / 200)
    values[-3:] += [0.1, 0.2, 0.3]
    found = deviation.deviation(values[::-1], law)
    assert found.shift == pytest.approx(np.append(np.zeros(197), [0.1, 0.2, 0.3]), abs=1e-12)
    assert found.distance == pytest.approx(many_outputs.distance(values, law))
    x = np.linspace(0, 2.2, 5000)
    apart = np.abs(law.cdf(x) - law.cdf(x / 1.1)).max()
    assert deviation.between(law, laws.quarter_circle(1.21)) == pytest.approx(apart, abs=1e-4)


def test_what_has_no_law_is_refused():
    with pytest.raises(ValueError, match="output_ratio must be above 0"):
        deviation.frozen(FrozenReadout(0.0, 1.0, 3.0, 1.0), 1.0)
    with pytest.raises(ValueError, match="time must be greater than 0"):
        deviation.frozen(PROBLEM, 0.0)
    with pytest.raises(ValueError, match="levels must lie between 0 and 1"):
        deviation.quantiles(laws.quarter_circle(1.0), [0.5, 1.5])
    with pytest.raises(ValueError, match="values must be at least 1"):
        deviation.free_addition(laws.quarter_circle(1.0), 1.0, 1.0, values=0)
    with pytest.raises(ValueError, match="values must be at least 0"):
        deviation.deviation([-1.0, 2.0], laws.quarter_circle(1.0))

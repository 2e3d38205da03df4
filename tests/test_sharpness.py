"""The leading mode of the tangent kernel and its bulk: reference figures, limits, finite networks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spectral_dynamics import networks
from spectral_dynamics.dynamics.deep_linear import solve
from spectral_dynamics.errors import ConvergenceError, DivergenceError
from spectral_dynamics.networks import curvature, deep_linear
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra import laws, sharpness, tangent_bulk
from spectral_dynamics.spectra.sharpness import bulk, leading_mode, stable_rate, trajectory


def linear(**changed):
    given = {"depth": 2, "output_scale": 2.0, "parametrization": "ntk", "learning_rate": 0.05, "weight_std": 0.7}
    return DeepLinear(**{**given, **changed})


def trained(problem, size, steps, seed):
    return networks.train(problem, size=size, steps=steps, rng=np.random.default_rng(seed))


# --- figures found independently, by training networks ------------------------------------------------------------


def test_the_mode_of_the_training_set_and_of_the_population():
    theory = solve(linear(data_ratio=2.0), 40)
    sampled, population = leading_mode(theory, 40), leading_mode(theory, 40, population=True)
    assert sampled.value == pytest.approx(11.180, abs=5e-4) and sampled.is_outlier  # networks: 11.18 +- 0.3
    assert population.value == pytest.approx(7.722, abs=5e-4) and population.is_outlier  # networks: 7.66 +- 0.05
    assert sampled.bulk_edge < sampled.value and population.bulk_edge < population.value


def test_the_mode_before_at_and_beyond_the_edge_of_stability():
    theory = solve(linear(data_ratio=4.0, output_scale=3.0, learning_rate=0.15, weight_std=0.5), 80)
    modes = [leading_mode(theory, step) for step in (5, 10, 15, 20, 30, 79)]
    figures = [13.57, 13.97, 17.34, 9.80, 9.68, 17.83]  # one network: 13.30, 13.87, 16.62, 10.59, 9.86, 17.27
    assert [mode.value for mode in modes] == pytest.approx(figures, abs=5e-3)
    assert np.all(np.diff([mode.alignment for mode in modes]) > 0)  # the error turns into the unstable direction
    assert modes[-1].alignment > 0.999


def test_one_hidden_layer_at_the_start_has_its_bulk_between_one_and_five():
    theory = solve(linear(depth=1, weight_std=1.0), 1)
    mode = leading_mode(theory, 0, population=True)
    assert (mode.value, mode.bulk_edge) == pytest.approx((5.0, 5.0), rel=1e-12)
    assert not mode.is_outlier and mode.alignment == 0
    assert bulk(theory, 0).edges == pytest.approx(np.array([[1.0, 5.0]]), rel=1e-10)


# --- limits and laws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
def test_one_hidden_layer_is_marchenko_pastur_shifted_by_the_readout(nu):
    """M = rho_0 + W^T W/N on the population."""
    theory = solve(linear(depth=1, width_ratio=nu, learning_rate=0.1), 6)
    for step in (0, 6):
        rho, found = theory.layers[0].C_g[step, step], bulk(theory, step)
        law = laws.marchenko_pastur(1 / nu, 0.49)
        assert found.edges == pytest.approx(law.edges + rho, rel=1e-9)
        assert found.atoms == (((rho, 0.5),) if nu < 1 else ())
        x = rho + np.linspace(0.01, 2.5, 300)
        assert found.density(x) == pytest.approx(law.density(x - rho), rel=1e-6, abs=1e-9)
        assert found.cdf(x) == pytest.approx(law.cdf(x - rho), abs=1e-6)
        z = x[::50] + 0.3j
        assert found.stieltjes(z) == pytest.approx(law.stieltjes(z - rho), rel=1e-10)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_infinitely_wide_lazy_networks_have_the_spectrum_of_the_data(alpha):
    theory = solve(linear(width_ratio=1e13, data_ratio=alpha), 8)
    law, found = laws.marchenko_pastur(1 / alpha, 3 * 0.7**4), bulk(theory, 8)
    assert found.edges == pytest.approx(law.edges, rel=1e-6, abs=1e-9)
    assert found.atom_at_zero == pytest.approx(max(0, 1 - alpha))
    x = np.linspace(0.01, 10, 400)
    assert found.cdf(x) == pytest.approx(law.cdf(x), abs=1e-6)
    mode = leading_mode(theory, 8)
    assert not mode.is_outlier and mode.value == pytest.approx(law.edges[-1, 1], rel=1e-6)


def test_the_wide_bulk_of_the_population_is_a_point():
    found = bulk(solve(linear(width_ratio=1e12, data_ratio=1.0), 3), 3, population=True)
    assert found.edges[0] == pytest.approx([3 * 0.7**4] * 2, rel=1e-5)
    assert found.cdf(found.edges[0, 1]) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", ["data_ratio", "batch_ratio"])
def test_infinite_data_are_the_population(name):
    theory = solve(linear(noise_std=0.3, output_scale=3.0, **{name: 1e12}), 10)
    ours, theirs = leading_mode(theory, 10), leading_mode(theory, 10, population=True)
    assert theirs.is_outlier and theirs.alignment > 0.05
    for field in ("value", "bulk_edge", "alignment"):
        assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-4)
    bare = solve(linear(noise_std=0.3, output_scale=3.0), 10)
    assert leading_mode(bare, 10) == leading_mode(bare, 10, population=True)
    assert leading_mode(bare, 10).value == pytest.approx(theirs.value, rel=1e-4)


def test_wide_mup_has_one_outlier_of_rank_one_weights():
    """One hidden layer, W = W(0) + spike, as nu grows at fixed features: M = rho_0 + s2 + (<hh> - s2) v v^T."""
    theory, sigma = solve(linear(depth=1, width_ratio=1e10, parametrization="mup"), 40), 0.7
    layer, mode = theory.layers[0], leading_mode(theory, 40)
    # h^1 = W vhat with vhat = v: along v the feature per unit of v has the mean square C_h/C_v
    along = layer.C_h[40, 40] / theory.data.C_v[40, 40]
    assert mode.bulk_edge == pytest.approx(layer.C_g[40, 40] + sigma**2, rel=1e-4)
    assert mode.value == pytest.approx(layer.C_g[40, 40] + along, rel=1e-6)
    assert mode.alignment == pytest.approx(1, abs=1e-6)


@st.composite
def cases(draw):
    ratio = draw(st.sampled_from([{}, {"data_ratio": 0.6}, {"data_ratio": 2.5}, {"batch_ratio": 0.8}]))
    return linear(
        depth=draw(st.integers(1, 4)),
        width_ratio=draw(st.floats(0.3, 3)),
        output_scale=draw(st.floats(0.5, 4)),
        weight_std=draw(st.floats(0.3, 1)),
        noise_std=draw(st.sampled_from([0.0, 0.3])),
        learning_rate=draw(st.floats(0.005, 0.03)),
        momentum=draw(st.sampled_from([0.0, 0.5])),
        weight_decay=draw(st.sampled_from([0.0, 0.3])),
        **ratio,
    )


@settings(max_examples=12, deadline=None, derandomize=True)
@given(problem=cases(), step=st.integers(0, 25), population=st.booleans())
def test_a_mode_stands_outside_a_bulk_of_mass_one(problem, step, population):
    theory = solve(problem, 25)
    mode, law = leading_mode(theory, step, population), bulk(theory, step, population)
    assert mode.bulk_edge == pytest.approx(law.edges[-1, 1], rel=1e-12)
    assert mode.is_outlier == (mode.value > mode.bulk_edge)
    assert 0 <= mode.alignment <= 1 + 1e-6
    assert law.cdf(law.edges[-1, 1]) == pytest.approx(1, abs=1e-5)
    assert law.cdf(-1e-9) == pytest.approx(0, abs=1e-9)
    samples = problem.data_ratio or problem.batch_ratio or np.inf
    assert law.atom_at_zero == pytest.approx(0 if population else max(0, 1 - samples))
    assert np.all(law.density(mode.bulk_edge * np.array([-0.1, 0.0, 1 + 1e-9, 1.1])) == 0)


def test_the_mean_of_the_bulk_is_the_trace_of_the_initial_operator():
    problem = linear(depth=3, width_ratio=0.7, data_ratio=1.5)
    for population in (False, True):
        found = bulk(solve(problem, 0), 0, population)
        z = 1e5j * found.edges[-1, 1]
        assert (-z * (z * found.stieltjes(z) + 1)).real == pytest.approx(4 * 0.7**6, rel=1e-6)


# --- real networks ------------------------------------------------------------------------------------------------


def distance(eigenvalues, law):
    """Kolmogorov-Smirnov distance, on both sides of every jump."""
    x, small = np.sort(eigenvalues), 1e-9
    low, high = (np.searchsorted(x, x + shift, side) / len(x) for shift, side in ((-small, "left"), (small, "right")))
    return max(np.abs(law.cdf(x - small) - low).max(), np.abs(law.cdf(x + small) - high).max())


@pytest.mark.parametrize(
    ("depth", "width_ratio", "data_ratio"),
    [(1, 1.0, 0.5), (2, 0.5, 2.0), (3, 1.5, 0.7), (1, 1.0, None), (2, 0.5, None), (2, 1.0, None), (3, 2.0, None)],
)
def test_the_bulk_is_that_of_networks(depth, width_ratio, data_ratio):
    """Given the lengths of a network's own gradients: they scatter by 1/sqrt(N) and move the whole spectrum."""
    problem = linear(depth=depth, width_ratio=width_ratio, data_ratio=data_ratio, output_scale=1.5)
    network, expected = trained(problem, 500, 12, seed=2), bulk(solve(problem, 12), 12)
    rates = network.tangent_rates(12)
    assert rates == pytest.approx(expected.operator.rates, rel=0.25)
    law, spectrum = sharpness.Bulk(replace(expected.operator, rates=tuple(rates))), network.ntk_spectrum(12)
    for location, mass in law.atoms:  # where a network has them to rounding
        there = np.abs(spectrum - location) < 1e-9
        assert np.mean(there) == pytest.approx(mass, abs=1e-9)
        spectrum = np.where(there, location, spectrum)
    assert distance(spectrum, law) < 0.01


@pytest.mark.parametrize(("depth", "width_ratio", "data_ratio"), [(1, 1.0, 0.5), (3, 2.0, 1.5)])
def test_the_bulk_is_that_of_networks_on_average(depth, width_ratio, data_ratio):
    """Nothing given: what is left is the scatter of the gradients' lengths at D = 160, not the theory's error."""
    problem = linear(depth=depth, width_ratio=width_ratio, data_ratio=data_ratio, output_scale=1.5)
    law = bulk(solve(problem, 8), 8)
    spectrum = np.concatenate([trained(problem, 160, 8, seed).ntk_spectrum(8) for seed in range(25)])
    assert distance(np.where(spectrum < 1e-9, 0, spectrum), law) < 0.03


def test_the_edge_at_the_start_is_that_of_networks():
    problem, sizes, tops = linear(depth=1, weight_std=1.0), np.array([64, 128, 256, 512]), []
    for size, seeds in zip(sizes, (160, 80, 40, 20), strict=True):
        runs = [trained(problem, size, 0, seed) for seed in range(seeds)]
        tops.append(np.mean([run.leading_mode(0, population=True).value for run in runs]))
    slope, edge = np.polyfit(sizes ** (-2 / 3), tops, 1)
    assert slope < 0 and edge == pytest.approx(5, rel=0.01)


FINITE = {
    "full batch": linear(data_ratio=2.0, output_scale=3.0),
    "one layer, few samples": linear(depth=1, width_ratio=2.0, data_ratio=0.75, output_scale=4.0, learning_rate=0.02),
    "fresh, decay": linear(
        width_ratio=1.5, batch_ratio=1.5, output_scale=3.0, momentum=0.4, weight_decay=0.3, learning_rate=0.03
    ),
}


@pytest.mark.parametrize("name", FINITE)
def test_finite_networks_extrapolate_to_the_mode(name):
    problem, steps, sizes = FINITE[name], 14, np.array([40, 80, 160])
    theory, mean, error = solve(problem, steps), [], []
    modes = [leading_mode(theory, steps, population) for population in (False, True)]
    assert all(mode.is_outlier for mode in modes)
    for size, seeds in zip(sizes, (120, 60, 30), strict=True):
        runs = [trained(problem, size, steps, [size, seed]) for seed in range(seeds)]
        measured = [[run.leading_mode(steps, population) for population in (False, True)] for run in runs]
        values = np.array([[x for mode in pair for x in (mode.value, mode.alignment)] for pair in measured])
        mean.append(values.mean(axis=0))
        error.append(values.std(axis=0, ddof=1) / np.sqrt(seeds))
    for k, expected in enumerate(x for mode in modes for x in (mode.value, mode.alignment)):
        weight = 1 / np.array(error)[:, k] ** 2  # weighted fit of a + b/D; a is the prediction
        design = np.column_stack([np.ones(3), 1 / sizes])
        covariance = np.linalg.inv(design.T * weight @ design)
        intercept = (covariance @ (design.T * weight) @ np.array(mean)[:, k])[0]
        assert abs(intercept - expected) < 3.5 * np.sqrt(covariance[0, 0])
        assert np.sqrt(covariance[0, 0]) < (0.1 if k % 2 else 0.04) * expected


# --- the operators, measured --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [{}, {"data_ratio": 1.5}, {"data_ratio": 0.5}, {"batch_ratio": 0.8}])
def test_the_measured_operator_is_the_step_that_the_network_takes(ratio):
    """No noise, a small rate: v(t+1) - v(t) = -eta M Sigma v(t), from the weights alone."""
    problem = linear(depth=3, width_ratio=1.3, learning_rate=1e-7, **ratio)
    network = trained(problem, 30, 1, seed=3)
    weights = [network.weights(l, 0) for l in range(3)] + [network.readout(0)]
    v, rates = network.error(0), network.tangent_rates(0)
    assert np.mean(v**2) == pytest.approx(network.test_loss[0], rel=1e-12)
    vhat = network.features(0)[:, 0]
    signals = (deep_linear._forward(weights, unit) for unit in np.eye(30))
    M = np.column_stack([curvature.tangent(weights, rates, signal) for signal in signals])
    assert network.error(1) - v == pytest.approx(-1e-7 * M @ vhat, rel=1e-4, abs=1e-12)
    Sigma = np.eye(30)
    if ratio:
        X = network.inputs(0)
        assert X.T @ (X @ v) / len(X) == pytest.approx(vhat, rel=1e-12)
        Sigma = X.T @ X / len(X)
    values, vectors = np.linalg.eig(M @ Sigma)
    order = np.argsort(-values.real)
    assert network.ntk_spectrum(0) == pytest.approx(values[order].real, rel=1e-8, abs=1e-9)
    mode = network.leading_mode(0)
    assert mode.value == pytest.approx(values[order[0]].real, rel=1e-9)
    assert abs(mode.direction @ vectors[:, order[0]].real) == pytest.approx(1, rel=1e-8)
    assert mode.alignment == pytest.approx(abs(mode.direction @ v) / np.linalg.norm(v))
    whole = np.linalg.eigvalsh((M + M.T) / 2)[::-1]
    assert network.ntk_spectrum(0, population=True) == pytest.approx(whole, rel=1e-9)
    assert network.leading_mode(0, population=True).value == pytest.approx(whole[0], rel=1e-9)


def test_the_data_of_a_run_are_those_it_was_trained_on():
    problem = linear(batch_ratio=0.7, noise_std=0.0, learning_rate=[0.02, 0.05, 0.1, 0.1])
    network = networks.train(problem, size=20, steps=4, rng=np.random.default_rng(8), record=(0, 2, 4))
    for step in (2, 4):
        X, v = network.inputs(step), network.error(step)
        assert np.mean(v**2) == pytest.approx(network.test_loss[step], rel=1e-12)
        assert np.mean((X @ v) ** 2) / 20 == pytest.approx(network.train_loss[step], rel=1e-12)


def test_the_data_of_a_run_are_its_samples_and_their_noise():
    """At the start Delta = X (wstar - beta)/sqrt(D) + noise; the population has a target, and no samples."""
    network = trained(linear(data_ratio=1.5, noise_std=0.4), 20, 2, seed=1)
    target, X, noise = network.data()
    assert target @ target == pytest.approx(20) and np.array_equal(X, network.inputs(2))
    for step in (0, 2):
        delta = X @ network.error(step) / np.sqrt(20) + noise
        assert np.mean(delta**2) == pytest.approx(network.train_loss[step], rel=1e-12)
    assert trained(linear(), 20, 2, seed=1).data()[1:] == (None, None)


def test_no_eigenvalue_is_below_the_first_tangent_rate():
    """A narrow layer leaves directions that only the first layer's weights reach."""
    network = trained(linear(depth=2, width_ratio=0.5), 40, 5, seed=1)
    rates = network.tangent_rates(5)
    lengths = [g @ g / 20 for g in (network.weights(1, 5).T @ network.readout(5), network.readout(5))]
    assert rates == pytest.approx([lengths[0], 2 * lengths[1], 2], rel=1e-12)
    assert network.ntk_spectrum(5)[20:] == pytest.approx(np.full(20, rates[0]), rel=1e-10)


def loss(parameters, problem, target, X, noise):
    """<Delta^2>/2 in the raw weights, written out: shares nothing with the library."""
    *hidden, w = parameters
    signal = X.T
    for W in hidden:
        signal = W @ signal / np.sqrt(len(signal))
    delta = X @ target / np.sqrt(len(target)) + noise - w @ signal / (problem.gamma * np.sqrt(len(w)))
    return np.mean(delta**2) / 2


@pytest.mark.parametrize("depth", [1, 2])
def test_the_top_of_the_hessian_is_that_of_finite_differences(depth):
    problem = linear(depth=depth, width_ratio=0.8, data_ratio=1.5, noise_std=0.4, learning_rate=0.1)
    network, size = trained(problem, 5, 3, seed=4), 5
    target, X, noise = network.data(3)
    assert network.train_loss[3] / 2 == pytest.approx(
        loss([network.weights(l, 3) * np.sqrt(network.weights(l, 3).shape[1]) for l in range(depth)]
             + [network.readout(3)], problem, target, X, noise), rel=1e-12)  # fmt: skip
    raw = [network.weights(l, 3) * np.sqrt(network.weights(l, 3).shape[1]) for l in range(depth)]
    raw.append(network.readout(3))
    shapes, start = [part.shape for part in raw], np.concatenate([part.ravel() for part in raw])

    def at(flat):
        cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        parts = [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
        return loss(parts, problem, target, X, noise)

    units = 1e-3 * np.eye(len(start))
    dense = np.array(
        [
            [at(start + a + b) - at(start + a - b) - at(start - a + b) + at(start - a - b) for a in units]
            for b in units
        ]
    ) / (4e-6)
    expected = problem.gamma**2 * size * np.linalg.eigvalsh((dense + dense.T) / 2)[-1]
    assert network.hessian_top(3) == pytest.approx(expected, rel=1e-4)


def test_the_hessian_is_the_tangent_kernel_when_nothing_is_left_to_learn():
    problem = linear(depth=2, width_ratio=1.5, data_ratio=0.5, output_scale=1.0, learning_rate=0.15)
    network = trained(problem, 60, 400, seed=5)
    assert network.train_loss[-1] < 1e-10
    assert network.hessian_top(400) == pytest.approx(network.leading_mode(400).value, rel=1e-4)
    early = abs(network.hessian_top(0) / network.leading_mode(0).value - 1)
    assert 1e-3 < early < 0.3


# --- bad input ----------------------------------------------------------------------------------------------------


def test_bad_input_is_named():
    theory = solve(linear(data_ratio=2.0), 3)
    for call in (leading_mode, bulk):
        with pytest.raises(ValueError, match="theory must be"):
            call("theory", 1)
        with pytest.raises(ValueError, match="step must be 0 to 3"):
            call(theory, 4)
        with pytest.raises(ValueError, match="step must be an integer"):
            call(theory, 1.5)
        with pytest.raises(ValueError, match="population must be True or False"):
            call(theory, 1, "yes")
    with pytest.raises(ValueError, match="lie above the real axis"):
        bulk(theory, 1).stieltjes(3.0)
    with pytest.raises(ValueError, match="x holds 1 non-finite"):
        bulk(theory, 1).density(np.nan)


def test_nothing_left_of_the_initial_weights_is_refused():
    theory = solve(linear(learning_rate=[0.5, 0.1], weight_decay=2.0), 2)
    assert theory.decay[1] == 0
    with pytest.raises(ValueError, match="something left of the initial weights"):
        leading_mode(theory, 1)


def searched(monkeypatch, values):
    """The search for an outlier of a map that is diagonal, with eigenvalues values(a), at the edge of some bulk."""
    operator = tangent_bulk.operator_at(solve(linear(data_ratio=2.0), 2), 2, False)
    edge = tangent_bulk.edge_response(operator)
    monkeypatch.setattr(sharpness, "_matrix", lambda a, *_: np.diag(values(a / edge)))
    return sharpness._outlier_response(SimpleNamespace(size=len(values(0.5))), operator, edge), edge


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 3e-3])
def test_two_outliers_in_one_stride_are_told_apart(monkeypatch, gap):
    a, edge = searched(monkeypatch, lambda x: np.array([x / 0.31, x / (0.31 + gap), x / 20]))
    assert a / edge == pytest.approx(0.31, rel=1e-9)


def test_two_outliers_too_close_to_tell_apart_are_refused(monkeypatch):
    with pytest.raises(ConvergenceError, match="no change of sign tells apart"):
        searched(monkeypatch, lambda x: np.array([x / 0.31, x / (0.31 + 1e-9)]))


def test_eigenvalues_that_pass_as_a_conjugate_pair_are_no_outlier(monkeypatch):
    """Their real part passes 1 and, for x above 1/2, they are real."""
    values = lambda x: 1.5 * x + 0.4 + np.array([1, -1]) * np.emath.sqrt(x - 0.6)  # noqa: E731
    assert searched(monkeypatch, values)[0] is None


def test_beyond_the_edge_the_outlier_can_fall_back_into_the_bulk():
    """Two eigenvalues of the map exceed 1 there, but met before they reached it."""
    problem = linear(width_ratio=0.5, data_ratio=4.0, output_scale=3.0, parametrization="mup", weight_std=0.5)
    theory = solve(replace(problem, learning_rate=0.2), 22)
    assert [leading_mode(theory, step).is_outlier for step in (20, 21, 22)] == [True, False, True]


def test_a_search_that_miscounts_is_refused(monkeypatch):
    theory = solve(linear(data_ratio=2.0), 40)
    monkeypatch.setattr(sharpness, "_largest", lambda *_: 2.0)
    for step in (2, 40):  # without and with an outlier: the count is asked, and right
        assert leading_mode(theory, step).is_outlier == (step == 40)
    monkeypatch.setattr(sharpness, "_zeros", lambda *_: 3)
    for step in (2, 40):
        with pytest.raises(ConvergenceError, match="no change of sign tells apart"):
            leading_mode(theory, step)


def test_where_no_error_is_left_nothing_is_aligned_with_it():
    theory = solve(linear(depth=1, output_scale=3.0, weight_std=0.5, learning_rate=0.2, parametrization="mup"), 40)
    assert np.all(theory.data.C_v.diagonal()[24:] < 1e-16)
    with np.errstate(invalid="raise"):  # not the root of a negative number
        found = trajectory(theory, range(4, 41, 4))
    assert np.all(found.is_outlier) and np.all((found.alignment >= 0) & (found.alignment <= 1))
    assert found.alignment[0] > 0 and not found.alignment[6:].any()


# --- whole trajectories -------------------------------------------------------------------------------------------


def test_a_trajectory_is_the_mode_at_every_step():
    theory = solve(linear(data_ratio=2.0), 12)
    whole, some = trajectory(theory), trajectory(theory, steps=(3, 12), population=True)
    assert whole.steps == pytest.approx(np.arange(13)) and some.steps == pytest.approx([3, 12])
    assert not whole.is_outlier[0] and whole.is_outlier[12]
    for name in ("value", "bulk_edge", "is_outlier", "alignment"):
        assert getattr(whole, name)[7] == getattr(leading_mode(theory, 7), name)
        assert getattr(some, name)[1] == getattr(leading_mode(theory, 12, population=True), name)


def test_a_trajectory_that_fails_keeps_what_it_has(monkeypatch):
    theory, ours = solve(linear(data_ratio=2.0), 12), sharpness.leading_mode

    def fails(theory, step, population):
        if step == 5:
            raise ConvergenceError("lost", None, 0.5)
        return ours(theory, step, population)

    monkeypatch.setattr(sharpness, "leading_mode", fails)
    with pytest.raises(ConvergenceError, match="no leading mode at step 5: lost") as caught:
        trajectory(theory)
    assert list(caught.value.partial.steps) == [0, 1, 2, 3, 4] and caught.value.residual == 0.5
    assert caught.value.partial.value[4] == ours(theory, 4).value
    with pytest.raises(ValueError, match="step must be 0 to 12"):
        trajectory(theory, steps=[13])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_stable_rate_is_where_eta_times_the_mode_reaches_its_limit(momentum):
    problem = linear(data_ratio=4.0, output_scale=3.0, weight_std=0.5, momentum=momentum)

    def trained_at(rate):
        return solve(replace(problem, learning_rate=rate), 30)

    rate = stable_rate(trained_at, (0.02, 0.9), rtol=1e-3)
    for factor in (1 - 1e-3, 1 + 1e-3):
        modes = trajectory(trained_at(factor * rate))
        limit = 2 * (1 + momentum) / (factor * rate)
        assert (modes.value.max() > limit) == (factor > 1)
        assert modes.value.max() == pytest.approx(limit, rel=5e-3)


def test_bad_input_to_the_stable_rate_is_named():
    def lazy(rate, **changed):
        return solve(linear(**{"data_ratio": 4.0, "learning_rate": rate} | changed), 3)

    with pytest.raises(ValueError, match="bracket must enclose"):
        stable_rate(lazy, (1e-4, 1e-3))
    with pytest.raises(ValueError, match="bracket must enclose"):
        stable_rate(lazy, (50.0, 100.0))  # the theory diverges at both
    with pytest.raises(ValueError, match="bracket must be two rates, 0 < low < high"):
        stable_rate(lazy, (0.2, 0.1))
    with pytest.raises(ValueError, match=r"bracket must have shape \(2\)"):
        stable_rate(lazy, 0.1)
    with pytest.raises(ValueError, match="rtol must be greater than 0"):
        stable_rate(lazy, (0.1, 0.2), rtol=0)
    with pytest.raises(ValueError, match="without fresh batches"):
        stable_rate(lambda rate: lazy(rate, data_ratio=None, batch_ratio=1.0), (0.1, 0.2))


def test_a_bulk_with_a_band_missing_is_refused(monkeypatch):
    law = bulk(solve(linear(data_ratio=2.0), 2), 2)
    monkeypatch.setattr(sharpness.Bulk, "_bands", property(lambda self: np.array([[self._top / 2, self._top]])))
    with pytest.raises(ConvergenceError, match="sum to 0"):
        law.cdf(1.0)


def test_bad_input_to_a_network_is_named():
    network = networks.train(linear(), size=20, steps=2, rng=np.random.default_rng(0), record=(0, 2))
    for call in (network.leading_mode, network.ntk_spectrum, network.hessian_top):
        with pytest.raises(ValueError, match="step must be one whose weights were kept"):
            call(1)
        with pytest.raises(ValueError, match="population must be True or False"):
            call(2, None)
    with pytest.raises(ValueError, match="problem must have samples"):
        network.inputs()
    with pytest.raises(ValueError, match="step must be one whose weights were kept"):
        network.tangent_rates(1)
    with pytest.raises(ValueError, match="step must be 0 to 2"):
        network.data(3)
    with pytest.raises(ValueError, match=r"must come from networks\.train"):
        replace(network, _start=None).leading_mode(2)
    with pytest.raises(ValueError, match="gave other initial weights"):
        replace(network, _start=np.random.default_rng(1)).leading_mode(2)


def test_a_run_that_diverged_can_still_be_measured():
    with pytest.raises(DivergenceError) as caught:
        trained(linear(learning_rate=5.0, data_ratio=1.0), 20, 30, seed=0)
    assert caught.value.partial.leading_mode(0).value * 5.0 > 2

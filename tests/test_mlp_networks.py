"""Networks on given samples: another loss, momentum and weight decay; their tangent kernel and its leading mode."""

import numpy as np
import pytest
from spectral_dynamics import networks, problems

X = np.random.default_rng(0).standard_normal((5, 4))
LABELS = [2, 0, 1, 1, 2]
TARGETS = {"squared": np.random.default_rng(1).standard_normal((5, 3)), "cross_entropy": LABELS}
BATCHES = [[0, 3, 3, 1], [4, 2, 0, 1], [1, 1, 2, 3]]


def mlp(loss="squared", **changed):
    given = {"inputs": X, "targets": TARGETS[loss], "loss": loss, "learning_rate": 0.3, "output_scale": 1.7}
    return problems.MLP(**{**given, **changed})


def train(problem, size=30, steps=4, seed=2, **options):
    return networks.train(problem, size=size, steps=steps, rng=np.random.default_rng(seed), **options)


def raw(network, step):
    """The weights W, entries of order one, and the read-out w."""
    hidden = [network.weights(layer, step) for layer in range(network.problem.depth)]
    return [*(matrix * np.sqrt(matrix.shape[1]) for matrix in hidden), network.readout(step)]


def outputs(parameters, problem, width):
    """f (P, outputs), sample by sample, and gamma: shares nothing with the library."""
    *hidden, w = parameters
    gamma = problem.output_scale * (np.sqrt(width) if problem.parametrization == "mup" else 1)
    rows = []
    for signal in problem.inputs:
        for W in hidden:
            signal = problem.phi(W @ signal / np.sqrt(len(signal)))
        rows.append(w.T @ signal / (gamma * np.sqrt(width)))
    return np.array(rows), gamma


def descended(parameters, problem, width, batch):
    """What gradient descent descends: half the squared residual, or the cross-entropy, over a batch."""
    f, total = outputs(parameters, problem, width)[0], 0.0
    for mu in batch:
        if problem.loss == "squared":
            total += np.sum((problem.targets[mu] - f[mu]) ** 2) / 2
        else:
            total += np.log(np.sum(np.exp(f[mu]))) - f[mu, LABELS[mu]]
    return total / len(batch)


def finite_differences(function, parameters, step=1e-5):
    """d function/d every weight: for each matrix an array (its shape, shape of the function's values)."""
    slopes = []
    for which, matrix in enumerate(parameters):
        slope = np.zeros((*matrix.shape, *np.shape(function(parameters))))
        for index in np.ndindex(matrix.shape):
            values = []
            for sign in (1, -1):
                moved = [p.copy() for p in parameters]
                moved[which][index] += sign * step
                values.append(function(moved))
            slope[index] = (values[0] - values[1]) / (2 * step)
        slopes.append(slope)
    return slopes


# Training


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
@pytest.mark.parametrize(
    ("momentum", "weight_decay"), [(0.0, 0.0), (0.6, 0.0), (0.0, 0.4), (0.6, 0.4)], ids=["plain", "mu", "lam", "both"]
)
def test_training_follows_numerical_gradients(loss, parametrization, momentum, weight_decay):
    """V <- mu V + G - lam W, W <- W + eta V, step by step, G by finite differences of the loss in the raw weights."""
    options = {"momentum": momentum, "weight_decay": weight_decay, "batches": BATCHES}
    rates, width = [0.3, 0.1, 0.2], 6
    problem = mlp(loss, parametrization=parametrization, learning_rate=rates, **options)
    network = train(problem, size=width, steps=3, record=range(4))
    weights, gamma = raw(network, 0), outputs(raw(network, 0), problem, width)[1]
    velocity = [np.zeros_like(matrix) for matrix in weights]
    for step, batch in enumerate(BATCHES):
        slopes = finite_differences(lambda p, b=batch: descended(p, problem, width, b), weights)
        for k, slope in enumerate(slopes):
            velocity[k] = momentum * velocity[k] - gamma**2 * slope - weight_decay * weights[k]
            weights[k] = weights[k] + rates[step] * velocity[k]
        for k, trained in enumerate(raw(network, step + 1)):
            np.testing.assert_allclose(trained, weights[k], rtol=0, atol=1e-8)


def test_the_plain_path_is_that_of_no_momentum_and_no_decay_to_the_last_bit():
    plain, named = train(mlp()), train(mlp(momentum=0.0, weight_decay=0.0, loss="squared"))
    np.testing.assert_array_equal(plain.predictions, named.predictions)
    np.testing.assert_array_equal(plain.decay, np.ones(5))
    np.testing.assert_array_equal(plain.coefficients(), np.full(20, 0.3 * 1.7 / 5))


@pytest.mark.parametrize("loss", TARGETS)
def test_the_train_loss_is_the_mean_over_all_samples(loss):
    network = train(mlp(loss, batches=[[0, 1]] * 3), steps=3)
    for f, found in zip(network.predictions, network.train_loss, strict=True):
        if loss == "squared":
            expected = np.mean(np.sum((TARGETS["squared"] - f) ** 2, axis=1))
        else:
            expected = np.mean(np.log(np.sum(np.exp(f), axis=1)) - f[range(5), LABELS])
        assert found == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_starts_at_the_logarithm_of_the_number_of_classes():
    network = train(mlp("cross_entropy"), subtract_initial=True)
    assert network.train_loss[0] == pytest.approx(np.log(3), rel=1e-14)
    assert network.train_loss[4] < network.train_loss[0] - 0.01


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
def test_recorded_features_and_gradients_rebuild_the_learned_change(loss, parametrization):
    batches = np.random.default_rng(3).integers(0, 5, (6, 3))
    rates = [0.1, 0.4, 0.0, 0.3, 0.2, 0.1]
    options = {"batches": batches, "momentum": 0.6, "weight_decay": 0.4, "learning_rate": rates}
    network = train(mlp(loss, depth=3, parametrization=parametrization, **options), steps=6, record=(0, 2, 6))
    for layer in range(3):
        for step in (2, 6):
            phi, g, c = network.features(layer, step), network.gradients(layer, step), network.coefficients(step)
            change = network.weights(layer, step) - network.decay[step] * network.weights(layer, 0)
            np.testing.assert_allclose(g * c @ phi.T / len(phi), change, rtol=0, atol=1e-14)
            assert np.abs(change).max() > 1e-3
            recording = network.recording(layer, step, directions=2)
            assert recording.decay == network.decay[step] < 0.99


def test_without_decay_all_of_the_start_is_left():
    assert train(mlp(momentum=0.9)).recording(1, 4).decay == 1
    plain = train(mlp(weight_decay=0.5, learning_rate=[0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(plain.decay, np.cumprod([1, 0.95, 0.9, 0.85, 0.8]), rtol=1e-14)

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


def twins(samples=9, steps=5, **changed):
    """The same network by both rooms: of problems.DeepLinear on Gaussian data, and of problems.MLP on these data.

    The first moves weights by eta gamma^2 D, the second by eta gamma^2: its eta is D times as large.
    """
    size, width, eta, momentum, decay = 8, 12, 0.08, 0.6, 0.3
    given = {"depth": 3, "learning_rate": eta, "weight_std": 0.8, "momentum": momentum, "weight_decay": decay}
    given = {**given, **changed}
    linear = problems.DeepLinear(width_ratio=1.5, data_ratio=samples / size, noise_std=0.3, output_scale=1.3, **given)
    first = train(linear, size=size, steps=steps, record=range(steps + 1))
    target, inputs, noise = first.data()
    units = {"learning_rate": eta * size, "weight_decay": decay / size, "output_scale": 1.3}
    units["output_scale"] /= np.sqrt(size) if linear.parametrization == "mup" else 1
    layered = problems.MLP(inputs, inputs @ target / np.sqrt(size) + noise, activation="linear", **{**given, **units})
    rng = np.random.default_rng(2)
    rng.standard_normal(size)  # the target
    return first, networks.train(layered, size=width, steps=steps, rng=rng, record=range(steps + 1))


@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
def test_a_linear_network_is_the_deep_linear_one(parametrization):
    first, second = twins(parametrization=parametrization)
    for step in range(6):
        for layer in range(3):
            np.testing.assert_allclose(second.weights(layer, step), first.weights(layer, step), rtol=0, atol=1e-12)
        np.testing.assert_allclose(second.readout(step)[:, 0], first.readout(step), rtol=0, atol=1e-12)
    np.testing.assert_allclose(second.train_loss, first.train_loss, rtol=1e-12)
    np.testing.assert_allclose(second.decay, first.decay, rtol=1e-14)
    assert first.decay[5] < 0.9 and first.train_loss[5] < 0.9 * first.train_loss[0]


def test_without_decay_all_of_the_start_is_left():
    assert train(mlp(momentum=0.9)).recording(1, 4).decay == 1
    plain = train(mlp(weight_decay=0.5, learning_rate=[0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(plain.decay, np.cumprod([1, 0.95, 0.9, 0.85, 0.8]), rtol=1e-14)


# The tangent kernel


@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_tangent_kernel_is_that_of_all_slopes_of_the_outputs(activation, depth, parametrization):
    """gamma^2 times the sum over all raw weights of df_o(x_mu)/dW df_o'(x_nu)/dW, slopes by finite differences."""
    targets = np.random.default_rng(1).standard_normal((5, 2))
    problem = mlp(
        targets=targets, activation=activation, depth=depth, parametrization=parametrization, weight_std=1.2
    )
    network, width = train(problem, size=7, steps=2), 7
    gamma = outputs(raw(network, 2), problem, width)[1]
    slopes = finite_differences(lambda p: outputs(p, problem, width)[0], raw(network, 2))
    flat = np.vstack([slope.reshape(-1, 10) for slope in slopes])
    kernel = network.tangent_kernel(2)
    assert kernel.shape == (5, 2, 5, 2)
    np.testing.assert_allclose(kernel.reshape(10, 10), gamma**2 * flat.T @ flat, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
def test_the_function_moves_by_its_tangent_kernel(loss, parametrization):
    missed = []
    for eta in (1e-3, 1e-4):
        network = train(mlp(loss, parametrization=parametrization, learning_rate=eta), steps=1)
        residual = network.problem.residual(network.predictions[0])
        expected = eta * np.tensordot(network.tangent_kernel(0), residual, axes=2) / 5
        missed.append(
            np.abs(network.predictions[1] - network.predictions[0] - expected).max() / np.abs(expected).max()
        )
    assert missed[0] < 1e-2 and missed[1] == pytest.approx(missed[0] / 10, rel=0.05)


def test_the_kernel_of_a_wide_linear_network_is_that_of_its_inputs():
    """With one hidden layer 2 sigma^2 x.x'/D for each output, in both parametrizations."""
    for parametrization in ("mup", "ntk"):
        problem = mlp(depth=1, activation="linear", weight_std=1.3, parametrization=parametrization)
        kernel = train(problem, size=20_000, steps=0).tangent_kernel(0)
        expected = np.einsum("mn,op->monp", 2 * 1.3**2 * X @ X.T / 4, np.eye(3))
        np.testing.assert_allclose(kernel, expected, atol=5 / np.sqrt(20_000) * np.abs(expected).max())


# Its leading mode


def operator(network, step):
    """M K/P as a matrix, from the kernel itself."""
    f, P, C = network.predictions[step], *network.problem.targets.shape
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    metric = [np.eye(C) if network.problem.loss == "squared" else np.diag(row) - np.outer(row, row) for row in p]
    return np.einsum("mab,mbnc->manc", metric, network.tangent_kernel(step)).reshape(P * C, P * C) / P


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("copies", [1, 4], ids=["dense", "Lanczos"])
def test_the_leading_mode_is_that_of_the_kernel(loss, copies):
    rng = np.random.default_rng(4)
    inputs, targets = rng.standard_normal((5 * copies, 9)), np.resize(TARGETS[loss], (5 * copies, 3))
    targets = targets if loss == "squared" else LABELS * copies
    problem = mlp(loss, inputs=inputs, targets=targets, depth=3, momentum=0.5, parametrization="ntk")
    network = train(problem)
    for step in (0, 4):
        mode, matrix = network.leading_mode(step), operator(network, step)
        values = np.sort(np.linalg.eigvals(matrix).real)[::-1]
        assert mode.value == pytest.approx(values[0], rel=1e-9) and values[1] < 0.95 * values[0]
        z = mode.direction.ravel()
        np.testing.assert_allclose(matrix @ z, mode.value * z, atol=1e-8 * mode.value)
        residual = problem.residual(network.predictions[step]).ravel()
        assert mode.alignment == pytest.approx(z @ residual / np.linalg.norm(residual), rel=1e-9)
        assert mode.direction.shape == (5 * copies, 3) and 0 <= mode.alignment <= 1


def test_the_mode_of_a_linear_network_is_the_deep_linear_one():
    """In the units of its own learning rate, which is D times as large; the direction is seen by the samples."""
    for samples in (9, 25):
        first, second = twins(samples)
        for step in (0, 5):
            one, other = first.leading_mode(step), second.leading_mode(step)
            assert other.value == pytest.approx(one.value / 8, rel=1e-9)
            seen = second.problem.inputs @ one.direction
            np.testing.assert_allclose(np.abs(other.direction[:, 0] @ seen), np.linalg.norm(seen), rtol=1e-9)


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_a_lazy_network_runs_away_above_the_edge_and_learns_below(loss, momentum):
    """Small deviations a along the mode: a(t+1) = (1 + mu - eta value) a(t) - mu a(t-1), edge 2 (1 + mu)/value."""
    f = 1e-4 * np.random.default_rng(6).standard_normal((5, 3))
    targets = f if loss == "squared" else np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    given = {"targets": targets, "momentum": momentum, "output_scale": 1e-4}
    start = train(mlp(loss, **given), size=200, steps=0, subtract_initial=True)
    mode = start.leading_mode(0)
    dual = np.tensordot(start.tangent_kernel(0), mode.direction, axes=2)  # what M K has on its left
    for share in (0.95, 1.05):
        eta = share * 2 * (1 + momentum) / mode.value
        network = train(mlp(loss, **given, learning_rate=eta), size=200, steps=15, subtract_initial=True)
        a = [np.sum(dual * network.problem.residual(f)) for f in network.predictions]
        a = np.array([a[0], *a])  # at rest before the start

        def missed(value, a=a, eta=eta):
            return np.abs(a[2:] - (1 + momentum - eta * value) * a[1:-1] + momentum * a[:-2]).max() / np.abs(a).max()

        assert missed(mode.value) < 1e-3 and missed(1.01 * mode.value) > 1e-2
        assert abs(a[-1]) > 4 * abs(a[0]) if share > 1 else abs(a[-1]) < abs(a[0]) / 4


def test_renumbering_samples_renumbers_the_mode():
    order = np.random.default_rng(9).permutation(15)
    inputs, labels = np.random.default_rng(8).standard_normal((15, 4)), np.resize(LABELS, 15)
    straight = train(mlp("cross_entropy", inputs=inputs, targets=labels)).leading_mode(4)
    shuffled = train(mlp("cross_entropy", inputs=inputs[order], targets=labels[order])).leading_mode(4)
    assert shuffled.value == pytest.approx(straight.value, rel=1e-10)
    assert shuffled.alignment == pytest.approx(straight.alignment, abs=1e-7)
    np.testing.assert_allclose(shuffled.direction, straight.direction[order], atol=1e-6)


def test_a_mode_with_nothing_left_to_learn_or_to_move_stands_at_an_angle_of_cosine_0():
    for inputs in (X, np.random.default_rng(8).standard_normal((15, 4))):
        targets = np.zeros((len(inputs), 3))
        done = train(mlp(inputs=inputs, targets=targets), steps=0, subtract_initial=True).leading_mode(0)
        assert done.value > 0.1 and done.alignment == 0
    sure = train(mlp("cross_entropy", output_scale=1e-6), steps=0).leading_mode(0)  # softmax is 0 or 1
    assert sure.value == sure.alignment == 0


@pytest.mark.parametrize("name", ["tangent_kernel", "leading_mode"])
def test_modes_are_those_of_kept_steps(name):
    network = train(mlp())
    for step, message in ((3, r"kept, \(0, 4\), got 3"), (5, "step must be"), (0.5, "step must be an integer")):
        with pytest.raises(ValueError, match=message):
            getattr(network, name)(step)

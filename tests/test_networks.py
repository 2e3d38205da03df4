import doctest

import numpy as np
import pytest
from spectral_dynamics import errors, networks, problems, progress, spectra
from tqdm import tqdm

X = np.random.default_rng(0).standard_normal((5, 4))
Y = np.random.default_rng(1).standard_normal((5, 2))
SOFT = (lambda h: np.log1p(np.exp(h)), lambda h: 1 / (1 + np.exp(-h)))


def mlp(**changed):
    return problems.MLP(**{"inputs": X, "targets": Y, "learning_rate": 0.3, "output_scale": 1.7, **changed})


def train(problem, size=30, steps=4, seed=2, **options):
    return networks.train(problem, size=size, steps=steps, rng=np.random.default_rng(seed), **options)


class Given(np.random.Generator):
    """A generator that hands out prescribed normal arrays, so that a test can choose the initial weights."""

    def __init__(self, arrays):
        super().__init__(np.random.PCG64(0))
        self.arrays = iter(arrays)

    def standard_normal(self, size):
        array = next(self.arrays)
        assert array.shape == (tuple(size))
        return array


def batch_loss(parameters, problem, width, gamma, batch):
    """The loss of a batch, written sample by sample in the raw weights W: shares nothing with the library."""
    *hidden, w = parameters
    total = 0.0
    for mu in batch:
        signal = problem.inputs[mu]
        for W in hidden:
            signal = problem.phi(W @ signal / np.sqrt(len(signal)))
        total += np.sum((problem.targets[mu] - w.T @ signal / (gamma * np.sqrt(width))) ** 2)
    return total / (2 * len(batch))


def finite_difference(loss, parameters, which, step=1e-5):
    gradient = np.zeros_like(parameters[which])
    for index in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved = [p.copy() for p in parameters]
            moved[which][index] += sign * step
            values.append(loss(moved))
        gradient[index] = (values[0] - values[1]) / (2 * step)
    return gradient


# The update


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "erf", "linear", SOFT])
def test_one_step_descends_the_gradient_of_the_loss(activation, parametrization, depth):
    batch, width, eta = [0, 3, 3, 1], 7, 0.3
    problem = mlp(
        activation=activation, parametrization=parametrization, depth=depth, batches=[batch], weight_std=1.2
    )
    network = train(problem, size=width, steps=1)
    gamma = 1.7 * np.sqrt(width) if parametrization == "mup" else 1.7

    def raw(step):
        hidden = [network.weights(layer, step) for layer in range(depth)]
        return [*(W * np.sqrt(W.shape[1]) for W in hidden), network.readout(step)]

    for which in range(depth + 1):
        slope = finite_difference(lambda p: batch_loss(p, problem, width, gamma, batch), raw(0), which)
        moved = raw(1)[which] - raw(0)[which]
        np.testing.assert_allclose(moved, -eta * gamma**2 * slope, rtol=1e-6, atol=1e-8)


def test_recorded_features_and_gradients_rebuild_the_learned_change():
    batches = np.random.default_rng(3).integers(0, 5, (4, 3))
    for problem in (mlp(depth=3), mlp(depth=3, batches=batches, learning_rate=[0.1, 0.4, 0.2, 0.3])):
        network = train(problem, record=(0, 2, 4))
        for layer in range(3):
            for step in (2, 4):
                phi, g, c = network.features(layer, step), network.gradients(layer, step), network.coefficients(step)
                change = g * c @ phi.T / len(phi)
                np.testing.assert_allclose(
                    change, network.weights(layer, step) - network.weights(layer, 0), rtol=0, atol=1e-14
                )


def test_the_record_runs_over_steps_then_the_samples_of_the_batch():
    batches = [[4, 1], [0, 0], [2, 3]]
    network = train(mlp(batches=batches), steps=3, record=range(4))
    np.testing.assert_array_equal(network.features(0), X[np.ravel(batches)].T)
    for step, batch in enumerate(batches):
        hidden = np.tanh(network.weights(0, step) @ X[batch].T)
        np.testing.assert_allclose(network.features(1)[:, 2 * step : 2 * step + 2], hidden, atol=1e-14)


def test_predictions_and_loss_are_those_of_the_recorded_weights():
    network = train(mlp(batches=[[0, 1]] * 3), steps=3, record=range(4))
    for step in range(4):
        hidden = np.tanh(network.weights(1, step) @ np.tanh(network.weights(0, step) @ X.T))
        f = hidden.T @ network.readout(step) / (1.7 * 30)
        np.testing.assert_allclose(network.predictions[step], f, atol=1e-14)
        assert network.train_loss[step] == pytest.approx(np.mean(np.sum((Y - f) ** 2, axis=1)), rel=1e-13)


def test_initial_weights_have_the_variance_asked_for():
    network = train(mlp(weight_std=0.7, depth=3), size=1000, steps=0)
    for layer, fan_in in ((0, 4), (1, 1000), (2, 1000)):
        weights = network.weights(layer, 0)
        assert weights.shape == (1000, fan_in)
        assert fan_in * np.mean(weights**2) == pytest.approx(0.49, rel=5 * np.sqrt(2 / weights.size))
    assert np.mean(network.readout(0) ** 2) == pytest.approx(0.49, rel=5 * np.sqrt(2 / 2000))


# Parametrizations


def test_both_parametrizations_start_at_the_same_speed_in_function_space():
    eta, speed = 1e-6, {}
    for parametrization in ("mup", "ntk"):
        problem = mlp(parametrization=parametrization, learning_rate=eta, output_scale=3.0)
        network = train(problem, size=50, steps=1, subtract_initial=True)
        speed[parametrization] = network.predictions[1] / eta
    np.testing.assert_allclose(speed["mup"], speed["ntk"], rtol=1e-5)


@pytest.mark.parametrize("parametrization", ["mup", "ntk"])
def test_the_wide_linear_network_starts_at_the_rate_of_its_kernel(parametrization):
    # With one hidden layer the tangent kernel of gamma f is 2 sigma^2 x.x'/D, and f moves by eta K y/P.
    eta, width = 1e-4, 20_000
    problem = mlp(depth=1, activation="linear", weight_std=1.3, learning_rate=eta, parametrization=parametrization)
    network = train(problem, size=width, steps=1, subtract_initial=True)
    expected = eta * 2 * 1.3**2 * (X @ X.T / 4) @ Y / 5
    np.testing.assert_allclose(network.predictions[1], expected, atol=5 / np.sqrt(width) * np.abs(expected).max())


def test_features_move_by_order_one_in_mup_and_fall_as_the_root_of_the_width_in_ntk():
    widths, moved = [100, 400, 1600], {"mup": [], "ntk": []}
    for parametrization, movement in moved.items():
        for width in widths:
            problem = mlp(parametrization=parametrization, learning_rate=0.5, output_scale=2.0)
            network = train(problem, size=width, steps=5, subtract_initial=True)
            phi = network.features(1).reshape(width, 5, 5)
            movement.append(np.sqrt(np.mean((phi[:, -1] - phi[:, 0]) ** 2)))
    slope = {name: np.polyfit(np.log(widths), np.log(movement), 1)[0] for name, movement in moved.items()}
    assert abs(slope["mup"]) < 0.1
    assert abs(slope["ntk"] + 0.5) < 0.1


def test_subtracting_the_initial_function_starts_every_residual_at_the_target():
    network = train(mlp(), subtract_initial=True)
    np.testing.assert_array_equal(network.predictions[0], np.zeros((5, 2)))
    assert network.train_loss[0] == pytest.approx(np.mean(np.sum(Y**2, axis=1)))
    initial = train(mlp()).predictions[0]
    assert 0 < np.sqrt(np.mean(initial**2)) < 5 / (1.7 * np.sqrt(30))


# Symmetries and reproducibility


def test_a_seed_fixes_the_run_to_the_last_bit():
    first, again, other = train(mlp()), train(mlp()), train(mlp(), seed=3)
    np.testing.assert_array_equal(first.weights(1, 4), again.weights(1, 4))
    np.testing.assert_array_equal(first.predictions, again.predictions)
    assert not np.array_equal(first.predictions, other.predictions)


def test_what_is_recorded_does_not_change_the_run():
    plain, sparse = train(mlp(), record=range(5)), train(mlp(), record_fields=False)
    np.testing.assert_array_equal(plain.train_loss, sparse.train_loss)
    np.testing.assert_array_equal(plain.weights(0, 4), sparse.weights(0, 4))


def test_training_writes_to_nothing_it_was_given():
    inputs, targets = X.copy(), Y.copy()
    network = train(mlp(inputs=inputs, targets=targets))
    np.testing.assert_array_equal(inputs, X)
    np.testing.assert_array_equal(targets, Y)
    for array in (network.train_loss, network.weights(1, 4), network.features(1), network.predictions):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def initial_draws(width=12):
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape) for shape in ((width, 4), (width, width), (width, 2))]


def trained_from(problem, draws):
    return networks.train(problem, size=len(draws[0]), steps=6, rng=Given(draws))


def test_rotating_the_inputs_with_the_first_layer_changes_nothing():
    rotation = np.linalg.qr(np.random.default_rng(6).standard_normal((4, 4)))[0]
    W0, W1, w = initial_draws()
    straight = trained_from(mlp(), [W0, W1, w])
    turned = trained_from(mlp(inputs=X @ rotation.T), [W0 @ rotation.T, W1, w])
    np.testing.assert_allclose(turned.predictions, straight.predictions, atol=1e-13)
    np.testing.assert_allclose(turned.weights(1, 6), straight.weights(1, 6), atol=1e-13)


def test_renumbering_hidden_units_changes_nothing():
    one, two = np.random.default_rng(7).permutation(12), np.random.default_rng(8).permutation(12)
    W0, W1, w = initial_draws()
    straight = trained_from(mlp(), [W0, W1, w])
    renumbered = trained_from(mlp(), [W0[one], W1[two][:, one], w[two]])
    np.testing.assert_allclose(renumbered.predictions, straight.predictions, atol=1e-13)
    np.testing.assert_allclose(renumbered.weights(1, 6), straight.weights(1, 6)[two][:, one], atol=1e-13)


def test_renumbering_samples_renumbers_the_predictions():
    order = np.random.default_rng(9).permutation(5)
    straight, shuffled = train(mlp()), train(mlp(inputs=X[order], targets=Y[order]))
    np.testing.assert_allclose(shuffled.predictions, straight.predictions[:, order], atol=1e-13)


# Recordings


def test_directions_are_the_leading_singular_ones_of_the_learned_change():
    network = train(mlp(), size=40, steps=3)
    change = network.weights(1, 3) - network.weights(1, 0)
    values = np.linalg.svd(change, compute_uv=False)
    for count in (3, 12):  # the iterative and the full decomposition
        recording = network.recording(1, 3, directions=count)
        known = values[:count] > 1e-5 * values[0]  # the others are shrunk
        u, v = recording.gradients[:, known], recording.features[:, known]
        np.testing.assert_allclose(u.T @ u, np.eye(known.sum()), atol=1e-10)
        np.testing.assert_allclose(np.abs(u.T @ change @ v), np.diag(values[:count][known]), atol=1e-10)


def test_matvec_blocks_are_images_under_the_initial_matrix():
    network = train(mlp(), size=40, steps=3)
    recording = network.recording(1, 3, directions=4, matvecs=1)
    u, v = recording.gradients[:, :4], recording.features[:, :4]
    np.testing.assert_allclose(recording.features[:, 4:], recording.initial.T @ u, atol=1e-14)
    np.testing.assert_allclose(recording.gradients[:, 4:], recording.initial @ v, atol=1e-14)


@pytest.mark.parametrize("matvecs", [0, 2])
def test_two_plain_matrices_have_the_directions_of_the_run_they_come_from(matvecs):
    """Also where weight decay has left a part of the start; a list is an array."""
    for network in (train(mlp(), size=40), train(linear(data_ratio=2.0, weight_decay=0.5), size=60)):
        expected = network.recording(1, 4, directions=3, matvecs=matvecs)
        plain = network.weights(1, 0), network.weights(1, 4).tolist()
        found = networks.directions(*plain, 3, matvecs, getattr(network, "decay", [1.0] * 5)[4])
        for name in ("initial", "final", "features", "gradients", "decay"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.features.shape == found.gradients.shape == (network.weights(1, 0).shape[0], 3 * (1 + matvecs))


def test_directions_of_matrices_that_are_not_square_stand_on_their_sides():
    start, rng = np.zeros((3, 5)), np.random.default_rng(0)
    u, v = np.linalg.qr(rng.standard_normal((3, 2)))[0], np.linalg.qr(rng.standard_normal((5, 2)))[0]
    for count in (1, 2):
        found = networks.directions(start, u * [2.0, 1.0] @ v.T, count)
        np.testing.assert_allclose(np.abs(found.gradients.T @ u[:, :count]), np.eye(count), atol=1e-12)
        np.testing.assert_allclose(np.abs(found.features.T @ v[:, :count]), np.eye(count), atol=1e-12)
    third = networks.directions(start, u * [2.0, 1.0] @ v.T, 3)  # a change of rank two has no third one
    assert np.linalg.norm(third.features[:, 2]) < 1e-8 and np.linalg.norm(third.gradients[:, 2]) < 1e-8


def test_the_example_of_directions_is_true():
    names = {"np": np, "networks": networks, "spectra": spectra}
    (example,) = doctest.DocTestFinder().find(networks.directions, "directions", globs=names)
    assert doctest.DocTestRunner().run(example) == (0, 7)


def test_a_recording_without_directions_holds_every_column_before_its_step():
    network = train(mlp(), record=(0, 2, 4))
    recording = network.recording(0, 2)
    assert recording.features.shape == (4, 10)
    assert recording.gradients.shape == (30, 10)
    np.testing.assert_array_equal(recording.final, network.weights(0, 2))


def test_a_recording_is_the_same_every_time():
    network = train(mlp(), size=60)
    first, again = (network.recording(1, 4, directions=5, matvecs=1) for _ in range(2))
    np.testing.assert_array_equal(first.features, again.features)


def test_singular_values_descend_and_are_those_of_the_matrix():
    network = train(mlp())
    values = network.singular_values(0, 4)
    assert np.all(np.diff(values) <= 0)
    assert np.sum(values**2) == pytest.approx(np.sum(network.weights(0, 4) ** 2))


# Deep linear networks


def linear(**changed):
    given = {"depth": 3, "width_ratio": 0.5, "output_scale": 1.3, "learning_rate": 0.1, "weight_std": 0.8}
    return problems.DeepLinear(**{**given, **changed})


def sample_by_sample(problem, size, steps, rng):
    """Wbar at every step, and both losses, from gradients of one sample at a time in the raw weights."""
    width = round(problem.width_ratio * size)
    ratio = problem.data_ratio or problem.batch_ratio
    gamma = problem.output_scale * (np.sqrt(width / size) if problem.parametrization == "mup" else 1)
    target = rng.standard_normal(size)
    target *= np.sqrt(size) / np.linalg.norm(target)
    shapes = [(width, size)] + [(width, width)] * (problem.depth - 1) + [(width,)]
    raw = [problem.weight_std * rng.standard_normal(shape) for shape in shapes]
    velocity = [np.zeros(shape) for shape in shapes]
    samples, history, losses = None, [], []
    for step in range(steps + 1):
        if samples is None or problem.batch_ratio:
            if ratio:
                inputs = rng.standard_normal((round(ratio * size), size))
                noise = problem.noise_std * rng.standard_normal(len(inputs))
            else:  # samples whose second moment is that of the population
                inputs, noise = np.sqrt(size) * np.eye(size), np.zeros(size)
            samples = inputs, inputs @ target / np.sqrt(size) + noise
        gradient, residuals = [np.zeros(shape) for shape in shapes], []
        for x, y in zip(*samples, strict=True):
            h = [raw[0] @ x / np.sqrt(size)]
            for W in raw[1:-1]:
                h.append(W @ h[-1] / np.sqrt(width))
            residuals.append(y - raw[-1] @ h[-1] / (gamma * np.sqrt(width)))
            gradient[-1] += residuals[-1] * h[-1] / (gamma * np.sqrt(width))
            back = residuals[-1] * raw[-1] / (gamma * np.sqrt(width))
            for layer in range(problem.depth - 1, 0, -1):
                gradient[layer] += np.outer(back, h[layer - 1]) / np.sqrt(width)
                back = raw[layer].T @ back / np.sqrt(width)
            gradient[0] += np.outer(back, x) / np.sqrt(size)
        map_ = raw[-1] / (gamma * np.sqrt(width))
        for W in reversed(raw[1:-1]):
            map_ = W.T @ map_ / np.sqrt(width)
        losses.append((np.mean((target - raw[0].T @ map_) ** 2), np.mean(np.square(residuals))))
        history.append([W / np.sqrt(W.shape[-1]) for W in raw[:-1]] + [raw[-1].copy()])
        if step < steps:
            rate = problem.rates(steps)[step]
            for k, W in enumerate(raw):
                plain = gamma**2 * size * gradient[k] / len(residuals)
                velocity[k] = problem.momentum * velocity[k] + plain - problem.weight_decay * W
                raw[k] = W + rate * velocity[k]
    return history, np.array(losses).T


@pytest.mark.parametrize(
    "problem",
    [
        linear(data_ratio=1.5, noise_std=0.4),
        linear(depth=1, width_ratio=2.0, data_ratio=0.5, parametrization="ntk"),
        linear(batch_ratio=0.75, noise_std=0.4, learning_rate=[0.1, 0.05, 0.02, 0.2], momentum=0.6, weight_decay=0.3),
        linear(depth=2, width_ratio=1.5, momentum=0.5, parametrization="ntk"),
        linear(data_ratio=1.5, weight_decay=0.5),
    ],
    ids=["full", "wide", "fresh", "population", "decay"],
)
def test_a_deep_linear_network_follows_gradients_of_single_samples(problem):
    network = train(problem, size=12, record=range(5))
    history, losses = sample_by_sample(problem, 12, 4, np.random.default_rng(2))
    for step in range(5):
        for layer in range(problem.depth):
            np.testing.assert_allclose(network.weights(layer, step), history[step][layer], rtol=0, atol=1e-12)
        np.testing.assert_allclose(network.readout(step), history[step][-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(network.test_loss, losses[0], rtol=1e-12)
    np.testing.assert_allclose(network.train_loss, losses[1], rtol=1e-12)


def test_the_population_loss_counts_the_noise():
    network = train(linear(noise_std=0.5), size=40)
    np.testing.assert_allclose(network.train_loss, network.test_loss + 0.25, rtol=1e-14)


def test_the_learned_change_lies_along_features_and_gradients():
    problem = linear(data_ratio=2.0, width_ratio=2.0, momentum=0.4, weight_decay=0.5, learning_rate=0.05)
    network = train(problem, size=40, steps=6, record=(0, 3, 6))
    assert network.recorded == (0, 3, 6) and network.steps == 6
    for layer, step in [(0, 6), (1, 3), (2, 6)]:
        recording = network.recording(layer, step)
        assert recording.features.shape[1] == recording.gradients.shape[1] == step
        change = recording.final - recording.decay * recording.initial
        g, h = (np.linalg.qr(side)[0] for side in (recording.gradients, recording.features))
        np.testing.assert_allclose(g @ (g.T @ change @ h) @ h.T, change, atol=1e-12)
        assert np.linalg.norm(change) > 0.1
        np.testing.assert_allclose(network.features(layer, step), recording.features)
    assert network.decay[0] == 1 and 0 < network.decay[6] < 0.9


def test_leading_directions_of_a_decayed_network_hold_its_learned_change():
    network = train(linear(data_ratio=2.0, width_ratio=2.0, weight_decay=0.5), size=60, record_fields=False)
    recording = network.recording(1, 4, directions=4)
    change = recording.final - recording.decay * recording.initial
    g, h = (np.linalg.qr(side)[0] for side in (recording.gradients, recording.features))
    np.testing.assert_allclose(g @ (g.T @ change @ h) @ h.T, change, atol=1e-10)
    with pytest.raises(ValueError, match="record_fields was False"):
        network.gradients(0)


@pytest.mark.parametrize(
    "changed", [{"data_ratio": 0.5}, {"batch_ratio": 0.5}, {}], ids=["full", "fresh", "population"]
)
def test_a_runaway_deep_linear_network_raises_and_keeps_what_it_had(changed):
    with pytest.raises(errors.DivergenceError, match="diverged at step") as caught:
        train(linear(learning_rate=20.0, **changed), steps=200)
    partial = caught.value.partial
    assert len(partial.test_loss) == len(partial.train_loss) == len(partial.decay) == caught.value.step > 0
    assert max(partial.test_loss.max(), partial.train_loss.max()) <= 1e6 * partial.train_loss[0]
    assert partial.features(1).shape == (15, partial.steps) and np.all(np.isfinite(partial.features(1)))


# Least squares


def test_long_descent_ends_at_the_ridge_solution():
    problem = problems.LeastSquares(data_ratio=3.0, learning_rate=0.3, ridge=0.2, noise_std=0.5)
    network = networks.train(problem, size=20, steps=400, rng=np.random.default_rng(0))
    rng = np.random.default_rng(0)
    inputs, target = rng.standard_normal((60, 20)), rng.standard_normal(20)
    target *= np.sqrt(20) / np.linalg.norm(target)
    y = inputs @ target / np.sqrt(20) + 0.5 * rng.standard_normal(60)
    beta = np.linalg.solve(inputs.T @ inputs / 60 + 0.2 * np.eye(20), np.sqrt(20) * inputs.T @ y / 60)
    np.testing.assert_allclose(network.errors[-1], target - beta, atol=1e-10)
    np.testing.assert_allclose(network.residuals[-1], y - inputs @ beta / np.sqrt(20), atol=1e-10)


def test_one_regression_step_descends_the_squared_loss():
    problem = problems.LeastSquares(data_ratio=1.5, learning_rate=0.2)
    network = networks.train(problem, size=10, steps=1, rng=np.random.default_rng(1))
    inputs = np.random.default_rng(1).standard_normal((15, 10))
    vhat = np.sqrt(10) / 15 * inputs.T @ (inputs @ network.errors[0] / np.sqrt(10))
    np.testing.assert_allclose(network.errors[1], network.errors[0] - 0.2 * vhat, atol=1e-14)


def test_regression_losses_start_at_their_limits():
    problem = problems.LeastSquares(data_ratio=2.0, learning_rate=0.1, noise_std=0.5)
    network = networks.train(problem, size=2000, steps=0, rng=np.random.default_rng(2))
    assert network.test_loss[0] == pytest.approx(1.0, rel=1e-12)
    assert network.train_loss[0] == pytest.approx(1.25, rel=5 * np.sqrt(2 / 4000))


# Progress


def classifier():
    return problems.Classifier(lambda rng: (rng.standard_normal((6, 4)), rng.integers(2, size=6)), 4, 2)


KINDS = {
    "MLP": mlp(),
    "DeepLinear": linear(data_ratio=2.0),
    "Classifier": classifier(),
    "LeastSquares": problems.LeastSquares(data_ratio=2.0, learning_rate=0.1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_bar_is_shown_when_asked_for_and_never_in_a_log(kind, capsys, monkeypatch):
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**{**options, "delay": 0}))
    plain = train(KINDS[kind])
    assert capsys.readouterr().err == ""
    shown = train(KINDS[kind], progress=True)
    assert f"{kind} of size 30, 4 steps: 100%" in capsys.readouterr().err
    np.testing.assert_array_equal(shown.train_loss, plain.train_loss)
    train(KINDS[kind], steps=0, progress=True)
    assert f"{kind} of size 30, 0 steps" in capsys.readouterr().err


def test_the_bar_of_a_runaway_network_stops_where_it_ran_away(capsys):
    with pytest.raises(errors.DivergenceError) as caught:
        train(linear(learning_rate=20.0, data_ratio=0.5), steps=200, progress=True)
    assert f"{caught.value.step / 200:4.0%}|" in capsys.readouterr().err.split("\r")[-1]


# What is refused, and what runs away


@pytest.mark.parametrize("eta", [10.0, 15.0, 20.0, 50.0])
def test_a_runaway_network_raises_and_keeps_what_it_had(eta):
    with pytest.raises(errors.DivergenceError, match="diverged at step") as caught:
        train(mlp(activation="linear", depth=1, learning_rate=eta), steps=100)
    partial = caught.value.partial
    assert len(partial.train_loss) == caught.value.step
    assert partial.train_loss.max() <= 1e6 * partial.train_loss[0]
    assert partial.features(0).shape == (4, 5 * partial.steps)


def test_a_runaway_regression_raises_and_keeps_what_it_had():
    problem = problems.LeastSquares(data_ratio=0.5, learning_rate=20.0)
    with pytest.raises(errors.DivergenceError, match="diverged at step") as caught:
        networks.train(problem, size=50, steps=1000, rng=np.random.default_rng(0))
    assert len(caught.value.partial.test_loss) == caught.value.step
    assert np.all(np.isfinite(caught.value.partial.residuals))


def test_a_spike_that_comes_back_is_not_divergence():
    network = train(mlp(learning_rate=4.0), steps=20)
    assert network.train_loss.max() > 1.5 * network.train_loss[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": 10.0}, "size must be an integer"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"rng": 0}, "rng must be a numpy.random.Generator"),
        ({"record": [5]}, "record must name one or more steps from 0 to 4"),
        ({"record": []}, "record must name one or more steps"),
        ({"record": [0.5]}, "record must be an integer"),
        ({"problem": mlp(batches=[[0]])}, "batches has 1 rows"),
        ({"problem": mlp(learning_rate=[0.1])}, "learning_rate has 1 entries"),
        ({"problem": linear(learning_rate=[0.1])}, "learning_rate has 1 entries"),
        ({"problem": linear(), "record": [5]}, "record must name one or more steps from 0 to 4"),
        ({"problem": linear(), "subtract_initial": True}, "subtract_initial is for a problems.MLP alone"),
        ({"progress": "no"}, "progress must be True, False or None, got 'no'"),
        ({"problem": "digits"}, "problem must be a problems.MLP, problems.DeepLinear, problems.Classifier or"),
    ],
)
def test_bad_training_is_refused_by_name(options, message):
    options = {"problem": mlp(), "size": 10, "steps": 4, "rng": np.random.default_rng(0), **options}
    with pytest.raises(ValueError, match=message):
        networks.train(options.pop("problem"), **options)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda network: network.weights(2, 4), "layer must be 0 to 1"),
        (lambda network: network.weights(-1, 4), "layer must be at least 0"),
        (lambda network: network.weights(1, 3), r"step must be one whose weights were kept, \(0, 4\)"),
        (lambda network: network.readout(1), "step must be one whose weights were kept"),
        (lambda network: network.features(0, 5), "step must be 0 to 4"),
        (lambda network: network.gradients(3), "layer must be 0 to 1"),
        (lambda network: network.recording(1, 0, directions=2), "step must be one at which the layer has learned"),
        (lambda network: network.recording(1, 4, directions=31), "directions must be at most 30"),
        (lambda network: network.recording(1, 4, directions=0), "directions must be at least 1"),
        (lambda network: network.recording(1, 4, matvecs=1), "matvecs can only follow a number of directions"),
        (lambda network: network.recording(1, 0), "features is empty"),
    ],
)
def test_bad_questions_are_refused_by_name(question, message):
    with pytest.raises(ValueError, match=message):
        question(train(mlp()))


def test_fields_that_were_not_kept_are_refused():
    with pytest.raises(ValueError, match="record_fields was False"):
        train(mlp(), record_fields=False).features(1)


MATRICES = {"initial": np.zeros((3, 4)), "final": np.ones((3, 4)), "count": 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"initial": np.zeros(4)}, r"initial must have 2 dimension\(s\), got shape \(4,\)"),
        ({"initial": "start"}, "initial must be an array of real numbers"),
        ({"initial": np.full((3, 4), np.inf)}, "initial holds 12 non-finite entries"),
        ({"initial": np.zeros((0, 4))}, "initial is empty"),
        ({"final": np.ones((4, 3))}, r"final must have shape \(3, 4\), got \(4, 3\)"),
        ({"final": np.full((3, 4), np.nan)}, "final holds 12 non-finite entries"),
        ({"final": np.zeros((3, 4))}, r"final must be another matrix than decay \* initial, got no change"),
        ({"initial": np.ones((3, 4)), "decay": 1}, r"final must be another matrix than decay \* initial"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 4}, "count must be at most 3, got 4"),
        ({"count": 2.0}, "count must be an integer, got 2.0"),
        ({"count": None}, "count must be an integer, got None"),
        ({"matvecs": -1}, "matvecs must be at least 0, got -1"),
        ({"matvecs": True}, "matvecs must be an integer, got True"),
        ({"decay": 0}, "decay must be greater than 0, got 0"),
        ({"decay": np.nan}, "decay must be a finite real number, got nan"),
        ({"initial": np.full((3, 4), 10.0), "decay": 1e308}, r"final - decay \* initial holds 12 non-finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_directions_of_bad_matrices_are_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        networks.directions(**MATRICES | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"final": np.ones((3, 3))}, r"final must have shape \(3, 4\)"),
        ({"features": np.ones((3, 2))}, r"features must have shape \(4, any\)"),
        ({"gradients": np.ones((3, 0))}, "gradients is empty"),
        ({"initial": np.full((3, 4), np.nan)}, "initial holds 12 non-finite"),
        ({"decay": 0.0}, "decay must be greater than 0"),
    ],
)
def test_a_bad_recording_is_refused_by_name(changed, message):
    shapes = {"initial": (3, 4), "final": (3, 4), "features": (4, 2), "gradients": (3, 2)}
    arrays = {name: np.ones(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        networks.Recording(**{**arrays, **changed})

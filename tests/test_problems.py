import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spectral_dynamics import problems

X = np.random.default_rng(0).standard_normal((6, 4))
Y = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])


def mlp(**changed):
    return problems.MLP(**{"inputs": X, "targets": Y, "learning_rate": 0.5, "output_scale": 3.0, **changed})


def test_a_problem_keeps_its_own_arrays():
    inputs, targets, rates, batches = X.copy(), Y.copy(), np.ones(3), np.zeros((3, 2), dtype=int)
    problem = mlp(inputs=inputs, targets=targets, learning_rate=rates, batches=batches)
    for mine in (inputs, targets, rates, batches):
        mine[:] = 7
    np.testing.assert_array_equal(problem.inputs, X)
    np.testing.assert_array_equal(problem.targets, Y[:, None])
    np.testing.assert_array_equal(problem.rates(3), np.ones(3))
    np.testing.assert_array_equal(problem.batch(2), [0, 0])
    for kept in (problem.inputs, problem.targets, problem.learning_rate, problem.batches):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1


def test_several_outputs_are_columns():
    assert mlp(targets=np.ones((6, 3))).outputs == 3
    assert mlp().outputs == 1
    assert mlp().samples == 6


@given(st.integers(1, 10_000), st.floats(1e-3, 1e3))
def test_mup_output_scale_is_the_ntk_one_times_the_root_of_the_width(width, gamma0):
    mup = mlp(output_scale=gamma0).scale(width)
    ntk = mlp(output_scale=gamma0, parametrization="ntk").scale(width)
    assert mup == gamma0
    assert ntk * np.sqrt(width) == pytest.approx(mup, rel=1e-14)


@pytest.mark.parametrize("name", problems.ACTIVATIONS)
def test_activations_come_with_their_derivative(name):
    problem, h = mlp(activation=name), np.linspace(-3.05, 2.95, 41)
    slope = (problem.phi(h + 1e-6) - problem.phi(h - 1e-6)) / 2e-6
    np.testing.assert_allclose(problem.phi_prime(h), slope, atol=1e-9)


def test_an_activation_may_be_a_pair():
    problem = mlp(activation=(np.sin, np.cos))
    assert problem.phi(0.5) == np.sin(0.5)
    assert problem.phi_prime(0.5) == np.cos(0.5)


def test_full_batch_visits_every_sample_at_every_step():
    np.testing.assert_array_equal(mlp().batch(17), np.arange(6))
    np.testing.assert_array_equal(mlp().rates(3), [0.5, 0.5, 0.5])


def test_a_schedule_covers_the_steps_asked_for():
    problem = mlp(learning_rate=[0.1, 0.2, 0.0], batches=[[0, 1], [2, 3]])
    np.testing.assert_array_equal(problem.rates(2), [0.1, 0.2])
    with pytest.raises(ValueError, match="learning_rate has 3 entries"):
        problem.rates(4)
    with pytest.raises(ValueError, match="batches has 2 rows"):
        problem.batch(2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": X[0]}, "inputs must have 2 dimension"),
        ({"inputs": np.where(X > 1, np.nan, X)}, "inputs holds .* non-finite"),
        ({"inputs": np.empty((0, 4)), "targets": []}, "inputs is empty"),
        ({"inputs": "digits"}, "inputs must be an array of real numbers"),
        ({"targets": Y[:5]}, r"targets must have shape \(6\)"),
        ({"targets": np.ones((5, 2))}, r"targets must have shape \(6, any\)"),
        ({"targets": np.full(6, np.inf)}, "targets holds 6 non-finite"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"depth": 2.0}, "depth must be an integer"),
        ({"activation": "gelu"}, "activation must be one of 'tanh'"),
        ({"activation": np.tanh}, "activation must be one of .* or a pair"),
        ({"activation": (np.tanh, np.tanh)}, "not the derivative"),
        ({"output_scale": 0.0}, "output_scale must be greater than 0"),
        ({"parametrization": "standard"}, "parametrization must be one of 'mup', 'ntk'"),
        ({"learning_rate": -0.1}, "learning_rate must be greater than 0"),
        ({"learning_rate": np.nan}, "learning_rate must be a finite"),
        ({"learning_rate": [0.1, -0.1]}, "learning_rate must not be negative"),
        ({"learning_rate": np.ones((2, 2))}, "learning_rate must have 1 dimension"),
        ({"weight_std": 0}, "weight_std must be greater than 0"),
        ({"batches": [[0.0, 1.0]]}, "batches must be a non-empty integer array"),
        ({"batches": [0, 1]}, "batches must be a non-empty integer array"),
        ({"batches": [[0, 6]]}, "batches must hold sample indices 0 to 5"),
        ({"batches": [[-1, 2]]}, "batches must hold sample indices 0 to 5"),
    ],
)
def test_a_bad_network_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        mlp(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data_ratio": 0}, "data_ratio must be greater than 0"),
        ({"learning_rate": np.inf}, "learning_rate must be a finite"),
        ({"ridge": -1.0}, "ridge must be at least 0"),
        ({"noise_std": "loud"}, "noise_std must be a finite"),
    ],
)
def test_a_bad_regression_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        problems.LeastSquares(**{"data_ratio": 2.0, "learning_rate": 0.1, **changed})


LABELS = [2, 0, 1, 1, 2, 0]


def labelled(**changed):
    return mlp(**{"targets": LABELS, "loss": "cross_entropy", **changed})


def test_labels_are_rows_of_zeros_and_ones():
    problem = labelled()
    np.testing.assert_array_equal(problem.targets, np.eye(3)[LABELS])
    assert problem.outputs == 3 and not problem.targets.flags.writeable
    soft = labelled(targets=[[0.25, 0.75]] * 6)
    np.testing.assert_array_equal(soft.targets, np.tile([0.25, 0.75], (6, 1)))
    np.testing.assert_array_equal(mlp(targets=LABELS).targets, np.array(LABELS)[:, None])  # of the squared loss


F = np.random.default_rng(2).standard_normal((4, 6, 3))  # predictions of four steps


@pytest.mark.parametrize("problem", [mlp(targets=np.eye(3)[LABELS] + 0.2), labelled()], ids=["squared", "entropy"])
def test_the_residual_is_minus_the_slope_of_what_is_descended(problem):
    """P times the mean loss, of the squared one half: its slope in f_o of a sample is -Delta_o of that sample."""
    factor, step = 6 * (0.5 if problem.loss == "squared" else 1.0), 1e-6
    for mu, o in np.ndindex(6, 3):
        moved = np.zeros((6, 3))
        moved[mu, o] = step
        slope = factor * (problem.mean_loss(F + moved) - problem.mean_loss(F - moved)) / (2 * step)
        np.testing.assert_allclose(problem.residual(F)[:, mu, o], -slope, atol=1e-8)
        delta = (problem.residual(F + moved) - problem.residual(F - moved)) / (2 * step)
        metric = problem.output_metric(F)[:, mu, :, o]  # and the metric is minus the slope of the residual
        np.testing.assert_allclose(delta[:, mu], -metric, atol=1e-8)
    some = [4, 0, 4]
    np.testing.assert_array_equal(problem.residual(F[:, some], some), problem.residual(F)[:, some])
    assert problem.mean_loss(F).shape == (4,) and problem.output_metric(F).shape == (4, 6, 3, 3)


def test_losses_by_hand():
    assert mlp(targets=np.ones((6, 2))).mean_loss(np.full((6, 2), 4.0)) == 18  # (1 - 4)^2 twice
    assert labelled().mean_loss(np.zeros((6, 3))) == pytest.approx(np.log(3), rel=1e-15)
    np.testing.assert_allclose(labelled().residual(np.zeros((6, 3)))[0], [-1 / 3, -1 / 3, 2 / 3])
    sure = 1e4 * np.eye(3)[LABELS]  # exp(10^4) overflows
    assert labelled().mean_loss(sure) == 0 and labelled().mean_loss(-sure) == pytest.approx(1e4 + np.log(2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of 'squared', 'cross_entropy'"),
        ({"targets": [0, 1, 2, 0, 1, -1]}, "must be whole labels from 0, or rows of probabilities"),
        ({"targets": Y / 2 + 0.7}, "must be whole labels from 0, or rows of probabilities"),
        ({"targets": [0] * 6}, "targets of loss 'cross_entropy' must name at least 2 outputs, got 1"),
        ({"targets": np.ones((6, 1))}, "must name at least 2 outputs, got 1"),
        ({"targets": [0, 1]}, r"targets must have shape \(6\)"),
        ({"targets": np.eye(5)}, r"targets must have shape \(6, any\)"),
        ({"targets": np.full((6, 2), 0.6)}, "rows of probabilities.* of sum 1.* sums from 1.2 to 1.2"),
        ({"targets": [[1.5, -0.5]] * 6}, "rows of probabilities, not negative.* entries from -0.5"),
        ({"momentum": -0.1}, "momentum must be at least 0"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"weight_decay": np.nan}, "weight_decay must be a finite"),
    ],
)
def test_bad_training_of_a_network_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        labelled(**changed)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda problem: problem.residual(F[0, :5]), r"f must have the shape \(6, 3\) in its last 2 dimension"),
        (lambda problem: problem.residual(F[0], [1, 2]), r"f must have the shape \(2, 3\)"),
        (lambda problem: problem.mean_loss(F[0, 0]), r"f must have the shape \(6, 3\) .* got \(3,\)"),
        (lambda problem: problem.mean_loss(F[..., :2]), r"f must have the shape \(6, 3\)"),
        (lambda problem: problem.output_metric(F[..., :2]), r"f must have the shape \(3,\) in its last 1 dimension"),
    ],
)
def test_predictions_of_another_shape_are_refused(question, message):
    for problem in (labelled(), mlp(targets=np.ones((6, 3)))):
        with pytest.raises(ValueError, match=message):
            question(problem)


def linear(**changed):
    return problems.DeepLinear(**{"depth": 3, "data_ratio": 2.0, "learning_rate": 0.05, **changed})


def test_gamma_grows_with_the_width_in_mup_alone():
    assert linear(output_scale=3.0, width_ratio=4.0).gamma == pytest.approx(6.0)
    assert linear(output_scale=3.0, width_ratio=4.0, parametrization="ntk").gamma == 3.0


def test_a_schedule_is_copied_and_must_be_long_enough():
    schedule = np.array([0.1, 0.2, 0.3])
    problem = linear(learning_rate=schedule)
    schedule[:] = 7
    np.testing.assert_array_equal(problem.rates(2), [0.1, 0.2])
    np.testing.assert_array_equal(linear().rates(3), [0.05] * 3)
    with pytest.raises(ValueError, match="learning_rate has 3 entries, 4 steps need as many"):
        problem.rates(4)
    with pytest.raises(ValueError, match="read-only"):
        problem.learning_rate[0] = 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": 0}, "depth must be at least 1"),
        ({"depth": 2.0}, "depth must be an integer"),
        ({"width_ratio": 0}, "width_ratio must be greater than 0"),
        ({"data_ratio": -2.0}, "data_ratio must be greater than 0"),
        ({"data_ratio": None, "batch_ratio": 0.0}, "batch_ratio must be greater than 0"),
        ({"batch_ratio": 1.0}, "data_ratio .* and batch_ratio .* exclude each other"),
        ({"output_scale": 0.0}, "output_scale must be greater than 0"),
        ({"parametrization": "standard"}, "parametrization must be one of 'mup', 'ntk'"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"learning_rate": [0.1, np.inf]}, "learning_rate holds 1 non-finite"),
        ({"weight_std": 0.0}, "weight_std must be greater than 0"),
        ({"noise_std": -0.1}, "noise_std must be at least 0"),
        ({"momentum": -0.1}, "momentum must be at least 0"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"weight_decay": np.nan}, "weight_decay must be a finite"),
    ],
)
def test_a_bad_deep_linear_problem_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        linear(**changed)

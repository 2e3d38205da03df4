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

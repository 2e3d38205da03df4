"""Outliers through a training: those of every single step, the edge where there are none, errors, bad input."""

from types import SimpleNamespace

import numpy as np
import pytest
from spectral_dynamics.dynamics import deep_linear, least_squares, mlp
from spectral_dynamics.problems import MLP, DeepLinear, LeastSquares
from spectral_dynamics.spectra.outliers import bulk_edge, outliers, trajectory


def wide(activation, rate, **options):
    """Targets of two sizes, learned one after the other: two outliers in the end."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((6, 20))
    inputs *= np.sqrt(20) / np.linalg.norm(inputs, axis=1)[:, None]
    targets = rng.standard_normal((6, 2)) * [1.0, 0.7]
    problem = MLP(inputs, targets, 3, activation, output_scale=3.0, learning_rate=rate, weight_std=0.9)
    return mlp.solve(problem, 24, rng=np.random.default_rng(2), **options)


@pytest.fixture(scope="module")
def theories():
    problem = DeepLinear(
        2, 0.5, 2.0, output_scale=3.0, learning_rate=0.1, weight_std=0.5, momentum=0.3, weight_decay=0.1
    )
    return {
        "deep linear": (deep_linear.solve(problem, 40), 1),
        "deep linear, first layer": (deep_linear.solve(problem, 40), 0),
        "sampled": (wide("tanh", 0.15, sites=4000), 1),
        "exact": (wide("linear", 0.05), 2),
    }


NAMES = "deep linear", "deep linear, first layer", "sampled", "exact"
TABLES = "singular_values", "standard_error", "left_alignment", "right_alignment"


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_is_the_outliers_of_every_step(theories, name):
    theory, layer = theories[name]
    path = trajectory(theory, layer)
    assert np.array_equal(path.steps, np.arange(theory.steps + 1))
    assert path.count[0] == 0 < path.count.max() == path.singular_values.shape[1]
    for step in range(1, theory.steps + 1):
        found = outliers(theory.order(layer, step))
        k, recorded = found.right_alignment.shape
        assert path.count[step] == k and path.bulk_edge[step] == found.bulk_edge
        for table in TABLES:
            ours, theirs = getattr(path, table)[step], getattr(found, table)
            assert np.array_equal(ours[tuple(map(slice, theirs.shape))], theirs)
            beyond = ours[k:] if table != "singular_values" else ours[k:] - found.bulk_edge
            assert not beyond.any() and not (ours.ndim > 1 and ours[:, recorded:].any())


@pytest.mark.parametrize("name", NAMES)
def test_outliers_leave_the_edge_one_after_the_other(theories, name):
    theory, layer = theories[name]
    path = trajectory(theory, layer)
    excess = path.singular_values - path.bulk_edge[:, None]
    assert np.array_equal(excess > 0, path.is_outlier) and np.all(excess >= 0)
    assert np.array_equal(path.count, path.is_outlier.sum(axis=1))
    assert np.all(np.diff(path.singular_values, axis=1) <= 0)
    first = np.flatnonzero(path.is_outlier[:, 0])[0]
    assert first > 0 and excess[first, 0] < excess[:, 0].max() / 2
    assert np.all(np.abs(path.right_alignment) <= 1 + 1e-6) and np.abs(path.right_alignment[-1, 0]).max() > 0.3


def test_two_targets_make_two_outliers(theories):
    for name in ("sampled", "exact"):
        theory, layer = theories[name]
        count = trajectory(theory, layer).count
        assert list(np.unique(count)) == [0, 1, 2] and np.all(np.diff(count) >= 0), name


@pytest.mark.parametrize("name", NAMES)
def test_at_the_start_there_is_the_bulk_alone(theories, name):
    theory, layer = theories[name]
    path = trajectory(theory, layer, [0])
    ratio = theory.problem.width_ratio if name == "deep linear, first layer" else 1.0
    assert path.bulk_edge == pytest.approx([bulk_edge(theory.problem.weight_std**2, ratio)], rel=1e-15)
    assert list(path.count) == [0] and path.singular_values.shape == (1, 0)


def test_the_edge_shrinks_as_the_weights_decay(theories):
    theory, layer = theories["deep linear"]
    path = trajectory(theory, layer, (0, 10, 40))
    assert path.bulk_edge == pytest.approx(2 * 0.5 * theory.decay[[0, 10, 40]])
    assert path.bulk_edge[2] < 0.9 * path.bulk_edge[0]


def test_steps_come_back_as_they_were_asked_for(theories):
    theory, layer = theories["exact"]
    whole, some = trajectory(theory, layer), trajectory(theory, layer, np.array([20, 0, 14]))
    assert list(some.steps) == [20, 0, 14]
    assert np.array_equal(some.singular_values[:, 0], whole.singular_values[[20, 0, 14], 0])


def test_errors_are_those_of_the_replicas_and_none_where_nothing_was_sampled(theories):
    theory, layer = theories["sampled"]
    path = trajectory(theory, layer)
    assert np.all((path.standard_error > 0) == path.is_outlier) and path.standard_error.max() < 0.05
    alone = np.array([trajectory(one, layer, [24]).singular_values[0, 0] for one in theory.replicas])
    assert path.standard_error[-1, 0] == pytest.approx(alone.std(ddof=1) / 2, rel=0.3)
    assert not any(trajectory(*theories[name]).standard_error.any() for name in NAMES if name != "sampled")


def test_any_order_parameters_in_time_will_do(theories):
    theory, layer = theories["deep linear"]
    other = SimpleNamespace(order=theory.order)
    assert np.array_equal(
        trajectory(other, layer, [20]).singular_values, trajectory(theory, layer, [20]).singular_values
    )
    with pytest.raises(ValueError, match="steps must be given for a theory that has none of its own"):
        trajectory(other, layer)


def test_bad_input_is_named(theories):
    exact, linear = theories["exact"][0], theories["deep linear"][0]
    for given, message in (
        (("theory", 1, [1]), r"theory must have order\(layer, step\), got str"),
        ((least_squares.solve(LeastSquares(2.0, 0.1), 2), 1, [1]), r"theory must have order\(layer, step\)"),
        ((exact, 1.0, [1]), "layer must be an integer"),
        ((linear, 2, [0, 1]), "layer must be 0 to 1, got 2"),
        ((exact, 3, [0, 1]), "layer must be one between hidden layers, 1 to 2, got 3"),
        ((exact, 1, 3), "steps must be a sequence of whole numbers, got 3"),
        ((exact, 1, []), "steps is empty"),
        ((exact, 1, [1, 2.5]), "steps must be an integer, got 2.5"),
        ((exact, 1, [1, -1]), "steps must be at least 0, got -1"),
        ((exact, 1, "ab"), "steps must be an integer, got 'a'"),
        ((exact, 1, [1, 25]), "steps must be 0 to 24, got 25"),
    ):
        with pytest.raises(ValueError, match=message):
            trajectory(*given)

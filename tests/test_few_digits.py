"""What the chapter on kernels takes from its stored networks, and the theory of the same twelve digits."""

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics.dynamics import mlp
from spectral_experiments import few_digits


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("few_digits")


@pytest.fixture(scope="module")
def theory():
    rng = np.random.default_rng(0)
    return mlp.solve(few_digits.problem(), few_digits.STEPS, sites=16_000, rng=rng, replicas=8)


def test_a_small_case_runs_to_its_stored_rows():
    """Twenty steps at a stable rate: all that is stored."""
    assert not few_digits.TABLE.changed_rows()


def test_the_task_is_even_against_odd_on_a_sphere():
    problem, shown = few_digits.problem(), few_digits.images()[1]
    assert np.linalg.norm(problem.inputs, axis=1) == pytest.approx(8)
    assert problem.targets[:, 0].tolist() == [1.0 if digit % 2 == 0 else -1.0 for digit in shown]
    assert problem.targets.sum() == 0


def test_kernels_of_networks_on_digits_turn_to_the_labels_as_the_theory_does(table, theory):
    y, widest = few_digits.problem().targets[:, 0], table["size"] == 512
    means = table["aligned"][widest].mean(axis=0)
    expected = few_digits.alignment(theory.kernels[list(few_digits.MARKS)], y)
    assert np.all(means[-1] > 0.94) and np.all(means[0] < 0.5)
    assert means == pytest.approx(expected, abs=0.01)


def test_the_mean_over_networks_is_one_over_the_width_away(table, theory):
    y = few_digits.problem().targets[:, 0]
    limit = few_digits.alignment(theory.kernels[-1], y)
    widths = np.array([32, 64, 128, 256])
    away = np.array([limit - table["aligned"][table["size"] == N, -1].mean(axis=0) for N in widths])
    assert np.polyfit(np.log(widths), np.log(away), 1)[0] == pytest.approx([-1, -1], abs=0.25)

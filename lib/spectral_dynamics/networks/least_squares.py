"""Least squares: one linear map, a training set, ridge."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .. import problems
from ..errors import DivergenceError
from .run import RUNAWAY, read_only


@dataclass(frozen=True, eq=False)
class LeastSquaresRun:
    """One trained regression in dimension `size`.

    `test_loss`, `train_loss` (steps + 1,): <v v> and <Delta Delta>, without a factor 1/2. `errors` (steps + 1, D)
    and `residuals` (steps + 1, P): v and Delta themselves, from which every two-time correlation follows.
    """

    problem: problems.LeastSquares
    size: int
    test_loss: np.ndarray
    train_loss: np.ndarray
    errors: np.ndarray
    residuals: np.ndarray


def train(problem, dimension: int, steps: int, rng, bar) -> LeastSquaresRun:
    """Gradient descent from beta = 0."""
    samples = max(1, round(problem.data_ratio * dimension))
    inputs = rng.standard_normal((samples, dimension))
    target = rng.standard_normal(dimension)
    target *= np.sqrt(dimension) / linalg.norm(target)
    noise = problem.noise_std * rng.standard_normal(samples)
    beta, errors, residuals = np.zeros(dimension), [], []

    def run() -> LeastSquaresRun:
        v, delta = read_only(errors), read_only(residuals)
        losses = read_only(np.mean(v**2, axis=1)), read_only(np.mean(delta**2, axis=1))
        return LeastSquaresRun(problem, dimension, *losses, v, delta)

    for step in range(steps + 1):
        v = target - beta
        delta = inputs @ v / np.sqrt(dimension) + noise
        if not np.mean(v**2) + np.mean(delta**2) <= RUNAWAY * (1 + problem.noise_std**2):
            message = f"training diverged at step {step}: the test loss is {np.mean(v**2):.3g}"
            raise DivergenceError(message, step, run())
        errors.append(v)
        residuals.append(delta)
        if step == steps:
            return run()
        vhat = np.sqrt(dimension) / samples * (inputs.T @ delta)
        beta = beta + problem.learning_rate * (vhat - problem.ridge * beta)
        bar.update()

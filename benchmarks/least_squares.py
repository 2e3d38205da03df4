"""Least squares: the causal march against quadrature and against training one finite system of D = 1000.

    python benchmarks/least_squares.py

Prints, from one run on one machine, seconds, ratios and how the march's time grows with the number of steps.
"""

import numpy as np
from _timer import timed
from spectral_dynamics.dynamics.least_squares import quadrature, solve
from spectral_dynamics.problems import LeastSquares

PROBLEM = LeastSquares(data_ratio=2.0, learning_rate=0.3, ridge=0.05, noise_std=0.5)
STEPS = (50, 100, 200, 400, 800, 1000)


def simulate(steps: int, size: int = 1000) -> None:
    """Gradient descent on one draw, with the correlations of all pairs of steps measured as the theory gives them."""
    rng = np.random.default_rng(0)
    samples = round(PROBLEM.data_ratio * size)
    X = rng.standard_normal((samples, size))
    target = rng.standard_normal(size)
    y = X @ target / np.sqrt(size) + PROBLEM.noise_std * rng.standard_normal(samples)
    beta, v, Delta = np.zeros(size), [], []
    for _ in range(steps + 1):
        v.append(target - beta)
        Delta.append(y - X @ beta / np.sqrt(size))
        beta = beta + PROBLEM.learning_rate * (np.sqrt(size) / samples * X.T @ Delta[-1] - PROBLEM.ridge * beta)
    for fields in (np.array(v), np.array(Delta)):
        fields @ fields.T


def main() -> None:
    print("steps   march [s]   march/quadrature   march/simulation(D=1000)   largest difference of C_v")
    marched = []
    for steps in STEPS:
        _, march = timed(lambda steps=steps: solve(PROBLEM, steps))
        _, exact = timed(lambda steps=steps: quadrature(PROBLEM, steps))
        _, finite = timed(lambda steps=steps: simulate(steps), repeats=1)
        gap = np.max(np.abs(solve(PROBLEM, steps).C_v - quadrature(PROBLEM, steps).C_v))
        print(f"{steps:5d}   {march:9.4f}   {march / exact:16.2f}   {march / finite:24.3f}   {gap:.1e}")
        marched.append(march)
    exponent = np.polyfit(np.log(STEPS[-3:]), np.log(marched[-3:]), 1)[0]
    print(f"from {STEPS[-3]} to {STEPS[-1]} steps the march's time grows as steps^{exponent:.2f} (arithmetic: 3)")


if __name__ == "__main__":
    main()

"""Infinitely wide networks in muP: seconds, memory and sampling error of the solver, against training real ones.

    python benchmarks/mlp.py

Prints, from one run on one machine: the small case of the field (4 samples, 30 steps, two hidden layers, tanh), with
its sampling error and the ratio to training one network of width 4000; a long linear training, exactly; a larger case
(16 samples, 100 steps) with the memory that the process has used by then; and how the work grows with the samples and
with the steps, in processor time, with the directions that features and gradients have in the end. Every step costs
samples x directions x sites, and directions level off when training does. Two minutes.
"""

import resource
import time

import numpy as np
from _timer import timed
from spectral_dynamics import networks
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.problems import MLP


def data(samples: int, dimension: int) -> dict:
    rng = np.random.default_rng(0)
    return {"inputs": rng.standard_normal((samples, dimension)), "targets": rng.choice([-1.0, 1.0], samples)}


def problem(samples: int) -> MLP:
    return MLP(**data(samples, 40), depth=2, output_scale=2.0, learning_rate=0.3)


def solved(problem, steps: int, sites: int = 20_000):
    return mlp.solve(problem, steps, sites=sites, rng=np.random.default_rng(1))


def small() -> None:
    theory, seconds = timed(lambda: solved(problem(4), 30))
    error = theory.standard_error(lambda one: one.train_loss).max()
    print(f"4 samples, 30 steps: {seconds:.2f} s (asked: under 2 s), loss to {error:.4f} (asked: 0.003)")
    rng = np.random.default_rng(2)
    _, training = timed(lambda: networks.train(problem(4), size=4000, steps=30, rng=rng, record=(0,)), 1)
    print(f"network of width 4000 / theory: {training / seconds:.1f}")


def linear() -> None:
    straight = MLP(**data(20, 30), depth=5, activation="linear", output_scale=2.0, learning_rate=0.1, weight_std=0.8)
    _, seconds = timed(lambda: mlp.solve(straight, 100))
    print(f"linear, five layers, 20 samples, 100 steps: {seconds:.2f} s (asked: under 1 s)")
    nonlinear = MLP(**data(20, 30), depth=5, output_scale=2.0, learning_rate=0.1, weight_std=0.8)
    _, sampling = timed(lambda: solved(nonlinear, 20, 8000), 1)
    print(f"tanh, 20 steps on 8000 sites, in units of this: {sampling / seconds:.0f}")


def large() -> None:
    _, seconds = timed(lambda: solved(problem(16), 100, 10_000), 1)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"16 samples, 100 steps, 1e4 sites: {seconds:.0f} s (asked: under 60 s), {used:.1f} GiB (asked: under 6)")


def growth(cases: list[tuple[int, int]], grown: str) -> None:
    """Processor seconds of (samples, steps) on 1e4 sites, and the power with which they grow from one to the next."""
    before = None
    for samples, steps in cases:
        start = time.process_time()
        theory = solved(problem(samples), steps, 10_000)
        size, seconds = (samples, steps), time.process_time() - start
        directions = " and ".join(map(str, theory.order(1, steps).A.shape))
        print(f"{samples} samples, {steps} steps: {seconds:.1f} s, {directions} directions", end="")
        if before:
            power = np.log(seconds / before[1]) / np.log(np.prod(size) / np.prod(before[0]))
            print(f", power {power:.2f} {grown}", end="")
        print(flush=True)
        before = size, seconds


def main() -> None:
    small()
    linear()
    large()
    growth([(samples, 50) for samples in (8, 16, 32, 64)], "in samples")
    growth([(16, steps) for steps in (100, 200, 400, 800)], "in steps, asked: below 1.2")


if __name__ == "__main__":
    main()

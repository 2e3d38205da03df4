"""Deep linear networks: the march against training one finite network, and how its time grows with the steps.

    python benchmarks/deep_linear.py

Prints, from one run on one machine: seconds of the march for one to three hidden layers, and how they grow; the
ratio to training one network of D = 1000 with as many steps, beside the two test losses at the end; and the seconds
for the outliers of all layers at 50 of 200 steps, in units of the march that made their order parameters, with
the largest error of the self-check that both singular vectors have one length.
"""

import numpy as np
from _timer import timed
from spectral_dynamics import networks
from spectral_dynamics.dynamics.deep_linear import solve
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra.outliers import outliers

STEPS = (50, 100, 200, 400, 1000)
TRAINED = 100  # steps of the finite network


def problem(depth: int) -> DeepLinear:
    return DeepLinear(depth, 1.0, 2.0, output_scale=3.0, learning_rate=0.02, weight_std=0.5)


def march() -> None:
    print("steps   L = 1 [s]   L = 2 [s]   L = 3 [s]")
    table = []
    for steps in STEPS:
        repeats = 3 if steps <= 200 else 1
        solves = [lambda depth=depth, steps=steps: solve(problem(depth), steps) for depth in (1, 2, 3)]
        table.append([timed(work, repeats)[1] for work in solves])
        print(f"{steps:5d}   " + "   ".join(f"{seconds:9.3f}" for seconds in table[-1]), flush=True)
    for first, last in ((1, 3), (3, 4)):
        growth = np.log(table[last][2] / table[first][2]) / np.log(STEPS[last] / STEPS[first])
        print(f"L = 3, from {STEPS[first]} to {STEPS[last]} steps: as steps^{growth:.2f} (arithmetic: 3)")


def finite(size: int = 1000) -> None:
    print(f"L   network(D={size}), {TRAINED} steps / march   test loss: network   theory")
    for depth in (1, 2, 3):
        theory, ours = timed(lambda depth=depth: solve(problem(depth), TRAINED), 3)
        rng = np.random.default_rng(0)
        network, training = timed(
            lambda depth=depth, rng=rng: networks.train(problem(depth), size=size, steps=TRAINED, rng=rng), 1
        )
        losses = f"{network.test_loss[-1]:18.5f}   {theory.test_loss[-1]:6.5f}"
        print(f"{depth}   {training / ours:35.0f}   {losses}", flush=True)


def spectra() -> None:
    theory, solving = timed(lambda: solve(problem(3), 200), 3)
    chosen = np.linspace(4, 200, 50).astype(int)
    found, seconds = timed(lambda: [outliers(theory.order(layer, step)) for step in chosen for layer in range(3)], 1)
    worst = max(one.residual.max(initial=0) for one in found)
    print(f"outliers of 3 layers at 50 of 200 steps: {seconds:.2f} s, {seconds / solving:.1f} marches", end=", ")
    print(f"self-check {worst:.1e}")


def main() -> None:
    march()
    finite()
    spectra()


if __name__ == "__main__":
    main()

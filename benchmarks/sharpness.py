"""The leading mode: one step, a whole trajectory, the smallest unstable rate; against measuring it in a network.

    python benchmarks/sharpness.py

Prints, from one run on one machine, three hidden layers and 80 steps: seconds of `leading_mode` at the last step and
of the trajectory of all 81, in units of the march that made their order parameters; the ratio to training one network
of D = 1000 and measuring its mode once; seconds of `stable_rate` and of a bulk's distribution at 1000 points.
"""

from dataclasses import replace

import numpy as np
from _timer import timed
from spectral_dynamics import networks
from spectral_dynamics.dynamics.deep_linear import solve
from spectral_dynamics.problems import DeepLinear
from spectral_dynamics.spectra import sharpness

STEPS = 80
PROBLEM = DeepLinear(3, 1.0, 2.0, output_scale=3.0, learning_rate=0.05, weight_std=0.5)


def modes() -> None:
    theory, marching = timed(lambda: solve(PROBLEM, STEPS))
    mode, one = timed(lambda: sharpness.leading_mode(theory, STEPS))
    _, whole = timed(lambda: sharpness.trajectory(theory), 1)
    print(f"leading mode at step {STEPS}: {one:.2f} s, {one / marching:.1f} marches (asked: under 1 s)")
    print(f"all {STEPS + 1} steps: {whole:.1f} s, {whole / one:.0f} times the last one (asked: under 20 s)")

    def measured():
        run = networks.train(PROBLEM, size=1000, steps=STEPS, rng=np.random.default_rng(0), record=(0, STEPS))
        return run.leading_mode(STEPS)

    found, seconds = timed(measured, 1)
    both = f"{found.value:.2f}   theory {mode.value:.2f}"
    print(f"network of D = 1000 / (march and mode): {seconds / (marching + one):.0f}   modes: network {both}")


def rates() -> None:
    def trained(rate):
        return solve(replace(PROBLEM, learning_rate=rate), STEPS)

    rate, seconds = timed(lambda: sharpness.stable_rate(trained, (0.02, 0.5), rtol=1e-3), 1)
    print(f"smallest unstable rate {rate:.4f}: {seconds:.1f} s")


def bulks() -> None:
    theory, x = solve(PROBLEM, STEPS), np.linspace(0, 20, 1000)
    _, seconds = timed(lambda: sharpness.bulk(theory, STEPS).cdf(x))
    print(f"the bulk's distribution at 1000 points: {seconds:.2f} s")


def main() -> None:
    modes()
    rates()
    bulks()


if __name__ == "__main__":
    main()

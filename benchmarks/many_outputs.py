"""A bulk that moves: seconds of its law, against training one network of 1000 neurons and measuring its spectrum.

    python benchmarks/many_outputs.py

Prints, from one run on one machine: for three ratios of outputs to neurons the seconds of the law (edges and the
distribution function at 1000 points), the ratio to one network, and how far the two are apart; and the same for both
layers after two joint steps, where the law comes from a table of traces.
"""

import numpy as np
from _timer import timed
from scipy import linalg
from spectral_dynamics import networks
from spectral_dynamics.problems import FrozenReadout
from spectral_dynamics.spectra import many_outputs

SIZE, TIME, RATE = 1000, 2.0, 0.2


def trained(problem) -> np.ndarray:
    run = networks.flow(problem, size=SIZE, times=[TIME], rng=np.random.default_rng(0), accuracy=1e-4)
    return run.singular_values(TIME)


def stepped(problem) -> list[np.ndarray]:
    """Singular values of both layers after two joint steps; kappa = 1/2, nu = 1."""
    rng = np.random.default_rng(0)
    w, target = rng.standard_normal((SIZE, SIZE)), problem.target_scale * rng.standard_normal((SIZE // 2, SIZE))
    w, v, target = (one / np.sqrt(SIZE) for one in (w, rng.standard_normal((SIZE // 2, SIZE)), target))
    for _ in range(2):
        error = target - v @ w
        w, v = w + RATE * v.T @ error, v + RATE * error @ w.T
    return [linalg.svdvals(w), np.append(linalg.svdvals(v), np.zeros(SIZE // 2))]


def main() -> None:
    for kappa in (0.5, 1.0, 2.0):
        problem = FrozenReadout(kappa, 1.0, 3.0)
        values, training = timed(lambda problem=problem: trained(problem), 1)
        away, seconds = timed(
            lambda problem=problem, values=values: many_outputs.distance(values, many_outputs.bulk(problem, TIME)), 1
        )
        print(f"kappa {kappa:g}: {seconds:.2f} s, network/law {training / seconds:5.1f}, apart {away:.4f}")
    problem = FrozenReadout(0.5, 1.0, 3.0)
    layers, training = timed(lambda: stepped(problem), 1)

    def laws():
        pairs = zip(layers, many_outputs.two_steps(problem, RATE), strict=True)
        return [many_outputs.distance(*pair) for pair in pairs]

    away, seconds = timed(laws, 1)
    print(f"two joint steps: {seconds:.2f} s, network/law {training / seconds:5.2f}, apart", *np.round(away, 4))


if __name__ == "__main__":
    main()

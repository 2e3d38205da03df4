"""Generalized Marchenko-Pastur density: against all roots point by point, and against one sampled matrix.

    python benchmarks/laws.py

Prints, from one run on one machine, the seconds for 400 points across the bands, ratios to an eigenvalue solve
per point (which finds every root of Silverstein's equation and keeps the complex one) and to the spectrum of one
matrix of p = 1000, and how far the density is from the roots and the matrix's staircase from the law.
"""

import numpy as np
from _timer import timed
from spectral_dynamics.spectra import laws

RATIO, POINTS, SIZE = 0.4, 400, 1000


def all_roots(atoms, weights, x):
    """Density from the eigenvalues of an arrowhead matrix, whose characteristic equation is f(v) = x."""
    strength = np.sqrt(RATIO * weights) * atoms
    matrix = np.diag(np.append(0.0, atoms))
    matrix[0, 1:], matrix[1:, 0] = -strength, strength
    density = []
    for point in x:
        matrix[0, 0] = point - RATIO * weights @ atoms
        density.append(np.max((-1 / np.linalg.eigvals(matrix)).imag) / (np.pi * RATIO))
    return np.array(density)


def main() -> None:
    print("atoms  bands  density [s]  density/roots  density/matrix  from the roots  staircase (in 1/p)")
    for count in (1, 3, 10, 30, 100):
        rng = np.random.default_rng(count)
        atoms, weights = 10 ** rng.uniform(0, 2, count), rng.dirichlet(np.ones(count))
        law = laws.generalized_marchenko_pastur(RATIO, atoms, weights)
        x = np.linspace(law.edges[0, 0], law.edges[-1, 1], POINTS + 2)[1:-1]
        density, own = timed(lambda law=law, x=x: law.density(x), 1)
        roots, naive = timed(lambda a=atoms, w=weights, x=x: all_roots(a, w, x), 1)
        values, sampling = timed(lambda law=law, rng=rng: law.sample(SIZE, rng), 1)
        stairs = SIZE * np.abs(law.cdf(values) - (np.arange(SIZE) + 0.5) / SIZE).max()
        print(
            f"{count:5d}  {len(law.edges):5d}  {own:11.4f}  {own / naive:13.3f}  {own / sampling:14.4f}"
            f"  {np.abs(density - roots).max():14.1e}  {stairs:18.2f}"
        )


if __name__ == "__main__":
    main()

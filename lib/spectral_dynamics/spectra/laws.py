"""Laws of large random matrices: semicircle, Marchenko-Pastur for any atomic population, information plus noise.

Each function returns a `Law`: edges, atoms, density, distribution, Stieltjes transform, moments, samples. How the
laws of sample covariance matrices are solved stands in `covariance`, information plus noise in `ladder`.

Normalisation: eigenvalues of covariance matrices; `singular_values()` of a law is the law of their square roots.
Information plus noise is a law of singular values.
"""

from dataclasses import dataclass

import numpy as np

from .. import arguments
from .covariance import MarchenkoPastur, SingularValues
from .ladder import InformationPlusNoise
from .law import Law, complex_points, moments_of, points, refuse


def semicircle(variance: float) -> "Semicircle":
    """Eigenvalues of a symmetric N x N matrix, entries off the diagonal of variance `variance`/N (Wigner 1958)."""
    return Semicircle(variance)


def marchenko_pastur(ratio: float, variance: float = 1.0) -> MarchenkoPastur:
    """Eigenvalues of Z Z^T/n, Z (p, n) with entries of variance `variance`, `ratio` = p/n."""
    return MarchenkoPastur(ratio, [arguments.number("variance", variance, above=0)], [1.0])


def generalized_marchenko_pastur(ratio: float, atoms, weights) -> MarchenkoPastur:
    """Eigenvalues of (1/n) S^{1/2} Z Z^T S^{1/2}, Z (p, n) of unit variance, `ratio` = p/n.

    S has the eigenvalues `atoms` (K,), at least 0, in the proportions `weights` (K,), which sum to 1.
    """
    return MarchenkoPastur(ratio, atoms, weights)


def singular_value_bulk(width_ratio: float, variance: float = 1.0) -> SingularValues:
    """The M singular values of an M x N matrix with entries of variance `variance`/N, `width_ratio` nu = M/N.

    Edges sigma |1 +- sqrt(nu)|; M > N leaves M - N singular values 0, an atom of mass 1 - 1/nu.
    """
    width_ratio = arguments.number("width_ratio", width_ratio, above=0)
    return marchenko_pastur(width_ratio, variance).singular_values()


def quarter_circle(variance: float) -> SingularValues:
    """Singular values of a square N x N matrix with entries of variance `variance`/N; edge 2 sigma."""
    return singular_value_bulk(1.0, variance)


def information_plus_noise(ratio: float, singular_values, variance: float, weights=None) -> InformationPlusNoise:
    """The M singular values of A + X: A (M, N), `ratio` nu = M/N, with the given ones, X with entries of variance
    `variance`/N (Dozier and Silverstein 2007).

    `singular_values` (K,), at least 0: all M of A, zeros included, or as many as there are `weights` (K,), the
    proportions in which they come, which sum to 1. The singular vectors of A are in general position. M > N needs a
    share 1 - 1/nu of zeros, and leaves it at 0. Raises ValueError, and ConvergenceError where no solution is found.
    """
    return InformationPlusNoise(ratio, singular_values, variance, weights)


@dataclass(frozen=True)
class Semicircle(Law):
    """rho(x) = sqrt(4 variance - x^2)/(2 pi variance)."""

    variance: float

    def __post_init__(self):
        object.__setattr__(self, "variance", arguments.number("variance", self.variance, above=0))

    @property
    def edges(self) -> np.ndarray:
        edge = 2 * np.sqrt(self.variance)
        return np.array([[-edge, edge]])

    @property
    def atoms(self) -> tuple:
        return ()

    def density(self, x):
        x = points("x", x)
        edge = self.edges[0, 1]
        return (np.sqrt(np.maximum((edge - x) * (edge + x), 0)) / (2 * np.pi * self.variance))[()]

    def cdf(self, x):
        edge = self.edges[0, 1]
        u = np.clip(points("x", x) / edge, -1, 1)
        return (0.5 + (u * np.sqrt(1 - u**2) + np.arcsin(u)) / np.pi)[()]

    def stieltjes(self, z):
        """The decaying root of variance m^2 + z m + 1 = 0. Raises ValueError for a real z inside the bulk."""
        z = complex_points("z", z)
        refuse("z", z, self._inside(z.real), "a real z must lie outside the bulk")
        edge = self.edges[0, 1]
        return (-2 / (z + np.sqrt(z - edge) * np.sqrt(z + edge)))[()]

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Eigenvalues (size,) of one symmetric Gaussian matrix."""
        size = arguments.whole("size", size, at_least=1)
        matrix = arguments.generator("rng", rng).standard_normal((size, size))
        return np.linalg.eigvalsh((matrix + matrix.T) * np.sqrt(self.variance / (2 * size)))

    def moment(self, order: int) -> float:
        """Mean of x^order, exact: the only free cumulant is the second, `variance`."""
        order = arguments.whole("order", order)
        return float(moments_of(np.where(np.arange(1, order + 1) == 2, self.variance, 0.0))[order])

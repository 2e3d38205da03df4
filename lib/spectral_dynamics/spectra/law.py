"""What every law of eigenvalues or singular values offers, and how it takes the points that it is asked for."""

import numpy as np

from .. import arguments


class Law:
    """What every law offers. Points and transforms are arrays of any shape, computed entry by entry.

    `edges` (bands, 2) ascending; `atoms` ((location, mass), ...); `density(x)` of the continuous part, 0 outside it;
    `cdf(x)` with the atoms; `stieltjes(z)` = integral rho(x)/(x - z), Im > 0 above the axis; `moment(k)`;
    `sample(size, rng)`, the sorted spectrum of one random matrix.
    """

    def _inside(self, x: np.ndarray) -> np.ndarray:
        """Whether a real x lies between the two edges of a band."""
        band = np.searchsorted(self.edges[:, 0], x, side="left") - 1
        return (band >= 0) & (x < self.edges[np.maximum(band, 0), 1])


def moments_of(cumulants: np.ndarray) -> np.ndarray:
    """Moments 0..k of a law from its free cumulants 1..k."""
    moments = np.ones(1)
    for order in range(1, cumulants.size + 1):
        power, total = np.ones(1), 0.0
        for s in range(1, order + 1):
            power = np.convolve(power, moments)[:order]
            total += cumulants[s - 1] * power[order - s]
        moments = np.append(moments, total)
    return moments


def points(name: str, value) -> np.ndarray:
    """Real numbers, all finite, of any shape, or none. Raises ValueError."""
    return arguments.array(name, value) if np.size(value) else np.zeros(np.shape(value))


def complex_points(name: str, value) -> np.ndarray:
    """The same, complex. Raises ValueError."""
    try:
        result = np.asarray(value, dtype=np.complex128)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of complex numbers, got {type(value).__name__}") from None
    if not np.all(np.isfinite(result)):
        raise ValueError(f"{name} holds {np.sum(~np.isfinite(result))} non-finite entries, all must be finite")
    return result


def proportions(name: str, values: np.ndarray, weights) -> np.ndarray:
    """The weights (K,) of values (K,), all at least 0, of which they are to sum to 1. Raises ValueError."""
    weights = arguments.array("weights", weights, shape=values.shape)
    if np.any(values < 0):
        raise ValueError(f"{name} must be at least 0, got {values.min()}")
    if np.any(weights < 0):
        raise ValueError(f"weights must be at least 0, got {weights.min()}")
    if abs(weights.sum() - 1) > 1e-9:
        raise ValueError(f"weights must sum to 1, got a sum of {weights.sum():.12g}")
    return weights / weights.sum()


def frozen(values: np.ndarray) -> np.ndarray:
    """A copy that nobody can write to."""
    values = np.array(values)
    values.flags.writeable = False
    return values


def refuse(name: str, z: np.ndarray, where: np.ndarray, allowed: str) -> None:
    """Raises ValueError for a real z where it may not lie."""
    where = where & (z.imag == 0)
    if np.any(where):
        raise ValueError(f"{name} = {z.real[where].flat[0]} is not allowed: {allowed}")

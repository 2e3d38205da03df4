"""To infinite size: straight lines in a power of 1/size, with errors. Reached as `sweeps.extrapolate` and its kin."""

from dataclasses import dataclass

import numpy as np

from . import arguments


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """The straight line `limit + slope/size` through means over seeds, weighted by their standard errors.

    `limit`, `standard_error` (of the limit) and `slope`, of the shape of one run's values. `chi_square`: squared
    distances of the means from the line in standard errors, summed: about sizes - 2 where the line is right.
    """

    limit: np.ndarray
    standard_error: np.ndarray
    slope: np.ndarray
    chi_square: np.ndarray


def extrapolate(sizes, values, power: float = 1.0, controls=None) -> Extrapolation:
    """Weighted least squares of the means of `values` (runs, ...) at each of `sizes` (runs,) on a + b/size^power.

    The standard error of each mean is estimated from the scatter of its own runs. A value that does not scatter at
    all, at any size, is taken as it is, with equal weights and standard error 0. `controls` (runs, k): quantities of
    each run whose exact expectation is known, less that expectation; the mean of the values is then corrected for
    that of the controls, by linear regression at each size (control variates). Raises ValueError with fewer than two
    different sizes, or fewer than two runs at one of them (10 more than controls, if there are any).
    """
    sizes = arguments.array("sizes", sizes, ndim=1)
    values = arguments.array("values", values)
    if values.shape[:1] != sizes.shape:
        raise ValueError(f"values must have one row for each of the {len(sizes)} sizes, got shape {values.shape}")
    if sizes.size and sizes.min() <= 0:
        raise ValueError(f"sizes must be positive, got {sizes.min()}")
    power = arguments.number("power", power, above=0)
    points, counts = np.unique(sizes, return_counts=True)
    if controls is not None:
        controls = arguments.array("controls", controls, shape=(len(sizes), None))
    least = 2 if controls is None else controls.shape[1] + 10
    if len(points) < 2 or counts.min() < least:
        got = ", ".join(f"{point:g} ({count} x)" for point, count in zip(points, counts, strict=True))
        raise ValueError(f"sizes must name two or more sizes, each at least {least} times, got {got}")
    groups = [sizes == point for point in points]
    found = [_mean(values[group], None if controls is None else controls[group]) for group in groups]
    return _line(points**-power, *map(np.array, zip(*found, strict=True)))


def _mean(values, controls) -> tuple[np.ndarray, np.ndarray]:
    """The mean over runs, and its variance: an ordinary one, or the intercept of the regression on `controls`."""
    count = len(values)
    if controls is None:
        return values.mean(axis=0), values.var(axis=0, ddof=1) / count
    design = np.column_stack([np.ones(count), controls])
    inverse = np.linalg.pinv(design, rcond=1e-10)  # controls may be zero, or the same twice
    flat = values.reshape(count, -1)
    coefficients = inverse @ flat
    rank = np.linalg.matrix_rank(design, tol=1e-10 * np.linalg.norm(design, 2))
    scatter = np.sum((flat - design @ coefficients) ** 2, axis=0) / (count - rank)
    scatter[np.ptp(flat, axis=0) == 0] = 0
    shape = values.shape[1:]
    return coefficients[0].reshape(shape), (scatter * (inverse @ inverse.T)[0, 0]).reshape(shape)


def _line(x, means, variances) -> Extrapolation:
    """The weighted line through `means` (points, ...), by its normal equations; every entry has its own weights."""
    x = x.reshape(-1, *[1] * (means.ndim - 1))
    scatters = np.all(variances > 0, axis=0)
    weights = 1 / np.where(scatters, variances, 1.0)
    total = weights.sum(axis=0)
    centre, level = (np.sum(weights * part, axis=0) / total for part in (x, means))
    spread = np.sum(weights * (x - centre) ** 2, axis=0)
    slope = np.sum(weights * (x - centre) * (means - level), axis=0) / spread
    limit = level - slope * centre
    error = np.where(scatters, np.sqrt(1 / total + centre**2 / spread), 0.0)
    left = np.where(scatters, np.sum(weights * (means - limit - slope * x) ** 2, axis=0), 0.0)
    return Extrapolation(limit, error, slope, left)


def line(sizes, means, errors, power: float = 1.0) -> Extrapolation:
    """Weighted least squares of ready `means` (sizes, ...) with standard `errors`, alike, on a + b/size^power.

    As `extrapolate`, where the runs behind the means are not at hand or are not alike. Raises ValueError with fewer
    than two different sizes, and for sizes or errors that are not above 0.
    """
    sizes, means = _sized(sizes, means, "means")
    errors = arguments.array("errors", errors, shape=means.shape)
    if errors.min() <= 0:
        raise ValueError(f"errors must be positive, got {errors.min()}")
    return _line(sizes ** -arguments.number("power", power, above=0), means, errors**2)


def pooled(sizes, values) -> Extrapolation:
    """Least squares of single runs `values` (runs, ...) on a + b/size where one run has the variance s2/size.

    All runs say together how large s2 is, entry by entry, so that a size with few of them can be used: each run has
    the weight `size`, `s2 = sum size (value - a - b/size)^2 / (runs - 2)`. In `chi_square` the means at each size are
    measured by s2. Raises ValueError with fewer than three runs or two different sizes, and for sizes not above 0.
    Source: the chapter on learning-rate transfer.
    """
    sizes, values = _sized(sizes, values, "values")
    if len(sizes) < 3:
        raise ValueError(f"values must hold three or more runs, got {len(sizes)}")
    x = (1 / sizes).reshape(-1, *[1] * (values.ndim - 1))
    fit = _line(1 / sizes, values, np.broadcast_to(x, values.shape))
    variance, left = fit.chi_square / (len(sizes) - 2), values - fit.limit - fit.slope * x
    groups = [(size, left[sizes == size]) for size in np.unique(sizes)]
    chi_square = sum(size * len(group) * group.mean(axis=0) ** 2 for size, group in groups)
    scale = np.where(variance > 0, variance, 1.0)
    return Extrapolation(fit.limit, fit.standard_error * np.sqrt(variance), fit.slope, chi_square / scale)


def _sized(sizes, values, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One positive size for each row of values, not all the same."""
    sizes, values = arguments.array("sizes", sizes, ndim=1), arguments.array(name, values)
    if values.shape[:1] != sizes.shape:
        raise ValueError(f"{name} must have one row for each of the {len(sizes)} sizes, got shape {values.shape}")
    if sizes.min() <= 0 or np.ptp(sizes) == 0:
        raise ValueError(f"sizes must be positive and name two or more, got {sizes}")
    return sizes, values

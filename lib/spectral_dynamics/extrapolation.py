"""To infinite size: straight lines in a power of 1/size, with errors. Reached as `sweeps.extrapolate` and its kin.

A mean is weighed by its variance, and there are two ways to know it. A size with many runs knows its own. With few it
does not: a variance from n runs is off by sqrt(2/(n - 1)) of itself, and of several sizes the one whose runs lie
together by luck gets all the weight. Then all runs together say how large the scatter is, by a law: the variance of
one run falls as size^-q. With q = 1 for what self-averages, and 4/3 for the edge of a bulk.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from . import arguments

FEW = 10  # runs; with so many at three sizes standard errors from their own scatter are 6 % too small, with 4 17 %
ROUNDING = 1e-9  # of the largest mean: as far apart exact values still lie on one line


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """The straight line `limit + slope/size^power` through means over runs, weighted by their variances.

    `limit`, `standard_error` (of the limit) and `slope`, of the shape of one run's values. `chi_square`: squared
    distances of the means from the line in standard errors, summed: about `dof` = sizes - 2 where the line is right.
    """

    limit: np.ndarray
    standard_error: np.ndarray
    slope: np.ndarray
    chi_square: np.ndarray
    dof: int

    @property
    def p_value(self) -> np.ndarray:
        """How often chance alone makes a chi square as large; 1 for two sizes, which are always on a line."""
        return special.chdtrc(self.dof, self.chi_square) if self.dof else np.ones(np.shape(self.chi_square))[()]

    def score(self, value, error=0.0) -> np.ndarray:
        """(limit - value) in standard errors, with that of the value, if it has one, added in squares.

        Without any error it is 0 where both are the same, and infinite elsewhere.
        """
        gap = self.limit - arguments.array("value", value)
        unit = np.hypot(self.standard_error, arguments.array("error", error))
        return np.divide(gap, unit, out=np.where(gap == 0, 0.0, np.copysign(np.inf, gap)), where=unit > 0)[()]


def extrapolate(sizes, values, power: float = 1.0, controls=None, scatter=None, counts=None) -> Extrapolation:
    """Weighted least squares of the means of `values` (runs, ...) at each of `sizes` (runs,) on a + b/size^power.

    `scatter`: what is known of the variance of one run. "own": each size has its own, and needs two runs; a size
    where all runs agree is exact, the line passes through it (through two; of more, it is the nearest to them). A
    number q: s2/size^q, with s2 from all distances to the line, sizes of a single run included; three runs will do.
    None, the default: "own" where every size has `FEW` runs, and else q = 1, or 2 power for a power below 1: a
    correction of 1/size is what is left of fluctuations of size^-1/2, a slower one is as large as its fluctuations.
    Where the power is varied, name the scatter. Every entry of the values has its own variances.
    `controls` (runs, k): quantities of each run whose exact expectation is known, less that expectation; the mean is
    then corrected for that of the controls, by linear regression at each size (control variates), for which each
    size needs 10 more runs than controls. `counts` (runs,): of how many each run is the mean; of one by default.
    Raises ValueError with fewer than two different sizes, or too few runs.
    """
    sizes, values = _sized(sizes, values, "values")
    power = arguments.number("power", power, above=0)
    if controls is not None:
        controls = arguments.array("controls", controls, shape=(len(sizes), None))
    counts = np.ones(len(sizes)) if counts is None else arguments.array("counts", counts, shape=sizes.shape)
    if counts.min() <= 0:
        raise ValueError(f"counts must be positive, got {counts.min():g}")
    points, runs = np.unique(sizes, return_counts=True)
    fall = _fall(scatter, power, runs.min())
    _enough(points, runs, controls, fall)
    groups = [sizes == point for point in points]
    found = [_size(values[at], counts[at], None if controls is None else controls[at]) for at in groups]
    if fall is None:
        means, variances = (np.array([getattr(one, key) for one in found]) for key in ("mean", "variance"))
        return _line(points**-power, means, variances)
    return _pool(points, found, power, fall)


def pooled(sizes, values) -> Extrapolation:
    """`extrapolate` on a + b/size where one run has the variance s2/size: self-averaging numbers, few runs.

    Source: the chapter on learning-rate transfer.
    """
    return extrapolate(sizes, values, scatter=1.0)


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


def _sized(sizes, values, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One positive size for each row of values, not all the same."""
    sizes, values = arguments.array("sizes", sizes, ndim=1), arguments.array(name, values)
    if values.shape[:1] != sizes.shape:
        raise ValueError(f"{name} must have one row for each of the {len(sizes)} sizes, got shape {values.shape}")
    if sizes.min() <= 0:
        raise ValueError(f"sizes must be positive, got {sizes.min():g}")
    if np.ptp(sizes) == 0:
        raise ValueError(f"sizes must name two or more sizes, got {sizes[0]:g} alone")
    return sizes, values


def _fall(scatter, power: float, runs: int) -> float | None:
    """The q of the variance s2/size^q; None where each size has its own."""
    if scatter is None:
        return None if runs >= FEW else 2 * power if power < 1 else 1.0
    if isinstance(scatter, str):
        arguments.one_of("scatter", scatter, ("own",))
        return None
    return arguments.number("scatter", scatter, at_least=0)


def _enough(points, runs, controls, fall) -> None:
    least = controls.shape[1] + 10 if controls is not None else 2 if fall is None else 1
    if runs.min() < least:
        got = ", ".join(f"{point:g} ({count} x)" for point, count in zip(points, runs, strict=True))
        raise ValueError(f"sizes must name each size at least {least} times, got {got}")
    if runs.sum() < 3:
        raise ValueError(f"values must hold three or more runs, got {runs.sum()}")


class _Size(NamedTuple):
    """The runs of one size: `mean` and its own `variance`, the `share` of a run's variance that the mean has.

    `squares`: squared distances of runs from their mean, summed, with `dof` degrees of freedom.
    """

    mean: np.ndarray
    variance: np.ndarray
    share: float
    squares: np.ndarray
    dof: int


def _size(values, counts, controls) -> _Size:
    """An ordinary mean, or the intercept of the regression on `controls`."""
    if controls is not None:
        return _regressed(values, counts, controls)
    each, total, dof = counts.reshape(-1, *[1] * (values.ndim - 1)), counts.sum(), len(values) - 1
    mean = np.sum(each * values, axis=0) / total
    squares = np.sum(each * (values - mean) ** 2, axis=0)
    squares = np.where(np.ptp(values, axis=0) == 0, 0.0, squares)  # not what rounding of the mean has left
    return _Size(mean, squares / max(dof, 1) / total, 1 / total, squares, dof)


def _regressed(values, counts, controls) -> _Size:
    root = np.sqrt(counts)[:, None]
    design = root * np.column_stack([np.ones(len(values)), controls])
    inverse = np.linalg.pinv(design, rcond=1e-10)  # controls may be zero, or the same twice
    flat = values.reshape(len(values), -1)
    coefficients = inverse @ (root * flat)
    rank = np.linalg.matrix_rank(design, tol=1e-10 * np.linalg.norm(design, 2))
    squares = np.sum((root * flat - design @ coefficients) ** 2, axis=0)
    squares[np.ptp(flat, axis=0) == 0] = 0
    shape, dof, share = values.shape[1:], len(values) - rank, (inverse @ inverse.T)[0, 0]
    parts = (part.reshape(shape) for part in (coefficients[0], squares / dof * share, squares))
    mean, variance, squares = parts
    return _Size(mean, variance, share, squares, dof)


def _pool(points, found: list[_Size], power: float, fall: float) -> Extrapolation:
    """The line where one run has the variance s2/size^fall: s2 = sum size^fall (distance to the line)^2 / (runs - 2).

    In `chi_square` the means are measured by this s2, so that its mean is sizes - 2 however few runs there are.
    """
    means, squares = (np.array([getattr(one, key) for one in found]) for key in ("mean", "squares"))
    scale = (points**fall).reshape(-1, *[1] * (means.ndim - 1))
    share = np.array([one.share for one in found]).reshape(scale.shape)
    unit = np.broadcast_to(share / scale, means.shape)
    fit = _line(points**-power, means, unit)
    dof = sum(one.dof for one in found) + fit.dof
    s2 = (np.sum(scale * squares, axis=0) + fit.chi_square) / dof
    noise = np.sqrt(s2 * unit.max(axis=0)) <= ROUNDING**1.5 * np.abs(means).max(axis=0)
    s2 = np.where(noise, 0.0, s2)
    chi_square = np.where(noise, 0.0, fit.chi_square) / np.where(noise, 1.0, s2)
    return Extrapolation(fit.limit, fit.standard_error * np.sqrt(s2), fit.slope, chi_square[()], fit.dof)


def _line(x, means, variances) -> Extrapolation:
    """The weighted line through `means` (points, ...), by its normal equations; every entry has its own weights."""
    exact, flat = variances == 0, x
    x = x.reshape(-1, *[1] * (means.ndim - 1))
    weights = 1 / np.where(exact, 1.0, variances)
    total = weights.sum(axis=0)
    centre, level = (np.sum(weights * part, axis=0) / total for part in (x, means))
    spread = np.sum(weights * (x - centre) ** 2, axis=0)
    slope = np.sum(weights * (x - centre) * (means - level), axis=0) / spread
    limit = level - slope * centre
    left = np.sum(weights * (means - limit - slope * x) ** 2, axis=0)
    parts = [np.array(part) for part in (limit, np.sqrt(1 / total + centre**2 / spread), slope, left)]
    for entry in map(tuple, np.argwhere(exact.any(axis=0))):
        of_entry = _through(flat, means[:, *entry], variances[:, *entry])
        for part, value in zip(parts, of_entry, strict=True):
            part[entry] = value
    return Extrapolation(*(part[()] for part in parts), len(flat) - 2)


def _through(x, means, variances) -> tuple[float, float, float, float]:
    """Limit, error, slope and chi square of one entry that is exact at some points, which have all the weight."""
    exact = variances == 0
    origin, level = x[exact].mean(), means[exact].mean()
    only = exact.sum() == 1
    weights = np.where(exact, 0.0, 1 / np.where(exact, 1.0, variances)) if only else exact.astype(float)
    spread = np.sum(weights * (x - origin) ** 2)
    slope = np.sum(weights * (x - origin) * (means - level)) / spread
    limit = level - slope * origin
    off = means - limit - slope * x
    off[exact & (np.abs(off) <= ROUNDING * np.abs(means).max())] = 0
    missed = np.any(off[exact] != 0)  # no line passes through all exact values
    chi_square = np.inf if missed else np.sum(off[~exact] ** 2 / variances[~exact])
    return limit, origin / np.sqrt(spread) if only else 0.0, slope, chi_square

"""What free addition does not explain: how far a spectrum is from a law, value by value, and a toy where it is known.

Free addition is the null of every trained matrix: what was learned, Wbar(t) - Wbar(0), put with its singular values,
but with vectors that know nothing of it, on an untouched random matrix (`laws.information_plus_noise`). A spectrum
that deviates from it was made by dependence. In the toy of `many_outputs` both sides are laws:

    Wbar(t) = e^{-tS} Wbar(0) + S^{-1} (1 - e^{-tS}) V^T tau Tbar ,

Wbar(0) is rotated and shrunk by e^{-tS} where it learns, so that the learned change and the start are opposed, while
free addition has them at random angles. A distance is Kolmogorov's, the largest difference of distribution functions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import elementwise

from .. import arguments, problems
from . import laws, many_outputs

POINTS = 1000  # at which a law is looked at


@dataclass(frozen=True)
class Deviation:
    """Singular values beside a law.

    distance  sup |F_values - F_law|
    expected  (n,) ascending: the law's quantiles at (i - 1/2)/n
    shift     (n,) the values, ascending, minus the expected ones. Finite matrices alone make it n^{-2/3} beside an
              edge and 1/n elsewhere, in units of the width of the law; more than that is dependence.
    """

    distance: float
    expected: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Restructured:
    """A matrix whose law is known beside free addition of the same learned change.

    exact     law of the trained matrix
    change    law of its learned change
    free      law of that change on an untouched start
    distance  sup |F_exact - F_free|
    """

    exact: object
    change: object
    free: laws.InformationPlusNoise
    distance: float


def deviation(values, law) -> Deviation:
    """Singular values (n,), zeros included, beside a law: distance, expected values and shifts. Raises ValueError."""
    distance = many_outputs.distance(values, law)
    values = np.sort(arguments.array("values", values, ndim=1))
    expected = quantiles(law, (np.arange(values.size) + 0.5) / values.size)
    return Deviation(distance, expected, values - expected)


def quantiles(law, levels) -> np.ndarray:
    """Where the distribution function of a law of singular values reaches `levels`, in [0, 1], any shape.

    It is interpolated between `POINTS` places, x = low + (high - low) sin^2(u) in each band, to some 1e-6 of the
    width of the band. Levels below the mass of an atom at 0 are there. Raises ValueError.
    """
    levels = arguments.array("levels", levels)
    if np.any((levels < 0) | (levels > 1)):
        raise ValueError(f"levels must lie between 0 and 1, got {levels.min()} to {levels.max()}")
    bands = _bands(law)
    each = max(16, POINTS // len(bands))
    place = np.linspace(0, len(bands), len(bands) * each + 1)
    knots = law.cdf(_at(bands, place))
    reached = PchipInterpolator(place, np.maximum.accumulate(knots))
    inside = np.clip(levels, knots[0], knots[-1]).ravel()
    ends = np.zeros(inside.shape), np.full(inside.shape, float(len(bands)))
    found = elementwise.find_root(lambda u, level: reached(u) - level, ends, args=(inside,)).x
    result = _at(bands, np.where(inside >= knots[-1], len(bands), np.nan_to_num(found)))
    return np.where(levels.ravel() <= law.cdf(0.0), 0.0, result).reshape(levels.shape)[()]


def between(law, other) -> float:
    """sup |F - F'| of two laws of singular values, over `POINTS` places in the bands of each and their edges."""
    bands = [_bands(one) for one in (law, other)]
    places = [_at(b, np.linspace(0, len(b), len(b) * max(16, POINTS // len(b)) + 1)) for b in bands]
    x = np.concatenate([[0.0], *places])
    return float(np.abs(law.cdf(x) - other.cdf(x)).max())


def free_addition(change, ratio: float, variance: float, *, values: int = 400) -> laws.InformationPlusNoise:
    """The law of a learned change of known law on an untouched matrix with entries of variance `variance`/N.

    `change`: a law of the M singular values, with `.cdf`, and `.edges` or `.edge`. It is represented by its atom at 0
    and some `values` others, closest together beside its edges. `ratio` = M/N. Raises ValueError.
    """
    values = arguments.whole("values", values, at_least=1)
    bands = _bands(change)
    borders = np.linspace(0, len(bands), len(bands) * max(8, values // len(bands)) + 1)
    reached = np.maximum.accumulate(change.cdf(_at(bands, borders)))
    ladder = np.append(0.0, _at(bands, (borders[1:] + borders[:-1]) / 2))
    weights = np.append(reached[0], np.diff(reached)) / reached[-1]
    return laws.information_plus_noise(ratio, ladder, variance, weights)


def frozen(problem: problems.FrozenReadout, time: float, *, values: int = 400) -> Restructured:
    """The frozen toy after `time` beside free addition. Raises as `many_outputs.change`."""
    exact, change = many_outputs.bulk(problem, time), many_outputs.change(problem, time)
    return _beside(exact, change, problem.width_ratio, problem.weight_std**2, values)


def one_step(
    problem: problems.FrozenReadout, rate: float, readout_rate: float | None = None, *, values: int = 400
) -> tuple[Restructured, Restructured]:
    """Wbar and V after one joint step beside free addition. Raises as `many_outputs.one_step`, and at rates of 0.

    V is taken as its N singular values, an N x C matrix with entries of variance kappa/C.
    """
    exact = many_outputs.one_step(problem, rate, readout_rate, accuracy=1e-5)
    change = many_outputs.one_step(problem, rate, readout_rate, change=True, accuracy=5e-3)
    shapes = (problem.width_ratio, problem.weight_std**2), (1 / problem.output_ratio, problem.output_ratio)
    pairs = zip(exact, change, shapes, strict=True)
    return tuple(_beside(law, learned, *shape, values) for law, learned, shape in pairs)


def _beside(exact, change, ratio, variance, values) -> Restructured:
    free = free_addition(change, ratio, variance, values=values)
    return Restructured(exact, change, free, between(exact, free))


def _bands(law) -> np.ndarray:
    return law.edges if hasattr(law, "edges") else np.array([[0.0, law.edge]])


def _at(bands, place):
    """Points at k + u, u in [0, 1], of band k."""
    k = np.minimum(place.astype(int), len(bands) - 1)
    return bands[k, 0] + (bands[k, 1] - bands[k, 0]) * np.sin(np.pi / 2 * (place - k)) ** 2

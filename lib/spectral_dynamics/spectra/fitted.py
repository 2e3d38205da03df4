"""Any matrix, its start unknown: the random bulk that fits its singular values, and what that leaves over.

A matrix (M, N) is taken for k learned directions on a random bulk of entries of variance s2/N. The k directions leave
an untouched block (p - k, n - k), p and n the shorter and the longer side, as in the Gram form of `outliers`. With
q_i the quantiles at (i - 1/2)/(p - k) of that block's law at s2 = 1 and x_i the p - k smallest singular values,

    sigma = sum x_i q_i / sum q_i^2    over the middle half of the bulk, levels 1/4 to 3/4 ,

which no scale enters and the ends of the spectrum do not move. A value lies beyond the edge when it exceeds it by
`margin` units of the Tracy-Widom law of the largest singular value (Johnstone 2001),

    edge = sigma (sqrt(p) + sqrt(n))/sqrt(N) ,    unit = sigma (1/sqrt(p) + 1/sqrt(n))^{1/3}/(2 sqrt(N)) .

k starts at 0 and is the count found with the k before, until it stays. Errors come from random matrices of the same
shape, with the learned directions put back at the strengths that the values beyond the edge tell.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .. import arguments
from . import deviation, gram, laws, many_outputs

MIDDLE = 0.25, 0.75  # levels of the bulk to which the variance is fitted
MARGIN = 2.0234  # the 99 % point of the Tracy-Widom law: one random matrix in a hundred has a value beyond


@dataclass(frozen=True)
class FittedBulk:
    """A random bulk fitted to singular values.

    variance     s2: entries of the bulk have the variance s2/N, N the second side of `shape`
    edge         its upper edge;  unit: the Tracy-Widom scale there
    beyond       (k,) descending, the values beyond `edge + margin unit`
    distance     of the others from the law of the untouched block: sup |F_values - F_law|
    stable_rank  sum x^2 / max x^2 of all values
    law          the fitted law, of the untouched block
    errors       standard deviations of variance, edge, distance, stable_rank and of `count`, how many values lie
                 beyond, over matrices of the fit's own making; empty where none were drawn
    expected     the means over them: a random bulk has the distance `expected["distance"]` by itself
    """

    variance: float
    edge: float
    unit: float
    beyond: np.ndarray
    distance: float
    stable_rank: float
    law: laws.SingularValues
    errors: dict
    expected: dict


def bulk(values, shape, *, margin: float = MARGIN, resamples: int = 0, rng=None) -> FittedBulk:
    """The random bulk that fits all min(shape) singular values (p,) of a matrix (M, N) = `shape`.

    `margin`: in Tracy-Widom units, which values lie beyond the edge. `resamples`: how many random matrices `rng`
    draws for the errors, at least 2 or none, a singular value decomposition each. Raises ValueError, also where more
    than half of the values would lie beyond: no bulk is left.
    """
    shape = _shape(shape)
    values = -np.sort(-arguments.array("values", values, shape=(min(shape),)))
    if values[-1] < 0 or values[len(values) // 2] == 0:
        raise ValueError(f"values must be at least 0, more than half of them above, got {values}")
    margin, resamples = arguments.number("margin", margin, at_least=0), arguments.whole("resamples", resamples)
    found = _fit(values, shape, margin)
    if resamples == 0:
        return FittedBulk(*found, {}, {})
    if resamples == 1:
        raise ValueError("resamples must be 0 or at least 2, got 1")
    rng = arguments.generator("rng", rng)
    again = [_fit(_drawn(found, shape, rng), shape, margin) for _ in range(resamples)]
    names = {"variance": 0, "edge": 1, "distance": 4, "stable_rank": 5}
    table = {name: [one[place] for one in again] for name, place in names.items()}
    table["count"] = [len(one[3]) for one in again]
    errors = {name: float(np.std(column, ddof=1)) for name, column in table.items()}
    return FittedBulk(*found, errors, {name: float(np.mean(column)) for name, column in table.items()})


def strengths(fit: FittedBulk, shape) -> np.ndarray:
    """The singular values lambda of learned directions that free addition shows at `fit.beyond`, (k,), descending.

    The inverse of `outliers.location` on the fitted bulk. Raises ValueError.
    """
    rows, columns = _shape(shape)
    s2, nu = fit.variance, rows / columns
    return 1 / np.sqrt(gram.product(np.maximum(fit.beyond, fit.edge), s2, s2 * nu))


def _fit(values, shape, margin):
    """Everything but the errors, from descending values."""
    count, most = 0, len(values) // 2
    while True:
        bulk_values = values[count:][::-1]
        middle, q = _middle(shape, count)
        sigma = float(bulk_values[middle] @ q / (q @ q))
        edge, unit = (sigma * size for size in _edge(shape))
        beyond = values[values > edge + margin * unit]
        if beyond.size <= count:
            break
        count = beyond.size
        if count > most:
            raise ValueError(f"values have no bulk: {count} of {len(values)} lie beyond the edge {edge:.6g} of a fit")
    law = _block(shape, count, sigma**2)
    rank = float(np.sum(values**2) / values[0] ** 2)
    return sigma**2, edge, unit, beyond, many_outputs.distance(bulk_values, law), rank, law


@lru_cache(maxsize=64)  # the matrices of one shape that are drawn for the errors ask again and again
def _middle(shape, count) -> tuple[np.ndarray, np.ndarray]:
    """Which of the values of the untouched block, ascending, are its middle, and their quantiles at s2 = 1."""
    levels = (np.arange(min(shape) - count) + 0.5) / (min(shape) - count)
    middle = (levels > MIDDLE[0]) & (levels < MIDDLE[1])
    return middle, deviation.quantiles(_block(shape, count), levels[middle])


def _block(shape, count, variance: float = 1.0) -> laws.SingularValues:
    """The law of the untouched block when `count` directions are taken, as a wide matrix."""
    short, long = sorted(side - count for side in shape)
    return laws.singular_value_bulk(short / long, variance * long / shape[1])


def _edge(shape) -> tuple[float, float]:
    """Upper edge and Tracy-Widom unit of the largest singular value, at sigma = 1."""
    rows, columns = shape
    both, inverse = np.sqrt(rows) + np.sqrt(columns), 1 / np.sqrt(rows) + 1 / np.sqrt(columns)
    return both / np.sqrt(columns), inverse ** (1 / 3) / (2 * np.sqrt(columns))


def _drawn(found, shape, rng):
    """Singular values, descending, of one matrix of the fit's own making."""
    matrix = rng.standard_normal(shape) * np.sqrt(found[0] / shape[1])
    learned = strengths(FittedBulk(*found, {}, {}), shape)
    matrix[np.arange(learned.size), np.arange(learned.size)] += learned
    return np.linalg.svd(matrix, compute_uv=False)


def _shape(shape) -> tuple[int, int]:
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise ValueError(f"shape must be a pair (M, N), got {shape!r}")
    return tuple(arguments.whole("shape", side, at_least=8) for side in shape)

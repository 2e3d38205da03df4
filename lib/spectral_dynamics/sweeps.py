"""Many cases, many seeds, several sizes: run them once, keep every result, and go to infinite size."""

import hashlib
import inspect
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
from joblib import Memory, Parallel, delayed

from . import arguments

CONSTANTS, WITNESSES = "constants", "witnesses"  # what a table's file holds besides the table


def run(function: Callable, cases: Iterable[dict], *, store, workers: int = 1) -> list:
    """[function(**case) for case in cases], each result on disk as soon as it is there, `workers` at a time.

    `function` must be pure: its result depends on its arguments alone, seeds included. `store`: a folder; a case
    found there is read, not run, so that an interrupted sweep goes on where it stopped. Results are forgotten when
    the source of `function` changes, not when what it calls does: let that be an argument (a version, or a hash).
    Raises ValueError, and whatever `function` raises; results of the cases before that are kept.
    """
    workers = arguments.whole("workers", workers, at_least=1)
    kept = Memory(store, verbose=0).cache(function)
    return Parallel(n_jobs=workers)(delayed(kept)(**case) for case in cases)


def fingerprint(*parts) -> str:
    """A hash of the code, and the constants, that a stored result came from: it changes when one of them does.

    Functions, classes and modules stand for their source, anything else for its `repr`. Name what the numbers depend
    on, down to the functions that are called, and nothing else: a result is stale when this is not what it was.
    Raises ValueError for a part whose `repr` is an address in memory.
    """
    coded = (FunctionType, type, ModuleType)
    texts = [inspect.getsource(part) if isinstance(part, coded) else repr(part) for part in parts]
    for part, text in zip(parts, texts, strict=True):
        if not isinstance(part, coded) and " at 0x" in text:
            raise ValueError(f"parts must be code or have a repr that is the same in every run, got {text}")
    return hashlib.sha256("\0".join(texts).replace("\r", "").encode()).hexdigest()


def read(path) -> dict[str, np.ndarray]:
    """The arrays of a stored table. Raises FileNotFoundError, and ValueError for a file that cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the table {path.name} is missing, {path.with_suffix('.py').name} makes it: {path}")
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files if name not in (CONSTANTS, WITNESSES)}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"the table {path.name} is damaged, {error}: {path}") from error


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

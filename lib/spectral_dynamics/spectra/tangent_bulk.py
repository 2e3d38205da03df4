"""The bulk of the tangent kernel of a deep linear network, and the responses that it shares with what leaves it.

The operator is M on the population and Sigma M on a training set, as at the head of `sharpness`, whose letters are
used here. The bulk knows nothing of the record of training but the rates rho_0 .. rho_L:

    b_L = rho_L,   b_{l-1} = rho_{l-1} + s2 b_l/(1 - a_l b_l)  (nu s2 for l = 1),   a_{l-1} = a_l/(s2 + a_l b_{l-1}),
    b_x = 1 + b_0 a_1/(alpha s2)  (population: 1),   z = b_x (s2/a_1 + b_0),   tr (z - Sigma M)^-1/D = a_1/(b_x s2) .

where a_l is what e^l has of d^l and b_l what d^l has of e^l. So z is explicit in a_L. With weight decay s2 stands for
what is left of the variance, decay^2 sigma^2. The programme is that of Lauditi, Pehlevan and Bordelon (2026).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np
from scipy.integrate import cumulative_simpson
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from .. import arguments
from ..errors import ConvergenceError

_HEIGHTS = 4.0 * 2.0 ** -np.arange(54)  # of z above the real axis, over the edge, on the way down to it
_POINTS = 600  # at which bands are looked for, and in each of which the distribution is integrated


def bulk(theory, step: int, population: bool = False) -> "Bulk":
    """The spectral density of the operator of `leading_mode`, without its outliers; same arguments and errors."""
    return Bulk(operator_at(theory, step, population))


# ---------------------------------------------------------------- the operator


@dataclass(frozen=True)
class Operator:
    """What the bulk depends on: `rates` rho_0 .. rho_L, the variance s2 left in the weights, nu = N/D, and
    `sampling` = 1/alpha, 0 for the population.
    """

    rates: tuple[float, ...]
    weight_variance: float
    width_ratio: float
    sampling: float


def operator_at(theory, step: int, population: bool) -> Operator:
    missing = [name for name in ("problem", "kernel", "decay", "data", "layers") if not hasattr(theory, name)]
    if missing:
        raise ValueError(f"theory must be a solution of the deep linear dynamics, got no {', '.join(missing)}")
    if arguments.whole("step", step) > theory.steps:
        raise ValueError(f"step must be 0 to {theory.steps}, got {step}")
    if not isinstance(population, bool | np.bool_):
        raise ValueError(f"population must be True or False, got {population!r}")
    problem, decay = theory.problem, theory.decay[step]
    if decay == 0:
        raise ValueError("step must be one with something left of the initial weights, got decay 0")
    squares = [layer.C_g[step, step] for layer in theory.layers]
    rates = squares[0], *(square / problem.width_ratio for square in [*squares[1:], 1.0])
    samples = problem.data_ratio if problem.batch_ratio is None else problem.batch_ratio
    sampling = 0.0 if population or samples is None else 1 / samples
    return Operator(tuple(map(float, rates)), float((decay * problem.weight_std) ** 2), problem.width_ratio, sampling)


def responses(a, operator: Operator) -> SimpleNamespace:
    """Everything that follows from a_L = `a`, real or complex, number or array: a_1 .. a_L and b_0 .. b_L in lists
    with an empty place for a_0, b_x, z, dz/da_L, and the denominators `E` of q and `D[l]` = 1 - a_l b_l.
    """
    rho, s2, depth = operator.rates, operator.weight_variance, len(operator.rates) - 1
    a_l, b_l = [None] * (depth + 1), [None] * (depth + 1)
    D = [None] * (depth + 1)
    slope_a, b, slope_b = np.ones_like(a), rho[-1] + 0 * a, 0 * a
    for l in range(depth, 0, -1):
        a_l[l], b_l[l] = a, b
        gain = s2 if l > 1 else s2 * operator.width_ratio
        D[l] = 1 - a * b
        slope_b = gain * (slope_b + b**2 * slope_a) / D[l] ** 2
        b = rho[l - 1] + gain * b / D[l]
        if l > 1:
            scale = s2 + a * b
            a, slope_a = a / scale, (s2 * slope_a - a**2 * slope_b) / scale**2
    b_l[0] = b
    sampling = operator.sampling / s2
    b_x = 1 + sampling * a * b
    factor = s2 / a + b
    slope = b_x * (slope_b - s2 / a**2 * slope_a) + sampling * (slope_a * b + a * slope_b) * factor
    return SimpleNamespace(a=a_l, b=b_l, b_x=b_x, z=b_x * factor, slope=slope, E=b_x * s2 / a, D=D)


def edge_response(operator: Operator) -> float:
    """a_L at the upper edge: the first stationary point of z as a_L grows from 0 and all a_l b_l stay below 1."""
    logit = np.linspace(-60, 30, 3601)
    top = 1 / operator.rates[-1]

    def slope(x):
        return responses(top / (1 + np.exp(-x)), operator).slope

    with np.errstate(all="ignore"):
        found = slope(logit)
    rising = np.flatnonzero(found >= 0)
    if rising.size == 0 or rising[0] == 0 or not np.all(np.isfinite(found[: rising[0]])):
        raise ConvergenceError("no edge of the bulk was bracketed: the map z(a_L) has no first stationary point")
    first = rising[0]
    x = brentq(slope, logit[first - 1], logit[first], xtol=1e-14, rtol=1e-14)
    edge = top / (1 + np.exp(-x))
    if not all(D > 0 for D in responses(edge, operator).D[1:]):
        raise ConvergenceError("no edge of the bulk was bracketed: its stationary point is not a physical one", edge)
    return float(edge)


# ---------------------------------------------------------------- the bulk


class Bulk:
    """The bulk of the operator's spectrum, eigenvalues in R^D.

    `edges` (bands, 2) ascending; `atoms` ((location, mass), ...): 1 - alpha at 0 when alpha < 1; of the
    population operator 1 - nu at rho_0 when nu < 1; `density(x)` of the continuous part; `cdf(x)` with the atoms;
    `stieltjes(z)` = integral rho(x)/(x - z), Im z > 0. `operator` holds what it depends on.

    The relation between z and a_L is followed from far above the axis down to it. It is no choice among roots: with
    Im z > 0 only one solution has all of a_l, b_l in the lower half plane (the relation, solved for the responses, is
    a holomorphic map of half planes into themselves), and each solution is checked to be that one. Raises
    ConvergenceError where it is not, and when bands and atoms do not sum to 1.
    """

    def __init__(self, operator: Operator):
        # The population's M is rho_0 and something positive. What follows is about the second part, by its own zero.
        self._shift = 0.0 if operator.sampling else operator.rates[0]
        self._inner = replace(operator, rates=(operator.rates[0] - self._shift, *operator.rates[1:]))
        self._top = float(responses(edge_response(self._inner), self._inner).z)
        self.operator = operator

    @property
    def atom_at_zero(self) -> float:
        """Mass of the eigenvalue 0: 1 - alpha, or 0 when the samples span the space."""
        samples = np.inf if self.operator.sampling == 0 else 1 / self.operator.sampling
        return float(max(0.0, 1 - samples))

    @property
    def atoms(self) -> tuple:
        """((location, mass), ...)"""
        if self.atom_at_zero > 0:
            return ((0.0, self.atom_at_zero),)
        if self.operator.sampling == 0 and self.operator.width_ratio < 1:
            return ((self.operator.rates[0], 1 - self.operator.width_ratio),)
        return ()

    def density(self, x):
        """Density of the continuous part, 0 outside the bands. Any shape."""
        x = arguments.array("x", x) - self._shift
        result = np.zeros(x.shape)
        inside = np.any([(low < x) & (x < high) for low, high in self._bands], axis=0)
        result[inside] = self._density(x[inside])
        return result[()]

    def cdf(self, x):
        """Mass of the eigenvalues up to and including x, atoms included. Any shape."""
        x = arguments.array("x", x)
        result = sum(mass * (x >= location) for location, mass in self.atoms) + np.zeros(x.shape)
        x = x - self._shift
        for (low, high), integral in zip(self._bands, self._integrals, strict=True):
            result = result + integral(np.arccos(np.clip((low + high - 2 * x) / (high - low), -1, 1)))
        return result[()]

    def stieltjes(self, z):
        """integral rho(x)/(x - z), the bulk and its atoms, for Im z > 0. Any shape."""
        z = np.asarray(z, dtype=complex)
        if not np.all(z.imag > 0) or not np.all(np.isfinite(z)):
            raise ValueError("z must be finite and lie above the real axis")
        return -self._resolvent(z.ravel() - self._shift).reshape(z.shape)[()]

    @property
    def edges(self) -> np.ndarray:
        """Lower and upper edge of each band, (bands, 2)."""
        return self._bands + self._shift

    @cached_property
    def _bands(self) -> np.ndarray:
        """The edges, less the shift: looked for between 0 and the top, each bracketed and halved."""
        spaced = np.linspace(0, 1, _POINTS + 1)[1:-1]
        spaced = np.unique(np.concatenate([spaced, spaced**3, 1 - spaced**4]))
        grid = np.append(spaced[spaced < 1 - 1e-12], 1.0) * self._top
        inside = np.append(self._inside(grid[:-1]), False)
        change = np.flatnonzero(inside[1:] != inside[:-1])
        low, high, entering = grid[change], grid[change + 1], inside[change + 1]
        parts, each = np.linspace(0, 1, 33), np.arange(len(change))
        for _ in range(8):
            points = low[:, None] + (high - low)[:, None] * parts
            passed = self._inside(points[:, 1:-1].ravel()).reshape(len(change), -1) != entering[:, None]
            count = passed.sum(axis=1)
            low, high = points[each, count], points[each, count + 1]
        ends = np.append(np.where(entering, high, low)[:-1], self._top)
        return np.append(np.zeros(int(inside[0])), ends).reshape(-1, 2)

    @cached_property
    def _integrals(self) -> list:
        """For each band the mass up to x = low + (high - low)(1 - cos theta)/2, as a function of theta."""
        # Dense at the lower edge, which is hard, density x^(-1/2), or nearly so, when alpha or nu is close to 1.
        place = np.linspace(0, 1, _POINTS + 1)
        theta, inner = np.pi * place**2, slice(1, -1)
        stretch = np.pi * place * np.sin(theta)
        integrals, total = [], sum(mass for _, mass in self.atoms)
        for low, high in self._bands:
            values = np.zeros_like(theta)
            x = low + (high - low) * np.sin(theta[inner] / 2) ** 2
            values[inner] = (high - low) * stretch[inner] * self._density(x)
            mass = cumulative_simpson(values, x=place, initial=0)
            integrals.append(CubicSpline(theta, mass))
            total += mass[-1]
        if not abs(total - 1) < 1e-4:
            raise ConvergenceError(f"bands and atoms of the bulk sum to {total:.6g}, not 1", self.edges, total - 1)
        return integrals

    def _density(self, x):
        return np.maximum(self._resolvent(x + 0j).imag / -np.pi, 0)

    def _inside(self, x):
        resolvent = self._resolvent(x + 0j)
        return -resolvent.imag > 1e-7 * np.abs(resolvent)

    def _resolvent(self, z) -> np.ndarray:
        """tr (z - Sigma M)^{-1}/D at points (K,) on the real axis or above it."""
        a = self._follow(z, _HEIGHTS)
        wrong = ~np.isfinite(a)
        if np.any(wrong):  # once more, in smaller strides
            a[wrong] = self._follow(z[wrong], 4.0 * 1.2 ** -np.arange(206))
        if not np.all(np.isfinite(a)):
            raise ConvergenceError(f"the bulk was lost at z = {z[~np.isfinite(a)][0]:.6g}", a)
        found = responses(a, self._inner)
        return found.a[1] / (found.b_x * self._inner.weight_variance)

    def _follow(self, z, heights) -> np.ndarray:
        """a_L at z, from z + i heights downwards; nan where Newton's method fails or ends in another solution."""
        s2, depth = self._inner.weight_variance, len(self._inner.rates) - 1
        with np.errstate(all="ignore"):
            a = s2**depth / (z + 1j * heights[0] * self._top)
            for height in heights:
                a = self._newton(a, z + 1j * height * self._top, 1e-6)
            found, tiny = responses(a, self._inner), 1e-9
            parts = [*found.a[1:], *found.b[:-1]]
            physical = np.all([part.imag <= tiny * np.abs(part) for part in parts], axis=0)
            last = self._newton(a, z, 1e-14)
            settled = np.abs(last - a) <= 1e-3 * np.abs(a)
            residual = np.abs(responses(last, self._inner).z - z)
        return np.where(physical & settled & (residual <= 1e-8 * self._top), last, np.nan)

    def _newton(self, a, z, tolerance):
        for _ in range(12):
            found = responses(a, self._inner)
            step = (found.z - z) / found.slope
            shrink = np.minimum(1, 0.5 * np.abs(a) / np.maximum(np.abs(step), np.finfo(float).tiny))
            a = a - shrink * step
            if not np.any(np.abs(step) > tolerance * np.abs(a)):
                break
        return a

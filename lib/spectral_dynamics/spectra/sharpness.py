"""The leading mode of the tangent kernel of a deep linear network, and the bulk that it left.

In function space one step of plain descent is `v <- v - eta M vhat`, with

    M = sum_{l=0..L} rho_l Pi_l^T Pi_l ,   Pi_l = Wbar^{l-1} ... Wbar^0 ,   Pi_0 = 1 ,
    rho_0 = C_g^1(n,n) ,   rho_l = C_g^{l+1}(n,n)/nu ,   C_g^{L+1} = 1 .

M is the population operator. On a training set, and without noise, v moves by M Sigma, Sigma = X^T X/P; it has the
eigenvalues of Sigma M. Plain descent is stable while eta times the largest is below 2 (heavy ball: 2 (1 + mu)). With
`Sigma M q = z q` and

    e^0 = q,  e^{l+1} = Wbar^l e^l ;   d^L = rho_L e^L,  d^l = rho_l e^l + Wbar^{l,T} d^{l+1} ;
    y = d^0,  chi = X y/sqrt(D),  z q = sqrt(D)/P X^T chi ,

each site of layer l obeys, with U, R the Gaussian parts of W(0) e and W(0)^T d,

    e = U + Q_l.g + a_l d ,   d = R + P_l.h + b_l e ,
    Q_l = c m_{l-1} + s2 ah_{l-1}  (s2/sqrt(nu) for l = 1) ,   P_l = c n_l + s2 bh_l ,   c = gamma/sqrt(nu) kappa .

The record of training enters by overlaps `m_l = <h^l e^l>`, `n_l = <g^{l+1} d^{l+1}>` and responses
`ah_l = <de^l/dr^l>`, `bh_l = <dd^{l+1}/du^{l+1}>`, vectors over the steps before n. The bulk knows nothing of it:

    b_L = rho_L,   b_{l-1} = rho_{l-1} + s2 b_l/(1 - a_l b_l)  (nu s2 for l = 1),   a_{l-1} = a_l/(s2 + a_l b_{l-1}),
    b_x = 1 + b_0 a_1/(alpha s2)  (population: 1),   z = b_x (s2/a_1 + b_0),   tr (z - Sigma M)^-1/D = a_1/(b_x s2) .

So z is explicit in a_L. Solved for the overlaps and responses the site equations are a linear map of them onto
themselves, and z is an outlier where that map has the eigenvalue 1. With weight decay W(0) stands for what is left of
it, decay W(0), and s2 for decay^2 sigma^2. The programme is that of Lauditi, Pehlevan and Bordelon (2026).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np
from scipy import linalg
from scipy.integrate import cumulative_simpson
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from threadpoolctl import threadpool_limits

from .. import arguments
from ..errors import ConvergenceError, DivergenceError
from .outliers import leading

CUTOFF = 1e-10  # of every correlation, eigenvectors above this fraction of the largest eigenvalue are kept
ROUNDING = 1e-13  # of the square of the error at the start: what is left below is known to three digits or fewer
_FAR = 1e3  # times the edge of the bulk: from there on down the sign of the determinant is read
_PER_DECADE = 12, 60, 300  # points of a_L in a decade at which it is, more when two outliers are close


@dataclass(frozen=True)
class Mode:
    """The largest eigenvalue of the tangent kernel's operator.

    value        the outlier, or `bulk_edge` when nothing stands outside the bulk
    bulk_edge    upper edge of the bulk
    is_outlier   whether the value stands outside
    alignment    |cosine| of the error vector v with the eigenvector y of M Sigma, the direction in input space in
                 which v itself moves (population: y is the eigenvector of M); 0 when there is no outlier. The
                 eigenvector of Sigma M is another one, q, with y = M q.
    """

    value: float
    bulk_edge: float
    is_outlier: bool
    alignment: float


@threadpool_limits.wrap(limits=1, user_api="blas")  # many small matrices: more threads are slower
def leading_mode(theory, step: int, population: bool = False) -> Mode:
    """The leading mode after `step` updates, in units in which plain descent is stable for eta value < 2.

    `theory`: a solution of the deep linear dynamics (`dynamics.deep_linear.solve`). `population=False`: the operator
    of the training set; with fresh batches, of the batch that the step is about to use; where the problem has
    neither, the population's, as with `population=True`. Momentum and weight decay enter by the weights alone: the
    operator is that of plain descent. Raises ValueError on bad input and where weight decay has left nothing of
    the initial weights, and ConvergenceError when the search for the outlier contradicts itself.
    """
    operator = _operator(theory, step, population)
    edge = _edge_response(operator)
    bulk_edge = float(_responses(edge, operator).z)
    if step == 0:
        return Mode(bulk_edge, bulk_edge, False, 0.0)
    record = _record(theory, step, operator)
    a = _outlier_response(record, operator, edge)
    if a is None:
        return Mode(bulk_edge, bulk_edge, False, 0.0)
    bulk = _responses(a, operator)
    return Mode(float(bulk.z), bulk_edge, True, _alignment(theory, step, record, operator, bulk))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The leading mode at each of `steps`: the fields of `Mode`, as arrays of the same length."""

    steps: np.ndarray
    value: np.ndarray
    bulk_edge: np.ndarray
    is_outlier: np.ndarray
    alignment: np.ndarray


def trajectory(theory, steps=None, population: bool = False) -> Trajectory:
    """`leading_mode` at `steps`, a sequence of whole numbers; None: at every step, from 0 on.

    Raises as `leading_mode` does; a ConvergenceError carries in `.partial` the trajectory up to the step before.
    """
    _operator(theory, 0, population)
    steps, modes = list(range(theory.steps + 1) if steps is None else steps), []

    def found() -> Trajectory:
        fields = [[getattr(mode, name) for mode in modes] for name in Mode.__annotations__]
        return Trajectory(np.array(steps[: len(modes)], dtype=int), *map(np.array, fields))

    for step in steps:
        try:
            modes.append(leading_mode(theory, step, population))
        except ConvergenceError as error:
            message = f"no leading mode at step {step}: {error}"
            raise ConvergenceError(message, found(), error.residual) from error
    return found()


def stable_rate(solve, bracket, rtol: float = 1e-4) -> float:
    """eta_EoS: the smallest rate eta at which max_t eta lambda(t) reaches the limit of stability, 2.

    `solve(eta)` gives the theory trained at the constant rate eta; a DivergenceError from it means above. lambda is
    the value of `leading_mode` on the training set (of the population, when there is none), t runs over all steps.
    With heavy ball the limit is 2 (1 + momentum). `bracket` = (low, high): a rate below and one above, between which
    it is bisected to a relative accuracy of `rtol`. Raises ValueError on bad input, with fresh batches (their limit
    is another one) and when the bracket does not enclose the edge; ConvergenceError as `leading_mode`.
    """
    low, high = arguments.array("bracket", bracket, shape=(2,))
    if not 0 < low < high:
        raise ValueError(f"bracket must be two rates, 0 < low < high, got {bracket}")
    arguments.number("rtol", rtol, above=0)

    def unstable(rate) -> bool:
        try:
            theory = solve(float(rate))
        except DivergenceError:
            return True
        _operator(theory, 0, False)
        if theory.problem.batch_ratio is not None:
            raise ValueError("solve must train without fresh batches: their limit of stability is not 2/eta")
        limit = 2 * (1 + theory.problem.momentum) / rate
        return any(_exceeds(theory, step, limit) for step in range(theory.steps + 1))

    if unstable(low) or not unstable(high):
        raise ValueError(f"bracket must enclose the edge of stability, got {bracket}")
    while high / low > 1 + rtol:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if unstable(middle) else (middle, high)
    return float(np.sqrt(low * high))


@threadpool_limits.wrap(limits=1, user_api="blas")
def _exceeds(theory, step: int, limit: float) -> bool:
    """Whether the mode stands at or above `limit`: one sign of the determinant, as long as it is the first to."""
    operator = _operator(theory, step, False)
    edge = _edge_response(operator)
    if _responses(edge, operator).z >= limit:
        return True
    if step == 0:
        return False
    record = _record(theory, step, operator)
    a = edge * np.exp(brentq(lambda x: float(_responses(edge * np.exp(x), operator).z / limit - 1), -300, 0))
    return np.linalg.slogdet(np.eye(record.size) - _matrix(a, record, operator))[0] <= 0


def bulk(theory, step: int, population: bool = False) -> "Bulk":
    """The spectral density of the operator of `leading_mode`, without its outliers; same arguments and errors."""
    return Bulk(_operator(theory, step, population))


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


def _operator(theory, step: int, population: bool) -> Operator:
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


# ---------------------------------------------------------------- the bulk


def _responses(a, operator: Operator) -> SimpleNamespace:
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


def _edge_response(operator: Operator) -> float:
    """a_L at the upper edge: the first stationary point of z as a_L grows from 0 and all a_l b_l stay below 1."""
    logit = np.linspace(-60, 30, 3601)
    top = 1 / operator.rates[-1]

    def slope(x):
        return _responses(top / (1 + np.exp(-x)), operator).slope

    with np.errstate(all="ignore"):
        found = slope(logit)
    rising = np.flatnonzero(found >= 0)
    if rising.size == 0 or rising[0] == 0 or not np.all(np.isfinite(found[: rising[0]])):
        raise ConvergenceError("no edge of the bulk was bracketed: the map z(a_L) has no first stationary point")
    first = rising[0]
    x = brentq(slope, logit[first - 1], logit[first], xtol=1e-14, rtol=1e-14)
    edge = top / (1 + np.exp(-x))
    if not all(D > 0 for D in _responses(edge, operator).D[1:]):
        raise ConvergenceError("no edge of the bulk was bracketed: its stationary point is not a physical one", edge)
    return float(edge)


_HEIGHTS = 4.0 * 2.0 ** -np.arange(54)  # of z above the real axis, over the edge, on the way down to it
_POINTS = 600  # at which bands are looked for, and in each of which the distribution is integrated


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
        self._top = float(_responses(_edge_response(self._inner), self._inner).z)
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
        found = _responses(a, self._inner)
        return found.a[1] / (found.b_x * self._inner.weight_variance)

    def _follow(self, z, heights) -> np.ndarray:
        """a_L at z, from z + i heights downwards; nan where Newton's method fails or ends in another solution."""
        s2, depth = self._inner.weight_variance, len(self._inner.rates) - 1
        with np.errstate(all="ignore"):
            a = s2**depth / (z + 1j * heights[0] * self._top)
            for height in heights:
                a = self._newton(a, z + 1j * height * self._top, 1e-6)
            found, tiny = _responses(a, self._inner), 1e-9
            responses = [*found.a[1:], *found.b[:-1]]
            physical = np.all([part.imag <= tiny * np.abs(part) for part in responses], axis=0)
            last = self._newton(a, z, 1e-14)
            settled = np.abs(last - a) <= 1e-3 * np.abs(a)
            residual = np.abs(_responses(last, self._inner).z - z)
        return np.where(physical & settled & (residual <= 1e-8 * self._top), last, np.nan)

    def _newton(self, a, z, tolerance):
        for _ in range(12):
            found = _responses(a, self._inner)
            step = (found.z - z) / found.slope
            shrink = np.minimum(1, 0.5 * np.abs(a) / np.maximum(np.abs(step), np.finfo(float).tiny))
            a = a - shrink * step
            if not np.any(np.abs(step) > tolerance * np.abs(a)):
                break
        return a


# ---------------------------------------------------------------- the record of training


def _record(theory, step: int, operator: Operator) -> SimpleNamespace:
    """Order parameters of the steps before `step`, in the leading eigenvectors of their correlations.

    h = basis htilde for each set of recorded vectors; a response takes the tildes of what it answers to into those
    of what answers. Lists over layers; features start with vhat, gradients end with the constant 1.
    """
    problem, data, layers, past = theory.problem, theory.data, theory.layers, slice(0, step)
    depth, nu, decay = problem.depth, problem.width_ratio, theory.decay[step]
    bare, sampled = problem.weight_std**2, operator.sampling > 0 and problem.data_ratio is not None
    C_h = [data.C_vhat, *(layer.C_h for layer in layers)]
    C_g = [None, *(layer.C_g for layer in layers), np.ones_like(data.C_v)]
    upto = slice(0, step + 1)
    cross = [_features_with_errors(theory, upto)]
    for l, layer in enumerate(layers, 1):
        both = layer.H_u[upto, upto] @ C_h[l - 1][upto, upto] @ layer.G_u[upto, upto].T
        cross.append(bare * (both + layer.H_r[upto, upto] @ C_g[l + 1][upto, upto] @ layer.G_r[upto, upto].T))
    h = [_Basis(C[past, past]) for C in C_h[:depth]]
    g = [None, *(_Basis(C[past, past]) for C in C_g[1:])]
    weight = problem.gamma / np.sqrt(nu) * theory.kernel[step, past]
    record = SimpleNamespace(
        step=step, depth=depth, h=h, g=g, sampled=sampled, cross=cross, weight=weight, decay=decay, layers=[None]
    )
    for l, layer in enumerate(layers, 1):
        part = SimpleNamespace(
            G_u=g[l].back @ (layer.G_u[past, past] / decay) @ h[l - 1].basis,
            G_r=g[l].back @ (layer.G_r[past, past] / decay) @ g[l + 1].basis,
            C_g=g[l].back @ C_g[l][past, past] @ g[l].back.T,
            # Q_l = c_Q m_{l-1} + s2 ah_{l-1} and P_{l-1} = c_P n_{l-1} + s2 bh_{l-1}
            c=g[l].basis.T @ (weight[:, None] * h[l - 1].basis),
        )
        if l < depth:
            part.H_u = h[l].back @ (layer.H_u[past, past] / decay) @ h[l - 1].basis
            part.H_r = h[l].back @ (layer.H_r[past, past] / decay) @ g[l + 1].basis
            part.C_h = h[l].back @ C_h[l][past, past] @ h[l].back.T
            part.C_hg = h[l].back @ cross[l][past, past] @ g[l].back.T
        record.layers.append(part)
    record.F_0 = h[0].back @ (data.F_0[past, past] / decay) @ g[1].basis
    record.C_vhat = h[0].back @ C_h[0][past, past] @ h[0].back.T
    if sampled:
        v, delta = _Basis(data.C_v[past, past]), _Basis(data.C_Delta[past, past])
        record.v, record.delta = v, delta
        record.F_x = h[0].back @ data.F_x[past, past] @ delta.basis
        record.V_0 = v.back @ (data.V_0[past, past] / decay) @ g[1].basis
        record.V_x = v.back @ data.V_x[past, past] @ delta.basis
        record.B_x = delta.back @ data.B_x[past, past] @ v.basis
        record.C_v = v.back @ data.C_v[past, past] @ v.back.T
        record.C_Delta = delta.back @ data.C_Delta[past, past] @ delta.back.T
        record.C_vhat_v = h[0].back @ cross[0][past, past] @ v.back.T
    _place(record)
    return record


class _Basis:
    """The leading eigenvectors of a correlation, h = basis htilde, and the way back."""

    def __init__(self, correlation):
        self.basis, self.back = leading(correlation, CUTOFF)

    @property
    def rank(self) -> int:
        return self.basis.shape[1]


def _features_with_errors(theory, upto):
    """C_{vhat,v} = <vhat v>: rows vhat, columns v."""
    data, s2, C_g = theory.data, theory.problem.weight_std**2, theory.layers[0].C_g[upto, upto]
    sampled = data.F_x[upto, upto] @ data.C_Delta[upto, upto] @ data.V_x[upto, upto].T
    carried = s2 * data.F_0[upto, upto] @ C_g @ data.V_0[upto, upto].T
    return np.outer(data.f_star[upto], data.v_star[upto]) + carried + sampled


def _place(record) -> None:
    """Where each unknown stands in the vector that the map acts on: m_l, ah_l, n_l, bh_l and those of the data."""
    sizes = {}
    for l in range(record.depth):
        h, g = record.h[l].rank, record.g[l + 1].rank
        sizes |= {("m", l): h, ("ah", l): g, ("n", l): g, ("bh", l): h}
    if record.sampled:
        v, delta = record.v.rank, record.delta.rank
        sizes |= {("m", "x"): v, ("ah", "x"): delta, ("n", "x"): delta, ("bh", "x"): v}
    ends = np.cumsum([0, *sizes.values()])
    record.places = {name: slice(ends[k], ends[k + 1]) for k, name in enumerate(sizes)}
    record.size = ends[-1]


def _sources(x, record, operator):
    """Q_1 .. Q_L, P_0 .. P_{L-1} and S of the overlaps and responses in x: what the record adds to each site."""
    s2, root, at = operator.weight_variance, np.sqrt(operator.width_ratio), record.places
    Q, P = [None], []
    for l in range(1, record.depth + 1):
        c = record.layers[l].c
        Q.append(c @ x[at["m", l - 1]] + (s2 / root if l == 1 else s2) * x[at["ah", l - 1]])
        c_T, gain = (operator.width_ratio * c.T, operator.width_ratio * s2) if l == 1 else (c.T, s2)
        P.append(c_T @ x[at["n", l - 1]] + gain * x[at["bh", l - 1]])
    return Q, P, x[at["bh", "x"]] if record.sampled else None


def _map(x, record, operator, bulk):
    """The site equations, solved for the overlaps and responses: a vector (size,) or matrix (size, K) to the next."""
    s2, nu, depth, at = operator.weight_variance, operator.width_ratio, record.depth, record.places
    root, sampling = np.sqrt(nu), np.sqrt(operator.sampling)
    Q, P, S = _sources(x, record, operator)
    new = np.empty_like(x, dtype=np.result_type(x, bulk.z))
    for l in range(1, depth + 1):
        part, a, b, D = record.layers[l], bulk.a[l], bulk.b[l], bulk.D[l]
        m = x[at["m", l - 1]]
        n_next = b * (s2 * part.G_u @ m + part.C_g @ Q[l])
        bh_next = b * part.G_u.T @ Q[l]
        if l < depth:
            n = x[at["n", l]]
            new[at["m", l]] = s2 * part.H_u @ m + part.C_hg @ Q[l] + a * (s2 * part.H_r @ n + part.C_h @ P[l])
            new[at["m", l]] /= D
            new[at["ah", l]] = (part.G_r.T @ Q[l] + a * part.H_r.T @ P[l]) / D
            n_next += s2 * part.G_r @ n + part.C_hg.T @ P[l]
            bh_next += part.H_u.T @ P[l]
        new[at["n", l - 1]] = n_next / D
        new[at["bh", l - 1]] = bh_next / D
    n, b_0, b_x, E = x[at["n", 0]], bulk.b[0], bulk.b_x, bulk.E
    new[at["m", 0]] = b_x * (root * s2 * record.F_0 @ n + record.C_vhat @ P[0]) / E
    new[at["ah", 0]] = b_x * record.F_0.T @ P[0] / E
    if record.sampled:
        n_x = x[at["n", "x"]]
        new[at["m", 0]] += (sampling * record.F_x @ n_x + record.C_vhat_v @ S) / E
        new[at["ah", 0]] += record.V_0.T @ S / E
        y = root * s2 * record.V_0 @ n + record.C_vhat_v.T @ P[0]  # <v y> less its part along q
        q = (sampling * record.V_x @ n_x + b_x * y + record.C_v @ S) / E
        new[at["m", "x"]] = y + b_0 * q
        new[at["ah", "x"]] = record.F_x.T @ P[0] + b_0 * (b_x * record.F_x.T @ P[0] + record.V_x.T @ S) / E
        new[at["n", "x"]] = b_x * (record.B_x @ x[at["m", "x"]] + sampling * record.C_Delta @ x[at["ah", "x"]])
        new[at["bh", "x"]] = b_x * sampling * record.B_x.T @ x[at["ah", "x"]]
    return new


def _matrix(a, record, operator):
    return _map(np.eye(record.size), record, operator, _responses(a, operator))


# ---------------------------------------------------------------- the outlier


def _outlier_response(record, operator, edge: float) -> float | None:
    """a_L of the largest outlier, bracketed between infinity (a_L = 0) and the edge; None when there is none.

    The first change of sign of det(1 - map) on the way down from infinity, polished. When no eigenvalue of the map
    has passed 1 above it, it is the first. Otherwise the zeros are counted: a pair that passes as complex
    conjugates leaves none, a pair of zeros in one stride would be seen; strides are shortened until the count is
    that of the changes of sign.
    """

    def sign_and_size(a):
        return np.linalg.slogdet(np.eye(record.size) - _matrix(a, record, operator))

    def determinant(a):
        sign, size = sign_and_size(a)
        return (sign * np.exp(size - offset)).real

    def excess(x):
        return float(_responses(edge * np.exp(x), operator).z / (_FAR * highest) - 1)

    highest = _responses(edge, operator).z
    far = np.exp(brentq(excess, -300, 0, xtol=1e-3))
    for per_decade in _PER_DECADE:
        scan = edge * np.append(
            np.geomspace(far, 0.9, int(per_decade * np.log10(1 / far)) + 1), [0.95, 0.98, 0.995, 1]
        )
        found = [sign_and_size(a) for a in scan]
        below = np.flatnonzero(np.array([sign for sign, _ in found]) <= 0)
        if below.size == 0:
            if _largest(edge, record, operator) <= 1 or _zeros(scan[0], edge, operator, sign_and_size) == 0:
                return None
            continue
        first = below[0]
        _guard(first > 0, f"an outlier lies more than {_FAR:.0e} times above the bulk")
        offset = found[first - 1][1]
        a = brentq(determinant, scan[first - 1], scan[first], xtol=1e-300, rtol=1e-13)
        gap = np.min(np.abs(linalg.eigvals(_matrix(a, record, operator)) - 1))
        _guard(gap < 1e-6, "the map does not have the eigenvalue 1", a, gap)
        simple = _largest(a, record, operator) < 1 + 1e-6 and _largest(scan[first - 1], record, operator) <= 1
        if simple or _zeros(scan[0], scan[first], operator, sign_and_size) == 1:
            return float(a)
    return _guard(False, "outliers are counted that no change of sign tells apart")


def _largest(a, record, operator) -> float:
    """The largest real eigenvalue of the map."""
    values = linalg.eigvals(_matrix(a, record, operator))
    return float(np.max(values[np.abs(values.imag) <= 1e-7 * np.abs(values)].real, initial=0.0))


def _zeros(low: float, high: float, operator, sign_and_size) -> int:
    """How many outliers lie between a_L = `low` and `high`: the winding number of det(1 - map) around them.

    Along a flat ellipse in the plane of log a_L, from end to end. In the physical half plane, where Im z and Im a_L
    differ in sign, there are no zeros off the axis, since all eigenvalues are real; that is checked on the way.
    """
    middle, half = np.log(high * low) / 2, np.log(high / low) / 2
    for points in (256, 1024, 4096):
        angle = np.linspace(0, np.pi, points)
        for height in (0.2, 0.05, 0.0125):
            a = np.exp(middle + half * np.cos(angle) + 1j * height * np.sin(angle))
            if np.all(_responses(a[1:-1], operator).z.imag < 0):
                break
        else:
            _guard(False, "no path around the outliers was found")
        signs = np.array([sign_and_size(one)[0] for one in a])
        turns = np.angle(signs[1:] / signs[:-1])
        if np.max(np.abs(turns)) < 1:  # radian: no turn was missed
            return round(float(turns.sum() / np.pi))  # half of the way round, the other half is its mirror image
    return _guard(False, "outliers could not be counted: one sits at the end of the path")


def _guard(holds, what: str, partial=None, residual=None) -> None:
    if not holds:
        raise ConvergenceError(f"the search for the leading mode contradicts itself: {what}", partial, residual)


def _alignment(theory, step: int, record, operator, bulk) -> float:
    """|cosine| of v(step) with y: their overlap over the lengths of both."""
    identity = np.eye(record.size)
    x = linalg.svd(identity - _map(identity, record, operator, bulk))[2][-1]  # the map leaves it as it is
    overlap = _overlap_now(theory, step, x, record, operator, bulk)
    square, error = _square_of_y(x, record, operator, bulk), theory.data.C_v[step, step]
    if not error > ROUNDING * theory.data.C_v[0, 0]:
        return 0.0
    return float(abs(overlap) / np.sqrt(square * error))


def _overlap_now(theory, step: int, x, record, operator, bulk) -> float:
    """<v(step) y>: the last record is not yet part of the weights, it only answers to them."""
    s2, root, sampling = operator.weight_variance, np.sqrt(operator.width_ratio), np.sqrt(operator.sampling)
    Q, P, S = _sources(x, record, operator)
    at, past, data, decay, n = record.places, slice(0, step), theory.data, record.decay, 0.0
    for l in range(record.depth, 0, -1):
        layer, g, h = theory.layers[l - 1], record.g[l], record.h[l - 1]
        b = bulk.b[l]
        m = h.basis @ x[at["m", l - 1]]
        now = b * s2 * layer.G_u[step, past] / decay @ m + b * layer.C_g[step, past] @ (g.back.T @ Q[l])
        if l < record.depth:
            n_past = record.g[l + 1].basis @ x[at["n", l]]
            now += s2 * (layer.G_r[step, past] @ n_past + layer.G_r[step, step] * n) / decay
            now += record.cross[l][past, step] @ (record.h[l].back.T @ P[l])
        n = now / bulk.D[l]
    n_past = record.g[1].basis @ x[at["n", 0]]
    y = root * s2 * (data.V_0[step, past] @ n_past + data.V_0[step, step] * n) / decay
    y += record.cross[0][past, step] @ (record.h[0].back.T @ P[0])
    q = bulk.b_x * y
    if record.sampled:
        n_x = record.delta.basis @ x[at["n", "x"]]
        q += sampling * data.V_x[step, past] @ n_x + data.C_v[step, past] @ (record.v.back.T @ S)
    return float(y + bulk.b[0] * q / bulk.E)


def _square_of_y(x, record, operator, bulk) -> float:
    """<y y>. The second moments of all fields obey a linear system; two identities among them are the check.

    Unknowns: <e^l e^l> for l = 0 .. L, <d^l d^l> for l = 0 .. L (d^0 = y) and <chi chi>.
    """
    s2, nu, depth, at = operator.weight_variance, operator.width_ratio, record.depth, record.places
    root, sampling, b_0, b_x, E = np.sqrt(nu), np.sqrt(operator.sampling), bulk.b[0], bulk.b_x, bulk.E
    Q, P, S = _sources(x, record, operator)
    size = 2 * depth + 3
    system, source = np.eye(size), np.zeros(size)
    e, d, chi = range(depth + 1), range(depth + 1, 2 * depth + 2), size - 1
    for l in range(1, depth + 1):
        part, a, b, D = record.layers[l], bulk.a[l], bulk.b[l], bulk.D[l]
        m, none = x[at["m", l - 1]], 0.0
        U_g, gg = 2 * s2 * Q[l] @ part.G_u @ m, Q[l] @ part.C_g @ Q[l]
        U_h = R_g = R_h = gh = hh = none
        if l < depth:
            n = x[at["n", l]]
            U_h, R_g = 2 * s2 * P[l] @ part.H_u @ m, 2 * s2 * Q[l] @ part.G_r @ n
            R_h, gh, hh = 2 * s2 * P[l] @ part.H_r @ n, 2 * P[l] @ part.C_hg @ Q[l], P[l] @ part.C_h @ P[l]
            system[e[l], d[l + 1]] = -(a**2) * s2 / D**2
            system[d[l], d[l + 1]] = -s2 / D**2
        system[e[l], e[l - 1]] = -s2 / D**2
        system[d[l], e[l - 1]] = -(b**2) * s2 / D**2
        source[e[l]] = (U_g + gg + a * (U_h + R_g + gh) + a**2 * (R_h + hh)) / D**2
        source[d[l]] = (R_h + hh + b * (U_h + R_g + gh) + b**2 * (U_g + gg)) / D**2
    # f = R_0 + P_0.vhat is y less b_0 q; E q = R_x/sqrt(alpha) + b_x f + S.v
    n = x[at["n", 0]]
    ff = 2 * root * s2 * P[0] @ record.F_0 @ n + P[0] @ record.C_vhat @ P[0]  # and nu s2 <d^1 d^1>
    S_f = S_S = R_f = R_S = x_x = 0.0
    if record.sampled:
        n_x, ah_x = x[at["n", "x"]], x[at["ah", "x"]]
        S_f = S @ (root * s2 * record.V_0 @ n + record.C_vhat_v.T @ P[0])
        S_S, R_f = S @ record.C_v @ S, sampling * P[0] @ record.F_x @ n_x
        R_S = sampling * S @ record.V_x @ n_x
        x_x = 2 * sampling * ah_x @ record.B_x @ x[at["m", "x"]] + sampling**2 * ah_x @ record.C_Delta @ ah_x
    f_f, f_q = nu * s2, b_x * nu * s2 / E
    system[e[0], [d[1], chi]] = -(b_x**2) * f_f / E**2, -(sampling**2) / E**2
    source[e[0]] = (b_x**2 * ff + 2 * b_x * (S_f + R_f) + S_S + 2 * R_S) / E**2
    qf = (b_x * ff + S_f + R_f) / E
    system[d[0], d[1]], system[d[0], e[0]] = -f_f - 2 * b_0 * f_q, -(b_0**2)
    source[d[0]] = ff + 2 * b_0 * qf
    system[chi, d[0]], source[chi] = -(b_x**2), b_x**2 * x_x
    moments = np.linalg.solve(system, source)
    # z <y q> = <chi chi> (population: <y y> = z <y q>), <y q> = rho_0 <q q> + nu sum_l rho_l <e^l e^l>
    y_q = operator.rates[0] * moments[0] + nu * np.dot(operator.rates[1:], moments[1 : depth + 1])
    site = qf + f_q * moments[d[1]] + b_0 * moments[0]
    gap = max(abs(bulk.z * y_q / moments[chi] - 1), abs(site / y_q - 1))
    _guard(moments[d[0]] > 0 and gap < 1e-4, f"lengths of its vector disagree by {gap:.2g}", bulk.z, gap)
    return float(moments[d[0]])

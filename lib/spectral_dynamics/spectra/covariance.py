"""The law of sample covariance matrices, Marchenko-Pastur for any atomic population, and of their singular values.

Sample covariance matrices `(1/n) S^{1/2} Z Z^T S^{1/2}`, `Z` (p, n) with entries of variance 1, `ratio` psi = p/n,
population of S: atoms tau_k of weight w_k. With the companion transform m(z) and `v = -1/m` Silverstein's
equation (Silverstein & Choi 1995) reads

    z = f(v) = v + psi sum_k w_k tau_k v / (v - tau_k)
             = v + psi <tau> + sum_k a_k / (v - tau_k) ,      a_k = psi w_k tau_k^2 .

With v = s + i y and Phi(s, y) = sum_k a_k / ((s - tau_k)^2 + y^2) this has

    Im f = y (1 - Phi) ,

so the physical solution is found by two monotone searches and no root is ever chosen (after Biane 1997, who
inverts the free convolution with a semicircle in this way): at given s, the height y with Im f = Im z is unique
on Phi <= 1, and along the heights found so Re f increases with s. On the real axis the bands are the intervals of s
on which Phi(s, 0) > 1; their ends are the stationary points of f, the edges. Newton's method only polishes.

Normalisation: eigenvalues of covariance matrices; `singular_values()` of a law is the law of their square roots.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import arguments
from ..errors import ConvergenceError
from .law import Law, complex_points, frozen, moments_of, points, proportions, refuse

_ROUNDS = 16  # alternations of halving and polishing before a point is given up
_HALVINGS = 8  # of the bracket of s, per round
_BLOCK = 200_000  # points times atoms held at once
_EPS = np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class MarchenkoPastur(Law):
    """Eigenvalues of (1/n) S^{1/2} Z Z^T S^{1/2} for a population of atoms; see the head of this module.

    Zero is an atom of mass max(w_0, 1 - 1/psi), w_0 the weight of the population at 0. Where the two are equal
    the lowest band reaches down to 0 and its density diverges there as x^{-1/2}.
    """

    ratio: float
    population_atoms: np.ndarray
    population_weights: np.ndarray

    def __post_init__(self):
        arguments.number("ratio", self.ratio, above=0)
        atoms = arguments.array("atoms", self.population_atoms, ndim=1)
        weights = proportions("atoms", atoms, self.population_weights)
        if not np.any(atoms[weights > 0] > 0):
            raise ValueError(
                "atoms must hold one above 0 with a weight above 0, got none: all eigenvalues would be 0"
            )
        object.__setattr__(self, "ratio", float(self.ratio))
        object.__setattr__(self, "population_atoms", frozen(atoms))
        object.__setattr__(self, "population_weights", frozen(weights))
        if self._merged[0].size == 0:
            raise ValueError(f"ratio must be above 1e-28 to be resolved, got {self.ratio!r}")

    # The population without its atom at zero, equal atoms merged.

    @cached_property
    def _merged(self) -> tuple[np.ndarray, np.ndarray]:
        # An atom lighter than this is a band narrower than the spacing of floating-point numbers.
        present = (self.population_atoms > 0) & (self.ratio * self.population_weights > 1e-28)
        tau, group = np.unique(self.population_atoms[present], return_inverse=True)
        return tau, np.bincount(group, self.population_weights[present])

    @property
    def _zero_weight(self) -> float:
        return float(self.population_weights[self.population_atoms == 0].sum())

    @cached_property
    def _rank_gap(self) -> float:
        """1 - psi (1 - w_0): above 0 the n columns outnumber the non-zero rows, at 0 the law has a hard edge."""
        gap = 1 - self.ratio * self._merged[1].sum()
        return 0.0 if abs(gap) < 1e-13 * (1 + self.ratio) else gap

    @property
    def _strengths(self) -> np.ndarray:
        tau, w = self._merged
        return self.ratio * w * tau**2

    @property
    def atoms(self) -> tuple:
        mass = self._zero_weight if self._rank_gap >= 0 else 1 - 1 / self.ratio
        return ((0.0, mass),) if mass > 0 else ()

    # Edges: between two neighbouring tau, Phi(s, 0) is convex; it dips below 1, and the bands part, or it does not.

    @cached_property
    def _edge_positions(self) -> np.ndarray:
        """(bands, 2): the intervals of s on which Phi(s, 0) > 1."""
        tau, a = self._merged[0], self._strengths
        reach = np.sqrt(a.sum())
        first, last = np.array([tau[0] - reach]), np.array([tau[-1] + reach])
        first = np.zeros(1) if self._rank_gap == 0 else _bisect(lambda s: self._excess(s) > 0, first, tau[:1])
        last = _bisect(lambda s: self._excess(s) < 0, tau[-1:], last)
        dip = _bisect(lambda s: _phi_slope(s, tau, a) > 0, tau[:-1], tau[1:])
        parts = self._excess(dip) < 0
        dip, below, above = dip[parts], tau[:-1][parts], tau[1:][parts]
        ends = _bisect(lambda s: self._excess(s) < 0, below, dip)
        starts = _bisect(lambda s: self._excess(s) > 0, dip, above)
        positions = np.column_stack([np.concatenate([first, starts]), np.concatenate([ends, last])])
        x = self._map(positions)[0].real
        open_gap = x[1:, 0] > x[:-1, 1]  # a gap thinner than rounding is none
        keep_start, keep_end = np.append(True, open_gap), np.append(open_gap, True)
        return frozen(np.column_stack([positions[keep_start, 0], positions[keep_end, 1]]))

    @cached_property
    def edges(self) -> np.ndarray:
        """(bands, 2), ascending: f at its stationary points."""
        return frozen(self._map(self._edge_positions)[0].real)

    # The map f, its inverse, and what is read off it.

    def _map(self, v):
        """f(v), f'(v) and the size of the terms of f, written so that nothing cancels as v -> 0 at a hard edge."""
        tau, w = self._merged
        v = np.asarray(v, dtype=complex)
        far = tau - v[..., None]
        inverse = w / far
        first, second = v * self._rank_gap, v**2 * self.ratio * inverse.sum(-1)
        slope = self._rank_gap - self.ratio * v * (inverse * (2 * tau - v[..., None]) / far).sum(-1)
        return first - second, slope, abs(first) + abs(v) ** 2 * self.ratio * abs(inverse).sum(-1)

    def _excess(self, s, q=0.0):
        """Phi - 1 at v = s + i sqrt(q), q alike shaped, written so that nothing cancels as v -> 0 at a hard edge."""
        tau, w = self._merged
        s, q = s[:, None], np.reshape(q, (-1, 1))
        with np.errstate(divide="ignore"):
            return self.ratio * (w * (s * (2 * tau - s) - q) / ((s - tau) ** 2 + q)).sum(1) - self._rank_gap

    def _height(self, s, imaginary):
        """The y at which Im f(s + i y) = `imaginary`: Phi + imaginary/y = 1. In q = y^2 the reciprocal of the left
        side is concave, so Newton's method from below never overshoots."""
        tau, w = self._merged
        square = (s[:, None] - tau) ** 2
        # Below the root: what each atom alone would need, in two forms of which one or the other cancels.
        alone = tau**2 * (self.ratio * w - 1) + s[:, None] * (2 * tau - s[:, None])
        alone = np.maximum(alone, self._strengths - square)
        q = np.maximum(np.maximum(alone.max(axis=1), imaginary**2), 0)
        for _ in range(60):
            outside = np.divide(imaginary, np.sqrt(q), out=np.zeros_like(q), where=q > 0)
            excess = self._excess(s, q) + outside
            terms = self._strengths / (square + q[:, None])
            slope = (terms / (square + q[:, None])).sum(1)
            slope += np.divide(outside, 2 * q, out=np.zeros_like(q), where=q > 0)
            step = (terms.sum(1) + outside) * excess / slope
            before, q = q, np.maximum(q + step, q / 4)
            if np.all((abs(q - before) <= 4 * _EPS * q) | (abs(excess) <= 4 * _EPS)):
                break
        return np.sqrt(q)

    def _invert(self, z, low, high):
        """v with f(v) = z, Im v >= 0, for a flat complex z with Im z >= 0; s between `low` and `high`."""
        size = max(1, _BLOCK // self._merged[0].size)
        cuts = [slice(i, i + size) for i in range(0, z.size, size)]
        return np.concatenate([np.empty(0, complex)] + [self._invert_block(z[c], low[c], high[c]) for c in cuts])

    def _invert_block(self, z, low, high):
        low, high = low.copy(), high.copy()
        real_line = (z.imag == 0) & ~self._inside(z.real)
        v = 0.5 * (low + high) + 1j
        rest = np.arange(z.size)
        for _ in range(_ROUNDS):
            for _ in range(_HALVINGS):
                s = 0.5 * (low[rest] + high[rest])
                v[rest] = s
                raised = ~real_line[rest]
                v[rest[raised]] += 1j * self._height(s[raised], z[rest[raised]].imag)
                short = self._map(v[rest])[0].real < z[rest].real
                low[rest[short]] = s[short]
                high[rest[~short]] = s[~short]
            polished, good = self._polish(v[rest], z[rest], real_line[rest])
            v[rest[good]] = polished[good]
            rest = rest[~good]
            if rest.size == 0:
                return v
        value, _, scale = self._map(v)
        residual = abs(value - z) / (scale + abs(z))
        if not np.all(residual <= 1e-11):
            worst = np.argmax(residual)
            message = f"no v with f(v) = z found for z = {z[worst]}: relative residual {residual[worst]:.1e}"
            raise ConvergenceError(message, partial=v, residual=float(residual[worst]))
        return v

    def _polish(self, v, z, real_line):
        """Newton's method; good where the residual is at rounding and v is the physical solution, not a real root."""
        with np.errstate(all="ignore"):
            for _ in range(8):
                value, slope, _ = self._map(v)
                v = v - (value - z) / slope
            value, slope, scale = self._map(v)
        good = abs(value - z) <= 8 * _EPS * (scale + abs(z))  # False for nan
        good &= np.where(real_line, (v.imag == 0) & (slope.real > 0), v.imag > 0)
        doubtful = np.flatnonzero(good & ~real_line)
        height = self._height(v.real[doubtful], z.imag[doubtful])
        good[doubtful] = abs(v.imag[doubtful] - height) <= 1e-3 * height
        return v, good

    def _solve(self, z):
        """v(z) for a flat complex z with Im z >= 0; a real z may lie anywhere."""
        tau, w = self._merged
        middle = z.real - self.ratio * (tau * w).sum()
        reach = np.sqrt(self._strengths.sum())  # |v - z + psi <tau>|^2 <= sum a: Cauchy-Schwarz and Phi <= 1
        reach = reach + 1e-6 * (abs(middle) + reach)
        # On the axis the bands and the gaps between them are known in s already.
        walls = np.concatenate([[-np.inf], self._edge_positions.ravel(), [np.inf]])
        lower, upper = self.edges.T
        place = np.searchsorted(lower, z.real, side="left") + np.searchsorted(upper, z.real, side="right")
        on_axis = z.imag == 0
        low = np.where(on_axis, np.maximum(middle - reach, walls[place]), middle - reach)
        high = np.where(on_axis, np.minimum(middle + reach, walls[place + 1]), middle + reach)
        return self._invert(z, low, high)

    def _solve_off_bulk(self, z):
        """v(z) off the bulk, in the half plane of z."""
        z = complex_points("z", z)
        inside = self._inside(z.real) | ((z.real == 0) & (self._rank_gap == 0))
        refuse("z", z, inside, "a real z must lie outside the bulk")
        v = self._solve(z.real.ravel() + 1j * abs(z.imag.ravel())).reshape(z.shape)
        return z, np.where(z.imag < 0, v.conj(), v)

    def density(self, x):
        """Im m / (pi psi) = y / (pi psi |v|^2); infinite at a hard edge."""
        x = points("x", x)
        result = np.zeros(x.shape)
        inside = self._inside(x)
        v = self._solve(x[inside].astype(complex))
        result[inside] = v.imag / (np.pi * self.ratio * abs(v) ** 2)
        result[(x == 0) & (self._rank_gap == 0)] = np.inf
        return result[()]

    def cdf(self, x):
        """In closed form: Silverstein's equation integrates to z m + log m - psi sum w log(1 + tau m)."""
        x = points("x", x)
        result = np.zeros(x.shape)
        result[x == 0] = sum(mass for _, mass in self.atoms)
        above = x > 0
        v = self._solve(x[above].astype(complex))
        tau, w = self._merged
        turned = (w * np.angle(v[:, None] - tau)).sum(-1) + self._rank_gap * np.angle(v) / self.ratio
        result[above] = 1 + (x[above] * v.imag / (self.ratio * abs(v) ** 2) - turned) / np.pi
        return np.clip(result, 0, 1)[()]

    def companion(self, z):
        """m(z) = -1/v, transform of the n x n matrix with the same non-zero eigenvalues: (1/n) Z^T S Z.

        Raises ValueError for a real z inside the bulk, or at 0 where that matrix has eigenvalues 0.
        """
        z, v = self._solve_off_bulk(z)
        refuse("z", z, (z == 0) & (self._rank_gap >= 0), "the companion law has an atom at 0, z must be elsewhere")
        return (-1 / v)[()]

    def stieltjes(self, z):
        """integral rho(x)/(x - z) = -sum_k w_k / (z (1 + tau_k m)). Raises ValueError for real z in the bulk."""
        z, v = self._solve_off_bulk(z)
        refuse("z", z, (z == 0) & bool(self.atoms), "the law has an atom at 0, z must be elsewhere")
        tau, w = self._merged
        total = (w / (tau - v[..., None])).sum(-1)
        result = total / (self._rank_gap - self.ratio * v * total)  # the bracket is z/v
        if self._zero_weight > 0:
            result = result - self._zero_weight / z
        return result[()]

    def singular_values(self) -> "SingularValues":
        """The law of the square roots."""
        return SingularValues(self)

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Eigenvalues (size,) of one matrix with p = size, n = p/ratio rounded."""
        return self._sample_roots(size, rng) ** 2

    def _sample_roots(self, size, rng):
        rows = arguments.whole("size", size, at_least=1)
        columns = max(1, round(rows / self.ratio))
        order = np.argsort(self.population_atoms)
        levels = np.cumsum(self.population_weights[order]) + 1e-9  # a row on a border is always of the lower atom
        chosen = np.searchsorted(levels, (np.arange(rows) + 0.5) / rows).clip(max=order.size - 1)
        tau = self.population_atoms[order][chosen]
        scaled = np.sqrt(tau[tau > 0] / columns)[:, None]
        matrix = scaled * arguments.generator("rng", rng).standard_normal((scaled.size, columns))
        roots = np.linalg.svd(matrix, compute_uv=False) if scaled.size else np.empty(0)
        return np.sort(np.concatenate([roots, np.zeros(rows - roots.size)]))

    def moment(self, order: int) -> float:
        """Mean of x^order, exact. The companion law has the free cumulants psi <tau^s>; its moments are psi times."""
        order = arguments.whole("order", order)
        tau, w = self._merged
        cumulants = np.array([self.ratio * (w * tau**s).sum() for s in range(1, order + 1)])
        return float(moments_of(cumulants)[order] / self.ratio) if order else 1.0


@dataclass(frozen=True, eq=False)
class SingularValues(Law):
    """The law of sqrt(x), x distributed as `squares`: singular values of a p x n matrix, p of them.

    `stieltjes` and `companion` are those of the symmetrised law, (rho(x) + rho(-x))/2, which the resolvent of
    [[0, W], [W^T, 0]] knows: z m(z^2), for its first p and its last n rows. In the book's letters G_a, G_b are
    minus these.
    """

    squares: MarchenkoPastur

    @property
    def edges(self) -> np.ndarray:
        return np.sqrt(self.squares.edges)

    @property
    def atoms(self) -> tuple:
        return self.squares.atoms

    def density(self, x):
        """2 x rho(x^2) for x >= 0."""
        x = points("x", x)
        # Even in x, and finite where rho diverges: this close to zero, on the scale of the weakest rows, it is flat.
        inner = np.where(x >= 0, np.maximum(x, 1e-8 * np.sqrt(self.squares._merged[0][0])), 0)
        values = np.asarray(self.squares.density(np.where(inner > 0, inner**2, -1.0)))
        return (2 * inner * values)[()]

    def cdf(self, x):
        x = points("x", x)
        return np.where(x >= 0, self.squares.cdf(x**2), 0.0)[()]

    def stieltjes(self, z):
        """z m(z^2) of the squares. Raises ValueError for a real z inside the bulk or its mirror image."""
        z = self._off_bulk(z)
        return (z * self.squares.stieltjes(z**2))[()]

    def companion(self, z):
        """The same for the last n rows. Raises ValueError for a real z inside the bulk or its mirror image."""
        z = self._off_bulk(z)
        return (z * self.squares.companion(z**2))[()]

    def moment(self, order: int) -> float:
        """Mean of x^order for an even order, exact."""
        order = arguments.whole("order", order)
        if order % 2:
            raise ValueError(f"order must be even for singular values, got {order}")
        return self.squares.moment(order // 2)

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Singular values (size,) of one matrix with p = size, n = p/ratio rounded."""
        return self.squares._sample_roots(size, rng)

    def _off_bulk(self, z):
        z = complex_points("z", z)
        refuse("z", z, self._inside(abs(z.real)), "a real z must lie outside the bulk")
        return z


def _phi_slope(s, tau, a):
    with np.errstate(divide="ignore"):
        return (a / (tau - s[:, None]) ** 3).sum(1)


def _bisect(is_high, low, high):
    """Entry by entry the point between `low` and `high` from which on `is_high` holds, to the last bit."""
    low, high = low.astype(float), high.astype(float)
    for _ in range(200):
        middle = 0.5 * (low + high)
        if np.all((middle == low) | (middle == high)):
            break
        take = is_high(middle)
        low, high = np.where(take, low, middle), np.where(take, middle, high)
    return 0.5 * (low + high)

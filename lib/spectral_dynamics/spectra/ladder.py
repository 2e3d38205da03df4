"""The law of a ladder of learned singular values on an untouched random matrix: information plus noise.

    Wbar = A + X ,   A (M, N) with singular values s_j ,   X with entries of variance s2/N ,   nu = M/N ,

singular vectors of A in general position to X. With R(y) = <1/(y - s^2)> over the M values, nu <= 1, and G_a, G_b the
averages of the diagonal of (z - [[0, Wbar], [Wbar^T, 0]])^{-1} over its first M and its last N rows, the equation of
Dozier and Silverstein (2007) takes the form

    a = z - s2 G_b = b - d ,    b = z - nu s2 G_a ,    d = s2 (1 - nu)/z ,    z = b + nu s2 b R(ab) .

For real z so is d. Then b R(ab) = <b/((b - r_+)(b - r_-))>, r_+- = d/2 +- sqrt(d^2/4 + s^2), is the transform of a
probability measure on the real axis, and the equation is that of Biane (1997) for the sum with a semicircle:

    Im z = Im b (1 - Phi) ,    Phi = nu s2 <(|b|^2 + s^2)/|ab - s^2|^2> ,    density(z) = 2 Im b/(pi nu s2) .

So b is found by two monotone searches and no root is ever chosen: at given Re b the height with Phi = 1 is unique,
and along the heights Re z increases. Off the axis a solution with Im a > 0 and Im b > 0 is the only one (Helton,
Rashidi Far and Speicher 2007), which tells when Newton's method has found it.

On the real axis of y = ab, outside the bands, a small imaginary part must die out on its way round the equations:

    K(y) = nu s2 S + sqrt(P^2 + Q) < 1 ,    X = <1/(y - s^2)^2> ,    S = <s^2/(y - s^2)^2> ,
                                            P = nu s2 X y ,          Q = nu s2^2 (1 - nu) X .

K is convex between two neighbouring s^2: it dips below 1, and the bands part, or it does not. Below the lowest s^2
it crosses 1 once, for no mass lies lower (exact separation, Capitaine 2014), and above the highest one it falls. At
an edge z = (P + sqrt(P^2 + Q)) (P^2 + Q)^{1/4}/sqrt(nu s2 X). For M > N the matrix is transposed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import elementwise

from .. import arguments
from ..errors import ConvergenceError
from .law import Law, complex_points, frozen, points, proportions, refuse

_ROUNDS, _HALVINGS = 10, 6  # of the bracket of Re b, with a polish after each round
_NEAR = 24  # neighbours on each side that are asked first whether bands can part
_BLOCK = 200_000  # points times values held at once
_EPS = np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class InformationPlusNoise(Law):
    """Singular values of A + X, M of them for an M x N matrix; see the head of this module.

    ratio            nu = M/N
    singular_values  (K,) the s_j of A, all M of them or as many as have a weight, zeros included
    variance         s2: the entries of X have variance s2/N
    weights          (K,) in which proportions, summing to 1; None: equal ones

    M > N leaves an atom 1 - 1/nu at 0, and needs that share of zeros among the s_j. `stieltjes` and `companion` are
    those of the symmetrised law for the M and the N rows, as those of `covariance.SingularValues`: -G_a and -G_b.
    """

    ratio: float
    singular_values: np.ndarray
    variance: float
    weights: np.ndarray | None = None

    def __post_init__(self):
        ratio = arguments.number("ratio", self.ratio, above=0)
        values = arguments.array("singular_values", self.singular_values, ndim=1)
        given = np.full(values.shape, 1 / values.size) if self.weights is None else self.weights
        weights = proportions("singular_values", values, given)
        zeros = weights[values == 0].sum()
        if zeros < 1 - 1 / ratio - 1e-9:
            raise ValueError(
                f"singular_values must hold a share of at least {1 - 1 / ratio:.6g} zeros at ratio {ratio:.6g}: "
                f"a tall matrix has no more than N others, got {zeros:.6g}"
            )
        object.__setattr__(self, "ratio", ratio)
        object.__setattr__(self, "singular_values", frozen(values))
        object.__setattr__(self, "variance", arguments.number("variance", self.variance, above=0))
        object.__setattr__(self, "weights", frozen(weights))

    # The wide matrix, M <= N, that has the same singular values other than zeros; equal values are merged.

    @property
    def _share(self) -> float:
        """Which part of the M values the wide matrix has."""
        return min(1.0, 1 / self.ratio)

    @property
    def _nu(self) -> float:
        return min(self.ratio, 1 / self.ratio)

    @property
    def _s2(self) -> float:
        return self.variance * max(self.ratio, 1.0)

    @cached_property
    def _merged(self) -> tuple[np.ndarray, np.ndarray]:
        """The s_j^2 and their weights."""
        tau, group = np.unique(self.singular_values**2, return_inverse=True)
        w = np.bincount(group, self.weights)
        if tau[0] == 0:
            w[0] -= 1 - self._share
        present = w > 1e-14  # lighter is a band narrower than rounding, or what is left of the zeros taken away
        return tau[present], w[present] / w[present].sum()

    @property
    def atoms(self) -> tuple:
        return ((0.0, 1 - self._share),) if self.ratio > 1 else ()

    # Edges.

    @cached_property
    def _edge_squares(self) -> np.ndarray:
        """(bands, 2): the intervals of y on which K > 1."""
        tau, s2 = self._merged[0], self._s2
        last = tau[-1] + 4 * (s2 + np.sqrt(tau[-1] * s2))  # K < 1 from there on, and below -3 s2
        dips = self._dips()
        below = np.searchsorted(tau, dips) - 1
        starts = self._crossing(np.append(-3 * s2, dips), np.append(tau[0], tau[below + 1]))
        ends = self._crossing(np.append(dips, last), np.append(tau[below], tau[-1]))
        return frozen(np.column_stack([starts, ends]))

    def _crossing(self, outside, pole):
        """Where K = 1 between points at which K < 1 and a value of A, where K is infinite."""
        return elementwise.find_root(self._parting, (np.minimum(outside, pole), np.maximum(outside, pole))).x

    def _parting(self, y):
        """1 - 1/K, negative outside the bands and 1 at the values of A."""
        y = np.asarray(y)
        (found,) = self._in_blocks(
            lambda some: (self._excess(some, *_sums(some[:, None], *self._merged)),), y.ravel()
        )
        return found.reshape(y.shape)

    def _excess(self, y, X, S):
        with np.errstate(invalid="ignore"):
            K = self._nu * self._s2 * (S + np.sqrt((X * y) ** 2 + X * (1 - self._nu) / self._nu))
        return 1 - 1 / np.where(np.isnan(K), np.inf, K)  # where inf - inf or 0 inf is met K is infinite

    def _dips(self):
        """Points of the gaps between bands, ascending."""
        tau, w = self._merged
        place = np.arange(tau.size - 1)
        near = place[:, None] + np.arange(1 - _NEAR, _NEAR + 1)
        inside = (near >= 0) & (near < tau.size)
        some, weight = tau[near.clip(0, tau.size - 1)], np.where(inside, w[near.clip(0, tau.size - 1)], 0.0)

        def nearest(y, k):  # a lower bound of K, as convex as K itself
            k = k.astype(int)
            return self._excess(y, *_sums(y[:, None], some[k], weight[k]))

        if place.size == 0:
            return np.empty(0)
        bracket = (tau[:-1], 0.5 * (tau[:-1] + tau[1:]), tau[1:])
        found = elementwise.find_minimum(nearest, bracket, args=(place,))
        dip, possible = found.x, found.f_x < 0
        parts = possible & (self._parting(dip) < 0)
        unsure = possible & ~parts
        if np.any(unsure):
            better = elementwise.find_minimum(self._parting, tuple(side[unsure] for side in bracket))
            dip[unsure], parts[unsure] = better.x, better.f_x < 0
        return dip[parts]

    @cached_property
    def edges(self) -> np.ndarray:
        """(bands, 2), ascending."""
        y = self._edge_squares.ravel()
        (X,) = self._in_blocks(lambda some: (_sums(some[:, None], *self._merged)[0],), y)
        P, Q = self._nu * self._s2 * X * y, self._nu * self._s2**2 * (1 - self._nu) * X
        root = np.sqrt(P**2 + Q)
        p = np.where(P > 0, P + root, Q / (root + abs(P)))  # nothing cancels, and at nu = 1 a hard edge is 0
        return frozen((p * np.sqrt(root / (self._nu * self._s2 * X))).reshape(-1, 2))

    def location(self, strength):
        """Where one more learned direction of singular value `strength` is seen: with p = 1 + nu s2 R(strength^2)

            z^2 = strength^2 p^2 + s2 (1 - nu) p .

        Its own weight is nothing; on A = 0 this is `outliers.location`. Any shape. Raises ValueError for a `strength`
        that does not leave the bands.
        """
        strength = arguments.array("strength", strength)
        y, (tau, w) = strength**2, self._merged
        hidden = self._parting(y) >= 0
        if np.any(hidden):
            raise ValueError(f"strength must leave the bands, {strength[hidden].flat[0]:.6g} is seen inside one")
        p = 1 + self._nu * self._s2 * (w / (y[..., None] - tau)).sum(-1)
        return np.sqrt(y * p**2 + self._s2 * (1 - self._nu) * p)[()]

    # b on the real axis.

    def _in_blocks(self, function, *arrays):
        size = max(1, _BLOCK // self._merged[0].size)
        cuts = range(0, max(arrays[0].size, 1), size)
        parts = [function(*(one[i : i + size] for one in arrays)) for i in cuts]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def _value(self, b, d):
        """z as a function of b, and its slope."""
        return self._in_blocks(self._value_block, b, d)

    def _value_block(self, b, d):
        tau, w = self._merged
        inverse = 1 / ((b * (b - d))[:, None] - tau)
        R = inverse @ w
        inverse *= inverse
        c = self._nu * self._s2
        return b + c * b * R, 1 + c * (R - b * (2 * b - d) * (inverse @ w))

    def _phi(self, beta, q, d):
        """Phi at b = beta + i sqrt(q), and its slope in q."""
        return self._in_blocks(self._phi_block, beta, q, d)

    def _phi_block(self, beta, q, d):
        tau, w = self._merged
        real, width = beta * (beta - d) - q, (2 * beta - d) ** 2
        inverse = 1 / ((real[:, None] - tau) ** 2 + (q * width)[:, None])
        first, second = inverse @ w, inverse @ (w * tau)
        inverse *= inverse
        size, c = beta**2 + q, width - 2 * real
        slope = size * c * (inverse @ w) + (c + 2 * size) * (inverse @ (w * tau)) + 2 * (inverse @ (w * tau**2))
        scale = self._nu * self._s2
        return scale * (size * first + second), scale * (first - slope)

    def _height(self, beta, d):
        """Im b on the line Phi = 1, 0 where Phi < 1 on the axis. In q = (Im b)^2 1/Phi is concave, so Newton's method
        from below never overshoots."""
        floor = 1e-24 * self._nu * self._s2
        q = np.full(beta.shape, floor)
        for _ in range(100):
            phi, slope = self._phi(beta, q, d)
            before, q = q, np.maximum(q + phi * (1 - phi) / slope, floor)
            if np.all(abs(q - before) <= 1e-9 * q):
                break
        return np.where(q > floor, np.sqrt(q), 0.0)

    def _polish(self, b, z, d, real):
        """Newton's method; good where the residual is at rounding and b is the physical solution."""
        b = np.where(real, b.real, b)
        with np.errstate(all="ignore"):
            for _ in range(8):
                value, slope = self._value(b, d)
                b = b - (value - z) / slope
            residual = abs(self._value(b, d)[0] - z)
            good = residual <= 64 * _EPS * (abs(b) + abs(z) + np.sqrt(self._s2))  # False for nan
            good &= np.where(real, (b.imag == 0) & (self._phi(b.real, np.zeros(b.shape), d.real)[0] < 1), b.imag > 0)
        return b, good & ((b - d).imag >= 0)

    def _search(self, z, d, real):
        """b at real z >= 0 by halving brackets of Re b: |z - b|^2 <= nu s2 by Cauchy-Schwarz and Phi <= 1."""
        reach = np.sqrt(self._nu * self._s2) * (1 + 1e-6)
        low, high, b = np.maximum(z - reach, 0), z + reach, np.zeros(z.shape, complex)
        rest = np.arange(z.size)
        for _ in range(_ROUNDS):
            for _ in range(_HALVINGS):
                middle = 0.5 * (low[rest] + high[rest])
                b[rest] = middle + 1j * self._height(middle, d[rest])
                short = self._value(b[rest], d[rest])[0].real < z[rest]
                low[rest], high[rest] = np.where(short, middle, low[rest]), np.where(short, high[rest], middle)
            polished, good = self._polish(b[rest], z[rest], d[rest], real[rest])
            b[rest[good]] = polished[good]
            rest = rest[~good]
            if rest.size == 0:
                return b
        residual = abs(self._value(b, d)[0] - z) / (abs(b) + abs(z) + np.sqrt(self._s2))
        if np.all(residual <= 1e-11):
            return b
        worst = np.argmax(residual)
        message = f"no b found for z = {z[worst]}: relative residual {residual[worst]:.1e}"
        raise ConvergenceError(message, partial=b, residual=float(residual[worst]))

    def _on_axis(self, z):
        """b at ascending real z >= 0. At 0 it is 0, or at a hard edge i times the height of the line Phi = 1."""
        b, zeros = np.zeros(z.shape, complex), np.zeros(np.count_nonzero(z == 0))
        b[z == 0] = 1j * self._height(zeros, zeros) * self._in_band(zeros)
        b[z > 0] = self._between(z[z > 0])
        return b

    def _between(self, z):
        """b at ascending z > 0: a few by searches, those between from them by Newton's method where it serves."""
        d, real = self._s2 * (1 - self._nu) / z, ~self._in_band(z)
        if z.size <= 32:
            return self._search(z, d, real)
        guess = np.interp(z, z[::8], self._between(z[::8]))
        b, good = self._polish(guess, z, d, real)
        b[~good] = self._search(z[~good], d[~good], real[~good])
        return b

    def _in_band(self, x):
        """Strictly between two edges, or at a hard edge at 0, where the density of singular values is finite."""
        return self._inside(x) | ((x == 0) & (self.edges[0, 0] == 0))

    # b off the axis, and what is read off it.

    def _off_axis(self, z):
        """b at Im z > 0, Re z >= 0: down from far up, where b = z, in steps as short as Newton's method needs."""
        b, now, ratio = z + 4j * np.sqrt(self._s2), z.imag + 4 * np.sqrt(self._s2), np.full(z.shape, 1.0)
        rest = np.arange(z.size)
        for _ in range(1000):
            ahead = np.maximum(z.imag, now * ratio)[rest]
            there = z.real[rest] + 1j * ahead
            found, good = self._polish(b[rest], there, self._s2 * (1 - self._nu) / there, np.zeros(rest.shape, bool))
            b[rest[good]], now[rest[good]] = found[good], ahead[good]
            ratio[rest] = np.where(good, 0.25, np.sqrt(ratio[rest]))
            rest = rest[~good | (ahead > z.imag[rest])]
            if rest.size == 0:
                return b
        raise ConvergenceError(f"no b found for z = {z[rest[0]]}", partial=b)

    def _traces(self, z):
        """G_a and G_b of the wide matrix, off the bands, at z of any shape."""
        z = complex_points("z", z)
        refuse("z", z, self._in_band(abs(z.real)), "a real z must lie outside the bulk")
        flat = abs(z.real.ravel()) + 1j * abs(z.imag.ravel())  # G is odd, and real on the axis
        b, on_axis = np.zeros(flat.shape, complex), flat.imag == 0
        order = np.flatnonzero(on_axis)[np.argsort(flat.real[on_axis])]
        b[order] = self._on_axis(flat.real[order])
        b[~on_axis] = self._off_axis(flat[~on_axis])
        with np.errstate(divide="ignore", invalid="ignore"):
            G_a = (flat - b) / (self._nu * self._s2)
            G_b = self._nu * G_a + (1 - self._nu) / flat
        turned = [np.where(z.imag.ravel() < 0, G.conj(), G) for G in (G_a, G_b)]
        turned = [np.where(z.real.ravel() < 0, -G.conj(), G) for G in turned]
        return z, turned[0].reshape(z.shape), turned[1].reshape(z.shape)

    def stieltjes(self, z):
        """-G_a of the M rows. Raises ValueError for a real z inside the bulk or its mirror image, or at an atom."""
        z, short, long = self._traces(z)
        refuse("z", z, (z == 0) & (self.ratio > 1), "the law has an atom at 0, z must be elsewhere")
        return (-long if self.ratio > 1 else -short)[()]

    def companion(self, z):
        """-G_b of the N columns. Raises ValueError as `stieltjes`."""
        z, short, long = self._traces(z)
        refuse("z", z, (z == 0) & (self.ratio < 1), "the companion law has an atom at 0, z must be elsewhere")
        return (-short if self.ratio > 1 else -long)[()]

    def _inside_points(self, x):
        """b at those x, of any shape, that lie in a band, and where they are."""
        x = points("x", x)
        where = self._in_band(x)
        order = np.argsort(x[where])
        b = np.empty(order.shape, complex)
        b[order] = self._on_axis(x[where][order])
        return x, where, b

    def density(self, x):
        """2 Im b/(pi nu s2), times the part of the values that is not at the atom."""
        x, where, b = self._inside_points(x)
        result = np.zeros(x.shape)
        result[where] = self._share * 2 * b.imag / (np.pi * self._nu * self._s2)
        return result[()]

    def cdf(self, x):
        """In closed form: the equations make log |det| = <log(ab - s^2)> + (1/nu - 1) log b + s2 G_a G_b stationary.

        In a gap it is the weight of the s_j below (exact separation, Capitaine 2014).
        """
        x, where, b = self._inside_points(x)
        tau, w = self._merged
        z, nu, s2 = x[where], self._nu, self._s2
        d = np.divide(s2 * (1 - nu), z, out=np.zeros(z.shape), where=z > 0)
        (angle,) = self._in_blocks(lambda some, there: (np.angle((some * (some - there))[:, None] - tau) @ w,), b, d)
        above = angle + (1 / nu - 1) * np.angle(b) - b.imag * (2 * (z - b.real) + d) / (nu * s2)
        passed = np.append(0.0, np.cumsum(w))[np.searchsorted(tau, self._edge_squares[:, 1])]
        result = np.array(np.append(0.0, passed)[np.searchsorted(self.edges[:, 1], x, side="right")])
        result[where] = 1 - above / np.pi
        return np.where(x >= 0, 1 - self._share + self._share * np.clip(result, 0, 1), 0.0)[()]

    def moment(self, order: int) -> float:
        """Mean of x^order for an even order, exact: with e = 1/z^2 and M(e) = sum_k <x^2k> e^k, mu_k = <s^2k>,

        M = (1/t) sum_k mu_k (e/(q t))^k ,   q = 1 - nu s2 e M ,   t = 1 - s2 e (nu M + 1 - nu) .
        """
        order = arguments.whole("order", order)
        if order % 2:
            raise ValueError(f"order must be even for singular values, got {order}")
        (tau, w), size = self._merged, order // 2 + 1
        series, e = np.eye(size)[0], np.eye(size, k=1)[0]
        for _ in range(size):
            q = np.eye(size)[0] - self._nu * self._s2 * _times(e, series)
            t = np.eye(size)[0] - self._s2 * _times(e, self._nu * series + (1 - self._nu) * np.eye(size)[0])
            step, total = _times(e, _over(_times(q, t))), np.zeros(size)
            for k in range(size)[::-1]:
                total = _times(step, total) + (w @ tau**k) * np.eye(size)[0]
            series = _times(_over(t), total)
        return float(series[-1] * (self._share if order else 1.0))

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Singular values (size,), ascending, of one matrix with M = size, N = M/ratio rounded."""
        rows = arguments.whole("size", size, at_least=1)
        columns = max(1, round(rows / self.ratio))
        matrix = arguments.generator("rng", rng).standard_normal((rows, columns)) * np.sqrt(self.variance / columns)
        order = np.argsort(self.singular_values)
        levels = np.cumsum(self.weights[order]) + 1e-9  # a value on a border is always the lower one
        chosen = np.searchsorted(levels, (np.arange(rows) + 0.5) / rows).clip(max=order.size - 1)
        ladder = self.singular_values[order][chosen][::-1][: min(rows, columns)]
        matrix[np.arange(ladder.size), np.arange(ladder.size)] += ladder
        values = np.linalg.svd(matrix, compute_uv=False)
        return np.sort(np.concatenate([values, np.zeros(rows - values.size)]))


def _sums(y, tau, w):
    """X and S, over the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = w / (y - tau) ** 2
        return terms.sum(-1), (tau * terms).sum(-1)


def _times(one, other):
    """The product of two power series, as far as they go."""
    return np.convolve(one, other)[: one.size]


def _over(series):
    """1/series for one that begins with 1."""
    result, rest = np.eye(series.size)[0], np.eye(series.size)[0] - series
    for _ in range(series.size):
        result = np.eye(series.size)[0] + _times(rest, result)
    return result

"""Singular values of whatever is computed from Gaussian matrices by sums and products, in the limit of large size.

    neurons, inputs, outputs = Space("neurons", 1), Space("inputs", 1), Space("outputs", 0.5)
    W, V, T = Gaussian(neurons, inputs), Gaussian(outputs, neurons), Gaussian(outputs, inputs, 9)
    law = Spectrum(W + 0.2 * V.T @ (T - V @ W))

M b is computed by passing a vector b forward. Each Gaussian matrix on the way makes a new vector y_k = X_k x_k, x_k a
combination of earlier ones, and M b is a combination of all of them. A multiplier for each of these lines, yhat_k,
the same thing as a backward pass, makes all of it one quadratic form, in which no two random matrices are multiplied:

    S = - z (a.a + b.b)/2 + a.(M b) + sum_k yhat_k.(X_k x_k - y_k) .

Its matrix is L_0 + R, with numbers in L_0 and Gaussian matrices in R, and the part a, b of its inverse is the
resolvent of [[0, M], [M^T, 0]]. G_ij, the trace of the block (i, j) of the inverse over the dimension, i and j of the
same space, obeys in the limit

    G = (L_0 - Sigma)^{-1} ,   Sigma = sum_X variance_X (size_columns L (R^T G R) L^T + size_rows R (L^T G L) R^T) ,

where the columns of L and R name the vectors that X stands between. That is operator-valued free probability on a
linearization: Haagerup and Thorbjornsen (2005); Helton, Rashidi Far and Speicher (2007), who show that there is one
solution with a positive imaginary part; Belinschi, Mai and Speicher (2017).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from .. import arguments
from ..errors import ConvergenceError

TOLERANCE, STEPS, HALVINGS = 1e-11, 30, 40  # of Newton's method; of the stages in which it is led on
DESCENT = 8  # how much nearer to the real axis one stage may lead
HEIGHT = 1e-6  # above the real axis, relative to the edge, at which densities are read off
POINTS, MOST = 20, 1280  # at which they are read off for the distribution function: at first, and at most


@dataclass(frozen=True)
class Space:
    """Where vectors live: a name, and the dimension over n, whatever n is."""

    name: str
    size: float

    def __post_init__(self):
        arguments.number("size", self.size, above=0)


class Expression:
    """A matrix, `rows` x `columns`, computed from Gaussian ones by A + B, A - B, number * A, A @ B and A.T.

    Raises ValueError when shapes do not fit.
    """

    rows: Space
    columns: Space

    def __add__(self, other):
        return Sum(self, 1.0, other)

    def __sub__(self, other):
        return Sum(self, -1.0, other)

    def __rmul__(self, number):
        return Scaled(arguments.number("number", number), self)

    def __matmul__(self, other):
        return Product(self, other)

    @property
    def T(self) -> "Expression":
        """The transpose."""
        return Transposed(self)


class Gaussian(Expression):
    """Independent normal entries of variance `variance`/n, n the dimension of a space of size 1."""

    def __init__(self, rows: Space, columns: Space, variance: float = 1.0):
        for name, space in (("rows", rows), ("columns", columns)):
            if not isinstance(space, Space):
                raise ValueError(f"{name} must be a Space, got {type(space).__name__}")
        self.rows, self.columns = rows, columns
        self.variance = arguments.number("variance", variance, at_least=0)
        self.norm = np.sqrt(self.variance) * (np.sqrt(rows.size) + np.sqrt(columns.size))

    def _through(self, forward, x, back):
        return forward.line(self, x, back)


class Sum(Expression):
    """left + sign right."""

    def __init__(self, left: Expression, sign: float, right: Expression):
        if (left.rows, left.columns) != (_expression(right).rows, right.columns):
            raise ValueError(f"shapes must be equal in a sum, got {_shape(left)} and {_shape(right)}")
        self.left, self.sign, self.right = left, sign, right
        self.rows, self.columns, self.norm = left.rows, left.columns, left.norm + right.norm

    def _through(self, forward, x, back):
        return self.left._through(forward, x, back) + self.sign * self.right._through(forward, x, back)


class Scaled(Expression):
    """number times a matrix."""

    def __init__(self, number: float, of: Expression):
        self.number, self.of = number, of
        self.rows, self.columns, self.norm = of.rows, of.columns, abs(number) * of.norm

    def _through(self, forward, x, back):
        return self.number * self.of._through(forward, x, back)


class Product(Expression):
    """left right."""

    def __init__(self, left: Expression, right: Expression):
        if left.columns != _expression(right).rows:
            raise ValueError(f"columns must be the rows of what follows, got {_shape(left)} @ {_shape(right)}")
        self.left, self.right = left, right
        self.rows, self.columns, self.norm = left.rows, right.columns, left.norm * right.norm

    def _through(self, forward, x, back):
        first, second = (self.left, self.right) if back else (self.right, self.left)
        return second._through(forward, first._through(forward, x, back), back)


class Transposed(Expression):
    """The transpose."""

    def __init__(self, of: Expression):
        self.of, self.rows, self.columns, self.norm = of, of.columns, of.rows, of.norm

    def _through(self, forward, x, back):
        return self.of._through(forward, x, not back)


def _expression(value) -> Expression:
    if not isinstance(value, Expression):
        raise ValueError(f"expression must be made of Gaussian matrices, got {type(value).__name__}")
    return value


def _shape(matrix: Expression) -> str:
    return f"({matrix.rows.name}, {matrix.columns.name})"


class ForwardPass:
    """The lines by which M b is computed: `lines`, each (X, x, back) for y = X x or, if `back`, X^T x.

    Vectors are coefficients: of b, y_1, y_2, ... in this order. `output` is M b.
    A product that is asked for twice is computed once.
    """

    MOST = 512  # lines

    def __init__(self, expression: Expression):
        self.lines = []
        self.output = _expression(expression)._through(self, np.eye(1, self.MOST + 1)[0], False)

    def line(self, matrix: Gaussian, x: np.ndarray, back: bool) -> np.ndarray:
        """The new vector, or the old one when the line is there already."""
        same = [known is matrix and way == back and np.array_equal(old, x) for known, old, way in self.lines]
        if not any(same):
            if len(self.lines) == self.MOST:
                raise ValueError(f"expression must take at most {self.MOST} products with Gaussian matrices")
            self.lines.append((matrix, x, back))
            same.append(True)
        return np.eye(1, self.MOST + 1, 1 + same.index(True))[0]


class Spectrum:
    """The law of the singular values of an expression M, one for each row of M, zeros where M has fewer.

    `stieltjes(z)` as that of laws.SingularValues; `density(x)`, read off at HEIGHT times the edge above the real
    axis; `atom`, the mass at zero; `edge`, the upper end of the law; `cdf(x)`, from as many densities as it takes
    for it to move by less than `accuracy`, and all masses to add up to 1 within as much.
    Raises ValueError on bad input and ConvergenceError, with `.partial` what was reached.
    """

    def __init__(self, expression: Expression, *, accuracy: float = 1e-3):
        forward = ForwardPass(expression)
        self.rows, self.columns = expression.rows.size, expression.columns.size
        self.accuracy = arguments.number("accuracy", accuracy, above=0)
        self._bound = expression.norm
        if not self._bound:
            raise ValueError("expression is zero, it must not be")
        count = len(forward.lines)
        self._b, self._a = 0, count + 1  # the vectors are b, y_1, y_2, ...; a, yhat_1, yhat_2, ...
        y, yhat = slice(1, count + 1), slice(count + 2, None)
        self._fixed, self._ends = np.zeros((2, 2 * count + 2, 2 * count + 2))  # L_0 = fixed - z ends
        self._fixed[self._a, : count + 1] = forward.output[: count + 1]
        self._fixed[yhat, y] = -np.eye(count)
        self._fixed += self._fixed.T
        self._ends[[self._a, self._b], [self._a, self._b]] = 1
        # Columns: what X of each line has on its left, then what it has on its right.
        self._legs = np.zeros((2 * count + 2, 2 * count))
        for k, (_, x, back) in enumerate(forward.lines):
            new, old = (count + k, k) if back else (k, count + k)
            self._legs[count + 2 + k, new] = 1
            self._legs[: count + 1, old] = x[: count + 1]
        self._others = np.roll(self._legs, count, axis=1)
        matrices = [matrix for matrix, _, _ in forward.lines]
        same = np.array([[one.variance * (one is other) for other in matrices] for one in matrices])
        rows, columns = ([getattr(one, side).size for one in matrices] for side in ("rows", "columns"))
        self._strengths = linalg.block_diag(same * rows, same * columns)
        self._pairs = np.nonzero(np.triu(self._strengths))
        self._far = self._last = self._start()
        z, m = self._far[0], self._mapped(*self._far)[self._a, self._a]
        self._reach = 0.1 * np.sqrt(abs(z**3 * m + z**2))  # a tenth of the root mean square of the singular values

    # --- the fixed point, as an equation for P = [L R]^T G [L R] --------------------------------------------------

    def _mapped(self, z, passing):
        """G = (L_0 - Sigma)^{-1}, Sigma = [R L] (strengths * P) [R L]^T."""
        echo = self._others @ (self._strengths * passing) @ self._others.T
        return np.linalg.inv(self._fixed - z * self._ends - echo)

    def _start(self):
        """Far above the spectrum, where averaging does it."""
        z = 2j * self._bound
        passing = np.zeros_like(self._strengths, dtype=complex)
        for _ in range(200):
            passing = (passing + self._legs.T @ self._mapped(z, passing) @ self._legs) / 2
        found = self._newton(z, passing)
        if found is None:
            raise ConvergenceError(f"the table of traces was not found at z = {z:.3g}", passing)
        return z, found

    def _newton(self, z, passing):
        """The solution near P, None if there is none or if the imaginary part of its G is not positive.

        Only entries of P on and above the diagonal that have a strength are unknown; dG = G dSigma G.
        """
        i, j = self._pairs
        strengths = self._strengths[i, j] / (1 + (i == j))
        for _ in range(STEPS):
            table = self._mapped(z, passing)
            error = passing[i, j] - (self._legs.T @ table @ self._legs)[i, j]
            if not np.all(np.isfinite(error)):
                return None
            if np.abs(error).max() <= TOLERANCE * max(1, np.abs(table).max()):
                lowest = np.linalg.eigvalsh((table.imag + table.imag.T) / 2)[0]
                return passing if lowest >= -1e-7 * np.abs(table).max() else None
            across = self._legs.T @ table @ self._others
            kernel = across[np.ix_(i, i)] * across[np.ix_(j, j)] + across[np.ix_(i, j)] * across[np.ix_(j, i)]
            passing = passing.copy()
            passing[i, j] -= np.linalg.solve(np.eye(len(i)) - kernel * strengths, error)
            passing[j, i] = passing[i, j]
        return None

    def _table(self, z: complex) -> np.ndarray:
        """G at z, from the last one found or from far above, in as many stages as Newton's method needs.

        Near the axis there are other solutions: G is followed down in stages, each at most DESCENT times nearer.
        """
        near = abs(z - self._last[0]) < self._reach
        (at, passing), stages = self._last if near else self._far, [z]
        while stages[-1].imag < at.imag / DESCENT:
            stages.append(complex(z.real, DESCENT * stages[-1].imag))
        while stages:
            found = self._newton(stages[-1], passing)
            if found is not None:
                at, passing = stages.pop(), found
            elif len(stages) > HALVINGS:
                raise ConvergenceError(f"the table of traces was not found between z = {at:.6g} and {z:.6g}", passing)
            else:
                stages.append((at + stages[-1]) / 2)
        self._last = at, passing
        return self._mapped(at, passing)

    # --- what is asked for ----------------------------------------------------------------------------------------

    def stieltjes(self, z):
        """Of the symmetrised law, at z above the real axis. Raises ValueError, ConvergenceError."""
        z = np.asarray(z, dtype=complex)
        if not np.all(np.isfinite(z)) or not np.all(z.imag > 0):
            raise ValueError("z must be finite and above the real axis")
        return np.reshape([self._table(one)[self._a, self._a] for one in z.ravel()], z.shape)[()]

    def density(self, x):
        """Of the part without the atom, at x > 0. Raises ValueError, ConvergenceError."""
        x = arguments.array("x", x)
        if np.any(x <= 0):
            raise ValueError(f"x must be above 0, got {x.min()}")
        return np.reshape([self._density(one, HEIGHT * self.edge) for one in x.ravel()], x.shape)[()]

    def _density(self, x: float, height: float) -> float:
        """From the traces over the shorter side, where the zeros of the longer one are not."""
        side, share = (self._a, 1.0) if self.rows <= self.columns else (self._b, self.columns / self.rows)
        height_of_atom = (self.atom - max(0.0, 1 - self.columns / self.rows)) * height / (x**2 + height**2)
        return 2 / np.pi * (share * self._table(x + 1j * height)[side, side].imag - height_of_atom)

    @cached_property
    def atom(self) -> float:
        """The mass at zero, rounded to 1e-5.

        It is the limit of -z m. Near 0 the rest vanishes as a power of z, and three heights take it away (Aitken).
        """
        heights = 1j * self._bound * np.array([1e-5, 1e-6, 1e-7])
        first, second, third = (-heights * self.stieltjes(heights)).real
        bend = third - 2 * second + first
        limit = third - (third - second) ** 2 / bend if abs(bend) > 1e-8 else third
        return max(0.0, float(np.round(limit, 5)))

    @cached_property
    def edge(self) -> float:
        """The upper end: above it Im m is proportional to the distance from the real axis, and below it is not.

        Sought from above in steps of five per cent: a band narrower than that may be missed. If it has more mass than
        `accuracy`, then `cdf` raises.
        """

        def inside(x):
            high, low = (self._table(x + 1j * h * self._bound)[self._a, self._a].imag for h in (1e-6, 2.5e-7))
            return low > high / 2

        above, below = self._bound, 0.95 * self._bound
        while not inside(below):
            above, below = below, 0.95 * below
            if below < 1e-4 * self._bound:
                raise ConvergenceError("no edge was found")
        while above - below > 1e-6 * above:
            middle = (above + below) / 2
            above, below = (above, middle) if inside(middle) else (middle, below)
        return (above + below) / 2

    @cached_property
    def _distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """Points, ascending from 0 to the edge, and the distribution function there.

        They are closer near both, and the more so near 0, where the density of a product has a pole.
        """
        points, heights, coarse, error = POINTS, np.zeros(2), None, np.inf
        while points <= MOST:
            angles = np.linspace(0, np.pi, points + 1)
            x = self.edge * (1 - np.cos(angles)) ** 2 / 4
            new = slice(1, -1, 1 if coarse is None else 2)
            grown = np.zeros(points + 1)
            grown[:: (points if coarse is None else 2)] = heights
            grown[new] = [self._density(one, HEIGHT * self.edge) for one in x[new]]
            heights = grown
            pieces = heights * self.edge * (1 - np.cos(angles)) * np.sin(angles) / 2
            masses = self.atom + np.append(0, np.cumsum((pieces[1:] + pieces[:-1]) / 2 * np.diff(angles)))
            if coarse is not None:
                error = max(abs(masses[-1] - 1), np.abs(masses[::2] - coarse).max())
            if error <= self.accuracy:
                return x, 1 - masses[-1] + masses
            points, coarse = 2 * points, masses
        raise ConvergenceError(f"the distribution function is known to {error:.1g} only", (x, masses), error)

    def cdf(self, x):
        """The distribution function, the atom included. Raises ConvergenceError."""
        x = arguments.array("x", x)
        return np.where(x >= 0, np.interp(x, *self._distribution), 0.0)[()]

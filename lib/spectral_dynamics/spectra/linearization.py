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
from scipy import sparse

from .. import arguments
from ..errors import ConvergenceError

TOLERANCE, STEPS, HALVINGS = 1e-11, 30, 40  # of Newton's method; of the stages in which it is led on
DESCENT = 8
HEIGHT = 1e-4  # above the real axis, relative to the edge, at which densities are read off
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

    Vectors are coefficients: of b, y_1, y_2, ... in this order. `output` is M b, `spaces` are where b, y_1, ... live.
    A product that is asked for twice is computed once.
    """

    MOST = 512  # lines

    def __init__(self, expression: Expression):
        self.spaces, self.lines = [_expression(expression).columns], []
        self.output = expression._through(self, np.eye(1, self.MOST + 1)[0], False)

    def line(self, matrix: Gaussian, x: np.ndarray, back: bool) -> np.ndarray:
        """The new vector, or the old one when the line is there already."""
        same = [known is matrix and way == back and np.array_equal(old, x) for known, old, way in self.lines]
        if not any(same):
            if len(self.lines) == self.MOST:
                raise ValueError(f"expression must take at most {self.MOST} products with Gaussian matrices")
            self.lines.append((matrix, x, back))
            self.spaces.append(matrix.columns if back else matrix.rows)
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
        count = len(forward.lines)
        forwards, backwards = np.arange(count + 1), np.arange(count + 1, 2 * count + 2)  # b, y_k; a, yhat_k
        spaces = [*forward.spaces, expression.rows, *forward.spaces[1:]]
        size = len(spaces)
        lower = np.zeros((size, size))
        lower[backwards[0], forwards] = forward.output[: count + 1]
        lower[backwards[1:], forwards[1:]] = -1
        self._numbers = lower + lower.T
        self._ends = np.zeros(size)
        self._ends[[0, count + 1]] = 1
        self._a, self._b = count + 1, 0
        self._couplings = []
        for matrix in dict.fromkeys(matrix for matrix, _, _ in forward.lines):
            left, right = np.zeros((2, size, sum(matrix is one for one, _, _ in forward.lines)))
            used = [(k, x, back) for k, (one, x, back) in enumerate(forward.lines, start=1) if one is matrix]
            for column, (k, x, back) in enumerate(used):
                own, other = (right, left) if back else (left, right)
                own[backwards[k], column] = 1
                other[: count + 1, column] = x[: count + 1]
            self._couplings.append(
                (matrix.variance * matrix.columns.size, left, right, matrix.variance * matrix.rows.size)
            )
        self._pairs = np.nonzero([[one == other for other in spaces] for one in spaces])
        self._upper = np.transpose([pair for pair in zip(*self._pairs, strict=True) if pair[0] <= pair[1]])
        slopes = [self._echo(_unit(size, i, j))[self._pairs] for i, j in self._upper.T]
        self._slopes = sparse.csr_array(np.array(slopes))  # of Sigma, by entries of G on and above the diagonal
        self._bound = expression.norm
        if not self._bound:
            raise ValueError("expression is zero, it must not be")
        self._far = self._last = self._start()
        z, m = self._far[0], self._far[1][self._a, self._a]
        self._reach = 0.1 * np.sqrt(abs(z**3 * m + z**2))  # a tenth of the root mean square of the singular values

    # --- the fixed point ------------------------------------------------------------------------------------------

    def _echo(self, table):
        """Sigma = E[R G R]."""
        return sum(
            (columns * left @ (right.T @ table @ right) @ left.T + rows * right @ (left.T @ table @ left) @ right.T)
            for columns, left, right, rows in self._couplings
        )

    def _mapped(self, z, table):
        return np.linalg.inv(self._numbers - z * np.diag(self._ends) - self._echo(table))

    def _start(self):
        """Far above the spectrum, where averaging does it."""
        z = 2j * self._bound
        table = np.zeros_like(self._numbers, dtype=complex)
        for _ in range(200):
            table = (table + self._mapped(z, table)) / 2
        found = self._newton(z, table)
        if found is None:
            raise ConvergenceError(f"the table of traces was not found at z = {z:.3g}", table)
        return z, found

    def _newton(self, z, table):
        """The solution near a table, None if there is none or if its imaginary part is not positive."""
        upper, pairs = tuple(self._upper), self._pairs
        for _ in range(STEPS):
            mapped = self._mapped(z, table)
            error = (table - mapped)[upper]
            if not np.all(np.isfinite(error)):
                return None
            if np.abs(error).max() <= TOLERANCE * max(1, np.abs(mapped).max()):
                lowest = np.linalg.eigvalsh((mapped.imag + mapped.imag.T) / 2)[0]
                return mapped if lowest >= -1e-7 * np.abs(mapped).max() else None
            kernel = mapped[np.ix_(upper[0], pairs[0])] * mapped[np.ix_(upper[1], pairs[1])]
            change = np.linalg.solve(np.eye(len(error)) - (self._slopes @ kernel.T).T, error)
            table = table.copy()
            table[upper] -= change
            table[upper[::-1]] = table[upper]
        return None

    def _table(self, z: complex) -> np.ndarray:
        """G at z, from the last one found or from far above, in as many stages as Newton's method needs.

        Near the axis there are other solutions: G is followed down in stages, each at most DESCENT times nearer.
        """
        near = abs(z - self._last[0]) < self._reach
        (at, table), stages = self._last if near else self._far, [z]
        while stages[-1].imag < at.imag / DESCENT:
            stages.append(complex(z.real, DESCENT * stages[-1].imag))
        while stages:
            found = self._newton(stages[-1], table)
            if found is not None:
                at, table = stages.pop(), found
            elif len(stages) > HALVINGS:
                raise ConvergenceError(f"the table of traces was not found between z = {at:.6g} and {z:.6g}", table)
            else:
                stages.append((at + stages[-1]) / 2)
        self._last = at, table
        return table

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
        """The mass at zero, to 1e-6 of 1."""
        z = 1e-7j * self._bound
        return float(np.round((-z * self._table(z)[self._a, self._a]).real, 5))

    @cached_property
    def edge(self) -> float:
        """The upper end: above it Im m is proportional to the distance from the real axis, and below it is not."""

        def inside(x):
            high, low = (self._table(x + 1j * h * self._bound)[self._a, self._a].imag for h in (1e-6, 2.5e-7))
            return low > high / 2

        above, below = self._bound, 0.8 * self._bound
        while not inside(below):
            above, below = below, 0.8 * below
            if below < 1e-4 * self._bound:
                raise ConvergenceError("no edge was found")
        while above - below > 1e-6 * above:
            middle = (above + below) / 2
            above, below = (above, middle) if inside(middle) else (middle, below)
        return (above + below) / 2

    @cached_property
    def _distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """Points, ascending from 0 to the edge, closer near both, and the distribution function there."""
        points, heights, coarse, error = POINTS, np.zeros(2), None, np.inf
        while points <= MOST:
            angles = np.linspace(0, np.pi, points + 1)
            x = self.edge * (1 - np.cos(angles)) / 2
            new = slice(1, -1, 1 if coarse is None else 2)
            grown = np.zeros(points + 1)
            grown[:: (points if coarse is None else 2)] = heights
            grown[new] = [self._density(one, HEIGHT * self.edge) for one in x[new]]
            heights = grown
            pieces = heights * np.sin(angles) * self.edge / 2
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


def _unit(size: int, i: int, j: int) -> np.ndarray:
    table = np.zeros((size, size))
    table[i, j] = table[j, i] = 1
    return table

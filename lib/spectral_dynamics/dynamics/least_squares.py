"""Gradient descent on random least squares: the smallest dynamical mean-field theory there is.

With beta = wstar - v the update of `problems.LeastSquares` reads

    v(t+1) = v(t) - eta vhat(t) + eta ridge (wstar - v(t)),   v(0) = wstar,
    Delta(t) = X v(t)/sqrt(D) + noise,   vhat(t) = sqrt(D)/P X^T Delta(t).

For D, P -> infinity at fixed alpha = P/D every sample and every input direction obeys an equation of its own,

    sample      Delta = u + noise + A_x Delta/sqrt(alpha),    cov u = C_v,
    direction   vhat  = r/sqrt(alpha) + B_x v,                cov r = C_Delta,

with the order parameters C_v = <v v>, C_Delta = <Delta Delta>, A_x = <dv/dr>, B_x = <dDelta/du>. Time runs over
t = 0 .. steps. Derived in the chapter "Dynamics and resolvents are one thing"; first losses of this kind in closed
form: Advani, Saxe, Sompolinsky, Neural Networks 132 (2020) 428.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import toeplitz

from .. import arguments, problems
from ..errors import DivergenceError

RUNAWAY = 1e6  # a loss this many times the training loss of the start has left for infinity


@dataclass(frozen=True)
class LeastSquaresTheory:
    """Order parameters of `problem` at t, s = 0 .. steps; all matrices (steps + 1, steps + 1).

    `C_v`, `C_Delta`: correlations of the errors in weight space and on the training samples, per entry.
    `A_x` (strictly lower triangular), `B_x` (unit diagonal): responses, as in the module's equations.
    `overlap` (steps + 1,): <wstar v(t)>.
    """

    problem: problems.LeastSquares
    C_v: np.ndarray
    C_Delta: np.ndarray
    A_x: np.ndarray
    B_x: np.ndarray
    overlap: np.ndarray

    @property
    def test_loss(self) -> np.ndarray:
        """<v v>, the squared error on fresh noiseless data (no factor 1/2), (steps + 1,)."""
        return np.diag(self.C_v).copy()

    @property
    def train_loss(self) -> np.ndarray:
        """<Delta Delta>, the mean squared residual on the training set (no factor 1/2), (steps + 1,)."""
        return np.diag(self.C_Delta).copy()

    @property
    def propagator(self) -> np.ndarray:
        """K(n) = (1/D) tr (1 - eta (X^T X/P + ridge))^n for n = 0 .. steps - 1: what is left of a kick n steps later.

        Read off the response: A_x(t,s) = -eta/sqrt(alpha) K(t - s - 1).
        """
        return -np.sqrt(self.problem.data_ratio) / self.problem.learning_rate * self.A_x[1:, 0]

    def response_transform(self, x) -> np.ndarray:
        """sum_n K(n) x^(-n-1) over the steps at hand, for |x| > 1 (any shape, complex allowed).

        With all steps it is m(z)/eta, where m is the Stieltjes transform of the spectrum of X^T X/P and
        x = 1 - eta (z + ridge). If learning is stable the missing tail is at most |x|^(-steps)/(|x| - 1).
        Raises ValueError where |x| <= 1.
        """
        x = np.asarray(x)
        if not np.all(np.abs(x) > 1):
            raise ValueError(f"x must have modulus above 1, got a smallest modulus of {np.abs(x).min():.6g}")
        return np.polynomial.polynomial.polyval(1 / x, np.append(0.0, self.propagator))


def solve(problem: problems.LeastSquares, steps: int) -> LeastSquaresTheory:
    """March the order parameters through time. Each new row is a vector times known matrices: steps^3 in all.

    Raises ValueError on bad input and DivergenceError, with `.step` and `.partial` (all before that step), when a
    loss is not finite or above `RUNAWAY` times the training loss of the start.
    """
    problem, steps = _door(problem, steps)
    alpha, eta, keep = problem.data_ratio, problem.learning_rate, 1 - problem.learning_rate * problem.ridge
    C_v, C_Delta, A_x, B_x = np.zeros((4, steps + 1, steps + 1))
    overlap = np.ones(steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        noise = np.square(problem.noise_std)
        for t in range(steps + 1):
            past, now = slice(0, t), slice(0, t + 1)
            if t > 0:  # the update, for the responses and for the coefficient of wstar
                A_x[t] = keep * A_x[t - 1] - eta * B_x[t - 1, past] @ A_x[past]
                A_x[t, t - 1] -= eta / np.sqrt(alpha)
                overlap[t] = keep * overlap[t - 1] - eta * B_x[t - 1, past] @ overlap[past] + 1 - keep
            C_v[t, now] = overlap[t] * overlap[now] + (A_x[t, past] @ C_Delta[past, past]) @ A_x[now, past].T
            C_v[now, t] = C_v[t, now]
            B_x[t] = A_x[t, past] @ B_x[past] / np.sqrt(alpha)
            B_x[t, t] = 1
            drive = B_x[t, now] @ C_v[now, now] + noise * B_x[t, now].sum()
            C_Delta[t, now] = drive @ B_x[now, now].T
            C_Delta[now, t] = C_Delta[t, now]
    return _unless_diverged(LeastSquaresTheory(problem, C_v, C_Delta, A_x, B_x, overlap))


def quadrature(problem: problems.LeastSquares, steps: int) -> LeastSquaresTheory:
    """The same order parameters from the eigenvalues of X^T X/P, which follow the Marchenko-Pastur law.

    Along an eigenvector with eigenvalue l the error is v(t) = p_t wstar - q_t n: p and q are polynomials in l, and n,
    of variance noise^2 l/alpha, is what the noise sends there. Averages of polynomials are taken exactly by
    `marchenko_pastur_rule`. Shares nothing with `solve` but the problem; raises the same errors.
    """
    problem, steps = _door(problem, steps)
    alpha, eta, ridge = problem.data_ratio, problem.learning_rate, problem.ridge
    nodes, weights = marchenko_pastur_rule(alpha, steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        noise = np.square(problem.noise_std)
        elapsed = np.arange(steps + 1)[:, None]
        kept = (1 - eta * (nodes + ridge)) ** elapsed  # (steps + 1, nodes): what is left of a kick
        q = eta * np.vstack([np.zeros_like(nodes), np.cumsum(kept[:-1], axis=0)])
        p = 1 - nodes * q
        spread = noise / alpha * nodes * weights
        C_v = (p * weights) @ p.T + (q * spread) @ q.T
        C_Delta = (p * weights * nodes) @ p.T + (q * nodes * spread) @ q.T
        C_Delta += noise - np.add.outer(q @ spread, q @ spread)
        A_x = _strictly_lower(-eta / np.sqrt(alpha) * (kept @ weights))
        B_x = np.eye(steps + 1) + _strictly_lower(-eta / alpha * (kept @ (nodes * weights)))
    return _unless_diverged(LeastSquaresTheory(problem, C_v, C_Delta, A_x, B_x, p @ weights))


def marchenko_pastur_rule(data_ratio: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (size + 1,), exact for polynomials up to degree 2 size over the spectrum of X^T X/P.

    With l = 1 + 1/alpha + 2 cos(theta)/sqrt(alpha) the Marchenko-Pastur law is 2/pi sin(theta)^2 dtheta / l, and
    an atom 1 - alpha at 0 when alpha < 1. Since <f> = f(0) + <l (f(l) - f(0))/l>, a Gauss rule for the semicircle
    weight sin^2 (Chebyshev, second kind) becomes one for <f> by adding a node at 0 that makes the mass one.
    """
    alpha = arguments.number("data_ratio", data_ratio, above=0)
    size = arguments.whole("size", size, at_least=1)
    theta = np.pi * np.arange(1, size + 1) / (size + 1)
    # the lower edge plus something positive: no cancellation
    nodes = (1 - 1 / np.sqrt(alpha)) ** 2 + 4 * np.cos(theta / 2) ** 2 / np.sqrt(alpha)
    weights = 2 / (size + 1) * np.sin(theta) ** 2 / nodes
    return np.append(nodes, 0.0), np.append(weights, 1 - weights.sum())


def _door(problem, steps) -> tuple[problems.LeastSquares, int]:
    if not isinstance(problem, problems.LeastSquares):
        raise ValueError(f"problem must be a problems.LeastSquares, got {type(problem).__name__}")
    return problem, arguments.whole("steps", steps)


def _strictly_lower(kernel: np.ndarray) -> np.ndarray:
    """The matrix with entries kernel(t - s - 1) for s < t, else 0."""
    return toeplitz(np.append(0.0, kernel[:-1]), np.zeros(kernel.size))


def _unless_diverged(theory: LeastSquaresTheory) -> LeastSquaresTheory:
    """The theory, or DivergenceError at the first bad step. By causality all before that step stands."""
    limit = RUNAWAY * theory.C_Delta[0, 0]
    fine = (theory.test_loss <= limit) & (theory.train_loss <= limit) & np.isfinite(limit)
    if np.all(fine):
        return theory
    step = int(np.argmin(fine))
    matrices = (m[:step, :step] for m in (theory.C_v, theory.C_Delta, theory.A_x, theory.B_x))
    partial = LeastSquaresTheory(theory.problem, *matrices, theory.overlap[:step])
    raise DivergenceError(
        f"training diverged at step {step}: a loss exceeds {RUNAWAY:.0e} times the training loss of the start; "
        "lower learning_rate or ridge",
        step,
        partial,
    )

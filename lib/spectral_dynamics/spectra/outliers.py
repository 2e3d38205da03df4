"""Outliers of a matrix whose spikes were made by the matrix itself.

    Wbar = decay [ Wbar(0) + (1/sqrt(M N)) sum_{s,s'} c[s,s'] g(s) h(s')^T ] ,
    Wbar(0): M x N, entries of variance s2/N, nu = M/N .

An isolated singular value z has a left vector a in R^M and a right vector b in R^N, `z a = Wbar b`, `z b = Wbar^T a`.
Its overlaps with the record, `m = <h b>` and `n = <g a>`, obey a closed linear system with two response vectors P, Q:

    m = G_b (s2 sqrt(nu) A n + C_h P)        P = sqrt(nu) c^T n + s2 nu G_a B^T Q
    n = G_a (s2 B m + C_g Q)                 Q = (c m + s2 G_b A^T P) / sqrt(nu)
    z G_a = 1 + s2 G_a G_b ,                 z G_b = 1 + s2 nu G_a G_b .

In a suitable gauge only `lambda = 1/sqrt(G_a G_b)` appears, as an eigenvalue: nothing is searched for. Two forms
of the theory end in the same result type: `outliers` takes the order parameters of an ensemble (the response form),
`from_recording` the recorded vectors of one matrix (the Gram form). Averages < > are over entries of a vector.
The programme is that of Lauditi, Pehlevan and Bordelon (2026); the derivation is in the chapter on spikes that
remember the bulk.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from .. import arguments
from ..dynamics.order import OrderParameters
from ..errors import ConvergenceError
from . import gram

DENSE = 600  # eigenproblems up to that size are solved whole


@dataclass(frozen=True)
class Outliers:
    """The isolated singular values above the bulk, and where their singular vectors point.

    singular_values   (k,) descending, only those above `bulk_edge`
    right_overlaps    (k, K_h) <h(s) b> with <b b> = 1;  left_overlaps (k, K_g) <g(s) a> with <a a> = 1
    right_alignment   (k, K_h) cosines of b with h(s);  left_alignment (k, K_g) cosines of a with g(s).
                      The largest right one is positive, the first of the largest where several are equal to 1e-6.
                      A recorded vector that is zero, or below the cut-off, has alignment 0.
    bulk_edge         upper edge of the bulk
    residual          (k,) self-check: |N<bb> - M<aa>| relative to their sum; both vectors must have the same length
    rejected          eigenvalues lambda^2 outside the bulk that no real matrix can have, largest first: empty for
                      consistent order parameters; sampling noise, or a mistake, puts some there
    standard_error    (k,) of the singular values, from sampled order parameters; 0 where nothing was sampled
    neglected         part of the learned change that the recorded directions do not span, relative, in the Frobenius
                      norm (0 in the response form)

    For a repeated singular value the vectors are one choice within its space.
    """

    singular_values: np.ndarray
    left_overlaps: np.ndarray
    right_overlaps: np.ndarray
    left_alignment: np.ndarray
    right_alignment: np.ndarray
    bulk_edge: float
    residual: np.ndarray
    rejected: np.ndarray = field(default_factory=lambda: np.zeros(0, complex))
    neglected: float = 0.0
    standard_error: np.ndarray = field(default_factory=lambda: np.zeros(0))


def bulk_edge(weight_variance: float, width_ratio: float = 1.0) -> float:
    """Upper edge of the singular values of Wbar(0), `sigma (1 + sqrt(nu))`.

    Entries of variance s2/N, shape (nu N, N). Raises ValueError for a negative variance or a ratio not above 0.
    """
    s2 = arguments.number("weight_variance", weight_variance, above=0)
    nu = arguments.number("width_ratio", width_ratio, above=0)
    return float(np.sqrt(s2) * (1 + np.sqrt(nu)))


def resolvent(z, weight_variance: float, width_ratio: float = 1.0):
    """The bulk's resolvent transforms (G_a, G_b) at singular values `z` above the bulk.

    `G_a = z <(z^2 - W W^T)^{-1}>` over the M rows, `G_b = z <(z^2 - W^T W)^{-1}>` over the N columns:

        z G_a = 1 + s2 G_a G_b ,   z G_b = 1 + s2 nu G_a G_b .

    `z`: number or array. Raises ValueError for z at or inside the bulk, naming it.
    """
    edge = bulk_edge(weight_variance, width_ratio)
    z = arguments.array("z", z)
    if np.any(z <= edge):
        raise ValueError(f"z must lie above the bulk edge {edge:.6g}, got {np.min(z):.6g}")
    x = gram.product(z, weight_variance, weight_variance * width_ratio)
    return (1 + weight_variance * x) / z, (1 + weight_variance * width_ratio * x) / z


def location(strength, weight_variance: float = 1.0, width_ratio: float = 1.0):
    """The singular value z that belongs to `lambda = strength`: `z^2 = (lambda^2 + s2)(lambda^2 + s2 nu)/lambda^2`.

    For a square matrix this is `z = lambda + s2/lambda`; for spikes independent of the bulk lambda is the strength
    of the spike. Raises ValueError when lambda is not above the threshold `sigma nu^{1/4}`: nothing leaves the bulk.
    """
    s2 = arguments.number("weight_variance", weight_variance, above=0)
    nu = arguments.number("width_ratio", width_ratio, above=0)
    square = arguments.array("strength", strength) ** 2
    threshold = s2 * np.sqrt(nu)
    if np.any(square <= threshold):
        raise ValueError(
            f"strength must exceed the threshold {np.sqrt(threshold):.6g}, got {np.sqrt(np.min(square)):.6g}"
        )
    return _value(square, s2, nu)


def _value(square, s2, nu):
    return np.sqrt((square + s2) * (square + s2 * nu) / square)


# ---------------------------------------------------------------- the response form


def outliers(order: OrderParameters, *, cutoff: float | None = None, tolerance: float = 1e-6) -> Outliers:
    """The outliers predicted from order parameters: two-level DMFT, response form.

    `order`: correlations, responses and spike weights over a record of K vectors (see OrderParameters).
    `cutoff`: of C_h and C_g the eigenvectors above this fraction of the largest eigenvalue are kept, those less than
    a quarter above it in part (see `dynamics.order.share`); by default `order.cutoff`. 1e-8 to 1e-10 for exact order
    parameters, 1e-3 to 1e-4 for sampled ones. `tolerance`: an eigenvalue counts as real when its imaginary part is
    below this fraction of its modulus. `order.independent()` gives the classical result. Of `order.replicas` the
    means, of values in order and of the alignments of each, with standard errors; where values lie closer than their
    scatter, look at one replica at a time. Raises ValueError for anything but OrderParameters, or a cut-off outside
    (0, 1), and ConvergenceError when the iteration for the outer eigenvalues of a large record fails.
    """
    if not isinstance(order, OrderParameters):
        raise ValueError(f"order must be OrderParameters, got {type(order).__name__}")
    cutoff = order.cutoff if cutoff is None else arguments.fraction("cutoff", cutoff)
    tolerance = arguments.fraction("tolerance", tolerance)
    if len(order.replicas) > 1:
        return _averaged([outliers(one, cutoff=cutoff, tolerance=tolerance) for one in order.replicas])
    h, g = leading(order.C_h, cutoff), leading(order.C_g, cutoff)
    reduced = _reduce(order, h, g)
    odd, even = transfer(*reduced, order.weight_variance, order.width_ratio)
    squares, vectors = _outer(odd, even, order.weight_variance * np.sqrt(order.width_ratio))
    kept, rejected = _above_the_bulk(squares, order.weight_variance, order.width_ratio, tolerance)
    modes = [_mode(squares[j].real, vectors[:, j], odd, reduced, order) for j in kept]
    physical = [mode for mode in modes if mode is not None]
    unphysical = [squares[j] for j, mode in zip(kept, modes, strict=True) if mode is None]
    features = np.eye(len(order.C_h)) if order.features is None else order.features
    gradients = np.eye(len(order.C_g)) if order.gradients is None else order.gradients
    return _result(
        order.decay * np.array([mode[0] for mode in physical]),
        _rows([gradients @ (g[0] @ mode[1]) for mode in physical], len(gradients)),
        _rows([features @ (h[0] @ mode[2]) for mode in physical], len(features)),
        _squares(gradients, order.C_g),
        _squares(features, order.C_h),
        cutoff,
        bulk_edge=order.decay * bulk_edge(order.weight_variance, order.width_ratio),
        residual=np.array([mode[3] for mode in physical]),
        rejected=-np.sort(-np.concatenate([rejected, unphysical])),
        standard_error=np.zeros(len(physical)),
    )


def _squares(vectors, C) -> np.ndarray:
    """v C v of each row v; in an orthonormal basis there is no need of C."""
    return np.einsum("ij,ij->i", vectors if np.array_equal(C, np.eye(len(C))) else vectors @ C, vectors)


def _outer(odd, even, threshold: float):
    """Eigenvalues of even @ odd and their vectors: all of them, or of a large matrix those beyond the threshold."""
    size = len(odd)
    if size <= DENSE:
        return scipy.linalg.eig(even @ odd)
    start, number = np.random.default_rng(0).standard_normal(size), 24
    product = LinearOperator((size, size), lambda vector: even @ (odd @ vector), dtype=float)
    while True:
        try:
            squares, vectors = eigs(product, k=number, v0=start)
        except ArpackNoConvergence as error:
            raise ConvergenceError("Arnoldi did not reach the outer eigenvalues", error.eigenvalues) from error
        if np.abs(squares).min() < threshold:
            return squares, vectors
        number *= 2
        if number > size // 4:
            return scipy.linalg.eig(even @ odd)


def _averaged(found: list[Outliers]) -> Outliers:
    """Means over replicas, whose bases are their own: values in order, vectors by their alignments.

    A value counts that more than half of the replicas have; where one lacks it, it stands at the edge.
    """
    count = int(np.median([len(one.singular_values) for one in found]))
    edge, runs = found[0].bulk_edge, len(found)

    def table(name: str, missing: float):
        rows = [getattr(one, name)[:count] for one in found]
        filled = [np.concatenate([row, np.full((count - len(row), *row.shape[1:]), missing)]) for row in rows]
        return np.array(filled)

    z = table("singular_values", edge)
    sides = [table(name, 0.0) for name in ("left_overlaps", "right_overlaps", "left_alignment", "right_alignment")]
    sign = np.sign(np.einsum("rks,ks->rk", sides[3], sides[3][0]))[..., None]
    left, right, left_cosines, right_cosines = (np.mean(sign * side, axis=0) for side in sides)
    return Outliers(
        z.mean(axis=0),
        left,
        right,
        left_cosines,
        right_cosines,
        edge,
        table("residual", 0.0).mean(axis=0),
        np.concatenate([one.rejected for one in found]),
        standard_error=z.std(axis=0, ddof=1) / np.sqrt(runs),
    )


def transfer(C_h, C_g, A, B, c, weight_variance: float = 1.0, width_ratio: float = 1.0):
    """The two halves of the eigenproblem, `(n, p) = w odd (m, q)` and `(m, q) = w even (n, p)`, with w = 1/lambda.

    Here `m`, `q` are in the gauge `m -> (G_a/w) m`, `q = (G_a/w) Q`, and `p = P/sqrt(nu)`, in which

        m = w sqrt(nu) (s2 A n + C_h p)    p = c^T n + s2 sqrt(nu) w B^T q
        n = w (s2 B m + C_g q)             q = c m/sqrt(nu) + s2 w A^T p .

    The eigenvalues of `even @ odd` are lambda^2. Shapes: C_h (K_h, K_h), C_g (K_g, K_g), A (K_h, K_g), B (K_g, K_h),
    c (K_g, K_h).
    """
    s2, root = weight_variance, np.sqrt(width_ratio)
    odd = np.block([[s2 * B, C_g], [s2 * c.T @ B, c.T @ C_g + s2 * root * B.T]])
    even = np.block([[s2 * root * A, root * C_h], [s2 * c @ A, c @ C_h + s2 * A.T]])
    return odd, even


def spiked(strengths, weight_variance: float = 1.0, width_ratio: float = 1.0) -> Outliers:
    """Outliers of `Wbar(0) + sum_k theta_k a_k b_k^T` with orthonormal a_k and b_k independent of Wbar(0).

    The classical result (Baik, Ben Arous and Peche; Benaych-Georges and Nadakuditi), as the case A = B = 0.
    `strengths`: the theta_k, positive. Spikes at or below `sigma nu^{1/4}` leave no outlier. Alignments are with
    every a_k and b_k.
    """
    theta = arguments.array("strengths", strengths, ndim=1)
    if np.any(theta <= 0):
        raise ValueError(f"strengths must be positive, got {np.min(theta):.6g}")
    one, zero = np.eye(theta.size), np.zeros((theta.size, theta.size))
    return outliers(OrderParameters(one, one, zero, zero, np.diag(theta), weight_variance, width_ratio))


def leading(correlation, cutoff):
    """Eigenvectors above the cut-off as (basis, back), h = basis htilde and htilde = back h, in units of the largest.

    What is kept in part is multiplied by its share on the way there and back: at 0 it is left out of every product.
    """
    if np.array_equal(correlation, np.eye(len(correlation))):  # a basis that is orthonormal already
        return correlation, correlation
    values, vectors = scipy.linalg.eigh(correlation)
    share = gram.kept(values, cutoff)
    basis, scale = vectors[:, share > 0] * share[share > 0], np.sqrt(max(values[-1], np.finfo(float).tiny))
    return basis * scale, basis.T / scale


def _reduce(order, h, g):
    """The order parameters of htilde, gtilde, with h = basis_h htilde and g = basis_g gtilde."""
    (basis_h, back_h), (basis_g, back_g) = h, g
    if basis_h is back_h and basis_g is back_g:  # orthonormal already
        return order.C_h, order.C_g, order.A, order.B, order.c
    C_h, C_g = back_h @ order.C_h @ back_h.T, back_g @ order.C_g @ back_g.T
    return C_h, C_g, back_h @ order.A @ basis_g, back_g @ order.B @ basis_h, basis_g.T @ order.c @ basis_h


def _above_the_bulk(squares, s2, nu, tolerance):
    """Indices of the real lambda^2 > s2 sqrt(nu), largest first, and the impossible values outside the bulk."""
    outside = np.abs(squares) > s2 * np.sqrt(nu) * (1 + 1e-12)
    real = np.abs(squares.imag) <= tolerance * np.abs(squares)
    kept = np.flatnonzero(outside & real & (squares.real > 0))
    # Negative lambda^2 between s2 and s2 nu are singular values in the gap below a rectangular bulk: real, not ours.
    gap = real & (squares.real < 0) & (-squares.real <= s2 * max(1, nu))
    rejected = squares[outside & ~gap & ~(real & (squares.real > 0))]
    return kept[np.argsort(-squares[kept].real)], rejected


def _mode(square, vector, odd, reduced, order):
    """z, <g a> at <aa> = 1, <h b> at <bb> = 1 and the residual of N<bb> = M<aa>; None when a length is negative."""
    C_h, C_g, A, B, _ = reduced
    s2, nu = order.weight_variance, order.width_ratio
    z = float(_value(square, s2, nu))
    G_a, G_b = (1 + s2 / square) / z, (1 + s2 * nu / square) / z
    gauge = G_a * np.sqrt(square)
    even_part = (vector * np.exp(-0.5j * np.angle(vector @ vector))).real  # real but for a phase
    odd_part = odd @ even_part / np.sqrt(square)
    (m, Q), (n, P) = np.split(even_part, [len(C_h)]), np.split(odd_part, [len(C_g)])
    m, Q, P = m / gauge, Q / gauge, P * np.sqrt(nu)
    source_a = 2 * s2 * Q @ B @ m + Q @ C_g @ Q
    source_b = 2 * s2 * np.sqrt(nu) * P @ A @ n + P @ C_h @ P
    coupling = np.array([[1, -s2 * G_a**2], [-s2 * nu * G_b**2, 1]])
    aa, bb = np.linalg.solve(coupling, [G_a**2 * source_a, G_b**2 * source_b])
    if not (aa > 0 and bb > 0):
        return None
    return z, n / np.sqrt(aa), m / np.sqrt(bb), abs(bb - nu * aa) / (bb + nu * aa)


# ---------------------------------------------------------------- whole trajectories


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The outliers of one weight matrix at each of `steps` (S,): the fields of `Outliers`, as arrays.

    is_outlier        (S, k) whether there is a j-th largest; k is the largest `count` at any of the steps
    singular_values   (S, k) descending; `bulk_edge` where nothing stands out
    standard_error    (S, k) of the singular values; 0 where nothing was sampled, or nothing stands out
    bulk_edge         (S,) upper edge of the bulk
    right_alignment   (S, k, K_h) cosines with the recorded features, left_alignment (S, k, K_g) with the gradients,
                      signs as in `Outliers`. The record grows with the steps and keeps its order, so that the last
                      index is that of the longest one; 0 for what is not yet recorded, or where nothing stands out.

    A column is a place in the order of values: where two outliers cross, their vectors change columns.
    """

    steps: np.ndarray
    is_outlier: np.ndarray
    singular_values: np.ndarray
    standard_error: np.ndarray
    bulk_edge: np.ndarray
    left_alignment: np.ndarray
    right_alignment: np.ndarray

    @property
    def count(self) -> np.ndarray:
        """(S,) how many singular values stand outside the bulk."""
        return self.is_outlier.sum(axis=1)


def trajectory(theory, layer: int, steps=None) -> Trajectory:
    """`outliers` of Wbar^layer at `steps`, a sequence of whole numbers; None: at every step of the theory, from 0 on.

    `theory`: what has `order(layer, step)`, as solutions of `dynamics.deep_linear` and `dynamics.mlp` have. At step 0
    nothing is learned, and nothing stands out. Raises ValueError on bad input, and as `theory.order` does.
    """
    if not callable(getattr(theory, "order", None)):
        raise ValueError(f"theory must have order(layer, step), got {type(theory).__name__}")
    layer, steps = arguments.whole("layer", layer), _asked(theory, steps)
    found = [_at(theory, layer, step) for step in steps]
    count = np.array([len(one.singular_values) for one in found])
    is_outlier = np.arange(count.max()) < count[:, None]
    bulk_edge = np.array([one.bulk_edge for one in found])

    def table(name: str):
        rows = [getattr(one, name) for one in found]
        result = np.zeros((len(rows), *np.max([row.shape for row in rows], axis=0)))
        for row, place in zip(rows, result, strict=True):
            place[tuple(map(slice, row.shape))] = row
        return result

    values = np.where(is_outlier, table("singular_values"), bulk_edge[:, None])
    tables = table("standard_error"), bulk_edge, table("left_alignment"), table("right_alignment")
    return Trajectory(np.array(steps), is_outlier, values, *tables)


def _asked(theory, steps) -> list[int]:
    """The steps, checked."""
    last = getattr(theory, "steps", None)
    if steps is None and last is None:
        raise ValueError("steps must be given for a theory that has none of its own, got None")
    if not np.iterable(steps := range(last + 1) if steps is None else steps):
        raise ValueError(f"steps must be a sequence of whole numbers, got {steps!r}")
    steps = [arguments.whole("steps", step) for step in steps]
    if not steps:
        raise ValueError("steps is empty, at least one step is needed")
    if last is not None and max(steps) > last:
        raise ValueError(f"steps must be 0 to {last}, got {max(steps)}")
    return steps


def _at(theory, layer: int, step: int) -> Outliers:
    """The outliers at a step. At step 0 there are none, and a theory may have no record: then the next one's edge."""
    if step:
        return outliers(theory.order(layer, step))
    try:
        order = theory.order(layer, 0)
    except ValueError:
        order = theory.order(layer, 1)
    nothing = np.zeros((0, 0))
    edge = bulk_edge(order.weight_variance, order.width_ratio)
    return Outliers(np.zeros(0), nothing, nothing, nothing, nothing, edge, np.zeros(0))


# ---------------------------------------------------------------- the Gram form


def from_recording(
    recording, *, weight_variance: float | None = None, independent: bool = False, cutoff: float = 1e-6
) -> Outliers:
    """The outliers of one trained matrix, from recorded directions and their products with its initial value.

    `recording` has `initial`, `final` (Wbar at the start and at the step, (M, N)), `features` (N, K_h) and
    `gradients` (M, K_g); the equation stands in `gram`. The learned change outside the span of the directions is
    neglected (its size: `.neglected`).

    `weight_variance`: s2; by default the attribute of that name of the recording, else N times the mean square entry
    of `initial`. A recording may also have `decay`, the factor left of Wbar(0) (default 1). `independent`: treat the
    spikes as if they knew nothing of Wbar(0) (classical result, for comparison). `cutoff`: directions below this
    fraction of the largest singular value of the recorded columns are dropped, so are zero columns; those less than
    a quarter above it count in part.
    Returns `Outliers`, alignments with the recorded columns. Raises ValueError for missing, misshapen, non-finite
    or empty records, for records that are zero, and for directions that leave no block untouched.
    """
    start, final, features, gradients = gram.recorded(recording)
    decay, s2 = gram.left_of_the_start(recording, start, weight_variance)
    cutoff, start = arguments.fraction("cutoff", cutoff), decay * start
    phi = gram.orthonormal("recording.features", features, cutoff)
    gam = gram.orthonormal("recording.gradients", gradients, cutoff)
    edge = bulk_edge(s2, start.shape[0] / start.shape[1])
    blocks = gram.independent_blocks if independent else gram.blocks
    modes = gram.roots(*blocks(start, final, gam, phi, s2), edge)
    return _result(
        np.array([mode[0] for mode in modes]),
        _overlaps(gradients, gam[0], [mode[1] for mode in modes]),
        _overlaps(features, phi[0], [mode[2] for mode in modes]),
        np.mean(gradients**2, axis=0),
        np.mean(features**2, axis=0),
        cutoff**2,
        bulk_edge=edge,
        residual=np.array([mode[3] for mode in modes]),
        standard_error=np.zeros(len(modes)),
        neglected=gram.neglected(final - start, gam, phi),
    )


def _overlaps(columns, basis, vectors):
    """< column vector > of vectors given along a basis."""
    return _rows([columns.T @ (basis @ vector) / np.sqrt(len(columns)) for vector in vectors], columns.shape[1])


# ---------------------------------------------------------------- shared


def _rows(rows, width):
    return np.array(rows).reshape(len(rows), width)


def _cosines(overlaps, squares, cutoff):
    """Overlaps over lengths; 0 where the recorded vector is zero (or below the cut-off that dropped it)."""
    share = gram.kept(squares, cutoff)
    return share * overlaps / np.sqrt(np.where(share > 0, squares, 1.0))


def _result(z, left, right, squares_g, squares_h, cutoff, **fields):
    """Signs fixed (the first of the largest right alignments is positive), cosines formed."""
    cosines = _cosines(right, squares_h, cutoff)
    sizes = np.abs(cosines)
    largest = np.argmax(sizes >= (1 - 1e-6) * sizes.max(axis=1, keepdims=True), axis=1)
    sign = np.where(np.take_along_axis(cosines, largest[:, None], axis=1) < 0, -1.0, 1.0)
    left, right = sign * left, sign * right
    return Outliers(z, left, right, _cosines(left, squares_g, cutoff), sign * cosines, **fields)

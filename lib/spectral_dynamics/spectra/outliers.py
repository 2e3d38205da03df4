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

from .. import arguments
from ..dynamics.order import OrderParameters, share
from ..errors import ConvergenceError


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
    x = _product(z, weight_variance, weight_variance * width_ratio)
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
    below this fraction of its modulus. `order.independent()`
    gives the classical result. Standard errors are those of the jackknife over `order.replicas`.
    Raises ValueError for anything but OrderParameters, or a cut-off outside (0, 1).
    """
    if not isinstance(order, OrderParameters):
        raise ValueError(f"order must be OrderParameters, got {type(order).__name__}")
    cutoff = order.cutoff if cutoff is None else arguments.fraction("cutoff", cutoff)
    tolerance = arguments.fraction("tolerance", tolerance)
    h, g = leading(order.C_h, cutoff), leading(order.C_g, cutoff)
    reduced = _reduce(order, h, g)
    odd, even = transfer(*reduced, order.weight_variance, order.width_ratio)
    squares, vectors = scipy.linalg.eig(even @ odd)
    kept, rejected = _above_the_bulk(squares, order.weight_variance, order.width_ratio, tolerance)
    modes = [_mode(squares[j].real, vectors[:, j], odd, reduced, order) for j in kept]
    physical = [mode for mode in modes if mode is not None]
    unphysical = [squares[j] for j, mode in zip(kept, modes, strict=True) if mode is None]
    z = np.array([mode[0] for mode in physical])
    return _result(
        order.decay * z,
        _rows([g[0] @ mode[1] for mode in physical], order.C_g.shape[0]),
        _rows([h[0] @ mode[2] for mode in physical], order.C_h.shape[0]),
        np.diag(order.C_g),
        np.diag(order.C_h),
        cutoff,
        bulk_edge=order.decay * bulk_edge(order.weight_variance, order.width_ratio),
        residual=np.array([mode[3] for mode in physical]),
        rejected=-np.sort(-np.concatenate([rejected, unphysical])),
        standard_error=order.decay * _jackknife(order, h, g, z, tolerance),
    )


def _jackknife(order, h, g, z, tolerance):
    """The standard error of each z from leaving out one replica at a time; an outlier that is lost is at the edge."""
    replicas = order.replicas
    if len(replicas) < 2 or not len(z):
        return np.zeros(len(z))
    reduced = [_reduce(one, h, g) for one in replicas]
    edge, found = bulk_edge(order.weight_variance, order.width_ratio), []
    for left_out in range(len(replicas)):
        others = [one for j, one in enumerate(reduced) if j != left_out]
        means = [np.mean(matrices, axis=0) for matrices in zip(*others, strict=True)]
        odd, even = transfer(*means, order.weight_variance, order.width_ratio)
        squares = scipy.linalg.eigvals(even @ odd)
        kept, _ = _above_the_bulk(squares, order.weight_variance, order.width_ratio, tolerance)
        values = _value(squares[kept].real, order.weight_variance, order.width_ratio)
        found.append(np.concatenate([values, np.full(len(z), edge)])[: len(z)])
    return np.sqrt(len(replicas) - 1) * np.std(found, axis=0)


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
    values, vectors = scipy.linalg.eigh(correlation)
    share = _kept(values, cutoff)
    basis, scale = vectors[:, share > 0] * share[share > 0], np.sqrt(max(values[-1], np.finfo(float).tiny))
    return basis * scale, basis.T / scale


def _reduce(order, h, g):
    """The order parameters of htilde, gtilde, with h = basis_h htilde and g = basis_g gtilde."""
    (basis_h, back_h), (basis_g, back_g) = h, g
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


# ---------------------------------------------------------------- the Gram form


def from_recording(
    recording, *, weight_variance: float | None = None, independent: bool = False, cutoff: float = 1e-6
):
    """The outliers of one trained matrix, from recorded directions and their products with its initial value.

    `recording` has `initial`, `final` (Wbar at the start and at the step, (M, N)), `features` (N, K_h) and
    `gradients` (M, K_g). With orthonormal bases Phi, Gam of the recorded columns, the known edges
    `E = Wbar(0)^T Gam` outside Phi, `F = Wbar(0) Phi` outside Gam and the corner `K = Gam^T Wbar(t) Phi`, what is
    left of Wbar(0) is an untouched i.i.d. block of (M - k_g) x (N - k_h), and z is an outlier when

        [ z - G_b E^T E ,    -K          ]
        [ -K^T          ,  z - G_a F^T F ]   is singular.

    Its number of negative eigenvalues at z is the number of outliers above z, so that each one is bracketed and none
    is missed. The learned change outside the span of the directions is neglected (its size: `.neglected`).

    `weight_variance`: s2; by default the attribute of that name of the recording, else N times the mean square entry
    of `initial`. A recording may also have `decay`, the factor left of Wbar(0) (default 1). `independent`: treat the
    spikes as if they knew nothing of Wbar(0) (classical result, for comparison). `cutoff`: directions below this
    fraction of the largest singular value of the recorded columns are dropped, so are zero columns; those less than
    a quarter above it count in part.
    Returns `Outliers`, alignments with the recorded columns. Raises ValueError for missing, misshapen, non-finite
    or empty records, for records that are zero, and for directions that leave no block untouched.
    """
    start, final, features, gradients = _recorded(recording)
    rows, columns = start.shape
    if weight_variance is None:
        weight_variance = getattr(recording, "weight_variance", None)
    if weight_variance is None:
        weight_variance = columns * np.mean(start**2)
    decay = arguments.number("recording.decay", getattr(recording, "decay", 1.0), above=0)
    s2 = decay**2 * arguments.number("weight_variance", weight_variance, above=0)
    start = decay * start
    cutoff = arguments.fraction("cutoff", cutoff)
    phi = _orthonormal("recording.features", features, cutoff)
    gam = _orthonormal("recording.gradients", gradients, cutoff)
    blocks = _independent_blocks if independent else _blocks
    EE, FF, corner, s_a, s_b = blocks(start, final, gam, phi, s2)
    edge = bulk_edge(s2, rows / columns)
    modes = _roots(EE, FF, corner, s_a, s_b, edge)
    change = final - start
    (gam, kept_g), (phi, kept_h) = gam, phi
    outside = np.linalg.norm(change - gam @ (np.outer(kept_g, kept_h) ** 2 * (gam.T @ change @ phi)) @ phi.T)
    return _result(
        np.array([mode[0] for mode in modes]),
        _rows([gradients.T @ (gam @ mode[1]) / np.sqrt(rows) for mode in modes], gradients.shape[1]),
        _rows([features.T @ (phi @ mode[2]) / np.sqrt(columns) for mode in modes], features.shape[1]),
        np.mean(gradients**2, axis=0),
        np.mean(features**2, axis=0),
        cutoff**2,
        bulk_edge=edge,
        residual=np.array([mode[3] for mode in modes]),
        standard_error=np.zeros(len(modes)),
        neglected=float(outside / max(np.linalg.norm(change), np.finfo(float).tiny)),
    )


def _recorded(recording):
    """The four arrays of a recording, checked."""
    missing = [name for name in ("initial", "final", "features", "gradients") if not hasattr(recording, name)]
    if missing:
        raise ValueError(f"recording must have initial, final, features and gradients, got no {', '.join(missing)}")
    initial = arguments.array("recording.initial", recording.initial, ndim=2)
    final = arguments.array("recording.final", recording.final, shape=initial.shape)
    features = arguments.array("recording.features", recording.features, shape=(initial.shape[1], None))
    gradients = arguments.array("recording.gradients", recording.gradients, shape=(initial.shape[0], None))
    return initial, final, features, gradients


def _orthonormal(name, columns, cutoff):
    """An orthonormal basis of the columns, directions below the cut-off left out, and the share kept of each."""
    basis, sizes, _ = scipy.linalg.svd(columns, full_matrices=False)
    if sizes[0] == 0:
        raise ValueError(f"{name} is zero, at least one column must not be")
    share = _kept(sizes, cutoff)
    basis, share = basis[:, share > 0], share[share > 0]
    if basis.shape[1] >= basis.shape[0]:
        raise ValueError(
            f"{name} spans all {basis.shape[0]} directions, fewer are needed to leave a block untouched "
            "(of a long record, take the leading directions of the learned change)"
        )
    return basis, share


def _blocks(start, final, gam, phi, s2):
    """E^T E, F^T F, the corner, and the constants of the untouched block: z G_a = 1 + s_a x, z G_b = 1 + s_b x.

    A direction kept in part has that share in every product, down to 0, where it is one of the untouched.
    """
    (gam, kept_g), (phi, kept_h) = gam, phi
    (rows, columns), k_g, k_h = start.shape, kept_g @ kept_g, kept_h @ kept_h
    products_g, products_h = start.T @ gam * kept_g, start @ phi * kept_h
    both_g, both_h = products_g.T @ phi * kept_h, gam.T @ products_h * kept_g[:, None]
    EE = products_g.T @ products_g - both_g @ both_g.T
    FF = products_h.T @ products_h - both_h.T @ both_h
    corner = np.outer(kept_g, kept_h) * (gam.T @ final @ phi)
    return EE, FF, corner, s2 * (columns - k_h) / columns, s2 * (rows - k_g) / columns


def _independent_blocks(start, final, gam, phi, s2):
    """The same for directions independent of Wbar(0): every product with it takes its mean-field value."""
    (gam, kept_g), (phi, kept_h) = gam, phi
    nu = start.shape[0] / start.shape[1]
    corner = np.outer(kept_g, kept_h) * (gam.T @ (final - start) @ phi)
    return s2 * np.eye(len(corner)), s2 * nu * np.eye(len(corner.T)), corner, s2, s2 * nu


def _product(z, s_a, s_b):
    """x = G_a G_b: the small root of `z^2 x = (1 + s_a x)(1 + s_b x)`, in the form that loses no digits."""
    half = z**2 - s_a - s_b
    return 2 / (half + np.sqrt(np.maximum(half**2 - 4 * s_a * s_b, 0)))


def _determinant_matrix(z, EE, FF, corner, s_a, s_b):
    x = _product(z, s_a, s_b)
    G_a, G_b = (1 + s_a * x) / z, (1 + s_b * x) / z
    return np.block([[z * np.eye(len(EE)) - G_b * EE, -corner], [-corner.T, z * np.eye(len(FF)) - G_a * FF]])


def _roots(EE, FF, corner, s_a, s_b, edge):
    """Every z above the edge where the matrix is singular, descending, each with its null vector.

    All eigenvalues increase with z: those negative at the edge cross zero once each, the lowest one last.
    """
    known = (EE, FF, corner, s_a, s_b)

    def spectrum(z):
        return scipy.linalg.eigvalsh(_determinant_matrix(z, *known))

    start, top, roots = edge * (1 + 1e-9), 2 * edge, []
    count = np.sum(spectrum(start) < 0)
    while count and spectrum(top)[0] <= 0:
        top *= 2
    for j in range(count):
        roots.append(_root(j, start, top, known))
        top = roots[-1][0]
    return roots


def _root(j, low, high, known):
    """Where eigenvalue j vanishes: Newton's method, kept inside the bracket. The slope is |a|^2 + |b|^2."""
    z, rounding = high, 1e-13 * (high + np.linalg.norm(known[2]))
    for _ in range(200):
        value, alpha, beta, aa, bb = _eigenpair(z, j, *known)
        low, high = (low, z) if value > 0 else (z, high)
        move = value / (aa + bb)
        if abs(move) <= rounding:
            return z, alpha / np.sqrt(aa), beta / np.sqrt(bb), abs(aa - bb) / (aa + bb)
        z = z - move if low < z - move < high else (low + high) / 2
    raise ConvergenceError(f"outlier {j} not found to rounding between {low:.6g} and {high:.6g}", z, abs(value))


def _eigenpair(z, j, EE, FF, corner, s_a, s_b):
    """Eigenvalue j of the matrix at z, its vector along Gam and Phi, and the squared lengths of a and b.

    With separate arguments z_a, z_b for the two halves, |a|^2 and |b|^2 are the derivatives of the eigenvalue with
    respect to them.
    """
    matrix = _determinant_matrix(z, EE, FF, corner, s_a, s_b)
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[j, j])
    alpha, beta = np.split(vectors[:, 0], [len(EE)])
    x = _product(z, s_a, s_b)
    slope = 1 / (s_a * s_b - 1 / x**2)  # dx / d(z_a z_b)
    direct_a, direct_b = s_a * slope - (1 + s_a * x) / z**2, s_b * slope - (1 + s_b * x) / z**2
    edge_a, edge_b = alpha @ EE @ alpha, beta @ FF @ beta
    aa = alpha @ alpha - s_b * slope * edge_a - direct_a * edge_b
    bb = beta @ beta - direct_b * edge_a - s_a * slope * edge_b
    return values[0], alpha, beta, aa, bb


# ---------------------------------------------------------------- shared


def _rows(rows, width):
    return np.array(rows).reshape(len(rows), width)


def _kept(sizes, cutoff):
    """The share that is kept of each direction, by its size over that of the largest."""
    return share(sizes / (cutoff * max(np.max(sizes), np.finfo(float).tiny)))


def _cosines(overlaps, squares, cutoff):
    """Overlaps over lengths; 0 where the recorded vector is zero (or below the cut-off that dropped it)."""
    share = _kept(squares, cutoff)
    return share * overlaps / np.sqrt(np.where(share > 0, squares, 1.0))


def _result(z, left, right, squares_g, squares_h, cutoff, **fields):
    """Signs fixed (the first of the largest right alignments is positive), cosines formed."""
    cosines = _cosines(right, squares_h, cutoff)
    sizes = np.abs(cosines)
    largest = np.argmax(sizes >= (1 - 1e-6) * sizes.max(axis=1, keepdims=True), axis=1)
    sign = np.where(np.take_along_axis(cosines, largest[:, None], axis=1) < 0, -1.0, 1.0)
    left, right = sign * left, sign * right
    return Outliers(z, left, right, _cosines(left, squares_g, cutoff), sign * cosines, **fields)

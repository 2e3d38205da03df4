"""The Gram form: the outliers of one trained matrix, from recorded directions and their products with its start.

With orthonormal bases Phi, Gam of the recorded features and gradients, the known edges `E = Wbar(0)^T Gam` outside
Phi, `F = Wbar(0) Phi` outside Gam and the corner `K = Gam^T Wbar(t) Phi`, what is left of Wbar(0) is an untouched
i.i.d. block of (M - k_g) x (N - k_h), and z is an outlier when

    [ z - G_b E^T E ,    -K          ]
    [ -K^T          ,  z - G_a F^T F ]   is singular.

Its number of negative eigenvalues at z is the number of outliers above z, so that each one is bracketed and none is
missed. `outliers.from_recording` is the door.
"""

import numpy as np
import scipy.linalg

from .. import arguments
from ..dynamics.order import share
from ..errors import ConvergenceError

# ---------------------------------------------------------------- what is recorded


def recorded(recording):
    """The four arrays of a recording, checked."""
    missing = [name for name in ("initial", "final", "features", "gradients") if not hasattr(recording, name)]
    if missing:
        raise ValueError(f"recording must have initial, final, features and gradients, got no {', '.join(missing)}")
    initial = arguments.array("recording.initial", recording.initial, ndim=2)
    final = arguments.array("recording.final", recording.final, shape=initial.shape)
    features = arguments.array("recording.features", recording.features, shape=(initial.shape[1], None))
    gradients = arguments.array("recording.gradients", recording.gradients, shape=(initial.shape[0], None))
    return initial, final, features, gradients


def left_of_the_start(recording, initial, weight_variance) -> tuple[float, float]:
    """The factor left of Wbar(0), and s2 of what is left: as given, else as recorded, else as measured."""
    if weight_variance is None:
        weight_variance = getattr(recording, "weight_variance", None)
    if weight_variance is None:
        weight_variance = initial.shape[1] * np.mean(initial**2)
    decay = arguments.number("recording.decay", getattr(recording, "decay", 1.0), above=0)
    return decay, decay**2 * arguments.number("weight_variance", weight_variance, above=0)


def kept(sizes, cutoff):
    """The share that is kept of each direction, by its size over that of the largest."""
    return share(sizes / (cutoff * max(np.max(sizes), np.finfo(float).tiny)))


def orthonormal(name, columns, cutoff):
    """An orthonormal basis of the columns, directions below the cut-off left out, and the share kept of each."""
    basis, sizes, _ = scipy.linalg.svd(columns, full_matrices=False)
    if sizes[0] == 0:
        raise ValueError(f"{name} is zero, at least one column must not be")
    part = kept(sizes, cutoff)
    basis, part = basis[:, part > 0], part[part > 0]
    if basis.shape[1] >= basis.shape[0]:
        raise ValueError(
            f"{name} spans all {basis.shape[0]} directions, fewer are needed to leave a block untouched "
            "(of a long record, take the leading directions of the learned change)"
        )
    return basis, part


def neglected(change, gam, phi) -> float:
    """The part of the learned change outside the directions, relative, in the Frobenius norm."""
    (gam, kept_g), (phi, kept_h) = gam, phi
    outside = np.linalg.norm(change - gam @ (np.outer(kept_g, kept_h) ** 2 * (gam.T @ change @ phi)) @ phi.T)
    return float(outside / max(np.linalg.norm(change), np.finfo(float).tiny))


# ---------------------------------------------------------------- the eigenproblem


def blocks(start, final, gam, phi, s2):
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


def independent_blocks(start, final, gam, phi, s2):
    """The same for directions independent of Wbar(0): every product with it takes its mean-field value."""
    (gam, kept_g), (phi, kept_h) = gam, phi
    nu = start.shape[0] / start.shape[1]
    corner = np.outer(kept_g, kept_h) * (gam.T @ (final - start) @ phi)
    return s2 * np.eye(len(corner)), s2 * nu * np.eye(len(corner.T)), corner, s2, s2 * nu


def product(z, s_a, s_b):
    """x = G_a G_b: the small root of `z^2 x = (1 + s_a x)(1 + s_b x)`, in the form that loses no digits."""
    half = z**2 - s_a - s_b
    return 2 / (half + np.sqrt(np.maximum(half**2 - 4 * s_a * s_b, 0)))


def _determinant_matrix(z, EE, FF, corner, s_a, s_b):
    x = product(z, s_a, s_b)
    G_a, G_b = (1 + s_a * x) / z, (1 + s_b * x) / z
    return np.block([[z * np.eye(len(EE)) - G_b * EE, -corner], [-corner.T, z * np.eye(len(FF)) - G_a * FF]])


def roots(EE, FF, corner, s_a, s_b, edge):
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
    x = product(z, s_a, s_b)
    slope = 1 / (s_a * s_b - 1 / x**2)  # dx / d(z_a z_b)
    direct_a, direct_b = s_a * slope - (1 + s_a * x) / z**2, s_b * slope - (1 + s_b * x) / z**2
    edge_a, edge_b = alpha @ EE @ alpha, beta @ FF @ beta
    aa = alpha @ alpha - s_b * slope * edge_a - direct_a * edge_b
    bb = beta @ beta - direct_b * edge_a - s_a * slope * edge_b
    return values[0], alpha, beta, aa, bb

"""The leading mode of the tangent kernel of a deep linear network, and the bulk that it left.

In function space one step of plain descent is `v <- v - eta M vhat`, with

    M = sum_{l=0..L} rho_l Pi_l^T Pi_l ,   Pi_l = Wbar^{l-1} ... Wbar^0 ,   Pi_0 = 1 ,
    rho_0 = C_g^1(n,n) ,   rho_l = C_g^{l+1}(n,n)/nu ,   C_g^{L+1} = 1 .

M is the population operator. On a training set, and without noise, v moves by M Sigma, Sigma = X^T X/P; it has the
eigenvalues of Sigma M. Plain descent is stable while eta times the largest is below 2 (heavy ball: 2 (1 + mu)). With
`Sigma M q = z q` and

    e^0 = q,  e^{l+1} = Wbar^l e^l ;   d^L = rho_L e^L,  d^l = rho_l e^l + Wbar^{l,T} d^{l+1} ;
    y = d^0,  chi = X y/sqrt(D),  z q = sqrt(D)/P X^T chi ,

the sites of every layer obey linear equations, which training enters by what it has recorded (`tangent_sites`). The
bulk knows nothing of that, and gives z as an explicit function of a_L, the response of e^L to d^L (`tangent_bulk`).
Solved for overlaps with the record and responses to it the site equations are a linear map of these onto themselves,
and z is an outlier where that map has the eigenvalue 1. With weight decay W(0) stands for what is left of it,
decay W(0), and s2 for decay^2 sigma^2. The programme is that of Lauditi, Pehlevan and Bordelon (2026).

A network on P given samples has K itself (`tangent_kernel` of a solution of `dynamics.mlp`), of finite size: the
residual moves by Delta' = -eta M K Delta/P, with M = 1 for the squared loss and diag p - p p^T for cross-entropy, and
the mode is the largest eigenvalue of M K/P. There is no bulk.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.optimize import brentq
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from threadpoolctl import threadpool_limits

from .. import arguments
from ..errors import ConvergenceError, DivergenceError
from .tangent_bulk import Bulk, Operator, bulk, edge_response, operator_at, responses
from .tangent_sites import record_of, site_map, sources

__all__ = ["Bulk", "Mode", "Operator", "Trajectory", "bulk", "leading_mode", "stable_rate", "trajectory"]

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

    On given samples there is no bulk: its edge is 0, and the alignment is that of the residual Delta with the
    eigenvector of M K.
    """

    value: float
    bulk_edge: float
    is_outlier: bool
    alignment: float


@threadpool_limits.wrap(limits=1, user_api="blas")  # many small matrices: more threads are slower
def leading_mode(theory, step: int, population: bool = False) -> Mode:
    """The leading mode after `step` updates, in units in which plain descent is stable for eta value < 2.

    `theory`: a solution of the deep linear dynamics (`dynamics.deep_linear.solve`), or of a network on given samples
    (`dynamics.mlp.solve`) with `step` among its `tangent_steps`; then the operator is that of all samples, whatever
    the batches. `population=False`: the operator of the training set; with fresh batches, of the batch that the step
    is about to use; where the problem has neither, the population's, as with `population=True`. Momentum and weight
    decay enter by the weights alone: the operator is that of plain descent. Raises ValueError on bad input and where
    weight decay has left nothing of the initial weights, and ConvergenceError when the search for the outlier
    contradicts itself.
    """
    if hasattr(theory, "tangent_kernel"):
        return _of_kernel(theory, step, population)
    operator = operator_at(theory, step, population)
    edge = edge_response(operator)
    bulk_edge = float(responses(edge, operator).z)
    if step == 0:
        return Mode(bulk_edge, bulk_edge, False, 0.0)
    record = record_of(theory, step, operator, CUTOFF)
    a = _outlier_response(record, operator, edge)
    if a is None:
        return Mode(bulk_edge, bulk_edge, False, 0.0)
    bulk = responses(a, operator)
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
    """`leading_mode` at `steps`, a sequence of whole numbers; None: at every step, from 0 on, or all `tangent_steps`.

    Raises as `leading_mode` does; a ConvergenceError carries in `.partial` the trajectory up to the step before.
    """
    steps, modes = list(_known_steps(theory) if steps is None else steps), []

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
    With heavy ball the limit is 2 (1 + momentum). Of a network on given samples t runs over the theory's
    `tangent_steps`. `bracket` = (low, high): a rate below and one above, between which
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
        steps = _known_steps(theory)
        if any(getattr(theory.problem, name, None) is not None for name in ("batch_ratio", "batches")):
            raise ValueError("solve must train without fresh batches: their limit of stability is not 2/eta")
        limit = 2 * (1 + theory.problem.momentum) / rate
        return any(_exceeds(theory, step, limit) for step in steps)

    if unstable(low) or not unstable(high):
        raise ValueError(f"bracket must enclose the edge of stability, got {bracket}")
    while high / low > 1 + rtol:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if unstable(middle) else (middle, high)
    return float(np.sqrt(low * high))


@threadpool_limits.wrap(limits=1, user_api="blas")
def _exceeds(theory, step: int, limit: float) -> bool:
    """Whether the mode stands at or above `limit`: one sign of the determinant, as long as it is the first to."""
    if hasattr(theory, "tangent_kernel"):
        return _of_kernel(theory, step, False).value >= limit
    operator = operator_at(theory, step, False)
    edge = edge_response(operator)
    if responses(edge, operator).z >= limit:
        return True
    if step == 0:
        return False
    record = record_of(theory, step, operator, CUTOFF)
    a = edge * np.exp(brentq(lambda x: float(responses(edge * np.exp(x), operator).z / limit - 1), -300, 0))
    return np.linalg.slogdet(np.eye(record.size) - _matrix(a, record, operator))[0] <= 0


def _known_steps(theory):
    """The steps at which there is a mode. Raises ValueError for a theory that has none."""
    if hasattr(theory, "tangent_kernel"):
        if not theory.tangent_steps:
            raise ValueError("theory must have been solved with tangent_steps, got none")
        return theory.tangent_steps
    operator_at(theory, 0, False)
    return range(theory.steps + 1)


# ---------------------------------------------------------------- on given samples


def _of_kernel(theory, step: int, population: bool) -> Mode:
    """The largest eigenvalue of M K/P, by the symmetric R^T K R/P with M = R R^T; the vectors of M K are R u."""
    if population:
        raise ValueError("population must be False for a network on given samples, got True")
    K, f = theory.tangent_kernel(step), theory.predictions[step]
    P, C = f.shape
    squares, vectors = np.linalg.eigh(theory.problem.output_metric(f))
    root = vectors * np.sqrt(np.maximum(squares, 0))[:, None, :]
    symmetric = np.einsum("mab,manc,ncd->mbnd", root, K, root, optimize=True).reshape(P * C, P * C) / P
    value, u = _top(symmetric)
    moved, residual = np.einsum("mab,mb->ma", root, u.reshape(P, C)), theory.problem.residual(f)
    lengths = linalg.norm(moved) * linalg.norm(residual)
    return Mode(value, 0.0, True, float(abs(np.sum(moved * residual)) / lengths) if lengths > 0 else 0.0)


def _top(matrix) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of a symmetric matrix, and its vector."""
    if len(matrix) <= 400:
        values, vectors = linalg.eigh(matrix, subset_by_index=[len(matrix) - 1] * 2)
    else:
        try:
            values, vectors = eigsh(matrix, k=1, which="LA", v0=np.random.default_rng(0).standard_normal(len(matrix)))
        except ArpackNoConvergence as error:
            raise ConvergenceError("Lanczos did not reach the leading mode", error.eigenvalues) from error
    return float(values[0]), vectors[:, 0]


# ---------------------------------------------------------------- the outlier


def _matrix(a, record, operator):
    return site_map(np.eye(record.size), record, operator, responses(a, operator))


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

    far = _far(edge, operator)
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


def _far(edge: float, operator) -> float:
    """Where the search begins: a_L in units of the edge's, at which z is _FAR times as high."""
    highest = responses(edge, operator).z

    def excess(x):
        return float(responses(edge * np.exp(x), operator).z / (_FAR * highest) - 1)

    return np.exp(brentq(excess, -300, 0, xtol=1e-3))


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
            if np.all(responses(a[1:-1], operator).z.imag < 0):
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
    x = linalg.svd(identity - site_map(identity, record, operator, bulk))[2][-1]  # the map leaves it as it is
    overlap = _overlap_now(theory, step, x, record, operator, bulk)
    square, error = _square_of_y(x, record, operator, bulk), theory.data.C_v[step, step]
    if not error > ROUNDING * theory.data.C_v[0, 0]:
        return 0.0
    return float(abs(overlap) / np.sqrt(square * error))


def _overlap_now(theory, step: int, x, record, operator, bulk) -> float:
    """<v(step) y>: the last record is not yet part of the weights, it only answers to them."""
    s2, root, sampling = operator.weight_variance, np.sqrt(operator.width_ratio), np.sqrt(operator.sampling)
    Q, P, S = sources(x, record, operator)
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
    s2, nu, depth = operator.weight_variance, operator.width_ratio, record.depth
    Q, P, S = sources(x, record, operator)
    system, source = np.eye(2 * depth + 3), np.zeros(2 * depth + 3)
    for l in range(1, depth + 1):
        _squares_of_layer(system, source, l, x, Q, P, record, operator, bulk)
    qf = _squares_of_data(system, source, x, P[0], S, record, operator, bulk)
    moments = np.linalg.solve(system, source)
    yy, dd_1, chi_chi = moments[[depth + 1, depth + 2, -1]]
    # z <y q> = <chi chi> (population: <y y> = z <y q>), <y q> = rho_0 <q q> + nu sum_l rho_l <e^l e^l>
    y_q = operator.rates[0] * moments[0] + nu * np.dot(operator.rates[1:], moments[1 : depth + 1])
    site = qf + bulk.b_x * nu * s2 / bulk.E * dd_1 + bulk.b[0] * moments[0]
    gap = max(abs(bulk.z * y_q / chi_chi - 1), abs(site / y_q - 1))
    _guard(yy > 0 and gap < 1e-4, f"lengths of its vector disagree by {gap:.2g}", bulk.z, gap)
    return float(yy)


def _squares_of_layer(system, source, l: int, x, Q, P, record, operator, bulk) -> None:
    """The rows of <e^l e^l> and <d^l d^l>: from the squares of U, g, R and h, each with each."""
    s2, depth, at = operator.weight_variance, record.depth, record.places
    part, a, b, D = record.layers[l], bulk.a[l], bulk.b[l], bulk.D[l]
    e, d, m = l, depth + 1 + l, x[at["m", l - 1]]
    U_g, gg = 2 * s2 * Q[l] @ part.G_u @ m, Q[l] @ part.C_g @ Q[l]
    U_h = R_g = R_h = gh = hh = 0.0
    if l < depth:
        n = x[at["n", l]]
        U_h, R_g = 2 * s2 * P[l] @ part.H_u @ m, 2 * s2 * Q[l] @ part.G_r @ n
        R_h, gh, hh = 2 * s2 * P[l] @ part.H_r @ n, 2 * P[l] @ part.C_hg @ Q[l], P[l] @ part.C_h @ P[l]
        system[e, d + 1] = -(a**2) * s2 / D**2
        system[d, d + 1] = -s2 / D**2
    system[e, e - 1] = -s2 / D**2
    system[d, e - 1] = -(b**2) * s2 / D**2
    source[e] = (U_g + gg + a * (U_h + R_g + gh) + a**2 * (R_h + hh)) / D**2
    source[d] = (R_h + hh + b * (U_h + R_g + gh) + b**2 * (U_g + gg)) / D**2


def _squares_of_data(system, source, x, P_0, S, record, operator, bulk) -> float:
    """The rows of <q q>, <y y> and <chi chi>. Returns what <q f> has without <d^1 d^1>.

    f = R_0 + P_0.vhat is y less b_0 q; E q = R_x/sqrt(alpha) + b_x f + S.v
    """
    s2, nu, at = operator.weight_variance, operator.width_ratio, record.places
    root, sampling, b_0, b_x, E = np.sqrt(nu), np.sqrt(operator.sampling), bulk.b[0], bulk.b_x, bulk.E
    q, y, d_1, chi = 0, record.depth + 1, record.depth + 2, 2 * record.depth + 2
    n = x[at["n", 0]]
    ff = 2 * root * s2 * P_0 @ record.F_0 @ n + P_0 @ record.C_vhat @ P_0  # and nu s2 <d^1 d^1>
    S_f = S_S = R_f = R_S = x_x = 0.0
    if record.sampled:
        n_x, ah_x = x[at["n", "x"]], x[at["ah", "x"]]
        S_f = S @ (root * s2 * record.V_0 @ n + record.C_vhat_v.T @ P_0)
        S_S, R_f = S @ record.C_v @ S, sampling * P_0 @ record.F_x @ n_x
        R_S = sampling * S @ record.V_x @ n_x
        x_x = 2 * sampling * ah_x @ record.B_x @ x[at["m", "x"]] + sampling**2 * ah_x @ record.C_Delta @ ah_x
    f_f, f_q = nu * s2, b_x * nu * s2 / E
    system[q, [d_1, chi]] = -(b_x**2) * f_f / E**2, -(sampling**2) / E**2
    source[q] = (b_x**2 * ff + 2 * b_x * (S_f + R_f) + S_S + 2 * R_S) / E**2
    qf = (b_x * ff + S_f + R_f) / E
    system[y, d_1], system[y, q] = -f_f - 2 * b_0 * f_q, -(b_0**2)
    source[y] = ff + 2 * b_0 * qf
    system[chi, y], source[chi] = -(b_x**2), b_x**2 * x_x
    return qf

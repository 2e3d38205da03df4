"""What training has recorded, in the site equations of a mode of the tangent kernel.

With U, R the Gaussian parts of W(0) e and W(0)^T d, and other letters as at the head of `sharpness`, each site of
layer l obeys

    e = U + Q_l.g + a_l d ,   d = R + P_l.h + b_l e ,
    Q_l = c m_{l-1} + s2 ah_{l-1}  (s2/sqrt(nu) for l = 1) ,   P_l = c n_l + s2 bh_l ,   c = gamma/sqrt(nu) kappa .

The record of training enters by overlaps `m_l = <h^l e^l>`, `n_l = <g^{l+1} d^{l+1}>` and responses
`ah_l = <de^l/dr^l>`, `bh_l = <dd^{l+1}/du^{l+1}>`, vectors over the steps before the present one. Solved for them the
equations are a linear map of overlaps and responses onto themselves, `site_map`.
"""

from types import SimpleNamespace

import numpy as np

from .outliers import leading
from .tangent_bulk import Operator

# ---------------------------------------------------------------- the record of training


def record_of(theory, step: int, operator: Operator, cutoff: float) -> SimpleNamespace:
    """Order parameters of the steps before `step`, in the eigenvectors of their correlations above `cutoff`.

    h = basis htilde for each set of recorded vectors; a response takes the tildes of what it answers to into those
    of what answers. Lists over layers; features start with vhat, gradients end with the constant 1. `places` says
    where each unknown stands in the vector, `size` long, that the map acts on; `cross` holds <h^l g^l>, of all steps
    up to this one.
    """
    problem, data, layers, past = theory.problem, theory.data, theory.layers, slice(0, step)
    C_h = [data.C_vhat, *(layer.C_h for layer in layers)]
    C_g = [None, *(layer.C_g for layer in layers), np.ones_like(data.C_v)]
    record = SimpleNamespace(
        depth=problem.depth,
        decay=theory.decay[step],
        sampled=operator.sampling > 0 and problem.data_ratio is not None,
        h=[_Basis(C[past, past], cutoff) for C in C_h[: problem.depth]],
        g=[None, *(_Basis(C[past, past], cutoff) for C in C_g[1:])],
        cross=_features_with_gradients(theory, C_h, C_g, slice(0, step + 1)),
        layers=[None],
    )
    weight = problem.gamma / np.sqrt(problem.width_ratio) * theory.kernel[step, past]
    for l, layer in enumerate(layers, 1):
        record.layers.append(_recorded_layer(record, l, layer, C_h, C_g, weight, past))
    _add_data(record, data, past, cutoff)
    _place(record)
    return record


def _recorded_layer(record, l: int, layer, C_h, C_g, weight, past: slice) -> SimpleNamespace:
    """Responses and correlations of layer l; of the last layer those of its gradients alone."""
    h, g, cross, decay = record.h, record.g, record.cross, record.decay
    part = SimpleNamespace(
        G_u=g[l].back @ (layer.G_u[past, past] / decay) @ h[l - 1].basis,
        G_r=g[l].back @ (layer.G_r[past, past] / decay) @ g[l + 1].basis,
        C_g=g[l].back @ C_g[l][past, past] @ g[l].back.T,
        # Q_l = c_Q m_{l-1} + s2 ah_{l-1} and P_{l-1} = c_P n_{l-1} + s2 bh_{l-1}
        c=g[l].basis.T @ (weight[:, None] * h[l - 1].basis),
    )
    if l < record.depth:
        part.H_u = h[l].back @ (layer.H_u[past, past] / decay) @ h[l - 1].basis
        part.H_r = h[l].back @ (layer.H_r[past, past] / decay) @ g[l + 1].basis
        part.C_h = h[l].back @ C_h[l][past, past] @ h[l].back.T
        part.C_hg = h[l].back @ cross[l][past, past] @ g[l].back.T
    return part


def _add_data(record, data, past: slice, cutoff: float) -> None:
    """vhat, and on a training set v and the residuals Delta."""
    h, g, decay = record.h, record.g, record.decay
    record.F_0 = h[0].back @ (data.F_0[past, past] / decay) @ g[1].basis
    record.C_vhat = h[0].back @ data.C_vhat[past, past] @ h[0].back.T
    if record.sampled:
        v, delta = (_Basis(C[past, past], cutoff) for C in (data.C_v, data.C_Delta))
        record.v, record.delta = v, delta
        record.F_x = h[0].back @ data.F_x[past, past] @ delta.basis
        record.V_0 = v.back @ (data.V_0[past, past] / decay) @ g[1].basis
        record.V_x = v.back @ data.V_x[past, past] @ delta.basis
        record.B_x = delta.back @ data.B_x[past, past] @ v.basis
        record.C_v = v.back @ data.C_v[past, past] @ v.back.T
        record.C_Delta = delta.back @ data.C_Delta[past, past] @ delta.back.T
        record.C_vhat_v = h[0].back @ record.cross[0][past, past] @ v.back.T


class _Basis:
    """The leading eigenvectors of a correlation, h = basis htilde, and the way back (see `leading`)."""

    def __init__(self, correlation, cutoff: float):
        self.basis, self.back = leading(correlation, cutoff)

    @property
    def rank(self) -> int:
        return self.basis.shape[1]


def _features_with_gradients(theory, C_h, C_g, upto: slice) -> list:
    """<h^l g^l>, rows h: at l = 0 it is <vhat v>, and there are 1 .. L."""
    s2 = theory.problem.weight_std**2
    found = [_features_with_errors(theory, upto)]
    for l, layer in enumerate(theory.layers, 1):
        both = layer.H_u[upto, upto] @ C_h[l - 1][upto, upto] @ layer.G_u[upto, upto].T
        found.append(s2 * (both + layer.H_r[upto, upto] @ C_g[l + 1][upto, upto] @ layer.G_r[upto, upto].T))
    return found


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


# ---------------------------------------------------------------- the map


def sources(x, record, operator):
    """Q_1 .. Q_L, P_0 .. P_{L-1} and S of the overlaps and responses in x: what the record adds to each site."""
    s2, root, at = operator.weight_variance, np.sqrt(operator.width_ratio), record.places
    Q, P = [None], []
    for l in range(1, record.depth + 1):
        c = record.layers[l].c
        Q.append(c @ x[at["m", l - 1]] + (s2 / root if l == 1 else s2) * x[at["ah", l - 1]])
        c_T, gain = (operator.width_ratio * c.T, operator.width_ratio * s2) if l == 1 else (c.T, s2)
        P.append(c_T @ x[at["n", l - 1]] + gain * x[at["bh", l - 1]])
    return Q, P, x[at["bh", "x"]] if record.sampled else None


def site_map(x, record, operator, bulk):
    """The site equations, solved for the overlaps and responses: a vector (size,) or matrix (size, K) to the next."""
    s2, nu, depth, at = operator.weight_variance, operator.width_ratio, record.depth, record.places
    root, sampling = np.sqrt(nu), np.sqrt(operator.sampling)
    Q, P, S = sources(x, record, operator)
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

"""Deep linear networks in the proportional limit: loss and order parameters at every step, without a network.

With v = wstar - beta the error vector, `Delta = X v/sqrt(D) + noise` and `vhat = sqrt(D)/P X^T Delta`, every update
of `problems.DeepLinear` has rank one, carried by vhat forwards and by w backwards:

    h^1 = W^0 vhat/sqrt(D),   h^{l+1} = W^l h^l/sqrt(N),    g^L = w,   g^l = W^{l,T} g^{l+1}/sqrt(N),
    G^0 = gamma/sqrt(N) g^1 vhat^T,   G^l = gamma/sqrt(nu N) g^{l+1} h^{l,T},   G^w = gamma/sqrt(nu) h^L .

A linear optimizer turns them into `W(t) = decay(t) W(0) + sum_s kappa(t,s) G(s)`, with kappa strictly causal. In the
limit D, N, P -> infinity each site obeys equations of its own. With f = gamma/sqrt(nu), s2 = sigma^2, products
with kappa and decay taken elementwise (decay(t) multiplies rows) and u, r the Gaussian parts of W(0) h, W(0)^T g,

    layer l    h = decay u + K_h g,     K_h = decay s2 A^{l-1} + f kappa C_h^{l-1}     cov u = s2 C_h^{l-1}
               g = decay r + K_g h,     K_g = decay s2 B^l + f kappa C_g^{l+1}         cov r = s2 C_g^{l+1}
    direction  v = wstar - decay r_0/gamma - K vhat,    vhat = r_x/sqrt(alpha) + B_x v,
               K = decay s2 sqrt(nu) B^0/gamma + kappa C_g^1,     cov r_0 = s2 C_g^1,  cov r_x = C_Delta
    sample     Delta = u_x + noise + A_x Delta/sqrt(alpha),       cov u_x = C_v

    A^l = <dh^l/dr^l>,  B^{l-1} = <dg^l/du^l>,  A^0 = <dvhat/dr_0>,  A_x = <dv/dr_x>,  B_x = <dDelta/du_x> ,

where C_h^0 = C_vhat, A^0 comes with 1/sqrt(nu), C_g^{L+1} = 1 in every entry and B^L = 0. B, K_g, K and A_x vanish on
the diagonal; A and K_h do not, since the features at t are made from vhat(t), which knows the gradients at t. Fresh
batches: B_x = 1 and cov r_x = C_v(t,t) + noise^2 on the diagonal, zero elsewhere; population: r_x absent.
The programme is that of Lauditi, Pehlevan and Bordelon (2026); dynamics of deep linear networks in this limit:
Bordelon and Pehlevan (2025).
"""

from dataclasses import dataclass, fields

import numpy as np

from .. import arguments, problems
from ..errors import DivergenceError
from ..progress import bar
from .order import OrderParameters

RUNAWAY = 1e6  # a loss this many times the training loss of the start has left for infinity


@dataclass(frozen=True, eq=False)
class Layer:
    """One site of a hidden layer, `h = H_u u + H_r r`, `g = G_u u + G_r r`; all matrices (steps + 1, steps + 1).

    `C_h`, `C_g` the correlations <h h>, <g g>. All responses vanish above the diagonal, G_u on it too.
    """

    C_h: np.ndarray
    C_g: np.ndarray
    H_u: np.ndarray
    H_r: np.ndarray
    G_u: np.ndarray
    G_r: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """One input direction, `v = v_star wstar + V_0 r_0 + V_x r_x`, `vhat = f_star wstar + F_0 r_0 + F_x r_x`.

    Matrices (steps + 1, steps + 1), `v_star` and `f_star` (steps + 1,): overlaps <wstar v>, <wstar vhat>. `C_v`,
    `C_vhat` and `C_Delta` are correlations, the last one of the residuals on the samples; `B_x` is <dDelta/du_x>.
    With fresh batches, or the population, only the diagonal of C_Delta is there, and B_x is the identity.
    """

    C_v: np.ndarray
    C_vhat: np.ndarray
    C_Delta: np.ndarray
    B_x: np.ndarray
    V_0: np.ndarray
    V_x: np.ndarray
    F_0: np.ndarray
    F_x: np.ndarray
    v_star: np.ndarray
    f_star: np.ndarray


@dataclass(frozen=True, eq=False)
class DeepLinearTheory:
    """Order parameters of `problem` at t, s = 0 .. steps.

    `kernel` (steps + 1, steps + 1) and `decay` (steps + 1,): W(t) = decay(t) W(0) + sum_s kernel(t,s) G(s).
    `data`: the input side. `layers`: hidden layers 1 .. depth, in a tuple that starts with layer 1.
    """

    problem: problems.DeepLinear
    kernel: np.ndarray
    decay: np.ndarray
    data: Data
    layers: tuple[Layer, ...]

    @property
    def steps(self) -> int:
        """How many updates were made."""
        return len(self.decay) - 1

    @property
    def test_loss(self) -> np.ndarray:
        """<v v>, the squared error on fresh noiseless data (no factor 1/2), (steps + 1,)."""
        return np.diag(self.data.C_v).copy()

    @property
    def train_loss(self) -> np.ndarray:
        """<Delta Delta>, the mean squared residual on the samples in use (no factor 1/2), (steps + 1,).

        Full batch: on the training set. Otherwise on a fresh batch, before the update: test loss plus noise^2.
        """
        return np.diag(self.data.C_Delta).copy()

    def order(self, layer: int, step: int) -> OrderParameters:
        """Order parameters of Wbar after `step` updates: `layer` 0 (N x D) or 1 to depth - 1 (N x N).

        The record is the `step` features and gradients that made the updates: h^layer(s) (vhat(s) for layer 0) and
        g^{layer+1}(s), s < step; at step 0, those about to be used, with weight 0. Raises ValueError, also where
        decay(step) is not above 0, and weight decay has turned the initial weights over. Where it is below some 1e-6
        the bulk is all but gone: outliers of its own tiny size are lost in rounding, which their `residual` shows.
        """
        layer, step = arguments.whole("layer", layer), arguments.whole("step", step)
        if layer >= self.problem.depth:
            raise ValueError(f"layer must be 0 to {self.problem.depth - 1}, got {layer}")
        if step > self.steps:
            raise ValueError(f"step must be 0 to {self.steps}, got {step}")
        decay = self.decay[step]
        if not decay > 0:
            raise ValueError(f"step must be one with something left of the initial weights, got decay {decay:.3g}")
        past, nu, gamma = slice(0, max(step, 1)), self.problem.width_ratio, self.problem.gamma
        below = self.layers[layer - 1]
        C_h, A = (below.C_h, below.H_r) if layer else (self.data.C_vhat, self.data.F_0)
        return OrderParameters(
            C_h[past, past],
            self.layers[layer].C_g[past, past],
            A[past, past],
            self.layers[layer].G_u[past, past],
            np.diag((gamma / np.sqrt(nu) if layer else gamma) * self.kernel[step, past] / decay),
            weight_variance=self.problem.weight_std**2,
            width_ratio=1.0 if layer else nu,
            decay=decay,
        )


def solve(problem: problems.DeepLinear, steps: int, *, progress: bool | None = None) -> DeepLinearTheory:
    """March the order parameters through time. Each new row is a vector times known matrices: steps^3 in all.

    Memory: (6 depth + 11) matrices of (steps + 1)^2. `progress`: show a bar on standard error; by default only on
    a terminal, and only once a second has passed, so never in a notebook or a log.

    Raises ValueError on bad input and DivergenceError, with `.step` and `.partial` (all before that step), when a
    loss is not finite or above `RUNAWAY` times the training loss of the start.
    """
    if not isinstance(problem, problems.DeepLinear):
        raise ValueError(f"problem must be a problems.DeepLinear, got {type(problem).__name__}")
    steps = arguments.whole("steps", steps)
    theory = _blank(problem, *optimizer_kernel(problem, steps))
    levels = _levels(theory)
    # Counted in work done, so that the time left is told right.
    ticks = bar(f"deep linear, {steps} steps", (steps + 1) ** 3, progress)
    with ticks, np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps + 1):
            _march_gradients(theory, levels, t)
            _march_errors(theory, t)
            _unless_diverged(theory, t)
            _march_features(theory, levels, t)
            ticks.update((t + 1) ** 3 - t**3)
    return _cut(theory, steps + 1)


def optimizer_kernel(problem: problems.DeepLinear, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """What the gradient of step s weighs in the parameters at t, and what is left there of the initial ones.

    `kernel` (steps + 1, steps + 1), zero for s >= t, and `decay` (steps + 1,): the scalar recursion
    `V <- mu V + G - lam W; W <- W + eta V` run on a unit impulse of G at each s, and on W(0) = 1. Plain descent:
    eta(s) and 1; heavy ball: eta (1 - mu^(t-s))/(1 - mu) and 1.
    """
    W, V = np.zeros((2, steps + 1))  # one entry per impulse; the last one, which comes too late, carries W(0) = 1
    W[-1] = 1
    history = [W]
    for t, rate in enumerate(problem.rates(steps)):
        V = problem.momentum * V - problem.weight_decay * W
        V[t] += 1
        W = W + rate * V
        history.append(W)
    kernel = np.array(history)
    decay = kernel[:, -1].copy()
    kernel[:, -1] = 0
    return kernel, decay


# One step of the march: the gradients, from the read-out down; the errors; the features, from the input up


def _march_gradients(theory: DeepLinearTheory, levels, t: int) -> None:
    """g^L(t) .. g^1(t): responses to, and correlations with, everything so far. Of features, only those before t."""
    s2, f, past = theory.problem.weight_std**2, _feature_scale(theory.problem), slice(0, t)
    decay, kappa = theory.decay[t], theory.kernel[t, past]
    for l in range(theory.problem.depth, 0, -1):
        below, layer, above = levels[l - 1 : l + 2]
        K_g = decay * s2 * above.G_u[t, past] + f * kappa * above.C_g[t, past]
        layer.G_u[t, past] = K_g @ layer.H_u[past, past]
        layer.G_r[t, past] = K_g @ layer.H_r[past, past]
        layer.G_r[t, t] = decay
        _set_row(layer.C_g, t, s2 * (_row(layer.G_u, below.C_h, t) + _row(layer.G_r, above.C_g, t)))


def _march_errors(theory: DeepLinearTheory, t: int) -> None:
    """v(t), Delta(t) and vhat(t): responses and correlations. Of vhat, only what is before t."""
    problem, data, first = theory.problem, theory.data, theory.layers[0]
    s2, past, now = problem.weight_std**2, slice(0, t), slice(0, t + 1)
    decay, kappa = theory.decay[t], theory.kernel[t, past]
    K = decay * s2 * np.sqrt(problem.width_ratio) / problem.gamma * first.G_u[t, past] + kappa * first.C_g[t, past]
    data.v_star[t] = 1 - K @ data.f_star[past]
    data.V_0[t, past] = -K @ data.F_0[past, past]
    data.V_0[t, t] = -decay / problem.gamma
    data.V_x[t, past] = -K @ data.F_x[past, past]
    row = data.v_star[t] * data.v_star[now] + s2 * _row(data.V_0, first.C_g, t) + _row(data.V_x, data.C_Delta, t)
    _set_row(data.C_v, t, row)
    sampling = _march_samples(problem, data, t)
    data.f_star[t] = data.B_x[t, now] @ data.v_star[now]
    data.F_0[t, now] = data.B_x[t, now] @ data.V_0[now, now]
    data.F_x[t, now] = data.B_x[t, now] @ data.V_x[now, now]
    data.F_x[t, t] = sampling
    row = data.f_star[t] * data.f_star[now] + s2 * _row(data.F_0, first.C_g, t) + _row(data.F_x, data.C_Delta, t)
    _set_row(data.C_vhat, t, row)


def _march_samples(problem: problems.DeepLinear, data: Data, t: int) -> float:
    """Delta(t): response and correlations. Returns 1/sqrt(alpha), the weight of r_x in vhat."""
    noise, now = np.square(problem.noise_std), slice(0, t + 1)
    data.B_x[t, t] = 1
    if problem.data_ratio is None:  # a sample is met once: no memory
        data.C_Delta[t, t] = data.C_v[t, t] + noise
        return 0.0 if problem.batch_ratio is None else 1 / np.sqrt(problem.batch_ratio)
    sampling = 1 / np.sqrt(problem.data_ratio)
    data.B_x[t, :t] = sampling * data.V_x[t, :t] @ data.B_x[:t, :t]
    drive = data.B_x[t, now] @ data.C_v[now, now] + noise * data.B_x[t, now].sum()
    _set_row(data.C_Delta, t, drive @ data.B_x[now, now].T)
    return sampling


def _march_features(theory: DeepLinearTheory, levels, t: int) -> None:
    """h^1(t) .. h^L(t): responses and correlations. K_h has a diagonal: vhat(t) knows the gradients at t."""
    s2, f, now = theory.problem.weight_std**2, _feature_scale(theory.problem), slice(0, t + 1)
    decay, kappa = theory.decay[t], theory.kernel[t, now]
    for l in range(1, theory.problem.depth + 1):
        below, layer, above = levels[l - 1 : l + 2]
        remembered = s2 / np.sqrt(theory.problem.width_ratio) if l == 1 else s2
        K_h = decay * remembered * below.H_r[t, now] + f * kappa * below.C_h[t, now]
        layer.H_u[t, now] = K_h @ layer.G_u[now, now]
        layer.H_u[t, t] += decay
        layer.H_r[t, now] = K_h @ layer.G_r[now, now]
        _set_row(layer.C_h, t, s2 * (_row(layer.H_u, below.C_h, t) + _row(layer.H_r, above.C_g, t)))


def _row(response: np.ndarray, correlation: np.ndarray, t: int) -> np.ndarray:
    """Row t, up to t, of response correlation response^T."""
    now = slice(0, t + 1)
    return (response[t, now] @ correlation[now, now]) @ response[now, now].T


def _set_row(correlation: np.ndarray, t: int, row: np.ndarray) -> None:
    correlation[t, : t + 1] = row
    correlation[: t + 1, t] = row


def _feature_scale(problem: problems.DeepLinear) -> float:
    """f = gamma/sqrt(nu): how much of a gradient goes into a feature."""
    return problem.gamma / np.sqrt(problem.width_ratio)


# What the march is written into


def _blank(problem: problems.DeepLinear, kernel: np.ndarray, decay: np.ndarray) -> DeepLinearTheory:
    size = len(decay)
    layers = tuple(Layer(*np.zeros((6, size, size))) for _ in range(problem.depth))
    data = Data(*np.zeros((8, size, size)), *np.zeros((2, size)))
    return DeepLinearTheory(problem, kernel, decay, data, layers)


def wide_flow_loss(time: float, output_scale: float, weight_std: float, steps: int = 2000) -> float:
    """Test loss of one wide hidden layer (nu -> oo, muP) by gradient flow on the population, without noise,

        dTheta/dt = gamma0 - sigma^2 sinh(2 Theta),    <v v> = (1 - sigma^2 sinh(2 Theta)/gamma0)^2,

    the angle Theta(0) = 0 integrated with `steps` steps of the midpoint rule; `time` is steps times learning rate.
    Raises ValueError for a time below 0, a scale or a standard deviation not above 0, and fewer than one step.
    Source: the chapter on one hidden layer.
    """
    time = arguments.number("time", time, at_least=0)
    scale = arguments.number("output_scale", output_scale, above=0)
    s2 = arguments.number("weight_std", weight_std, above=0) ** 2
    steps = arguments.whole("steps", steps, at_least=1)
    angle, dt = 0.0, time / steps
    for _ in range(steps):
        half = angle + dt / 2 * (scale - s2 * np.sinh(2 * angle))
        angle += dt * (scale - s2 * np.sinh(2 * half))
    return float((1 - s2 * np.sinh(2 * angle) / scale) ** 2)


def _levels(theory: DeepLinearTheory) -> tuple[Layer, ...]:
    """The hidden layers between the input (its features are vhat) and the read-out (its gradient is 1)."""
    shape, data = theory.kernel.shape, theory.data
    nothing = np.zeros(shape)
    bottom = Layer(C_h=data.C_vhat, C_g=nothing, H_u=nothing, H_r=data.F_0, G_u=nothing, G_r=nothing)
    top = Layer(C_h=nothing, C_g=np.ones(shape), H_u=nothing, H_r=nothing, G_u=nothing, G_r=nothing)
    return (bottom, *theory.layers, top)


def _cut(theory: DeepLinearTheory, size: int) -> DeepLinearTheory:
    """The first `size` rows and columns of everything, read-only. By causality they stand alone."""

    def kept(array):
        view = array[(slice(0, size),) * array.ndim]
        view.setflags(write=False)
        return view

    def cut(part):
        return type(part)(*(kept(getattr(part, field.name)) for field in fields(part)))

    layers = tuple(map(cut, theory.layers))
    return DeepLinearTheory(theory.problem, kept(theory.kernel), kept(theory.decay), cut(theory.data), layers)


def _unless_diverged(theory: DeepLinearTheory, t: int) -> None:
    test, train, start = theory.data.C_v[t, t], theory.data.C_Delta[t, t], theory.data.C_Delta[0, 0]
    if np.isfinite(start) and test <= RUNAWAY * start and train <= RUNAWAY * start:
        return
    raise DivergenceError(
        f"training diverged at step {t}: a loss exceeds {RUNAWAY:.0e} times the training loss of the start; "
        "lower learning_rate, momentum or weight_decay",
        t,
        _cut(theory, t),
    )

"""What is trained. A problem is frozen and validated once, at the door; theory and networks take the same one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf, log_softmax, softmax

from . import arguments


@dataclass(frozen=True)
class LeastSquares:
    """Linear regression on Gaussian data, trained by full-batch gradient descent.

    Inputs `X` (P, D) i.i.d. N(0, 1), targets `y = X wstar/sqrt(D) + noise`, `|wstar|^2 = D`, start at zero.
    With the error vector `v = wstar - beta`, `Delta = X v/sqrt(D) + noise` and
    `vhat = sqrt(D)/P X^T Delta`, one step is

        beta(t+1) = beta(t) + learning_rate (vhat(t) - ridge beta(t)) .

    `data_ratio` is alpha = P/D; `ridge` the L2 penalty, in units of the function-space rate;
    `noise_std` a standard deviation. Proportional limit: D, P -> infinity at fixed alpha.
    """

    data_ratio: float
    learning_rate: float
    ridge: float = 0.0
    noise_std: float = 0.0

    def __post_init__(self):
        arguments.number("data_ratio", self.data_ratio, above=0)
        arguments.number("learning_rate", self.learning_rate, above=0)
        arguments.number("ridge", self.ridge, at_least=0)
        arguments.number("noise_std", self.noise_std, at_least=0)


@dataclass(frozen=True, eq=False)
class DeepLinear:
    """A deep linear network that learns a linear target from Gaussian inputs.

    Inputs x ~ N(0, 1) in R^D, targets `y = wstar.x/sqrt(D) + noise`, `|wstar|^2 = D`. With weights W^0 (N, D),
    W^l (N, N), w (N,) that start i.i.d. normal with standard deviation `weight_std` sigma,

        h^1 = W^0 x/sqrt(D),  h^{l+1} = W^l h^l/sqrt(N)  (l = 1..L-1),  f = w.h^L/(gamma sqrt(N)) .

    `depth` L >= 1 counts hidden layers, `width_ratio` is nu = N/D. `parametrization` says how gamma follows from
    `output_scale` gamma0: "mup" gamma = gamma0 sqrt(nu), "ntk" gamma = gamma0. Every parameter descends the loss
    <Delta^2>/2, Delta = y - f, at its own rate eta gamma^2 D, so that the function moves at rate `learning_rate`
    eta: a number, or an array with one entry per step (copied, read-only). With G the negative gradient in these
    units, `momentum` mu in [0, 1) and `weight_decay` lam, in the units of eta, every parameter moves by

        V <- mu V + G - lam W,   W <- W + eta V,   V = 0 before the first step.

    The average < > is over: `data_ratio` alpha = P/D alone, P samples kept for good (full batch); `batch_ratio`
    alone, a fresh batch of batch_ratio D samples at every step (one-pass SGD); neither, the population.
    `noise_std` is the standard deviation of the noise. Proportional limit: D, N, P -> infinity at fixed ratios.
    Raises ValueError.
    """

    depth: int = 2
    width_ratio: float = 1.0
    data_ratio: float | None = None
    batch_ratio: float | None = None
    output_scale: float = 1.0
    parametrization: str = "mup"
    learning_rate: float | np.ndarray = 0.1
    weight_std: float = 1.0
    noise_std: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        arguments.whole("depth", self.depth, at_least=1)
        arguments.number("width_ratio", self.width_ratio, above=0)
        for name in ("data_ratio", "batch_ratio"):
            if getattr(self, name) is not None:
                arguments.number(name, getattr(self, name), above=0)
        if self.data_ratio is not None and self.batch_ratio is not None:
            raise ValueError("data_ratio (full batch) and batch_ratio (fresh batches) exclude each other, got both")
        arguments.number("output_scale", self.output_scale, above=0)
        arguments.one_of("parametrization", self.parametrization, ("mup", "ntk"))
        object.__setattr__(self, "learning_rate", _learning_rate(self.learning_rate))
        arguments.number("weight_std", self.weight_std, above=0)
        arguments.number("noise_std", self.noise_std, at_least=0)
        _momentum(self.momentum)
        arguments.number("weight_decay", self.weight_decay, at_least=0)

    @property
    def gamma(self) -> float:
        """The output scale in f = w.h^L/(gamma sqrt(N))."""
        return self.output_scale * (np.sqrt(self.width_ratio) if self.parametrization == "mup" else 1.0)

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate of each of `steps` steps. Raises ValueError when the schedule is too short."""
        return _rates(self.learning_rate, steps)


@dataclass(frozen=True)
class FrozenReadout:
    """A linear network with as many outputs as neurons, in whitened inputs, trained by gradient flow.

    f = V Wbar x with N neurons, inputs in R^D, C outputs; the target is tau Tbar x. Entries are independent normal:
    V (C, N) of variance 1/N, Wbar(0) (N, D) of variance sigma^2/D, Tbar (C, D) of variance 1/D. V is frozen, and

        d Wbar/dt = V^T (tau Tbar - V Wbar) .

    `output_ratio` kappa = C/N, 0 for finitely many outputs; `width_ratio` nu = N/D; `target_scale` tau; `weight_std`
    sigma. Limit: N, D, C -> infinity at fixed ratios. Raises ValueError.
    """

    output_ratio: float
    width_ratio: float = 1.0
    target_scale: float = 1.0
    weight_std: float = 1.0

    def __post_init__(self):
        arguments.number("output_ratio", self.output_ratio, at_least=0)
        arguments.number("width_ratio", self.width_ratio, above=0)
        arguments.number("target_scale", self.target_scale, at_least=0)
        arguments.number("weight_std", self.weight_std, above=0)


# Name: (phi, its derivative). erf is the plain error function; relu's derivative at 0 is taken as 0.
ACTIVATIONS = {
    "tanh": (np.tanh, lambda h: 1.0 - np.tanh(h) ** 2),
    "relu": (lambda h: np.maximum(h, 0.0), lambda h: (h > 0).astype(np.float64)),
    "erf": (erf, lambda h: 2.0 / np.sqrt(np.pi) * np.exp(-(h**2))),
    "linear": (lambda h: h, np.ones_like),
}


@dataclass(frozen=True, eq=False)
class MLP:
    """A fully connected network of width N trained by gradient descent on P given samples.

    With columns x_mu in R^D of data and weights W(0), w(0) i.i.d. normal with standard deviation `weight_std`,

        h^1 = W^0 x/sqrt(D),  h^{l+1} = W^l phi(h^l)/sqrt(N)  (l = 1..L-1),  f_o = w_o . phi(h^L)/(gamma sqrt(N)) ,

    `depth` L >= 1 counts hidden layers. Every parameter descends the batch loss sum_mu,o Delta^2/(2 |batch|),
    Delta = y - f, at its own rate eta gamma^2, so that the function moves at rate `learning_rate` eta whatever
    gamma is: f' = eta K Delta/|batch| with K the tangent kernel of gamma f, which is of order one. With
    Wbar = W/sqrt(fan-in), g^l the gradient of sum_o Delta_o w_o . phi(h^L) with respect to h^l, and s a step,

        Wbar^l += (c/fan-in) sum_mu g^{l+1}_mu phi(h^l_mu)^T ,  w_o += c sum_mu Delta_{o mu} phi(h^L_mu) ,
        c = eta gamma/(sqrt(N) |batch|)      (phi(h^0) stands for x) .

    `parametrization` says how gamma follows from `output_scale` gamma0:

        "mup"   gamma = gamma0 sqrt(N) :  f = w . phi/(gamma0 N),        c = eta gamma0/|batch|
        "ntk"   gamma = gamma0         :  f = w . phi/(gamma0 sqrt(N)),  c = eta gamma0/(sqrt(N) |batch|)

    Both start at the same speed in function space; only the first moves its features by order one.

    `loss` "squared" is the above; "cross_entropy" descends -sum_mu,o y log softmax(f)/|batch|, and what changes is
    the residual alone: Delta = y - softmax(f) takes the place of y - f everywhere. With G the increments above over
    eta, `momentum` mu in [0, 1) and `weight_decay` lam, in the units of eta, every Wbar^l and w moves by

        V <- mu V + G - lam W ,   W <- W + eta V ,   V = 0 before the first step.

    `inputs` (P, D); `targets` (P,) or (P, outputs), kept as (P, outputs); with cross-entropy whole labels from 0
    (P,), kept as rows of 0 and 1 with as many outputs as the largest label needs, or rows of probabilities
    (P, outputs >= 2). `activation`: a key of `ACTIVATIONS` or a pair (phi, phi') of vectorized functions.
    `learning_rate`: a number, or an array with one entry per step. `batches`: integers (steps, B), the samples of
    each step's batch, or None for all of them at every step. Arrays are copied and cannot be written to. Raises
    ValueError.
    """

    inputs: np.ndarray
    targets: np.ndarray
    depth: int = 2
    activation: str | tuple[Callable, Callable] = "tanh"
    output_scale: float = 1.0
    parametrization: str = "mup"
    learning_rate: float | np.ndarray = 0.1
    weight_std: float = 1.0
    batches: np.ndarray | None = None
    loss: str = "squared"
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        inputs = _frozen(arguments.array("inputs", self.inputs, ndim=2))
        object.__setattr__(self, "inputs", inputs)
        kept = {"squared": _targets, "cross_entropy": _probabilities}
        targets = kept[arguments.one_of("loss", self.loss, kept)](self.targets, len(inputs))
        object.__setattr__(self, "targets", targets)
        arguments.whole("depth", self.depth, at_least=1)
        _activation(self.activation)
        arguments.number("output_scale", self.output_scale, above=0)
        arguments.one_of("parametrization", self.parametrization, ("mup", "ntk"))
        object.__setattr__(self, "learning_rate", _learning_rate(self.learning_rate))
        arguments.number("weight_std", self.weight_std, above=0)
        if self.batches is not None:
            object.__setattr__(self, "batches", _batches(self.batches, len(inputs)))
        _momentum(self.momentum)
        arguments.number("weight_decay", self.weight_decay, at_least=0)

    @property
    def samples(self) -> int:
        """P."""
        return self.inputs.shape[0]

    @property
    def outputs(self) -> int:
        """How many outputs the network has."""
        return self.targets.shape[1]

    @property
    def phi(self) -> Callable:
        """The activation."""
        return _activation(self.activation)[0]

    @property
    def phi_prime(self) -> Callable:
        """Its derivative."""
        return _activation(self.activation)[1]

    def scale(self, width: int) -> float:
        """gamma/sqrt(N): f = w . phi/(scale N) and c = eta scale/|batch|. gamma0 in muP at every width."""
        return self.output_scale if self.parametrization == "mup" else self.output_scale / np.sqrt(width)

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate of each of `steps` steps. Raises ValueError when the schedule is too short."""
        return _rates(self.learning_rate, steps)

    def batch(self, step: int) -> np.ndarray:
        """Sample indices of the batch of one step. Raises ValueError beyond the last batch given."""
        if self.batches is None:
            return np.arange(self.samples)
        if step >= len(self.batches):
            raise ValueError(f"batches has {len(self.batches)} rows, step {step} needs at least {step + 1}")
        return self.batches[step]

    def residual(self, f, samples=slice(None)) -> np.ndarray:
        """Delta = y - f or y - softmax(f) of predictions f (..., len(samples), outputs), an array of the same shape.

        `samples`: which of the P samples they are of, an index of rows. Raises ValueError for other shapes.
        """
        targets = self.targets[samples]
        f = _predictions(f, targets.shape)
        return targets - (f if self.loss == "squared" else softmax(f, axis=-1))

    def mean_loss(self, f) -> np.ndarray:
        """The loss of predictions f (..., P, outputs) of all samples, (...,). Raises ValueError for other shapes.

        The mean over samples of sum_o (y - f)^2, without the factor 1/2 of what is descended, or of the cross-entropy
        -sum_o y log softmax(f).
        """
        if self.loss == "squared":
            return np.sum(self.residual(f) ** 2, axis=(-2, -1)) / self.samples
        f = _predictions(f, self.targets.shape)
        return -np.sum(self.targets * log_softmax(f, axis=-1), axis=(-2, -1)) / self.samples

    def output_metric(self, f) -> np.ndarray:
        """M = -dDelta/df of every sample: the identity, or diag p - p p^T with p = softmax(f).

        f (..., outputs), M (..., outputs, outputs). With K the tangent kernel, f' = eta K Delta/P moves the residual
        by Delta' = -eta M K Delta/P. Raises ValueError for another number of outputs.
        """
        f = _predictions(f, self.targets.shape[1:])
        p = np.ones_like(f) if self.loss == "squared" else softmax(f, axis=-1)
        metric = p[..., None] * np.eye(self.outputs)
        return metric if self.loss == "squared" else metric - p[..., None] * p[..., None, :]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A fully connected network in muP that learns to name one of C classes, from a stream of real data.

    With weights i.i.d. normal at the start, standard deviation `weight_std`, and an input x in R^D, D = `dimension`,

        h^1 = W^0 x/sqrt(D),  h^{l+1} = W^l phi(h^l)/sqrt(N)  (l = 1..L-1),  f = w . phi(h^L)/(gamma0 N) ,

    the loss is the cross-entropy of the softmax of the C = `outputs` components of f, or of the logistic function
    when C = 1 (labels 0 and 1). Delta = 1[label] - softmax(f) is its residual and every parameter moves as in `MLP`,

        G^l = (c/fan-in) sum_mu g^{l+1}_mu phi(h^l_mu)^T  for Wbar^l,   c sum_mu Delta_mu phi(h^L_mu)  for w ,
        c = eta gamma0/|batch| ,   V <- momentum V + G ,   Wbar <- Wbar + V ,   V = 0 at the start.

    `stream(rng)` makes the batch of one step: inputs (B, D), an array or a scipy.sparse matrix, and labels (B,).
    A window of words is c ones, times sqrt(D/c), in D = c C places: W^0 is then an embedding for every place in the
    window. `depth` L >= 1; `output_scale` is gamma0, `learning_rate` eta, one number or one per step. Raises
    ValueError.
    """

    stream: Callable
    dimension: int
    outputs: int
    depth: int = 3
    activation: str | tuple[Callable, Callable] = "tanh"
    output_scale: float = 1.0
    learning_rate: float | np.ndarray = 0.5
    weight_std: float = 1.0
    momentum: float = 0.0

    def __post_init__(self):
        if not callable(self.stream):
            raise ValueError(f"stream must be a function of a generator, got {self.stream!r}")
        for name in ("dimension", "outputs", "depth"):
            arguments.whole(name, getattr(self, name), at_least=1)
        _activation(self.activation)
        arguments.number("output_scale", self.output_scale, above=0)
        object.__setattr__(self, "learning_rate", _learning_rate(self.learning_rate))
        arguments.number("weight_std", self.weight_std, above=0)
        _momentum(self.momentum)

    @property
    def phi(self) -> Callable:
        """The activation."""
        return _activation(self.activation)[0]

    @property
    def phi_prime(self) -> Callable:
        """Its derivative."""
        return _activation(self.activation)[1]

    def rates(self, steps: int) -> np.ndarray:
        """`learning_rate` as an array, one entry per step. Raises ValueError when a given array is shorter."""
        return _rates(self.learning_rate, steps)


def _frozen(array: np.ndarray) -> np.ndarray:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def _targets(targets, samples: int) -> np.ndarray:
    if np.ndim(targets) == 1:
        return _frozen(arguments.array("targets", targets, shape=(samples,))[:, None])
    return _frozen(arguments.array("targets", targets, shape=(samples, None)))


def _probabilities(targets, samples: int) -> np.ndarray:
    """Rows (P, outputs) that sum to 1, made of whole labels (P,) if that is what is given."""
    if np.ndim(targets) == 1:
        labels = arguments.array("targets", targets, shape=(samples,))
        if np.any(labels != np.round(labels)) or labels.min() < 0:
            raise ValueError("targets of loss 'cross_entropy' must be whole labels from 0, or rows of probabilities")
        rows = np.eye(int(labels.max()) + 1)[labels.astype(int)]
    else:
        rows = arguments.array("targets", targets, shape=(samples, None))
    if rows.shape[1] < 2:
        raise ValueError("targets of loss 'cross_entropy' must name at least 2 outputs, got 1")
    sums = rows.sum(axis=1)
    if rows.min() < 0 or np.abs(sums - 1).max() > 1e-9:
        raise ValueError(
            "targets of loss 'cross_entropy' must be rows of probabilities, not negative and of sum 1, "
            f"got entries from {rows.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    return _frozen(rows)


def _predictions(f, shape: tuple) -> np.ndarray:
    """f as an array whose last axes have this shape; what diverged may hold anything."""
    f = np.asarray(f, dtype=np.float64)
    if f.shape[-len(shape) :] != shape:
        raise ValueError(f"f must have the shape {shape} in its last {len(shape)} dimension(s), got {f.shape}")
    return f


def _momentum(value) -> None:
    if not arguments.number("momentum", value, at_least=0) < 1:
        raise ValueError(f"momentum must be below 1, got {value!r}")


def _learning_rate(value) -> float | np.ndarray:
    if np.ndim(value) == 0:
        return arguments.number("learning_rate", value, above=0)
    rates = arguments.array("learning_rate", value, ndim=1)
    if np.any(rates < 0):
        raise ValueError(f"learning_rate must not be negative at any step, got {rates.min()!r}")
    return _frozen(rates)


def _rates(learning_rate, steps: int) -> np.ndarray:
    if np.ndim(learning_rate) == 0:
        return np.full(steps, learning_rate)
    if len(learning_rate) < steps:
        raise ValueError(f"learning_rate has {len(learning_rate)} entries, {steps} steps need as many")
    return learning_rate[:steps]


def _batches(value, samples: int) -> np.ndarray:
    batches = np.asarray(value)
    if batches.dtype.kind not in "iu" or batches.ndim != 2 or batches.size == 0:
        raise ValueError(
            f"batches must be a non-empty integer array (steps, B), got {batches.dtype} of shape {batches.shape}"
        )
    if batches.min() < 0 or batches.max() >= samples:
        raise ValueError(
            f"batches must hold sample indices 0 to {samples - 1}, got {batches.min()} to {batches.max()}"
        )
    return _frozen(batches)


def _activation(activation) -> tuple[Callable, Callable]:
    if isinstance(activation, str):
        return ACTIVATIONS[arguments.one_of("activation", activation, ACTIVATIONS)]
    if not isinstance(activation, tuple) or len(activation) != 2 or not all(map(callable, activation)):
        raise ValueError(
            f"activation must be one of {', '.join(map(repr, ACTIVATIONS))} or a pair (phi, phi'), got {activation!r}"
        )
    phi, phi_prime = activation
    # Points and step are such that a kink at 0 or 1 is not straddled.
    at, step = np.linspace(-2.17, 2.29, 12), 1e-5
    slope = (phi(at + step) - phi(at - step)) / (2 * step)
    if not np.allclose(phi_prime(at), slope, rtol=1e-4, atol=1e-6):
        raise ValueError("activation is a pair whose second function is not the derivative of the first, it must be")
    return activation

"""Ground truth: trains real finite networks and records what the theory predicts. Imports nothing of the theory.

Matrices carry their 1/sqrt(fan-in): `Wbar = W/sqrt(fan-in)`. Features and gradients are columns, one for each
sample of each step's batch: first all samples of step 0, then those of step 1, and so on. In a deep linear network
the samples of a step act by their sum alone, which is one column.
"""

import copy
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np
from scipy import linalg, special
from scipy.integrate import solve_ivp
from scipy.linalg import blas
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, svds

from . import arguments, problems
from .errors import ConvergenceError, DivergenceError

RUNAWAY = 1e6  # a loss this many times its start is divergence; spikes at the edge of stability stay far below


def train(
    problem, *, size: int, steps: int, rng, record=None, record_fields=True, subtract_initial=False, dtype=np.float64
):
    """Train one network of the given size and return what was recorded.

    `problem`: an `MLP` (then `size` is the width N, the result an `MLPRun`), a `DeepLinear` (`size` is the dimension
    D, N and P follow from the ratios, the result is a `DeepLinearRun`), a `Classifier` (`size` is the width N, the
    result a `ClassifierRun`) or `LeastSquares` (`size` is the dimension D, the result a `LeastSquaresRun`). `rng`: a
    seeded generator, used for the initial weights and, but for an `MLP`, the data. Options of all but `LeastSquares`:
    `record`, the steps whose weights are kept (0 always is; by default the last too). Of an `MLP` and a `DeepLinear`:
    `record_fields`, whether to keep the features and gradients of every step, which takes 16 steps |batch| N bytes
    for each layer (one column a step when the network is linear). Of an `MLP` alone: `subtract_initial`, whether to
    train f(t) - f(0) in place of f(t), since at finite width f(0) is of order 1/(gamma0 sqrt(N)) and not the 0 of the
    limit. Of a `Classifier` alone: `dtype`, the precision it is trained in, float64 or float32.
    Raises ValueError, and DivergenceError with `.step` and `.partial` (the run so far) when the loss is not
    finite or exceeds 1e6 times its start.
    """
    size = arguments.whole("size", size, at_least=1)
    steps = arguments.whole("steps", steps)
    arguments.generator("rng", rng)
    if isinstance(problem, problems.MLP):
        record = _recorded_steps(record, steps)
        return _train_mlp(problem, size, steps, rng, record, bool(record_fields), bool(subtract_initial))
    if subtract_initial:
        raise ValueError("subtract_initial is for a problems.MLP alone, it must be False")
    if isinstance(problem, problems.DeepLinear):
        record, start = _recorded_steps(record, steps), copy.deepcopy(rng)
        try:
            run = _train_deep_linear(problem, size, steps, rng, record, bool(record_fields))
        except DivergenceError as error:
            error.partial = replace(error.partial, _start=start)
            raise
        return replace(run, _start=start)
    if isinstance(problem, problems.Classifier):
        return _train_classifier(problem, size, steps, rng, _recorded_steps(record, steps), np.dtype(dtype))
    if isinstance(problem, problems.LeastSquares):
        return _train_least_squares(problem, size, steps, rng)
    kinds = "problems.MLP, problems.DeepLinear, problems.Classifier or problems.LeastSquares"
    raise ValueError(f"problem must be a {kinds}, got {type(problem).__name__}")


# What a network hands to the spectra


@dataclass(frozen=True, eq=False)
class Recording:
    """A matrix before and after training, with the directions it was trained along.

    `initial`, `final`: Wbar (M, N) at step 0 and later. `features` (N, K): directions on its right, `gradients`
    (M, K'): directions on its left; for one sample of one step they are phi(h) and g. `decay`: what weight decay
    has left of `initial` in `final`. Raises ValueError.
    """

    initial: np.ndarray
    final: np.ndarray
    features: np.ndarray
    gradients: np.ndarray
    decay: float = 1.0

    def __post_init__(self):
        left, right = arguments.array("initial", self.initial, ndim=2).shape
        shapes = {"initial": (left, right), "final": (left, right)}
        shapes |= {"features": (right, None), "gradients": (left, None)}
        for name, shape in shapes.items():
            object.__setattr__(self, name, arguments.array(name, getattr(self, name), shape=shape))
        arguments.number("decay", self.decay, above=0)


# Layered networks: the part that their runs share


class _LayeredRun:
    """A run that kept the weights of some steps and, if it was asked to, what went through them at every step."""

    @property
    def steps(self) -> int:
        """How many updates were made."""
        return len(self.train_loss) - 1

    @property
    def recorded(self) -> tuple[int, ...]:
        """The steps whose weights were kept, ascending."""
        return tuple(self._weights)

    def weights(self, layer: int, step: int) -> np.ndarray:
        """Wbar of `layer` 0 (N x D) or 1 to depth - 1 (N x N) after `step` updates. Raises ValueError."""
        return self._kept(step)[self._layer(layer)]

    def readout(self, step: int) -> np.ndarray:
        """The read-out weights w, entries of order one, after `step` updates: (N, outputs), or (N,) when there
        is no choice of outputs. Raises ValueError.
        """
        return self._kept(step)[-1]

    def singular_values(self, layer: int, step: int) -> np.ndarray:
        """All singular values of `weights(layer, step)`, descending."""
        return linalg.svdvals(self.weights(layer, step))

    def features(self, layer: int, step: int | None = None) -> np.ndarray:
        """What entered `layer` before update `step`, as columns; `step` is the last one if left out.

        `MLP`: phi(h^layer), the inputs x for layer 0, one column for each sample of each step's batch, (fan-in,
        step * |batch|). `DeepLinear`: h^layer, vhat for layer 0, one column for each step. Raises ValueError.
        """
        return self._columns(self._features, layer, step)

    def gradients(self, layer: int, step: int | None = None) -> np.ndarray:
        """What came back to `layer` before update `step`: columns g^{layer+1}, in the order of `features`.

        `MLP`: residual included, (fan-out, step * |batch|). `DeepLinear`: (fan-out, step). Raises ValueError.
        """
        return self._columns(self._gradients, layer, step)

    def recording(self, layer: int, step: int, directions: int | None = None, matvecs: int = 0) -> Recording:
        """Wbar at 0 and at `step` with directions on both sides, for the Gram form of the outliers.

        `directions=None`: every feature and gradient recorded before `step`. `directions=k`: the k leading
        singular directions u, v of the learned change Wbar(step) - decay Wbar(0), and, for each of `matvecs`
        rounds, the images Wbar(0)^T u on the right and Wbar(0) v on the left of the round before. A change of lower
        rank has fewer: directions that rounding would choose, below 1e-5 of the largest singular value, come as
        columns shorter than 1, down to 0. Raises ValueError.
        """
        initial, final, decay = self.weights(layer, 0), self.weights(layer, step), self._decay(step)
        matvecs = arguments.whole("matvecs", matvecs)
        if directions is None:
            if matvecs:
                raise ValueError("matvecs can only follow a number of directions, got directions=None")
            return Recording(initial, final, self.features(layer, step), self.gradients(layer, step), decay)
        rounding = np.finfo(float).eps * linalg.norm(final) / np.sqrt(min(final.shape))
        left, right = _leading_directions(final - decay * initial, directions, rounding)
        blocks = [(left, right)]
        for _ in range(matvecs):
            left, right = initial @ right, initial.T @ left
            blocks.append((left, right))
        return Recording(initial, final, np.hstack([v for _, v in blocks]), np.hstack([u for u, _ in blocks]), decay)

    def _decay(self, step: int) -> float:
        """What is left of the initial weights after `step` updates."""
        return 1.0

    def _layer(self, layer: int) -> int:
        layer = arguments.whole("layer", layer)
        if layer >= self.problem.depth:
            raise ValueError(f"layer must be 0 to {self.problem.depth - 1}, got {layer}")
        return layer

    def _kept(self, step: int) -> list[np.ndarray]:
        if arguments.whole("step", step) not in self._weights:
            raise ValueError(f"step must be one whose weights were kept, {self.recorded}, got {step}")
        return self._weights[step]

    def _step(self, step: int | None) -> int:
        step = self.steps if step is None else arguments.whole("step", step)
        if step > self.steps:
            raise ValueError(f"step must be 0 to {self.steps}, got {step}")
        return step

    def _columns(self, fields: list[np.ndarray], layer: int, step: int | None) -> np.ndarray:
        layer, step = self._layer(layer), self._step(step)
        if not fields:
            raise ValueError("record_fields was False in training, features and gradients are kept only with True")
        return fields[layer][:, : self._columns_before(step)]


# Multilayer perceptrons


@dataclass(frozen=True, eq=False)
class MLPRun(_LayeredRun):
    """One trained network of width `size`.

    `train_loss` (steps + 1,): mean over all P samples of the squared residual, summed over outputs.
    `predictions` (steps + 1, P, outputs): f, less f(0) if that was asked for.
    """

    problem: problems.MLP
    size: int
    train_loss: np.ndarray
    predictions: np.ndarray
    _weights: dict[int, list[np.ndarray]]
    _features: list[np.ndarray]
    _gradients: list[np.ndarray]

    def coefficients(self, step: int | None = None) -> np.ndarray:
        """The weight c of each recorded column: Wbar(step) - Wbar(0) = gradients diag(c) features^T / fan-in."""
        step = self._step(step)
        batches = [len(self.problem.batch(s)) for s in range(step)]
        c = self.problem.rates(step) * self.problem.scale(self.size) / np.maximum(batches, 1)
        return np.repeat(c, batches)

    def _columns_before(self, step: int) -> int:
        return sum(len(self.problem.batch(s)) for s in range(step))


def _train_mlp(problem, width, steps, rng, record, record_fields, subtract_initial) -> MLPRun:
    rates, scale = problem.rates(steps), problem.scale(width)
    batches = [problem.batch(step) for step in range(steps)]
    weights = _initial_weights(problem, width, rng)
    starts = np.cumsum([0, *map(len, batches)])  # the first recorded column of each step
    fields = _empty_fields(problem, width, starts[-1]) if record_fields else ([], [])
    kept, losses, predictions, offset = {}, [], [], 0.0

    def run() -> MLPRun:
        seen = ([_read_only(field[:]) for field in side] for side in fields)
        return MLPRun(problem, width, _read_only(losses), _read_only(predictions), kept, *seen)

    for step in range(steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            preactivations, phi = _forward(problem, weights)
            f = phi[-1].T @ weights[-1] / (scale * width)
            offset = f if subtract_initial and step == 0 else offset
            residual = problem.targets - (f - offset)
            loss = np.sum(residual**2) / problem.samples
        if not loss <= RUNAWAY * (losses[0] if losses else np.inf):
            raise DivergenceError(f"training diverged at step {step}: the loss is {loss:.3g}", step, run())
        losses.append(loss)
        predictions.append(f - offset)
        if step in record:
            kept[step] = [_read_only(matrix) for matrix in weights]
        if step == steps:
            return run()
        batch = batches[step]
        phi, residual = [p[:, batch] for p in phi], residual[batch]
        g = _backward(problem, weights, [h[:, batch] for h in preactivations], residual)
        for field, values in zip(fields[0] + fields[1], phi[:-1] + g if record_fields else [], strict=True):
            field[:, starts[step] : starts[step + 1]] = values
        weights = _updated(weights, phi, g, residual, rates[step] * scale / len(batch))


def _initial_weights(problem, width: int, rng) -> list[np.ndarray]:
    """[Wbar^0 (N, D), Wbar^1 (N, N), ..., w (N, outputs)], drawn in this order."""
    fan_ins = [problem.inputs.shape[1]] + [width] * (problem.depth - 1)
    hidden = [problem.weight_std / np.sqrt(n) * rng.standard_normal((width, n)) for n in fan_ins]
    return [*hidden, problem.weight_std * rng.standard_normal((width, problem.outputs))]


def _forward(problem, weights) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """[h^1, ..., h^L] and [x, phi(h^1), ..., phi(h^L)]; columns are samples."""
    preactivations, features = [], [problem.inputs.T]
    for matrix in weights[:-1]:
        preactivations.append(matrix @ features[-1])
        features.append(problem.phi(preactivations[-1]))
    return preactivations, features


def _backward(problem, weights, preactivations, residual) -> list[np.ndarray]:
    """[g^1, ..., g^L]: g^L = phi'(h^L) sum_o Delta_o w_o, g^l = phi'(h^l) Wbar^{l,T} g^{l+1}."""
    z, gradients = weights[-1] @ residual.T, []
    for layer in range(problem.depth - 1, -1, -1):
        gradients.insert(0, problem.phi_prime(preactivations[layer]) * z)
        z = weights[layer].T @ gradients[0] if layer else None
    return gradients


def _updated(weights, features, gradients, residual, c: float) -> list[np.ndarray]:
    """Wbar^l + (c/fan-in) g^{l+1} phi(h^l)^T and w + c phi(h^L) Delta, as new arrays."""
    pairs = zip(weights[:-1], gradients, features[:-1], strict=True)
    hidden = [matrix + (c / len(phi)) * (g @ phi.T) for matrix, g, phi in pairs]
    return [*hidden, weights[-1] + c * features[-1] @ residual]


def _leading_directions(change: np.ndarray, count: int, rounding: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Left and right singular vectors of the `count` largest singular values, as columns, descending.

    Signs are those of v's product with a vector drawn once and for all. `rounding` is the size of what rounding
    leaves of nothing in `change`. Directions with values below 10^4 times that, or 10^-5 of the largest, are known
    too badly to be the same on two machines: they are shrunk, far below to nothing.
    """
    count, full = arguments.whole("directions", count, at_least=1), min(change.shape)
    if count > full:
        raise ValueError(f"directions must be at most {full}, got {count}")
    if not change.any():
        raise ValueError("step must be one at which the layer has learned something, got one with no change at all")
    fixed = np.random.default_rng(0).standard_normal(max(change.shape))  # a recording has no randomness of its own
    if 4 * count > full:
        left, values, right = linalg.svd(change, full_matrices=False)
    else:
        left, values, right = svds(change, k=count, v0=fixed[:full])  # ascending
        left, values, right = left[:, ::-1], values[::-1], right[::-1]
    left, values, right = left[:, :count], values[:count], right[:count].T
    known = np.minimum(1, values / np.maximum(1e4 * rounding, 1e-5 * values[0])) ** 4
    scale = known * np.where(fixed[: len(right)] @ right < 0, -1.0, 1.0)
    return left * scale, right * scale


def _recorded_steps(record, steps: int) -> set[int]:
    if record is None:
        return {0, steps}
    chosen = {arguments.whole("record", step) for step in np.atleast_1d(np.asarray(record, dtype=object))}
    if not chosen or max(chosen) > steps:
        raise ValueError(f"record must name one or more steps from 0 to {steps}, got {record!r}")
    return {0} | chosen


def _empty_fields(problem, width: int, columns: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    fan_ins = [problem.inputs.shape[1]] + [width] * (problem.depth - 1)
    return [np.empty((n, columns)) for n in fan_ins], [np.empty((width, columns)) for _ in fan_ins]


def _read_only(values) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    array.setflags(write=False)
    return array


# Deep linear networks


@dataclass(frozen=True, eq=False)
class DeepLinearRun(_LayeredRun):
    """One trained deep linear network of dimension D = `size`, width N = nu D, P = alpha D samples, all rounded.

    `test_loss` (steps + 1,): <v v>, v = wstar - beta, the squared error on fresh noiseless data. `train_loss`
    (steps + 1,): <Delta Delta> on the training set; on the fresh batch of that step; or, for the population,
    test loss + noise_std^2. No factor 1/2. `decay` (steps + 1,): what is left of the initial weights.
    """

    problem: problems.DeepLinear
    size: int
    test_loss: np.ndarray
    train_loss: np.ndarray
    decay: np.ndarray
    _weights: dict[int, list[np.ndarray]]
    _features: list[np.ndarray]
    _gradients: list[np.ndarray]
    _start: np.random.Generator | None = None  # as it was before the first draw: the data are drawn again, not kept

    def inputs(self, step: int = 0) -> np.ndarray:
        """The samples X (P, D) in use at `step`: the training set or, with fresh batches, that step's batch.

        They are not kept but drawn again at every call, from the state that the generator had before training:
        8 P D bytes, the initial weights once more while it lasts, and with fresh batches the time of drawing all
        the earlier ones. Raises ValueError for the population, which has no samples, and when the generator does not
        give the same draws again.
        """
        inputs = self._replayed(self._step(step))[1]
        if inputs is None:
            raise ValueError("problem must have samples, got the population: neither data_ratio nor batch_ratio")
        return inputs

    def error(self, step: int) -> np.ndarray:
        """v = wstar - beta (D,), what is left to learn at a recorded step. Raises ValueError."""
        return self._error(self._kept(step), self._replayed(None)[0])

    def leading_mode(self, step: int, population: bool = False) -> "MeasuredMode":
        """The largest eigenvalue of the tangent kernel's operator at a recorded step, exactly.

        One step of plain descent without noise is `v <- v - eta M Sigma v`, Sigma = X^T X/P on the samples in use
        (`population`, or a problem without samples: the identity), and

            M = sum_{l=0..L} rho_l Pi_l^T Pi_l ,  Pi_l = Wbar^{l-1} ... Wbar^0 ,
            rho_0 = |g^1|^2/N ,  rho_l = |g^{l+1}|^2 D/N^2 ,  rho_L = D/N .

        Stable while eta times the largest eigenvalue stays below 2. By Lanczos, M is never formed: memory is that
        of the samples (see `inputs`) and some 20 vectors of length D or P. Raises ValueError, and ConvergenceError
        when Lanczos stops short.
        """
        weights = self._kept(step)
        target, inputs, _ = self._replayed(None if _flag("population", population) else step)
        v, rates = self._error(weights, target), _tangent_rates(self.size, weights)
        if inputs is None:
            value, y = _largest(lambda q: _tangent(weights, rates, q), v)
        else:
            kernel = lambda x: inputs @ _tangent(weights, rates, inputs.T @ x) / len(inputs)  # noqa: E731
            value, chi = _largest(kernel, inputs @ v)
            y = _tangent(weights, rates, inputs.T @ chi)
        y = y * np.copysign(1 / linalg.norm(y), y @ v)
        return MeasuredMode(value, float(y @ v / linalg.norm(v)), _read_only(y))

    def ntk_spectrum(self, step: int, population: bool = False) -> np.ndarray:
        """All D eigenvalues, descending, of the operator of `leading_mode`.

        M and Sigma are formed: 8 D^2 bytes a few times over, for D up to a few thousand. Raises ValueError.
        """
        weights = self._kept(step)
        inputs = self._replayed(None if _flag("population", population) else step)[1]
        forward, M = np.eye(self.size), np.zeros((self.size, self.size))
        for l, rate in enumerate(_tangent_rates(self.size, weights)):
            forward = weights[l - 1] @ forward if l else forward
            M += rate * forward.T @ forward
        if inputs is None:
            return linalg.eigvalsh(M)[::-1]
        sampled = inputs @ linalg.cholesky(M, lower=True)  # M is positive: at least rho_0
        return np.maximum(linalg.eigvalsh(sampled.T @ sampled / len(inputs))[::-1], 0)

    def hessian_top(self, step: int, population: bool = False) -> float:
        """The largest eigenvalue of gamma^2 D times the Hessian of the loss <Delta^2>/2 in the raw weights W.

        At a recorded step, on the samples in use (`population`: of the population's loss). The units are those of
        `leading_mode`: plain descent moves W by eta gamma^2 D, and were f linear in W the two would be equal. What
        sets them apart are the second derivatives of f, weighed by the residuals. By Hessian-vector products and
        Lanczos: memory is that of the samples and some 20 vectors as long as all weights together. Raises
        ValueError, and ConvergenceError when Lanczos stops short.
        """
        weights = self._kept(step)
        target, inputs, noise = self._replayed(None if _flag("population", population) else step)
        v = self._error(weights, target)

        def covariance(vector):
            return vector if inputs is None else inputs.T @ (inputs @ vector) / len(inputs)

        vhat = covariance(v)
        if inputs is not None:
            vhat = vhat + np.sqrt(self.size) / len(inputs) * (inputs.T @ noise)
        gradients, features = _deep_linear_gradients(weights), _deep_linear_features(weights, vhat)
        steepest = [np.outer(g, h) for g, h in zip(gradients, features[:-1], strict=True)]
        product = _hessian_product(self.problem, weights, gradients, features, covariance)
        return _largest(product, _flat([*steepest, features[-1]]))[0]

    def _error(self, weights, target) -> np.ndarray:
        back = weights[0].T @ _deep_linear_gradients(weights)[0]
        return target - back * np.sqrt(self.size / len(weights[-1])) / self.problem.gamma

    def _replayed(self, step: int | None):
        """wstar, and the samples and noise of a step (None, None: of none, or there are none): drawn once more."""
        if self._start is None:
            raise ValueError("a run must come from networks.train, its data are drawn again from there")
        rng, width = _Witness(copy.deepcopy(self._start)), len(self._weights[0][-1])
        target = rng.standard_normal(self.size)
        target *= np.sqrt(self.size) / linalg.norm(target)
        initial = _initial_deep_linear(self.problem, self.size, width, rng)
        if not all(map(np.array_equal, initial, self._weights[0])):
            raise ValueError("rng must give the same draws from the same state, it gave other initial weights")
        if step is None or (self.problem.data_ratio is None and self.problem.batch_ratio is None):
            return target, None, None
        samples = _sampler(self.problem, self.size, rng)
        for _ in range(step + 1 if self.problem.data_ratio is None else 0):
            samples(np.zeros(self.size))
        inputs, noise = rng.last
        return target, inputs, self.problem.noise_std * noise

    def _decay(self, step: int) -> float:
        return float(self.decay[step])

    def _columns_before(self, step: int) -> int:
        return step


@dataclass(frozen=True, eq=False)
class MeasuredMode:
    """The largest eigenvalue `value` of the tangent kernel's operator in one network, and where it points.

    `direction` (D,), of length 1: the eigenvector y of M Sigma (population: of M), along which the error vector v
    moves, on the side of v. `alignment`: the cosine of y with v.
    """

    value: float
    alignment: float
    direction: np.ndarray


class _Witness:
    """A generator that remembers its last two draws: what a function drew, learned without a second copy of it."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.last = rng, (None, None)

    def standard_normal(self, size):
        self.last = self.last[1], self.rng.standard_normal(size)
        return self.last[1]


def _flag(name: str, value) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _tangent_rates(size: int, weights) -> list[float]:
    """rho_0 .. rho_L: how fast each layer lets the function move."""
    width = len(weights[-1])
    squares = [g @ g / width for g in _deep_linear_gradients(weights)]
    return [squares[0], *(square * size / width for square in [*squares[1:], 1.0])]


def _tangent(weights, rates, vector) -> np.ndarray:
    """M vector: e^l forwards, then d^l = rho_l e^l + Wbar^{l,T} d^{l+1} backwards."""
    e = _deep_linear_features(weights, vector)
    d = rates[-1] * e[-1]
    for rate, matrix, signal in zip(rates[-2::-1], weights[-2::-1], e[-2::-1], strict=True):
        d = rate * signal + matrix.T @ d
    return d


def _hessian_product(problem, weights, gradients, features, covariance):
    """gamma^2 D Hessian times a vector: minus the change of all plain steps when the raw weights move along it."""
    size, width = len(features[0]), len(weights[-1])
    scale, layers = problem.gamma * np.sqrt(size / width), range(len(weights) - 1)
    fan_ins = [*(matrix.shape[1] for matrix in weights[:-1]), 1]
    ends = np.cumsum([0, *(part.size for part in weights)])

    def product(flat):
        raw = [flat[low:high] for low, high in pairwise(ends)]
        moves = [x.reshape(W.shape) / np.sqrt(n) for x, W, n in zip(raw, weights, fan_ins, strict=True)]
        back = [moves[-1]]
        for l in reversed(layers[1:]):
            back.insert(0, weights[l].T @ back[0] + moves[l].T @ gradients[l])
        beta = (weights[0].T @ back[0] + moves[0].T @ gradients[0]) * np.sqrt(size / width) / problem.gamma
        forward = [-covariance(beta)]
        for l in layers:
            forward.append(weights[l] @ forward[-1] + moves[l] @ features[l])
        steps = [np.outer(back[l], features[l]) + np.outer(gradients[l], forward[l]) for l in layers]
        steps = [step / np.sqrt(n) for step, n in zip(steps, fan_ins[:-1], strict=True)]
        return -scale * _flat([*steps, forward[-1]])

    return product


def _flat(parts) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])


def _largest(product, start) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of a symmetric operator and its eigenvector."""
    size = len(start)
    if size < 20:
        values, vectors = linalg.eigh(np.column_stack([product(unit) for unit in np.eye(size)]))
        return float(values[-1]), vectors[:, -1]
    try:
        values, vectors = eigsh(
            LinearOperator((size, size), product, dtype=float), k=1, which="LA", v0=start, tol=1e-10
        )
    except ArpackNoConvergence as error:
        raise ConvergenceError("Lanczos did not reach the largest eigenvalue", error.eigenvalues) from error
    return float(values[0]), vectors[:, 0]


def _train_deep_linear(problem, size: int, steps: int, rng, record, record_fields: bool) -> DeepLinearRun:
    """Gradient descent on real samples. Since the network is linear, they enter the gradients by their sum vhat."""
    width, rates = max(1, round(problem.width_ratio * size)), problem.rates(steps)
    target = rng.standard_normal(size)
    target *= np.sqrt(size) / linalg.norm(target)
    weights, left = _initial_deep_linear(problem, size, width, rng), np.ones(1)
    moving = [np.zeros_like(part) for part in (*weights, left)]
    samples = _sampler(problem, size, rng)
    fan_ins = [size] + [width] * (problem.depth - 1)
    fields = [np.empty((n, steps)) for n in fan_ins + [width] * problem.depth] if record_fields else []
    kept, test, train, decay = {}, [], [], []

    def run() -> DeepLinearRun:
        losses = _read_only(test), _read_only(train), _read_only(decay)
        seen = [_read_only(field[:]) for field in fields]
        return DeepLinearRun(problem, size, *losses, kept, seen[: problem.depth], seen[problem.depth :])

    for step in range(steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            g = _deep_linear_gradients(weights)
            v = target - weights[0].T @ g[0] * np.sqrt(size / width) / problem.gamma
            vhat, residual = samples(v)
            losses = np.mean(v**2), residual
            limit = RUNAWAY * (train[0] if train else residual)
        if not np.max(losses) <= limit < np.inf:
            raise DivergenceError(f"training diverged at step {step}: the test loss is {losses[0]:.3g}", step, run())
        test.append(losses[0])
        train.append(losses[1])
        decay.append(left[0])
        if step in record:
            kept[step] = [_read_only(part.copy()) for part in weights]
        if step == steps:
            return run()
        with np.errstate(over="ignore", invalid="ignore"):
            h = _deep_linear_features(weights, vhat)
            for field, values in zip(fields, h[:-1] + g if record_fields else [], strict=True):
                field[:, step] = values
            moves = chain(_deep_linear_moves(problem, g, h), [(np.zeros(1), np.zeros(1))])
            for parameter, velocity, (column, row) in zip([*weights, left], moving, moves, strict=True):
                _descend(parameter, velocity, column, row, rates[step], problem)


def _initial_deep_linear(problem, size: int, width: int, rng) -> list[np.ndarray]:
    """[Wbar^0 (N, D), Wbar^1 (N, N), ..., w (N,)], drawn in this order."""
    fan_ins = [size] + [width] * (problem.depth - 1)
    hidden = [problem.weight_std / np.sqrt(n) * rng.standard_normal((width, n)) for n in fan_ins]
    return [*hidden, problem.weight_std * rng.standard_normal(width)]


def _sampler(problem, size: int, rng):
    """A function of v that returns vhat = sqrt(D)/P X^T Delta and <Delta Delta>, on the samples of its step."""
    ratio = problem.batch_ratio if problem.data_ratio is None else problem.data_ratio
    if ratio is None:
        return lambda v: (v, np.mean(v**2) + problem.noise_std**2)
    count = max(1, round(ratio * size))

    def draw():
        return rng.standard_normal((count, size)), problem.noise_std * rng.standard_normal(count)

    fixed = draw() if problem.batch_ratio is None else None

    def samples(v):
        inputs, noise = fixed or draw()
        delta = inputs @ v / np.sqrt(size) + noise
        return np.sqrt(size) / count * (inputs.T @ delta), np.mean(delta**2)

    return samples


def _deep_linear_gradients(weights) -> list[np.ndarray]:
    """[g^1, ..., g^L]: g^L = w, g^l = Wbar^{l,T} g^{l+1}."""
    g = [weights[-1].copy()]
    for matrix in reversed(weights[1:-1]):
        g.insert(0, matrix.T @ g[0])
    return g


def _deep_linear_features(weights, vhat) -> list[np.ndarray]:
    """[vhat, h^1, ..., h^L]: the sum over samples of Delta times what each of them sends through the network."""
    h = [vhat]
    for matrix in weights[:-1]:
        h.append(matrix @ h[-1])
    return h


def _deep_linear_moves(problem, g, h):
    """Plain steps over eta as (column, row): gamma/sqrt(nu) times g^1 vhat^T/D, g^{l+1} h^{l,T}/N, in the end h^L."""
    scale = problem.gamma * np.sqrt(len(h[0]) / len(g[0]))
    for back, feature in zip(g, h[:-1], strict=True):
        yield scale / len(feature) * back, feature
    yield scale * h[-1], np.ones(1)


def _descend(parameter, velocity, column, row, rate: float, problem) -> None:
    """V <- mu V + column row^T - lam W, W <- W + eta V, in place: large matrices are moved, not made."""
    if not problem.momentum:
        if problem.weight_decay:
            parameter *= 1 - rate * problem.weight_decay
        _add_outer(parameter, rate * column, row)
        return
    velocity *= problem.momentum
    if problem.weight_decay:
        velocity -= problem.weight_decay * parameter
    _add_outer(velocity, column, row)
    parameter += rate * velocity


def _add_outer(matrix, column, row) -> None:
    """matrix += column row^T for a C-ordered matrix (or, with a row of length 1, a vector), without a temporary."""
    blas.dger(1.0, row, column, a=matrix.reshape(len(column), len(row)).T, overwrite_a=1)


# Least squares


@dataclass(frozen=True, eq=False)
class LeastSquaresRun:
    """One trained regression in dimension `size`.

    `test_loss`, `train_loss` (steps + 1,): <v v> and <Delta Delta>, without a factor 1/2. `errors` (steps + 1, D)
    and `residuals` (steps + 1, P): v and Delta themselves, from which every two-time correlation follows.
    """

    problem: problems.LeastSquares
    size: int
    test_loss: np.ndarray
    train_loss: np.ndarray
    errors: np.ndarray
    residuals: np.ndarray


def _train_least_squares(problem, dimension: int, steps: int, rng) -> LeastSquaresRun:
    samples = max(1, round(problem.data_ratio * dimension))
    inputs = rng.standard_normal((samples, dimension))
    target = rng.standard_normal(dimension)
    target *= np.sqrt(dimension) / linalg.norm(target)
    noise = problem.noise_std * rng.standard_normal(samples)
    beta, errors, residuals = np.zeros(dimension), [], []

    def run() -> LeastSquaresRun:
        v, delta = _read_only(errors), _read_only(residuals)
        losses = _read_only(np.mean(v**2, axis=1)), _read_only(np.mean(delta**2, axis=1))
        return LeastSquaresRun(problem, dimension, *losses, v, delta)

    for step in range(steps + 1):
        v = target - beta
        delta = inputs @ v / np.sqrt(dimension) + noise
        if not np.mean(v**2) + np.mean(delta**2) <= RUNAWAY * (1 + problem.noise_std**2):
            message = f"training diverged at step {step}: the test loss is {np.mean(v**2):.3g}"
            raise DivergenceError(message, step, run())
        errors.append(v)
        residuals.append(delta)
        vhat = np.sqrt(dimension) / samples * (inputs.T @ delta)
        beta = beta + problem.learning_rate * (vhat - problem.ridge * beta)
    return run()


# Classifiers of real data


@dataclass(frozen=True, eq=False)
class ClassifierRun(_LayeredRun):
    """One classifier of width `size`.

    `train_loss`, `accuracy` (steps + 1,): mean cross-entropy of, and correct share in, the batch of each step before
    its update; the last of one batch more.
    """

    problem: problems.Classifier
    size: int
    train_loss: np.ndarray
    accuracy: np.ndarray
    _weights: dict[int, list[np.ndarray]]
    _features: tuple = ()
    _gradients: tuple = ()


def _train_classifier(problem, width: int, steps: int, rng, record, dtype) -> ClassifierRun:
    if dtype not in (np.float64, np.float32):
        raise ValueError(f"dtype must be float64 or float32, got {dtype}")
    weights = [matrix.astype(dtype) for matrix in _initial_classifier(problem, width, rng)]
    velocities = [np.zeros_like(matrix) for matrix in weights]
    rates, kept, losses, accuracies = problem.rates(steps), {}, [], []

    def run() -> ClassifierRun:
        return ClassifierRun(problem, width, _read_only(losses), _read_only(accuracies), kept)

    for step in range(steps + 1):
        inputs, labels = _drawn(problem, rng)
        with np.errstate(over="ignore", invalid="ignore"):
            preactivations, phi, f = _classified(problem, weights, inputs.astype(dtype))
            loss, correct, residual = _cross_entropy(f, labels)
        if not loss <= RUNAWAY * (losses[0] if losses else np.inf):
            raise DivergenceError(f"training diverged at step {step}: the loss is {loss:.3g}", step, run())
        losses.append(loss)
        accuracies.append(correct)
        if step in record:
            kept[step] = [_read_only(matrix.copy()) for matrix in weights]
        if step == steps:
            return run()
        g = _backward(problem, weights, preactivations, residual)
        c = dtype.type(rates[step] * problem.output_scale / len(labels))
        moves = [(c / dtype.type(problem.dimension)) * (inputs.astype(dtype).T @ g[0].T).T]
        moves += [(c / dtype.type(width)) * (back @ into.T) for back, into in zip(g[1:], phi, strict=False)]
        moves.append(c * (phi[-1] @ residual))
        for matrix, velocity, move in zip(weights, velocities, moves, strict=True):
            velocity *= dtype.type(problem.momentum)
            velocity += move
            matrix += velocity


def _initial_classifier(problem, width: int, rng) -> list[np.ndarray]:
    """[Wbar^0 (N, D), Wbar^1 (N, N), ..., w (N, C)], drawn in this order."""
    fan_ins = [problem.dimension] + [width] * (problem.depth - 1)
    hidden = [problem.weight_std / np.sqrt(n) * rng.standard_normal((width, n)) for n in fan_ins]
    return [*hidden, problem.weight_std * rng.standard_normal((width, problem.outputs))]


def _drawn(problem, rng):
    """A batch of the stream, looked at."""
    inputs, labels = problem.stream(rng)
    labels = np.asarray(labels)
    if np.ndim(inputs) != 2 or inputs.shape != (len(labels), problem.dimension):
        shape = getattr(inputs, "shape", None)
        raise ValueError(f"stream must give inputs ({len(labels)}, {problem.dimension}) for its labels, got {shape}")
    most = max(problem.outputs, 2) - 1
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() > most:
        raise ValueError(f"stream must give whole labels from 0 to {most}, got {np.unique(labels)[:9]}")
    return inputs, labels


def _classified(problem, weights, inputs):
    """[h^1, ..., h^L], [phi(h^1), ..., phi(h^L)], columns are samples, and f (B, C)."""
    preactivations, features = [(inputs @ weights[0].T).T], []
    for matrix in weights[1:-1]:
        features.append(problem.phi(preactivations[-1]))
        preactivations.append(matrix @ features[-1])
    features.append(problem.phi(preactivations[-1]))
    return preactivations, features, features[-1].T @ weights[-1] / (problem.output_scale * len(features[-1]))


def _cross_entropy(f, labels) -> tuple[float, float, np.ndarray]:
    """Mean cross-entropy, share of correct labels, residual 1[label] - p (B, C), as C = 1 or more."""
    logits = f if f.shape[1] > 1 else np.hstack([np.zeros_like(f), f])  # the logistic function is a softmax with 0
    logs = special.log_softmax(logits, axis=1)
    rows = np.arange(len(labels))
    residual = -np.exp(logs)
    residual[rows, labels] += 1
    correct = np.mean(np.argmax(logits, axis=1) == labels)
    return -float(np.mean(logs[rows, labels])), float(correct), residual[:, -f.shape[1] :]


# Many outputs


@dataclass(frozen=True, eq=False)
class FlowRun:
    """A linear network with many outputs, N = `size` neurons, at each of `times`."""

    problem: problems.FrozenReadout
    size: int
    times: np.ndarray
    _weights: np.ndarray
    _readouts: np.ndarray

    def weights(self, time: float) -> np.ndarray:
        """Wbar (N, D) at one of `times`. Raises ValueError."""
        return self._weights[self._at(time)]

    def readout(self, time: float) -> np.ndarray:
        """V (C, N), entries of order 1/sqrt(N), at one of `times`. Raises ValueError."""
        return self._readouts[self._at(time) if len(self._readouts) > 1 else 0]

    def singular_values(self, time: float, readout: bool = False) -> np.ndarray:
        """N singular values of Wbar, or of V, descending; zeros where the other side is shorter than N."""
        matrix = self.readout(time) if readout else self.weights(time)
        values = linalg.svdvals(matrix)
        return np.concatenate([values, np.zeros(self.size - len(values))])

    def _at(self, time: float) -> int:
        found = np.flatnonzero(self.times == arguments.number("time", time, at_least=0))
        if not found.size:
            raise ValueError(f"time must be one of those asked for, {self.times.tolist()}, got {time!r}")
        return int(found[0])


def flow(
    problem,
    *,
    size: int,
    times,
    rng,
    outputs: int | None = None,
    joint=False,
    activation="linear",
    accuracy: float = 1e-6,
) -> FlowRun:
    """Gradient flow of one network with many outputs: the N x D weights and, if `joint`, the readout as well.

    `problem`: a FrozenReadout; N = `size`, D = N/width_ratio and C = output_ratio N, rounded; for output_ratio 0 C is
    `outputs`. With E = tau Tbar - V Wbar, dWbar/dt = V^T E and, if `joint`, dV/dt = E Wbar^T, integrated by
    scipy.integrate.solve_ivp (Dormand and Prince) to a relative `accuracy` in the mean square of the entries.
    With another `activation` phi (a name or a pair, as in MLP) the inputs are one-hot, sqrt(D) e_d for every d, which
    are white as well: the embedding of d is column d of sqrt(D) Wbar, and

        H = phi(sqrt(D) Wbar)/sqrt(D),  E = tau Tbar - V H,  dWbar/dt = phi'(sqrt(D) Wbar) * V^T E,  dV/dt = E H^T ,

    * entry by entry. `times`: ascending, at least 0. `rng` draws Wbar(0), V(0) and Tbar, in this order. Memory: some
    ten copies of the weights, one more for each time. Raises ValueError, ConvergenceError when the integrator fails.
    """
    if not isinstance(problem, problems.FrozenReadout):
        raise ValueError(f"problem must be a problems.FrozenReadout, got {type(problem).__name__}")
    phi, phi_prime = problems._activation(activation)
    times = arguments.array("times", times, ndim=1)
    if times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"times must be ascending and at least 0, got {times.tolist()}")
    size, rng = arguments.whole("size", size, at_least=1), arguments.generator("rng", rng)
    accuracy = arguments.number("accuracy", accuracy, above=0)
    C, D = _count_outputs(problem, size, outputs), round(size / problem.width_ratio)
    if D < 1:
        raise ValueError(f"size must leave at least one input dimension, got {size}")
    wbar = problem.weight_std * rng.standard_normal((size, D)) / np.sqrt(D)
    v = rng.standard_normal((C, size)) / np.sqrt(size)
    target = problem.target_scale * rng.standard_normal((C, D)) / np.sqrt(D)
    straight = activation == "linear" and not joint
    velocity = _frozen_flow(v, target) if straight else _flow(v, target, phi, phi_prime, joint)
    start = np.concatenate([wbar.ravel(), v.ravel()]) if joint else wbar.ravel()
    path = solve_ivp(velocity, (0, times[-1]), start, t_eval=times, rtol=accuracy, atol=accuracy / np.sqrt(size))
    if not path.success:
        raise ConvergenceError(f"the integrator stopped at time {path.t[-1]:.3g}: {path.message}", path.y)
    weights = path.y[: wbar.size].T.reshape(-1, size, D)
    readouts = path.y[wbar.size :].T.reshape(-1, C, size) if joint else v[None]
    return FlowRun(problem, size, times, weights, readouts)


def _count_outputs(problem, size: int, outputs) -> int:
    if problem.output_ratio:
        if outputs is not None:
            raise ValueError(f"outputs must be None where output_ratio is above 0, got {outputs!r}")
        outputs = round(problem.output_ratio * size)
    return arguments.whole("outputs", outputs, at_least=1)


def _frozen_flow(v, target):
    """The velocity of Wbar, V^T target - V^T V Wbar, in a linear network."""
    drive, square = v.T @ target, v.T @ v

    def velocity(_, flat):
        return (drive - square @ flat.reshape(drive.shape)).ravel()

    return velocity


def _flow(v, target, phi, phi_prime, joint):
    """The velocities of Wbar and, if `joint`, of V, one after the other."""
    (C, N), D = v.shape, target.shape[1]

    def velocity(_, flat):
        embedding = np.sqrt(D) * flat[: N * D].reshape(N, D)
        readout = flat[N * D :].reshape(C, N) if joint else v
        hidden = phi(embedding) / np.sqrt(D)
        error = target - readout @ hidden
        first = phi_prime(embedding) * (readout.T @ error)
        return np.concatenate([first.ravel(), (error @ hidden.T).ravel()]) if joint else first.ravel()

    return velocity

"""Deep linear networks on Gaussian samples: a training set, fresh batches, or the population."""

import copy
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import linalg
from scipy.linalg import blas

from .. import problems
from ..errors import DivergenceError
from . import curvature
from .run import RUNAWAY, LayeredRun, initial_weights, read_only


@dataclass(frozen=True, eq=False)
class DeepLinearRun(LayeredRun):
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

    def data(self, step: int = 0) -> tuple:
        """Target wstar (D,), samples X (P, D) and their noise (P,) in use at `step`; the population's are None, None.

        The samples: the training set or, with fresh batches, that step's batch. They are not kept but drawn again at
        every call, from the state that the generator had before training: 8 P D bytes, the initial weights once more
        while it lasts, and with fresh batches the time of drawing all the earlier ones. Raises ValueError, also when
        the generator does not give the same draws again.
        """
        return self._replayed(self._step(step))

    def inputs(self, step: int = 0) -> np.ndarray:
        """The samples X (P, D) of `data`. Raises ValueError as it does, and for the population, which has none."""
        inputs = self.data(step)[1]
        if inputs is None:
            raise ValueError("problem must have samples, got the population: neither data_ratio nor batch_ratio")
        return inputs

    def error(self, step: int) -> np.ndarray:
        """v = wstar - beta (D,), what is left to learn at a recorded step. Raises ValueError."""
        return self._error(self._kept(step), self._replayed(None)[0])

    def leading_mode(self, step: int, population: bool = False) -> curvature.MeasuredMode:
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
        v, rates = self._error(weights, target), curvature.tangent_rates(self.size, _backward(weights))
        return curvature.leading_mode(lambda q: curvature.tangent(weights, rates, _forward(weights, q)), inputs, v)

    def ntk_spectrum(self, step: int, population: bool = False) -> np.ndarray:
        """All D eigenvalues, descending, of the operator of `leading_mode`.

        M and Sigma are formed: 8 D^2 bytes a few times over, for D up to a few thousand. Raises ValueError.
        """
        weights = self._kept(step)
        inputs = self._replayed(None if _flag("population", population) else step)[1]
        return curvature.ntk_spectrum(weights, curvature.tangent_rates(self.size, _backward(weights)), inputs)

    def tangent_rates(self, step: int) -> np.ndarray:
        """rho_0 .. rho_L of `leading_mode` at a recorded step, (depth + 1,): how fast each layer moves the function.

        No eigenvalue of M is below rho_0. Raises ValueError.
        """
        return read_only(curvature.tangent_rates(self.size, _backward(self._kept(step))))

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
        passes = _backward(weights), _forward(weights, vhat)
        return curvature.hessian_top(self.problem.gamma, weights, *passes, covariance)

    def _error(self, weights, target) -> np.ndarray:
        back = weights[0].T @ _backward(weights)[0]
        return target - back * np.sqrt(self.size / len(weights[-1])) / self.problem.gamma

    def _replayed(self, step: int | None):
        """wstar, and the samples and noise of a step (None, None: of none, or there are none): drawn once more."""
        if self._start is None:
            raise ValueError("a run must come from networks.train, its data are drawn again from there")
        rng, width = _Witness(copy.deepcopy(self._start)), len(self._weights[0][-1])
        target = rng.standard_normal(self.size)
        target *= np.sqrt(self.size) / linalg.norm(target)
        initial = initial_weights(self.problem, self.size, width, width, rng)
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


def train(problem, size: int, steps: int, rng, bar, record, record_fields: bool) -> DeepLinearRun:
    """Gradient descent on real samples. Since the network is linear, they enter the gradients by their sum vhat."""
    start, width, rates = copy.deepcopy(rng), max(1, round(problem.width_ratio * size)), problem.rates(steps)
    target = rng.standard_normal(size)
    target *= np.sqrt(size) / linalg.norm(target)
    weights, left = initial_weights(problem, size, width, width, rng), np.ones(1)
    moving = [np.zeros_like(part) for part in (*weights, left)]
    samples = _sampler(problem, size, rng)
    fan_ins = [size] + [width] * (problem.depth - 1)
    fields = [np.empty((n, steps)) for n in fan_ins + [width] * problem.depth] if record_fields else []
    kept, test_loss, train_loss, decay = {}, [], [], []

    def run() -> DeepLinearRun:
        losses, seen = map(read_only, (test_loss, train_loss, decay)), [read_only(field[:]) for field in fields]
        return DeepLinearRun(problem, size, *losses, kept, seen[: problem.depth], seen[problem.depth :], start)

    for step in range(steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            g = _backward(weights)
            v = target - weights[0].T @ g[0] * np.sqrt(size / width) / problem.gamma
            vhat, residual = samples(v)
            losses = np.mean(v**2), residual
            limit = RUNAWAY * (train_loss[0] if train_loss else residual)
        if not np.max(losses) <= limit < np.inf:
            raise DivergenceError(f"training diverged at step {step}: the test loss is {losses[0]:.3g}", step, run())
        test_loss.append(losses[0])
        train_loss.append(losses[1])
        decay.append(left[0])
        if step in record:
            kept[step] = [read_only(part.copy()) for part in weights]
        if step == steps:
            return run()
        with np.errstate(over="ignore", invalid="ignore"):
            h = _forward(weights, vhat)
            for field, values in zip(fields, h[:-1] + g if record_fields else [], strict=True):
                field[:, step] = values
            moves = chain(_moves(problem, g, h), [(np.zeros(1), np.zeros(1))])
            for parameter, velocity, (column, row) in zip([*weights, left], moving, moves, strict=True):
                _descend(parameter, velocity, column, row, rates[step], problem)
        bar.update()


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


def _backward(weights) -> list[np.ndarray]:
    """[g^1, ..., g^L]: g^L = w, g^l = Wbar^{l,T} g^{l+1}."""
    g = [weights[-1].copy()]
    for matrix in reversed(weights[1:-1]):
        g.insert(0, matrix.T @ g[0])
    return g


def _forward(weights, vhat) -> list[np.ndarray]:
    """[vhat, h^1, ..., h^L]: the sum over samples of Delta times what each of them sends through the network."""
    h = [vhat]
    for matrix in weights[:-1]:
        h.append(matrix @ h[-1])
    return h


def _moves(problem, g, h):
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

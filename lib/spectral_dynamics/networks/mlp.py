"""Multilayer perceptrons on given samples: all of them at every step, or batches of them."""

from dataclasses import dataclass

import numpy as np

from .. import problems
from ..errors import DivergenceError
from . import curvature
from .run import RUNAWAY, LayeredRun, backward, initial_weights, read_only


@dataclass(frozen=True, eq=False)
class MLPRun(LayeredRun):
    """One trained network of width `size`.

    `train_loss` (steps + 1,): the problem's `mean_loss` over all P samples, of the squared residual summed over
    outputs, or of the cross-entropy. `predictions` (steps + 1, P, outputs): f, less f(0) if that was asked for.
    """

    problem: problems.MLP
    size: int
    train_loss: np.ndarray
    predictions: np.ndarray
    _weights: dict[int, list[np.ndarray]]
    _features: list[np.ndarray]
    _gradients: list[np.ndarray]

    @property
    def decay(self) -> np.ndarray:
        """What weight decay has left of the initial weights, (steps + 1,)."""
        return read_only(_carried(self.problem, np.ones(1), np.zeros((self.steps, 1)))[:, 0])

    def coefficients(self, step: int | None = None) -> np.ndarray:
        """The weight c of each recorded column: Wbar(step) - decay Wbar(0) = gradients diag(c) features^T/fan-in."""
        step = self._step(step)
        batches = [len(self.problem.batch(s)) for s in range(step)]
        moved = _carried(self.problem, np.zeros(step), np.eye(step))[-1]
        return np.repeat(moved * self.problem.scale(self.size) / np.maximum(batches, 1), batches)

    def tangent_kernel(self, step: int) -> np.ndarray:
        """K of this network at a kept step, (P, outputs, P, outputs): K^{oo'}_{mu nu} is [mu, o, nu, o'].

        That of gamma f with all weights trained, of order one in both parametrizations: to first order in eta a plain
        step on all samples moves f by eta K Delta/P. With g^{l,o} made from w_o in place of sum_o Delta_o w_o, and
        < > a mean over neurons,

            K^{oo'}_{mu nu} = sum_{l=0..L-1} Phi^l_{mu nu} <g^{l+1,o}_mu g^{l+1,o'}_nu> + delta_{oo'} Phi^L_{mu nu} ,
            Phi^0 = x.x'/D ,  Phi^l = <phi(h^l) phi(h^l)> .

        Takes 8 (P outputs)^2 bytes a few times over. Raises ValueError.
        """
        problem, weights = self.problem, self._kept(step)
        preactivations, phi = _forward(problem, weights)
        shape = problem.targets.shape
        ones = [np.broadcast_to(unit, shape) for unit in np.eye(problem.outputs)]
        back = [backward(problem, weights, preactivations, one) for one in ones]
        kernel = np.einsum("mn,op->monp", phi[-1].T @ phi[-1] / self.size, np.eye(problem.outputs))
        for g, features in zip(zip(*back, strict=True), phi[:-1], strict=True):
            g = np.stack(g, axis=-1).reshape(self.size, -1)  # columns are pairs (sample, output)
            moved = features.T @ features / len(features)
            kernel += (g.T @ g / self.size).reshape(kernel.shape) * moved[:, None, :, None]
        return kernel

    def leading_mode(self, step: int) -> curvature.MeasuredMode:
        """The largest eigenvalue of the tangent kernel's operator M K/P at a kept step, on all P samples.

        f' = eta K Delta/P moves the residual by Delta' = -eta M K Delta/P, M the problem's `output_metric`: the
        identity, or diag p - p p^T for the cross-entropy. Small deviations from the squared loss's minimum shrink as
        long as eta times the value is below 2, with momentum below 2 (1 + momentum). `direction` (P, outputs): the
        eigenvector of M K. By Lanczos on the symmetric form, K is never formed: memory is that of 2 L fields (N, P)
        and L + 1 kernels (P, P). Raises ValueError, and ConvergenceError when Lanczos stops short.
        """
        f = self.predictions[self._step(step)]
        product = _tangent_product(self.problem, self._kept(step))
        return curvature.output_mode(product, self.problem.output_metric(f), self.problem.residual(f))

    def _decay(self, step: int) -> float:
        return float(self.decay[step])

    def _columns_before(self, step: int) -> int:
        return sum(len(self.problem.batch(s)) for s in range(step))


def train(problem, width: int, steps: int, rng, bar, record, record_fields, subtract_initial) -> MLPRun:
    """Gradient descent, plain or with momentum, on the batches of the problem."""
    rates, scale = problem.rates(steps), problem.scale(width)
    batches = [problem.batch(step) for step in range(steps)]
    weights = initial_weights(problem, problem.inputs.shape[1], width, (width, problem.outputs), rng)
    velocities = [np.zeros_like(matrix) for matrix in weights] if problem.momentum else []
    starts = np.cumsum([0, *map(len, batches)])  # the first recorded column of each step
    fields = _empty_fields(problem, width, starts[-1]) if record_fields else ([], [])
    kept, losses, predictions, offset = {}, [], [], 0.0

    def run() -> MLPRun:
        seen = ([read_only(field[:]) for field in side] for side in fields)
        return MLPRun(problem, width, read_only(losses), read_only(predictions), kept, *seen)

    for step in range(steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            preactivations, phi = _forward(problem, weights)
            f = phi[-1].T @ weights[-1] / (scale * width)
            offset = f if subtract_initial and step == 0 else offset
            loss = problem.mean_loss(f - offset)
        if not loss <= RUNAWAY * (losses[0] if losses else np.inf):
            raise DivergenceError(f"training diverged at step {step}: the loss is {loss:.3g}", step, run())
        losses.append(loss)
        predictions.append(f - offset)
        if step in record:
            kept[step] = [read_only(matrix) for matrix in weights]
        if step == steps:
            return run()
        batch = batches[step]
        phi, residual = [p[:, batch] for p in phi], problem.residual(predictions[-1][batch], batch)
        g = backward(problem, weights, [h[:, batch] for h in preactivations], residual)
        for field, values in zip(fields[0] + fields[1], phi[:-1] + g if record_fields else [], strict=True):
            field[:, starts[step] : starts[step + 1]] = values
        rate = 1.0 if problem.momentum else rates[step]
        moves = _moves(phi, g, residual, rate * scale / len(batch))
        weights = _moved(problem, weights, velocities, moves, rates[step])
        bar.update()


def _empty_fields(problem, width: int, columns: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    fan_ins = [problem.inputs.shape[1]] + [width] * (problem.depth - 1)
    return [np.empty((n, columns)) for n in fan_ins], [np.empty((width, columns)) for _ in fan_ins]


def _forward(problem, weights) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """[h^1, ..., h^L] and [x, phi(h^1), ..., phi(h^L)]; columns are samples."""
    preactivations, features = [], [problem.inputs.T]
    for matrix in weights[:-1]:
        preactivations.append(matrix @ features[-1])
        features.append(problem.phi(preactivations[-1]))
    return preactivations, features


def _tangent_product(problem, weights):
    """The product of the tangent kernel with (P, outputs): backwards, then forwards with weights that have moved."""
    preactivations, phi = _forward(problem, weights)
    kernels = [features.T @ features / len(features) for features in phi]

    def product(x):
        g, moved = backward(problem, weights, preactivations, x), np.zeros_like(phi[0])
        for matrix, back, h, kernel in zip(weights[:-1], g, preactivations, kernels[:-1], strict=True):
            moved = problem.phi_prime(h) * (back @ kernel + matrix @ moved)
        return kernels[-1] @ x + moved.T @ weights[-1] / len(weights[-1])

    return product


def _moves(features, gradients, residual, c: float) -> list[np.ndarray]:
    """(c/fan-in) g^{l+1} phi(h^l)^T of every layer, and of the read-out c phi(h^L) Delta."""
    pairs = zip(gradients, features[:-1], strict=True)
    return [*((c / len(phi)) * (g @ phi.T) for g, phi in pairs), c * features[-1] @ residual]


def _moved(problem, weights, velocities, moves, rate: float) -> list[np.ndarray]:
    """W + eta V as new arrays, V <- mu V + G - lam W in place. `moves`: G, or without momentum eta G."""
    decay, pairs = problem.weight_decay, zip(weights, moves, strict=True)
    if not problem.momentum:
        return [(1 - rate * decay) * matrix + move for matrix, move in pairs]
    for velocity, (matrix, move) in zip(velocities, pairs, strict=True):
        velocity *= problem.momentum
        velocity += move - decay * matrix
    return [matrix + rate * velocity for matrix, velocity in zip(weights, velocities, strict=True)]


def _carried(problem, start, impulses) -> np.ndarray:
    """What becomes of scalar weights (K,) whose plain steps are `impulses` (steps, K): (steps + 1, K)."""
    weights, velocity = [start], np.zeros_like(start)
    for rate, impulse in zip(problem.rates(len(impulses)), impulses, strict=True):
        velocity = problem.momentum * velocity + impulse - problem.weight_decay * weights[-1]
        weights.append(weights[-1] + rate * velocity)
    return np.array(weights)

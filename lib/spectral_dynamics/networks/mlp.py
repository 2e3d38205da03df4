"""Multilayer perceptrons on given samples: all of them at every step, or batches of them."""

from dataclasses import dataclass

import numpy as np

from .. import problems
from ..errors import DivergenceError
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

"""Multilayer perceptrons on given samples: all of them at every step, or batches of them."""

from dataclasses import dataclass

import numpy as np

from .. import problems
from ..errors import DivergenceError
from .run import RUNAWAY, LayeredRun, backward, initial_weights, read_only


@dataclass(frozen=True, eq=False)
class MLPRun(LayeredRun):
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


def train(problem, width: int, steps: int, rng, bar, record, record_fields, subtract_initial) -> MLPRun:
    """Gradient descent on the batches of the problem."""
    rates, scale = problem.rates(steps), problem.scale(width)
    batches = [problem.batch(step) for step in range(steps)]
    weights = initial_weights(problem, problem.inputs.shape[1], width, (width, problem.outputs), rng)
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
            residual = problem.targets - (f - offset)
            loss = np.sum(residual**2) / problem.samples
        if not loss <= RUNAWAY * (losses[0] if losses else np.inf):
            raise DivergenceError(f"training diverged at step {step}: the loss is {loss:.3g}", step, run())
        losses.append(loss)
        predictions.append(f - offset)
        if step in record:
            kept[step] = [read_only(matrix) for matrix in weights]
        if step == steps:
            return run()
        batch = batches[step]
        phi, residual = [p[:, batch] for p in phi], residual[batch]
        g = backward(problem, weights, [h[:, batch] for h in preactivations], residual)
        for field, values in zip(fields[0] + fields[1], phi[:-1] + g if record_fields else [], strict=True):
            field[:, starts[step] : starts[step + 1]] = values
        weights = _updated(weights, phi, g, residual, rates[step] * scale / len(batch))
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


def _updated(weights, features, gradients, residual, c: float) -> list[np.ndarray]:
    """Wbar^l + (c/fan-in) g^{l+1} phi(h^l)^T and w + c phi(h^L) Delta, as new arrays."""
    pairs = zip(weights[:-1], gradients, features[:-1], strict=True)
    hidden = [matrix + (c / len(phi)) * (g @ phi.T) for matrix, g, phi in pairs]
    return [*hidden, weights[-1] + c * features[-1] @ residual]

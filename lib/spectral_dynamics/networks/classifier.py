"""Classifiers in muP on streams of real data, by cross-entropy."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from .. import problems
from ..errors import DivergenceError
from .run import RUNAWAY, LayeredRun, backward, initial_weights, read_only


@dataclass(frozen=True, eq=False)
class ClassifierRun(LayeredRun):
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


def train(problem, width: int, steps: int, rng, bar, record, dtype) -> ClassifierRun:
    """Heavy ball on one batch of the stream after the other."""
    if dtype not in (np.float64, np.float32):
        raise ValueError(f"dtype must be float64 or float32, got {dtype}")
    start = initial_weights(problem, problem.dimension, width, (width, problem.outputs), rng)
    weights = [matrix.astype(dtype) for matrix in start]
    velocities = [np.zeros_like(matrix) for matrix in weights]
    rates, kept, losses, accuracies = problem.rates(steps), {}, [], []

    def run() -> ClassifierRun:
        return ClassifierRun(problem, width, read_only(losses), read_only(accuracies), kept)

    for step in range(steps + 1):
        inputs, labels = _drawn(problem, rng)
        with np.errstate(over="ignore", invalid="ignore"):
            preactivations, phi, f = _forward(problem, weights, inputs.astype(dtype))
            loss, correct, residual = _cross_entropy(f, labels)
        if not loss <= RUNAWAY * (losses[0] if losses else np.inf):
            raise DivergenceError(f"training diverged at step {step}: the loss is {loss:.3g}", step, run())
        losses.append(loss)
        accuracies.append(correct)
        if step in record:
            kept[step] = [read_only(matrix.copy()) for matrix in weights]
        if step == steps:
            return run()
        g = backward(problem, weights, preactivations, residual)
        c = dtype.type(rates[step] * problem.output_scale / len(labels))
        moves = [(c / dtype.type(problem.dimension)) * (inputs.astype(dtype).T @ g[0].T).T]
        moves += [(c / dtype.type(width)) * (back @ into.T) for back, into in zip(g[1:], phi, strict=False)]
        moves.append(c * (phi[-1] @ residual))
        for matrix, velocity, move in zip(weights, velocities, moves, strict=True):
            velocity *= dtype.type(problem.momentum)
            velocity += move
            matrix += velocity
        bar.update()


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


def _forward(problem, weights, inputs):
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

"""How weights move: V <- momentum V + G - weight_decay W, W <- W + eta V, and who pushes them at each step."""

from dataclasses import dataclass

import numpy as np

from .deep_linear import optimizer_kernel


class Moving:
    """Weights of any shape, `value`, moved by what pushes them; in units where one step of plain descent is eta G."""

    def __init__(self, value, problem):
        self.value, self._velocity = value, 0.0
        self._momentum, self._weight_decay = problem.momentum, problem.weight_decay

    def push(self, G, rate: float, rows=None) -> None:
        """One step; `rows`: G is that of these rows alone, and 0 elsewhere. (The array that was handed in moves.)"""
        rate = self.value.dtype.type(rate)
        if not self._momentum and not self._weight_decay:
            self.value[slice(None) if rows is None else rows] += rate * G
            return
        if rows is not None:
            whole = np.zeros_like(self.value)
            whole[rows] = G
            G = whole
        self._velocity = self._momentum * self._velocity + G - self._weight_decay * self.value
        self.value = self.value + rate * self._velocity

    def pad(self, *shape: int) -> None:
        """Room for directions that have come since, where nothing is learned yet."""
        room = [(0, new - old) for new, old in zip(shape, self.value.shape, strict=True)]
        if np.any(room):
            self.value = np.pad(self.value, room)
            self._velocity = np.pad(self._velocity, room) if np.ndim(self._velocity) else self._velocity


@dataclass(frozen=True)
class Schedule:
    """What the steps of a problems.MLP are.

    `batches`: the samples that each of `steps` updates visits, each of them once, and `times`, how often; `scales`
    (steps,): gamma0/|batch|; `rates` (steps,). `memory` (steps + 1, steps): what the push of step s weighs in the
    weights at t, and `decay` (steps + 1,): what is left there of the initial ones. `kernel` (P, P): x.x'/D.
    """

    batches: list
    times: list
    scales: np.ndarray
    rates: np.ndarray
    memory: np.ndarray
    decay: np.ndarray
    kernel: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.batches)

    def batch(self, step: int) -> np.ndarray:
        """The samples of a step, none after the last one."""
        return self.batches[step] if step < self.steps else np.zeros(0, int)

    def weights(self, step: int) -> np.ndarray:
        """How much each sample of a step counts."""
        return self.scales[step] * self.times[step]

    def pushes(self, step: int) -> np.ndarray:
        """What each pair (s, sample) that was visited before `step` weighs in the weights there."""
        parts = [self.memory[step, s] * self.weights(s) for s in range(step)]
        return np.concatenate([np.zeros(0), *parts])

    def index(self, steps: int) -> np.ndarray:
        """(step, sample) of all pairs before a step."""
        pairs = [np.column_stack([np.full(len(one), step), one]) for step, one in enumerate(self.batches[:steps])]
        return np.concatenate([np.zeros((0, 2), int), *pairs])


def _visited(batch) -> tuple[np.ndarray, np.ndarray]:
    """Its samples, in the order in which they first appear, and how often each does."""
    samples, first, times = np.unique(batch, return_index=True, return_counts=True)
    order = np.argsort(first)
    return samples[order], times[order]


def schedule(problem, steps: int) -> Schedule:
    """Of so many steps of a problems.MLP. Raises ValueError where its rates or batches end before."""
    visited = [_visited(problem.batch(step)) for step in range(steps)]
    times = [times for _, times in visited]
    scales = np.array([problem.output_scale / max(one.sum(), 1) for one in times])
    memory, decay = optimizer_kernel(problem, steps)
    kernel = problem.inputs @ problem.inputs.T / problem.inputs.shape[1]
    batches = [batch for batch, _ in visited]
    return Schedule(batches, times, scales, problem.rates(steps), memory[:, :steps], decay, kernel)

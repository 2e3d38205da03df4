"""Networks with many outputs, by gradient flow."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.integrate import solve_ivp

from .. import arguments, problems
from ..errors import ConvergenceError


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
    times = _ascending(times)
    size, rng = arguments.whole("size", size, at_least=1), arguments.generator("rng", rng)
    accuracy = arguments.number("accuracy", accuracy, above=0)
    wbar, v, target = _drawn(problem, size, outputs, rng)
    straight = activation == "linear" and not joint
    velocity = _frozen_flow(v, target) if straight else _flow(v, target, phi, phi_prime, joint)
    start = np.concatenate([wbar.ravel(), v.ravel()]) if joint else wbar.ravel()
    path = solve_ivp(velocity, (0, times[-1]), start, t_eval=times, rtol=accuracy, atol=accuracy / np.sqrt(size))
    if not path.success:
        raise ConvergenceError(f"the integrator stopped at time {path.t[-1]:.3g}: {path.message}", path.y)
    weights = path.y[: wbar.size].T.reshape(-1, *wbar.shape)
    readouts = path.y[wbar.size :].T.reshape(-1, *v.shape) if joint else v[None]
    return FlowRun(problem, size, times, weights, readouts)


def _ascending(times) -> np.ndarray:
    times = arguments.array("times", times, ndim=1)
    if times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"times must be ascending and at least 0, got {times.tolist()}")
    return times


def _drawn(problem, size: int, outputs, rng):
    """Wbar(0) (N, D), V(0) (C, N) and tau Tbar (C, D), in this order."""
    C, D = _count_outputs(problem, size, outputs), round(size / problem.width_ratio)
    if D < 1:
        raise ValueError(f"size must leave at least one input dimension, got {size}")
    wbar = problem.weight_std * rng.standard_normal((size, D)) / np.sqrt(D)
    v = rng.standard_normal((C, size)) / np.sqrt(size)
    return wbar, v, problem.target_scale * rng.standard_normal((C, D)) / np.sqrt(D)


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

"""What several kinds share: a matrix before and after training, a run that kept its layers, weights at the start."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import svds

from .. import arguments

RUNAWAY = 1e6  # a loss this many times its start is divergence; spikes at the edge of stability stay far below


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


def directions(initial, final, count: int, matvecs: int = 0, decay: float = 1.0) -> Recording:
    """A recording along the leading directions of what was learned, from two matrices: those of any training.

    `initial`, `final` (M, N): Wbar at the start and later, entries over sqrt(fan-in). The directions: left and right
    singular vectors u, v of the `count` largest singular values of the learned change, final - decay initial, and,
    for each of `matvecs` rounds, the images initial^T u on the right and initial v on the left of the round before;
    (1 + matvecs) count columns on either side. `decay`: what weight decay has left of `initial` in `final`. A change
    of lower rank has fewer: directions that rounding would choose, below 1e-5 of the largest singular value, come as
    columns shorter than 1, down to 0. Raises ValueError on bad input, also where nothing has changed.

    >>> rng = np.random.default_rng(0)
    >>> before = rng.standard_normal((300, 200)) / np.sqrt(200)
    >>> after = before + 3 * np.outer(rng.standard_normal(300), rng.standard_normal(200)) / np.sqrt(300 * 200)
    >>> recording = networks.directions(before, after, count=1, matvecs=1)
    >>> recording.gradients.shape, recording.features.shape
    ((300, 2), (200, 2))
    >>> predicted = spectra.outliers.from_recording(recording).singular_values
    >>> print(predicted.round(1), np.linalg.svd(after)[1][0].round(1))
    [3.3] 3.3
    """
    initial = arguments.array("initial", initial, ndim=2)
    final = arguments.array("final", final, shape=initial.shape)
    count, matvecs = _count("count", count, initial), arguments.whole("matvecs", matvecs)
    decay = arguments.number("decay", decay, above=0)
    change = arguments.array("final - decay * initial", final - decay * initial)
    if not change.any():
        raise ValueError("final must be another matrix than decay * initial, got no change at all")
    rounding = np.finfo(float).eps * linalg.norm(final) / np.sqrt(min(final.shape))
    blocks = [_leading_directions(change, count, rounding)]
    for _ in range(matvecs):
        left, right = blocks[-1]
        blocks.append((initial @ right, initial.T @ left))
    return Recording(initial, final, np.hstack([v for _, v in blocks]), np.hstack([u for u, _ in blocks]), decay)


def _learned(initial, final, decay: float, count, matvecs: int) -> Recording:
    """The same of a layer of a run, where the arguments have other names."""
    count = _count("directions", count, initial)
    if not np.any(final - decay * initial):
        raise ValueError("step must be one at which the layer has learned something, got one with no change at all")
    return directions(initial, final, count, matvecs, decay)


def _count(name: str, value, matrix) -> int:
    value, full = arguments.whole(name, value, at_least=1), min(matrix.shape)
    if value > full:
        raise ValueError(f"{name} must be at most {full}, got {value}")
    return value


def _leading_directions(change: np.ndarray, count: int, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Left and right singular vectors of the `count` largest singular values, as columns, descending.

    Signs are those of v's product with a vector drawn once and for all. `rounding` is the size of what rounding
    leaves of nothing in `change`. Directions with values below 10^4 times that, or 10^-5 of the largest, are known
    too badly to be the same on two machines: they are shrunk, far below to nothing.
    """
    full = min(change.shape)
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


# A run of a layered network


class LayeredRun:
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
        return _learned(initial, final, decay, directions, matvecs)

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


def read_only(values) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    array.setflags(write=False)
    return array


# Before the first step, and in each


def recorded_steps(record, steps: int) -> set[int]:
    if record is None:
        return {0, steps}
    chosen = {arguments.whole("record", step) for step in np.atleast_1d(np.asarray(record, dtype=object))}
    if not chosen or max(chosen) > steps:
        raise ValueError(f"record must name one or more steps from 0 to {steps}, got {record!r}")
    return {0} | chosen


def initial_weights(problem, dimension: int, width: int, readout, rng) -> list[np.ndarray]:
    """[Wbar^0 (N, D), Wbar^1 (N, N), ..., w of shape `readout`], drawn in this order."""
    fan_ins = [dimension] + [width] * (problem.depth - 1)
    hidden = [problem.weight_std / np.sqrt(n) * rng.standard_normal((width, n)) for n in fan_ins]
    return [*hidden, problem.weight_std * rng.standard_normal(readout)]


def backward(problem, weights, preactivations, residual) -> list[np.ndarray]:
    """[g^1, ..., g^L]: g^L = phi'(h^L) sum_o Delta_o w_o, g^l = phi'(h^l) Wbar^{l,T} g^{l+1}."""
    z, gradients = weights[-1] @ residual.T, []
    for layer in range(problem.depth - 1, -1, -1):
        gradients.insert(0, problem.phi_prime(preactivations[layer]) * z)
        z = weights[layer].T @ gradients[0] if layer else None
    return gradients

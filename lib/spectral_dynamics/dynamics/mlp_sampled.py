"""Infinitely wide networks of any activation, by sampling: the march of the equations at the head of `mlp`."""

from dataclasses import dataclass, field

import numpy as np
from scipy import linalg

from .order import OrderParameters
from .sites import Basis, Layer


@dataclass
class Matrix:
    """What one replica knows of the weights between two hidden layers: bases of both sides, and what was learned.

    Of every step so far: `a`, `b` coordinates of the features and gradients of its batch (padded with nothing: each
    as long as its basis was), `c` (batch,) the rates of its samples, and the sizes of the bases after it.
    """

    features: Basis
    gradients: Basis
    M: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    a: list = field(default_factory=list)
    b: list = field(default_factory=list)
    c: list = field(default_factory=list)
    lost: list = field(default_factory=list)

    def forward(self, phi, samples, std: float, kept: bool):
        """W phi: what the initial matrix makes of the features, its memory of the gradients, and what was learned."""
        a, u = self.features.show(phi, samples, kept)
        self._widen()
        answer = self.features.near.mean(phi, self.gradients.xi)
        return a, std * u + (std * answer + _padded(a, self.M.shape[1]) @ self.M.T) @ self.gradients.e

    def backward(self, g, samples, std: float):
        """W^T g, likewise."""
        b, r = self.gradients.show(g, samples, kept=True)
        self._widen()
        answer = self.gradients.near.mean(g, self.features.xi)
        return b, std * r + (std * answer + b @ self.M) @ self.features.e

    def learn(self, a, b, c) -> None:
        self.a, self.b, self.c = [*self.a, a], [*self.b, b], [*self.c, c]
        self.M = self.M + (c[:, None] * b).T @ _padded(a, self.M.shape[1])

    def _widen(self) -> None:
        rows, columns = len(self.gradients.e) - self.M.shape[0], len(self.features.e) - self.M.shape[1]
        self.M = np.pad(self.M, [(0, rows), (0, columns)])

    def order(self, step: int, std: float) -> OrderParameters:
        """For level two, after `step` updates; the bases have grown since, and are cut back."""
        r_h, r_g = self.a[step - 1].shape[1], self.b[step - 1].shape[1]
        a = np.concatenate([_padded(one, r_h) for one in self.a[:step]])
        b = np.concatenate([_padded(one, r_g) for one in self.b[:step]])
        e, eh = self.features.e[:r_h], self.gradients.e[:r_g]
        return OrderParameters(
            C_h=np.eye(r_h),
            C_g=np.eye(r_g),
            A=self.features.near.mean(e, self.gradients.xi[:r_g]) / std,
            B=self.gradients.near.mean(eh, self.features.xi[:r_h]) / std,
            c=(np.concatenate(self.c[:step])[:, None] * b).T @ a,
            weight_variance=std**2,
            features=a,
            gradients=b,
        )


def _padded(coordinates, size: int):
    return np.pad(coordinates, [(0, 0), (0, size - coordinates.shape[1])])


class Replica:
    """One solution: the sites of every layer, and what the matrices between them know."""

    def __init__(self, problem, record, count: int, rng, cutoff: float):
        self.problem, self.record, depth = problem, record, problem.depth
        self.layers = [None, *(Layer(count, rng) for _ in range(depth))]
        pairs = zip(self.layers[1:], self.layers[2:], strict=False)
        sides = [
            (Basis(near, far, cutoff, problem.samples), Basis(far, near, cutoff, problem.samples))
            for near, far in pairs
        ]
        self.matrices = [None, *(Matrix(*both) for both in sides)]
        root = kernel_root(problem.inputs)
        first = self.layers[1].strangers(self.layers[1].normal(root.shape[1]))
        self.layers[1].know(first)
        self.u, self.Q, self.w = problem.weight_std * root @ first, np.zeros((problem.samples, count)), None

    def observe(self, t: int):
        """Loss, predictions, kernels, and the variance that sampling w phi leaves in the predictions, their mean."""
        problem, last = self.problem, self.layers[-1]
        batch = self.record.batches[t] if t < len(self.record.batches) else np.zeros(0, int)
        others = np.setdiff1d(np.arange(problem.samples), batch)
        self._seen = self._forward(batch, kept=True)
        phi = self._seen[1]
        whole = [np.empty((problem.samples, last.count)) for _ in phi]
        for samples, fields in ((batch, phi), (others, self._forward(others, kept=False)[1])):
            for into, values in zip(whole, fields, strict=True):
                into[samples] = values
        if self.w is None:  # f(0) = 0, whatever the sites
            last.know(_directions(whole[-1], last))
            start = last.strangers(last.normal(problem.outputs))
            last.know(start)
            self.w = problem.weight_std * start
        f = last.mean(whole[-1], self.w) / problem.output_scale * (t > 0)
        scatter = last.mean(whole[-1] ** 2, self.w**2) / problem.output_scale**2 - f**2
        kernels = np.stack([last.mean(one, one) for one in whole])
        self._delta = problem.targets[batch] - f[batch]
        return np.sum((problem.targets - f) ** 2) / problem.samples, f, kernels, np.mean(scatter) / last.count

    def update(self, t: int) -> None:
        """The step that the batch of step t makes."""
        problem, batch, c = self.problem, self.record.batches[t], self.record.c(t)
        (h, phi, a), delta = self._seen, self._delta
        z = delta @ self.w
        self.w = self.w + (c[:, None] * delta).T @ phi[-1]
        for l in range(problem.depth, 0, -1):
            g = problem.phi_prime(h[l - 1]) * z
            if l == 1:
                self.Q[batch] += c[:, None] * g
                return
            matrix = self.matrices[l - 1]
            b, z = matrix.backward(g, batch, problem.weight_std)
            matrix.learn(a[l - 2], b, c)

    def _forward(self, samples, kept: bool):
        """h^1 .. h^L, phi(h^1) .. phi(h^L), and coordinates of the latter but the last, of some samples."""
        h = [self.u[samples] + self.record.kernel[samples] @ self.Q]
        phi, coordinates = [self.problem.phi(h[0])], []
        for matrix in self.matrices[1:]:
            a, here = matrix.forward(phi[-1], samples, self.problem.weight_std, kept)
            h, coordinates = [*h, here], [*coordinates, a]
            phi.append(self.problem.phi(here))
        return h, phi, coordinates


def _directions(fields, layer: Layer):
    """An orthonormal basis of fields, whatever is above rounding."""
    values, vectors = np.linalg.eigh(layer.mean(fields, fields))
    kept = values > 1e-12 * max(values[-1], 1e-30)
    return (vectors[:, kept] / np.sqrt(values[kept])).T @ fields


class SampledMarch:
    """Replicas side by side; `record` says which samples each step visits (see `mlp`), `cutoff` as in `mlp.solve`."""

    work = 1  # grows as this power of the steps, once the bases have levelled off

    def __init__(self, problem, record, groups: int, count: int, rng, cutoff: float):
        self.problem, self.record, self.groups, self.cutoff = problem, record, groups, cutoff
        self.replicas = [Replica(problem, record, count, one, cutoff) for one in rng.spawn(groups)]

    def observe(self, t: int):
        """What the network is at step t: losses, predictions, kernels, errors of the sites, of each group."""
        return tuple(np.array(values) for values in zip(*(one.observe(t) for one in self.replicas), strict=True))

    def update(self, t: int) -> None:
        """The step that the batch of step t makes."""
        for one in self.replicas:
            one.update(t)

    def found(self, steps: int, group: int):
        """The pairs (step, sample) visited in `steps` updates, and (layer, step) -> order parameters of one group."""
        one, std = self.replicas[group], self.problem.weight_std
        return self.record.index(steps), lambda layer, step: one.matrices[layer].order(step, std)


def kernel_root(inputs):
    """R with R R^T = X X^T/D: X/sqrt(D) itself, or the symmetric root where there are fewer samples than inputs.

    That root is the positive factor of X/sqrt(D), which moves no more than X does, also where it is singular.
    """
    samples, dimension = inputs.shape
    scaled = inputs / np.sqrt(dimension)
    return scaled if dimension <= samples else linalg.polar(scaled, side="left")[1]

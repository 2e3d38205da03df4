"""Infinitely wide networks of any activation, by sampling: the march of the equations at the head of `sites`."""

from dataclasses import dataclass, field

import numpy as np
from scipy import linalg

from .descent import Moving
from .order import OrderParameters
from .sites import Basis, Layer


@dataclass
class Matrix:
    """What is known of the weights between two hidden layers: bases of both sides, and what was learned.

    Of every step so far: `a`, `b` coordinates of the features and gradients of its batch, each as long as its basis
    then was, and `neglected`, the shares of both that are left to noise.
    """

    features: Basis
    gradients: Basis
    learned: Moving
    a: list = field(default_factory=list)
    b: list = field(default_factory=list)
    neglected: list = field(default_factory=list)

    def forward(self, phi, shown, std: float):
        """W phi, of coordinates and Gaussian parts of phi that its basis has `shown`: what the initial matrix makes
        of it, its memory of the gradients, and what was learned.
        """
        a, u = shown
        self.widen()
        near, far = self.features.near, self.features.far
        memory = std * near.mean(phi, self.gradients.xi) + padded(a, len(self.features.e)) @ self.learned.value.T
        return near.dtype.type(std) * u + far.mix(memory, self.gradients.e)

    def backward(self, g, shown, std: float):
        """W^T g, likewise."""
        b, r = shown
        self.widen()
        near, far = self.gradients.near, self.gradients.far
        memory = std * near.mean(g, self.features.xi) + padded(b, len(self.gradients.e)) @ self.learned.value
        return near.dtype.type(std) * r + far.mix(memory, self.features.e)

    def widen(self) -> None:
        self.learned.pad(self.gradients.size, self.features.size)

    def ended(self, std: float) -> "Learned":
        """What level two may be asked for, without the sites."""
        near, far = self.features.near, self.gradients.near
        A, B = near.mean(self.features.e, self.gradients.xi) / std, far.mean(self.gradients.e, self.features.xi) / std
        shown_h, shown_g = ([one.shape[1] for one in part] for part in (self.a, self.b))
        for step, known in enumerate(shown_h):  # features of a step know the gradients of earlier ones alone
            A[:known, shown_g[step - 1] if step else 0 :] = 0
        for step, known in enumerate(shown_g):
            B[:known, shown_h[step] :] = 0
        return Learned(A, B, self.a, self.b, np.array(self.neglected).reshape(-1, 2), std)


@dataclass(frozen=True)
class Learned:
    """One matrix after the march: responses between its bases, and coordinates of what it was shown at each step."""

    A: np.ndarray
    B: np.ndarray
    a: list
    b: list
    neglected: np.ndarray
    std: float

    def order(self, step: int, through: int, pushes, decay: float) -> OrderParameters:
        """After `step` updates, `pushes` (visited,) what each visited pair weighs in the weights then; in the bases
        of what was visited before step `through`, which is handed out as well.
        """
        r_h, r_g = self.a[through - 1].shape[1], self.b[through - 1].shape[1]
        a = np.concatenate([padded(one, r_h) for one in self.a[:through]])
        b = np.concatenate([padded(one, r_g) for one in self.b[:through]])
        before = slice(0, len(pushes))
        return OrderParameters(
            C_h=np.eye(r_h),
            C_g=np.eye(r_g),
            A=self.A[:r_h, :r_g],
            B=self.B[:r_g, :r_h],
            c=(pushes[:, None] * b[before]).T @ a[before] / decay,
            weight_variance=self.std**2,
            decay=decay,
            features=a,
            gradients=b,
        )


def padded(coordinates, size: int) -> np.ndarray:
    """Coordinates in a basis that has grown since."""
    return np.pad(coordinates, [(0, 0), (0, size - coordinates.shape[1])])


class Replica:
    """One solution: the sites of every layer, and what the matrices between them know.

    `schedule` says which samples each step visits (see `descent`); `tangent_steps`: where there is a tangent kernel.
    """

    def __init__(self, problem, schedule, count: int, rng, cutoff: float, precision: str, tangent_steps=()):
        self.problem, self.schedule, self.count, self.tangent_steps = problem, schedule, count, tangent_steps
        self.layers = [None, *(Layer(count, rng, precision) for _ in range(problem.depth))]
        self._probe = rng.spawn(1)[0].bit_generator.seed_seq  # for what is only looked at, the same at every step
        root, first = kernel_root(problem.inputs), self.layers[1]
        known = first.strangers(first.normal(root.shape[1]))
        first.know(known, first.family())
        self.matrices = [None]
        for near, far in zip(self.layers[1:], self.layers[2:], strict=False):
            sides = Basis(near, far, cutoff, problem.samples), Basis(far, near, cutoff, problem.samples)
            self.matrices.append(Matrix(*sides, Moving(np.zeros((0, 0)), problem)))
        self.u, self.w = first.mix(problem.weight_std * root, known), None
        self.Q = Moving(np.zeros((problem.samples, count), first.dtype), problem)
        self._seen = np.empty(
            (2, problem.depth, problem.samples, count), first.dtype
        )  # fields and features of a step

    def observe(self, t: int) -> dict:
        """What the network is at step t; `site_error`: variance of predictions that the sites of this step make."""
        problem, last, batch = self.problem, self.layers[-1], self.schedule.batch(t)
        others = np.setdiff1d(np.arange(problem.samples), batch)
        self._forward(t, batch, True)
        self._forward(t, others, False)
        phi = self._seen[1]
        if self.w is None:
            self.w = Moving(self._readout(phi[-1][batch], phi[-1][others]), problem)
        w = self.w.value
        f = last.mean(phi[-1], w) / problem.output_scale * (t > 0)
        scatter = last.mean(phi[-1] ** 2, w**2) / problem.output_scale**2 - f**2
        self._delta = problem.residual(f[batch], batch)
        return {
            "loss": problem.mean_loss(f),
            "predictions": f,
            "kernels": np.array([last.mean(one, one) for one in phi]),
            "site_error": np.mean(scatter) / last.count,
            "tangent": self._tangent(t) if t in self.tangent_steps else None,
        }

    def _readout(self, seen, unseen):
        """w at the start, with f(0) = 0 whatever the sites. Features of samples that no matrix has been shown are
        made of the Gaussians by which they will be shown, which must stay free of all but w: they are not known.
        """
        last = self.layers[-1]
        last.know(_directions(seen, last), last.family())
        passing = last.family()
        last.know(_directions(unseen, last), passing)
        w = last.strangers(last.normal(self.problem.outputs))
        last.forget(passing)
        last.know(w, last.family())
        return last.dtype.type(self.problem.weight_std) * w

    def update(self, t: int) -> None:
        """The step that the batch of step t makes."""
        problem, batch, delta, layers = self.problem, self.schedule.batch(t), self._delta, self.layers
        rate, weight, decay = self.schedule.rates[t], self.schedule.weights(t), self.schedule.decay[t]
        std = problem.weight_std * decay
        h, phi = self._seen
        z = layers[-1].mix(delta, self.w.value)
        self.w.push(layers[-1].mix((weight[:, None] * delta).T, phi[-1][batch]), rate)
        for l in range(problem.depth, 0, -1):
            g = problem.phi_prime(h[l - 1][batch]) * z
            if l == 1:
                self.Q.push(weight[:, None].astype(g.dtype) * g, rate, batch)
                return
            matrix = self.matrices[l - 1]
            b, r = matrix.gradients.show(g, batch)
            z = matrix.backward(g, (b, r), std)
            matrix.b.append(b)
            matrix.neglected.append((matrix.features.neglected, matrix.gradients.neglected))
            force = (weight[:, None] * b).T @ padded(matrix.a[-1], matrix.features.size)
            matrix.learned.push(force, rate)

    def _forward(self, t: int, samples, kept: bool) -> None:
        """What is seen of some samples, h^1 .. h^L and phi(h^1) .. phi(h^L); the bases see those that are `kept`."""
        problem, decay, first = self.problem, self.schedule.decay[t], self.layers[1]
        if not samples.size:
            return
        h = first.dtype.type(decay) * self.u[samples] + first.mix(self.schedule.kernel[samples], self.Q.value)
        phi = self._see(0, samples, h)
        for l, matrix in enumerate(self.matrices[1:], 1):
            basis = matrix.features
            shown = basis.show(phi, samples) if kept else basis.glance(phi, basis.veils[samples])
            if kept:
                matrix.a.append(shown[0])
            phi = self._see(l, samples, matrix.forward(phi, shown, problem.weight_std * decay))

    def _see(self, layer: int, samples, h):
        """The features of these fields; both are seen."""
        phi = self.problem.phi(h)
        self._seen[0, layer, samples], self._seen[1, layer, samples] = h, phi
        return phi

    def _tangent(self, t: int) -> np.ndarray:
        """K (P, outputs, P, outputs) of all samples at step t."""
        problem, (h, phi) = self.problem, self._seen
        P, C, std = problem.samples, problem.outputs, problem.weight_std * self.schedule.decay[t]
        last, rng = self.layers[-1], np.random.default_rng(self._probe)
        kernels = [self.schedule.kernel, *(last.mean(one, one) for one in phi)]
        K = np.einsum("mn,op->monp", kernels[-1], np.eye(C))
        z = np.repeat(self.w.value[None], P, axis=0).reshape(P * C, -1)
        for l in range(problem.depth, 0, -1):
            g = np.repeat(problem.phi_prime(h[l - 1]), C, axis=0) * z
            K += kernels[l - 1][:, None, :, None] * self.layers[l].mean(g, g).reshape(P, C, P, C)
            if l > 1:
                basis = self.matrices[l - 1].gradients
                hidden = basis.far.strangers(basis.far.normal(P * C, rng))
                z = self.matrices[l - 1].backward(g, basis.glance(g, hidden), std)
        return K

    def found(self):
        """(layer, step, through) -> order parameters, steps -> pairs (step, sample), and what was neglected by each
        matrix at each step. The sites may go.
        """
        problem, schedule = self.problem, self.schedule
        learned = [None, *(matrix.ended(problem.weight_std) for matrix in self.matrices[1:])]

        def order(layer: int, step: int, through: int) -> OrderParameters:
            return learned[layer].order(step, through, schedule.pushes(step), schedule.decay[step])

        steps = min((len(one.neglected) for one in learned[1:]), default=schedule.steps)
        neglected = np.array([one.neglected[:steps] for one in learned[1:]]).reshape(problem.depth - 1, steps, 2)
        return order, schedule.index, neglected.swapaxes(0, 1)


def _directions(fields, layer: Layer):
    """An orthonormal basis of fields, whatever is above rounding."""
    if not len(fields):
        return fields
    values, vectors = np.linalg.eigh(layer.mean(fields, fields))
    kept = values > np.finfo(layer.dtype).eps ** 0.75 * max(values[-1], 1e-30)
    return layer.mix((vectors[:, kept] / np.sqrt(values[kept])).T, fields)


def kernel_root(inputs):
    """R with R R^T = X X^T/D: X/sqrt(D) itself, or the symmetric root where there are fewer samples than inputs.

    That root is the positive factor of X/sqrt(D), which moves no more than X does, also where it is singular.
    """
    samples, dimension = inputs.shape
    scaled = inputs / np.sqrt(dimension)
    return scaled if dimension <= samples else linalg.polar(scaled, side="left")[1]

"""Infinitely wide networks by sampling: neurons carried through training, averages over them the order parameters.

A fixed set of neurons ("sites") of every layer obeys the equations at the head of `mlp`. What the matrix W^l has been
shown is kept not as a record of all pairs (step, sample) but as an orthonormal basis e_j of the features phi(h^l) seen
so far, <e_i e_j> = delta_ij over the sites of layer l, each with a fresh Gaussian xi_j on the sites of layer l + 1,
and likewise eh_j of the gradients g^{l+1} with Gaussians zeta_j on layer l. What it has learned is one small matrix M:

    phi = a e ,  g = b eh ,                                   coordinates (samples, r) of the fields of a step
    h^{l+1} = std a xi   + [ std <phi zeta> + a M^T ] eh ,    by Stein's lemma <phi zeta> is the response to zeta
    z^l     = std b zeta + [ std <g xi>     + b M   ] e ,
    M <- M + c b^T a .

A basis grows by what a step's fields have outside it, and levels off when training does; a step costs P r sites.
"""

import numpy as np
from scipy import linalg

from ..errors import ConvergenceError

RIDGE = 1e-6  # of a field of variance 1: what is left of one that is made of known ones
TINY = 1e-30  # of a variance of 1: fields that are zero have no directions


class Layer:
    """The neurons of one layer, and all fields on them that new Gaussians must have no correlation with."""

    def __init__(self, count: int, rng):
        self.count, self.rng = count, rng
        self._known, self._gram = np.ones((1, count)), np.ones((1, 1))

    def mean(self, first, second):
        """< first second > over the sites."""
        return first @ second.T / self.count

    def normal(self, number: int):
        return self.rng.standard_normal((number, self.count))

    def know(self, fields) -> None:
        """From here on these are known."""
        size, new = len(self._gram), len(fields)
        if size + new > self.count // 2:
            raise ConvergenceError(f"sites must be more: {self.count} in a group cannot carry so many fields")
        cross = self.mean(fields, self._known[:size])
        self._gram = np.block([[self._gram, cross.T], [cross, self.mean(fields, fields)]])
        if size + new > len(self._known):  # room for twice as many, so that copying stays rare
            self._known = np.concatenate([self._known[:size], np.empty((size + new, self.count))])
        self._known[size : size + new] = fields

    def strangers(self, x):
        """The Gaussians x with variance 1, and no correlation with each other and what is known.

        By the symmetric root, so that a rotation of x is one of the result.
        """
        known = self._known[: len(self._gram)]
        factor = linalg.cho_factor(self._gram + RIDGE * np.eye(len(known)), lower=True)
        for _ in range(2):  # what the ridge has left
            x = x - linalg.cho_solve(factor, self.mean(known, x)).T @ known
        values, vectors = np.linalg.eigh(self.mean(x, x))
        return (vectors / np.sqrt(values)) @ vectors.T @ x


class Basis:
    """Directions of the fields that a matrix is shown from one side, on the layer `near`, with Gaussians on `far`.

    A direction is an eigenvector of the covariance of what a step's fields have outside the basis. It is taken when
    its variance is above `cutoff` of the largest variance of a field so far. Its Gaussian is made of one Gaussian per
    sample, its `veil`, so that signs, and rotations within a degenerate space, cancel. What is below has its
    variance and covariances as noise, made of the same veils at all steps, and is neither learned nor answered.
    """

    def __init__(self, near: Layer, far: Layer, cutoff: float, samples: int):
        self.near, self.far, self.cutoff, self.top = near, far, cutoff, 0.0
        self.veils = far.normal(samples)
        self.e, self.xi = np.zeros((0, near.count)), np.zeros((0, far.count))

    def show(self, fields, samples, kept: bool):
        """Coordinates of fields (b, sites) and u, W(0) times them over std; what is `kept` may make the basis grow."""
        a = self.near.mean(fields, self.e)
        block = self.near.mean(fields, fields)
        values, vectors = np.linalg.eigh(block - a @ a.T)
        roots = np.sqrt(np.maximum(values, 0))
        hidden = vectors.T @ self.veils[samples]
        if not kept:
            return a, a @ self.xi + (vectors * roots) @ hidden
        self.top = max(self.top, float(block.diagonal().max(initial=0.0)))
        new = values > max(self.cutoff * self.top, TINY)
        fresh = vectors.T @ self.far.normal(len(fields))  # as many whatever is new
        if new.any():
            xi = self.far.strangers(hidden[new])
            e = (vectors[:, new] / roots[new]).T @ (fields - a @ self.e)
            u = a @ self.xi + (vectors[:, new] * roots[new]) @ xi + (vectors[:, ~new] * roots[~new]) @ hidden[~new]
            self.veils[samples] = vectors @ np.where(new[:, None], fresh, hidden)
            self.far.know(xi)
            self.near.know(e)
            self.e, self.xi = np.concatenate([self.e, e]), np.concatenate([self.xi, xi])
            return np.concatenate([a, vectors[:, new] * roots[new]], axis=1), u
        return a, a @ self.xi + (vectors * roots) @ hidden

"""Infinitely wide networks by sampling: neurons carried through training, averages over them the order parameters.

A fixed set of neurons ("sites") of every layer obeys the equations at the head of `mlp`. What the matrix W^l has
been shown is kept not as a record of all pairs (step, sample) but as an orthonormal basis e_j of the features
phi(h^l) seen so far, <e_i e_j> = delta_ij over the sites of layer l, each with a fresh Gaussian xi_j on the sites of
layer l + 1, and likewise eh_j of the gradients g^{l+1} with Gaussians zeta_j on layer l. What the matrix has learned
is the small matrix M:

    phi = a e ,  g = b eh ,                                  coordinates (samples, r) of the fields of a step
    h^{l+1} = d std a xi   + [ d std <phi zeta> + a M^T ] eh ,   by Stein's lemma <phi zeta> is the response to zeta
    z^l     = d std b zeta + [ d std <g xi>     + b M   ] e ,
    M moves along (gamma0/|batch|) b^T a ,

with d what weight decay has left of W^l(0). A basis grows by what a step's fields have outside it, and levels off
when training does; one step costs P r sites.
"""

import numpy as np

from ..errors import ConvergenceError
from .factor import Factor

RIDGE = {"double": 1e-8, "single": 1e-4}  # of a field of variance 1: what is left of one that is made of known ones
TINY = 1e-30  # of a variance of 1: fields that are zero have no directions
FADE = 0.02  # a direction is followed in full from (1 + FADE) times the cut-off on


class Family:
    """Fields on the sites of one layer, added to as training goes on. `places`: when each of them became known;
    `weights`: times which they are known, so that one which fades in is not known at once.
    """

    def __init__(self, count: int, dtype):
        self._store, self.places, self.weights = np.empty((0, count), dtype), [], np.zeros(0)

    @property
    def rows(self) -> np.ndarray:
        """(number, sites); not to be kept, as they move when fields are added."""
        return self._store[: len(self.places)]

    def add(self, fields, places, weights) -> None:
        size, new = len(self.places), len(fields)
        if size + new > len(self._store):
            shape = (size + new + size // 16, self._store.shape[1])  # room for more, so that copying stays rare
            try:
                self._store.resize(shape)  # of much the system moves the pages, and copies nothing
            except ValueError:  # someone looks at it
                self._store = np.concatenate([self.rows, np.empty((shape[0] - size, shape[1]), fields.dtype)])
        self._store[size : size + new] = fields
        self.places += places
        self.weights = np.concatenate([self.weights, weights])


class Layer:
    """The neurons of one layer, and all fields on them that new Gaussians must have no correlation with."""

    def __init__(self, count: int, rng, precision: str):
        self.count, self.rng, self.ridge = count, rng, RIDGE[precision]
        self.dtype = np.dtype({"double": np.float64, "single": np.float32}[precision])
        self.families, self._factor = [], Factor()
        self.know(np.ones((1, count)), self.family())

    def family(self) -> Family:
        """A new one, with nothing in it."""
        self.families.append(Family(self.count, self.dtype))
        return self.families[-1]

    def mean(self, first, second) -> np.ndarray:
        """< first second > over the sites."""
        return np.asarray(first @ second.T, np.float64) / self.count

    def mix(self, weights, fields) -> np.ndarray:
        """Sums of fields."""
        return np.asarray(weights, self.dtype) @ fields

    def normal(self, number: int, rng=None) -> np.ndarray:
        """Gaussians, the same numbers in both precisions."""
        return (rng or self.rng).standard_normal((number, self.count)).astype(self.dtype, copy=False)

    def know(self, fields, family: Family, weights=None) -> None:
        """From here on these are known, as part of a family. The factor of the Gram matrix of all grows by them."""
        size, new = self._factor.size, len(fields)
        weights = np.ones(new) if weights is None else weights
        if size + new > self.count // 2:
            raise ConvergenceError(f"sites must be more: {self.count} in a group cannot carry so many fields")
        fields = np.asarray(fields, self.dtype)
        corner = np.outer(weights, weights) * self.mean(fields, fields) + self.ridge * np.eye(new)
        self._factor.grow(weights[:, None] * self._shadow(fields), corner)
        family.add(fields, list(range(size, size + new)), weights)

    def forget(self, family: Family) -> None:
        """The family that came last is not known any more."""
        self.families.remove(family)
        self._factor.cut(self._factor.size - len(family.places))

    def _shadow(self, x) -> np.ndarray:
        """< x known >, known fields in the order in which they came."""
        shadow = np.empty((len(x), self._factor.size))
        for family in self.families:
            shadow[:, family.places] = self.mean(x, family.rows) * family.weights
        return shadow

    def strangers(self, x, weights=1.0) -> np.ndarray:
        """The Gaussians x with variance 1, and no correlation with each other and what is known.

        By the symmetric root, so that a rotation of x is one of the result. Those of small weight yield to others.
        """
        known = self._factor.solve(self._shadow(x).T)
        known += self.ridge * self._factor.solve(known)  # of what the ridge has left
        for family in self.families:
            x = x - self.mix(known[family.places].T * family.weights, family.rows)
        weights = np.sqrt(np.broadcast_to(weights, len(x)) ** 2 + self.ridge)
        values, vectors = np.linalg.eigh(np.outer(weights, weights) * self.mean(x, x))
        return self.mix((vectors / np.sqrt(values)) @ vectors.T * weights, x)


class Basis:
    """Directions of the fields that a matrix is shown from one side, on the layer `near`, with Gaussians on `far`.

    A direction is an eigenvector of the covariance of what a step's fields have outside the basis. It is taken when
    its variance is above `cutoff` of the largest variance of a field so far, see `split`. Its Gaussian is made of
    one Gaussian per sample, so that signs, and rotations within a degenerate space, cancel. What is below has its
    variance and covariances as noise, made of one `veil` per sample, the same at all steps (noise that is drawn anew
    walks at random, and the fields that see it have new directions at every step). It is not learned or answered.
    Fields of the far layer come to know the veils, small as the noise may be, and a basis that goes down to small
    directions holds them. So a veil must not become the Gaussian of a direction, which has to be free of all that is
    known; only that of a sample which has not been shown before may, see `met`.
    """

    def __init__(self, near: Layer, far: Layer, cutoff: float, samples: int):
        self.near, self.far, self.cutoff, self.top = near, far, cutoff, 0.0
        self.veils, self.met = far.strangers(far.normal(samples)), np.zeros(samples, bool)
        self._e, self._xi = near.family(), far.family()
        self.neglected = 0.0  # of the last fields that were kept: the share of their variance that is left to noise

    @property
    def e(self) -> np.ndarray:
        return self._e.rows

    @property
    def xi(self) -> np.ndarray:
        return self._xi.rows

    @property
    def size(self) -> int:
        return len(self._e.places)

    def outside(self, fields):
        """Coordinates of fields, eigenvalues and -vectors of the covariance of the rest, and the variance of all."""
        a = self.near.mean(fields, self.e)
        block = self.near.mean(fields, fields)
        values, vectors = np.linalg.eigh(block - a @ a.T)
        self.top = max(self.top, float(block.diagonal().max(initial=0.0)))
        return a, np.maximum(values, 0), vectors, block.trace()

    def noise(self, values, vectors, hidden):
        """What is not followed, of Gaussians for its eigenvectors; less of what is no more than rounding."""
        floor = np.finfo(self.near.dtype).eps ** 0.6 * self.top + TINY
        return self.far.mix(vectors * (np.sqrt(values) * (values / (values + floor))), hidden)

    def glance(self, fields, hidden):
        """Coordinates and Gaussian parts of fields that are forgotten at once; `hidden`: a Gaussian for each."""
        top = self.top
        a, values, vectors, _ = self.outside(fields)
        u = self.far.mix(a, self.xi) + self.noise(values, vectors, self.far.mix(vectors.T, hidden))
        self.top = top
        return a, u

    def show(self, fields, samples):
        """Coordinates of fields and u, W(0) times them over std; the basis grows."""
        a, values, vectors, variance = self.outside(fields)
        source = self.far.normal(len(fields))  # as many whatever is new
        first = ~self.met[samples]
        unmet = samples[first]
        source[first], self.veils[unmet], self.met[unmet] = self.veils[unmet], source[first], True
        followed, rest = self.split(values)
        self.neglected = float(np.sum(rest) / max(variance, TINY))
        new, roots = followed > 0, np.sqrt(values)
        if new.any():
            weights, directions = followed[new], vectors[:, new]
            outward = (directions * weights / roots[new]).T
            e = self.near.mix(outward, fields) - self.near.mix(outward @ a, self.e)
            xi = self.far.strangers(self.far.mix(directions.T, source), weights)
            self.far.know(xi, self._xi, weights)
            self.near.know(e, self._e)
            a = np.concatenate([a, directions * weights * roots[new]], axis=1)
        left = rest > 0
        hidden = self.far.mix(vectors[:, left].T, self.veils[samples])
        return a, self.far.mix(a, self.xi) + self.noise(rest[left], vectors[:, left], hidden)

    def split(self, values):
        """Of directions with these variances: which share of the amplitude is followed, and what is left of the
        variance. Both are continuous, so that rounding does not choose on which side of the cut-off one is, and what
        is left is below the cut-off, so that fields which stay have no new directions.

        A direction that fades in is two: e = s e' + sqrt(1 - s^2) e'', of which e' is followed and e'' is not. On the
        sites the field of e' is s e, and with that its coordinates and its knowledge of others fade in as well.
        """
        line = max(self.cutoff * self.top, TINY)
        share = np.clip((values - line) / (FADE * line), 0, 1)
        return np.sqrt(share), values * (1 - share)

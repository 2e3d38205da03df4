"""Infinitely wide networks by sampling: neurons carried through training, averages over them the order parameters.

A fixed set of neurons ("sites") obeys the equations at the head of `mlp`. Gaussians u and r are drawn when a field
comes that those before do not explain; responses follow from Stein's lemma, s2 A G = <phi r>. Arrays of fields are
(groups, fields, sites of a group): groups know nothing of each other, and give one solution each.
"""

import numpy as np
from scipy import linalg

from ..errors import ConvergenceError
from .order import share

SPANNED = 1e-6  # of a field of variance 1: what is left of one that is made of the drawn
ROUNDING = 1e-15  # of a deviation of 1: no direction is weaker


class _Sites:
    """Neurons in groups, and Gaussians on them."""

    def __init__(self, groups: int, count: int, rng):
        self.groups, self.count, self.rng = groups, count, rng
        self.drawn = np.ones((groups, 1, count))

    def mean(self, first, second):
        """< first second > over the sites of each group."""
        return first @ second.swapaxes(1, 2) / self.count

    def fresh(self, number: int):
        return self.rng.standard_normal((self.groups, number, self.count))

    def draw(self, number: int, part=None, avoid=None, keep: bool = True):
        """Gaussians with mean 0, variance 1, and no correlation with each other, all that were kept and `avoid`.

        `part` (number,), from 0 to 1, everywhere 1 if left out: how much each of them counts. Those with 0 are not
        returned, though drawn: how many numbers are taken from `rng` depends on `number` alone. What is drawn later
        has no correlation with those that count in full, and depends on all parts continuously.
        """
        part = np.ones(number) if part is None else part
        counts = part > 0
        x, part = self.fresh(number)[:, counts], part[counts]
        if not len(part):
            return x
        if self.drawn.shape[1] + len(part) > self.count // 2:
            raise ConvergenceError(f"sites must be more: {self.count} in a group cannot carry so many fields")
        x = x - self.mean(x, self.drawn) @ self.drawn
        if avoid is not None:
            rest = avoid - self.mean(avoid, self.drawn) @ self.drawn
            x = x - self.mean(x, rest) @ _smooth_inverse(self.mean(rest, rest)) @ rest
        among = np.outer(part, part)
        np.fill_diagonal(among, 1)
        x = np.linalg.solve(np.linalg.cholesky(among * self.mean(x, x)), x)
        if keep:
            self.drawn = np.concatenate([self.drawn, part[:, None] * x], axis=1)
        return x


def _smooth_inverse(matrices):
    """The inverse on eigenvalues above SPANNED, 0 below; as a function of the matrix it is continuous."""
    values, vectors = np.linalg.eigh(matrices)
    weights = share(values / SPANNED) / np.maximum(values, SPANNED)
    return (vectors * weights[..., None, :]) @ vectors.swapaxes(-1, -2)


class _Family:
    """Gaussian fields u = std Lmat xi whose covariance std^2 C grows with time, C = Lmat Lmat^T = < v v >.

    Only indices whose variance, given the pivots before them, is above the cut-off bring a new Gaussian. `white` are
    the fields v of the pivots, made orthonormal by a triangle, `factor`: sum_k' A_{k k'} v_k' = (M/std) white with
    M = <phi xi>, by Stein's lemma.

    Just above the cut-off a new direction e counts by a part p of it: xi belongs to p e + sqrt(1 - p^2) n, where n is
    orthogonal to everything that ever comes. This too is a unit vector, so that nothing else changes: what v has of
    it is p <v e>, and p e is what it shows on the sites. At p = 0 it is a stranger, and is left out.
    """

    def __init__(self, sites: _Sites, std: float, cutoff: float):
        self.sites, self.std, self.cutoff, self.top = sites, std, cutoff, 0.0
        self.pivots, self.factor = [], np.zeros((sites.groups, 0, 0))
        self.xi = self.white = np.zeros((sites.groups, 0, sites.count))

    def explained(self, cross):
        """Rows of Lmat from covariances with the pivots, (groups, b, pivots)."""
        if not self.pivots:
            return cross
        return np.linalg.solve(self.factor, cross.swapaxes(1, 2)).swapaxes(1, 2)

    def extend(self, cross, block, v, start: int, avoid, kept: bool):
        """Fields of the indices start, start + 1, ...: covariances with the pivots, among themselves, and the v.

        New Gaussians have no correlation with `avoid`, fields that they are independent of. Indices that are not
        `kept` are drawn as well, but no later field will know of them.
        """
        rows = self.explained(cross)
        columns, roots, part, top = self._columns(block - rows @ rows.swapaxes(1, 2), block)
        new = np.flatnonzero(part)
        if not kept:
            return self.std * (rows @ self.xi + columns @ self.sites.draw(len(part), part, keep=False))
        xi, self.top = self.sites.draw(len(part), part, avoid), top
        u = self.std * (rows @ self.xi + columns @ xi)
        if new.size:
            corner = columns[:, new].copy()
            corner[:, range(new.size), range(new.size)] = roots
            self._grow(xi, rows[:, new], corner, v[:, new])
            self.pivots += [start + i for i in new]
        return u

    def _columns(self, left, block):
        """What a batch has of the new directions, (groups, b, new), from the covariance `left` to be explained.

        Also the root of the variance that each of them found, over the part by which it counts, (groups, new), that
        part for all of the batch, 0 for what is no pivot, and the largest variance so far.
        """
        top = max(self.top, float(np.mean(block, axis=0).diagonal().max(initial=0.0)))
        floor = max(self.cutoff * top, ROUNDING**2)
        part, roots, columns = np.zeros(left.shape[1]), [], np.zeros((*left.shape[:2], 0))
        for i in range(left.shape[1]):
            rest = left[:, :, i] - (columns @ columns[:, i, :, None])[:, :, 0]
            variance = rest[:, i]
            part[i] = share(np.mean(variance) / floor)
            if part[i] > 0:
                root = np.sqrt(np.maximum(variance, 0.01 * np.mean(variance)))  # also where seeds part
                column = part[i] * rest / root[:, None]
                column[:, :i], column[:, i] = 0, part[i] * root
                columns, roots = np.concatenate([columns, column[:, :, None]], axis=2), [*roots, root / part[i]]
        return columns, np.array(roots).T, part, top

    def _grow(self, xi, rows, corner, v):
        old, new = rows.shape[2], rows.shape[1]
        factor = np.zeros((len(rows), old + new, old + new))
        factor[:, :old, :old], factor[:, old:, :old], factor[:, old:, old:] = self.factor, rows, corner
        self.factor = factor
        self.xi = np.concatenate([self.xi, xi], axis=1)
        self.white = np.concatenate([self.white, np.linalg.solve(corner, v - rows @ self.white)], axis=1)

    def response(self, fields):
        """M = <fields xi>, and the response of fields to u in the pivots' columns, M factor^-1/std."""
        M = self.sites.mean(fields, self.xi)
        if not self.pivots:
            return M, M
        return M, np.linalg.solve(self.factor.swapaxes(1, 2), M.swapaxes(1, 2)).swapaxes(1, 2) / self.std


# ---------------------------------------------------------------- the march


class SampledMarch:
    """Everything that the march carries: fields of the record and their order parameters, per group of sites.

    `record` says which samples each step visits (see `mlp`); `groups` of `count` sites; `cutoff` as in `mlp.solve`.
    """

    work = 2  # grows as this power of the steps

    def __init__(self, problem, record, groups: int, count: int, rng, cutoff: float):
        depth, pairs, inner = problem.depth, len(record.sample), range(1, problem.depth)
        self.problem, self.record, self.groups, self.cutoff = problem, record, groups, cutoff
        self.sites = sites = _Sites(groups, count, rng)
        self.phi = [None] + [np.empty((groups, pairs, count)) for _ in range(depth)]
        self.g = [None] + [np.empty((groups, pairs, count)) for _ in range(depth)]
        square = (groups, pairs, pairs)
        self.Phi, self.G = ([None] + [np.zeros(square) for _ in range(depth)] for _ in range(2))
        self.A, self.B = ([None] + [np.zeros(square) for _ in inner] for _ in range(2))
        self.u, self.r = ([None] + [_Family(sites, problem.weight_std, cutoff) for _ in inner] for _ in range(2))
        root = _kernel_root(problem.inputs)
        self.u_1 = problem.weight_std * root @ sites.draw(root.shape[1])
        self.w = None

    def observe(self, t: int):
        """What the network is at step t: losses, predictions, kernels, and the variance that sampling w phi leaves
        in the predictions, the mean over their entries; of each group.
        """
        problem, record, sites = self.problem, self.record, self.sites
        batch = np.zeros(0, dtype=int) if t == len(record.batches) else record.batches[t]
        others = np.setdiff1d(np.arange(problem.samples), batch)
        h, phi = self._forward(t, batch, kept=True)
        rest = self._forward(t, others, kept=False)[1]
        first = np.unique(np.concatenate([batch, others]), return_index=True)[1]
        whole = [np.concatenate(pair, axis=1)[:, first] for pair in zip(phi, rest, strict=True)]
        if t == 0:  # f(0) = 0, whatever the sites
            self.w = problem.weight_std * sites.draw(problem.outputs, avoid=whole[-1])
        f = sites.mean(whole[-1], self.w) / problem.output_scale * (t > 0)
        loss = np.sum((problem.targets - f) ** 2, axis=(1, 2)) / problem.samples
        scatter = sites.mean(whole[-1] ** 2, self.w**2) / problem.output_scale**2 - f**2
        self._seen = h, phi[-1], problem.targets[batch] - f[:, batch]
        kernels = np.stack([sites.mean(field, field) for field in whole], axis=1)
        return loss, f, kernels, np.mean(scatter, axis=(1, 2)) / sites.count

    def update(self, t: int) -> None:
        """The step that the batch of step t makes."""
        h, phi, delta = self._seen
        self._backward(t, h, delta)
        self.w = self.w + (self.record.c[self.record.ends[t]] * delta).swapaxes(1, 2) @ phi

    def _forward(self, t: int, samples, kept: bool):
        """h^1 .. h^L and phi(h^1) .. phi(h^L) of some samples at step t; those that are `kept` enter the record."""
        problem, record, sites = self.problem, self.record, self.sites
        k, new = record.ends[t], slice(record.ends[t], record.ends[t] + len(samples))
        c = record.c[:k]
        h = [self.u_1[:, samples] + (c * record.kernel[np.ix_(samples, record.sample[:k])]) @ self.g[1][:, :k]]
        phi = [problem.phi(h[0])]
        for l in range(1, problem.depth + 1):
            known = k if kept else record.ends[min(t + 1, len(record.batches))]
            cross, block = sites.mean(phi[-1], self.phi[l][:, :known]), sites.mean(phi[-1], phi[-1])
            if kept:
                self.phi[l][:, new] = phi[-1]
                _set(self.Phi[l], new, cross, block)
            if l == problem.depth:
                return h, phi
            M, A = self.r[l].response(phi[-1])
            if kept:
                self.A[l][:, new, self.r[l].pivots] = A
            u = self.u[l].extend(cross[:, :, self.u[l].pivots], block, phi[-1], k, self.r[l].white, kept)
            h.append(u + problem.weight_std * M @ self.r[l].white + (c * cross[:, :, :k]) @ self.g[l + 1][:, :k])
            phi.append(problem.phi(h[-1]))

    def _backward(self, t: int, h, delta) -> None:
        """g^L .. g^1 of the batch of step t, into the record."""
        problem, record, sites = self.problem, self.record, self.sites
        k, new = record.ends[t], slice(record.ends[t], record.ends[t + 1])
        z = delta @ self.w
        for l in range(problem.depth, 0, -1):
            g = problem.phi_prime(h[l - 1]) * z
            cross, block = sites.mean(g, self.g[l][:, :k]), sites.mean(g, g)
            self.g[l][:, new] = g
            _set(self.G[l], new, cross, block)
            if l > 1:
                r, u = self.r[l - 1], self.u[l - 1]
                drawn = r.extend(cross[:, :, r.pivots], block, g, k, u.white, kept=True)
                M, B = u.response(g)
                self.B[l - 1][:, new, u.pivots] = B
                learned = (record.c[:k] * cross) @ self.phi[l - 1][:, :k]
                z = drawn + problem.weight_std * M @ u.white + learned

    def found(self, steps: int, groups) -> dict:
        """The record of `steps` updates and its order parameters, the mean over some groups."""
        record, pairs = self.record, self.record.ends[steps]

        def mean(matrices):
            return tuple(None if one is None else one[groups, :pairs, :pairs].mean(axis=0) for one in matrices)

        step = np.repeat(np.arange(len(record.batches)), np.diff(record.ends))[:pairs]
        square = record.kernel[np.ix_(record.sample[:pairs], record.sample[:pairs])]
        return {
            "index": np.column_stack([step, record.sample[:pairs]]),
            "c": record.c[:pairs],
            "features": (square, *mean(self.Phi)[1:]),
            "gradients": mean(self.G),
            "A": mean(self.A),
            "B": mean(self.B),
            "cutoff": self.cutoff,
        }


def _kernel_root(inputs):
    """R with R R^T = X X^T/D: X/sqrt(D) itself, or the symmetric root where there are fewer samples than inputs.

    That root is the positive factor of X/sqrt(D), which moves no more than X does, also where it is singular.
    """
    samples, dimension = inputs.shape
    scaled = inputs / np.sqrt(dimension)
    return scaled if dimension <= samples else linalg.polar(scaled, side="left")[1]


def _set(correlation, new: slice, cross, block) -> None:
    correlation[:, new, : new.start], correlation[:, new, new] = cross, block
    correlation[:, : new.start, new] = cross.swapaxes(1, 2)

"""Level one for infinitely wide networks in muP: order parameters of gradient descent in training time.

A network of problems.MLP with N -> infinity at fixed samples. A pair (step s, sample mu of its batch) is one index k;
Phi^l = <phi(h^l) phi(h^l)>, G^l = <g^l g^l>, c_k = eta gamma0/|batch|, and theta is 1 where k' is of an earlier step.
Every neuron is a draw of the same process:

    h^{l+1}_k = u_k + sum_k' [ s2 A^l + c theta Phi^l ]_{k k'} g^{l+1}_k' ,    u ~ N(0, s2 Phi^l) ,
    z^l_k     = r_k + sum_k' [ s2 B^l + c theta G^{l+1} ]_{k k'} phi(h^l_k') , r ~ N(0, s2 G^{l+1}) ,
    g^l = phi'(h^l) z^l ,   A^l = <d phi(h^l)/d r^l> ,  B^l = <d g^{l+1}/d u^{l+1}> ,
    z^L_k = sum_o Delta_{o k} w_o ,  w_o = w_o(0) + sum_k' c theta Delta_{o k'} phi(h^L_k') ,
    f_o = <w_o phi(h^L)>/gamma0 ,

with Phi^0 = x.x'/D, A^0 = 0 and no B^L. It is solved by sampling: a fixed set of neurons ("sites") is carried through
training, averages over them are the order parameters, and responses follow from Stein's lemma, s2 A G = <phi r>. The
programme is that of Bordelon and Pehlevan (2022) and Lauditi, Pehlevan and Bordelon (2026).

A linear network needs no sites. With hhat_o = sum_mu Delta_{o mu} h_mu and g_mu = sum_o Delta_{o mu} ghat_o all that
is learned is sum c ghat_o hhat_o; indices are (step, output) whatever the number of samples, and every field is a
linear function of u and r.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .. import arguments, problems
from ..errors import ConvergenceError, DivergenceError, InstabilityWarning
from .order import OrderParameters, share

RUNAWAY, ROUNDING = 1e6, 1e-15  # a loss that many times its start, or times rounding, has diverged
CUTOFF = 1e-4  # of the largest variance in a family: directions below are sampling noise
SPANNED = 1e-6  # of a field of variance 1: what is left of one that is made of the drawn
PARTED = 2.0  # replicas may scatter by this many errors of fresh sites: 0.1 to 0.95 was seen where training is stable


@dataclass(frozen=True, eq=False)
class MLPTheory:
    """Gradient descent of an infinitely wide network: losses, kernels, and what the spectra of its weights need.

    `train_loss` (steps + 1,), `predictions` (steps + 1, P, outputs): as in networks.MLPRun. `kernels` (steps + 1, L,
    P, P): <phi(h^l_mu) phi(h^l_nu)> of all samples, l = 1 .. L. Over the record of K = len(index) pairs, each (K, K):
    `features[l]` = Phi^l for l = 0 .. L, `gradients[l]` = G^l for l = 1 .. L, `A[l]`, `B[l]` for l = 1 .. L - 1, None
    elsewhere; `c` (K,). `index` (K, 2) holds (step, sample); for activation "linear" (step, output), the record being
    sum_mu Delta_{o mu} h_mu and g^l/Delta. `replicas`: the solutions on separate sites, of which all this is
    the mean; () when it is exact. `cutoff`: eigenvalues of correlations below this fraction of the largest are noise.
    `amplification` (steps + 1,): the scatter of the replicas' predictions, in units of the error that the sites of
    that step alone would make if all before it were exact; nan for one replica or when exact.
    """

    problem: problems.MLP
    train_loss: np.ndarray
    predictions: np.ndarray
    kernels: np.ndarray
    index: np.ndarray
    c: np.ndarray
    features: tuple
    gradients: tuple
    A: tuple
    B: tuple
    replicas: tuple = ()
    cutoff: float = 1e-9
    amplification: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return len(self.train_loss) - 1

    @property
    def parted(self) -> int | None:
        """The first step at which replicas have parted: `amplification` above PARTED; None where they never did.

        From there on small differences grow faster than training wipes them out. The mean over replicas is then no
        solution, and wide networks of different seeds part as well: the learning rate is too large for one answer.
        """
        beyond = np.flatnonzero(np.nan_to_num(self.amplification, nan=0.0) > PARTED)
        return int(beyond[0]) if beyond.size else None

    def order(self, layer: int, step: int) -> OrderParameters:
        """What level two needs of the hidden weights Wbar^layer, layer = 1 .. L - 1, after `step` updates.

        Raises ValueError for another layer or step. (Of W^0, N x D at fixed D, there is no bulk in this limit.)
        """
        depth = self.problem.depth
        if not 1 <= arguments.whole("layer", layer) < depth:
            raise ValueError(f"layer must be one between hidden layers, 1 to {depth - 1}, got {layer}")
        if not 1 <= arguments.whole("step", step) <= self.steps:
            raise ValueError(f"step must be 1 to {self.steps}, got {step}")
        k = slice(0, int(np.searchsorted(self.index[:, 0], step)))
        return OrderParameters(
            C_h=self.features[layer][k, k],
            C_g=self.gradients[layer + 1][k, k],
            A=self.A[layer][k, k],
            B=self.B[layer][k, k],
            c=np.diag(self.c[k]),
            weight_variance=self.problem.weight_std**2,
            cutoff=self.cutoff,
            replicas=tuple(one.order(layer, step) for one in self.replicas),
        )

    def standard_error(self, of) -> np.ndarray:
        """Monte Carlo standard error of the mean over replicas of `of(solution)`, any array; 0 when exact.

        `theory.standard_error(lambda one: one.train_loss)`. It holds everything that sampling does to the solution,
        through all steps; with four replicas it is itself known to about 40 %. Raises ValueError for one replica.
        """
        if self.problem.activation == "linear":
            return np.zeros(np.shape(of(self)))
        if not self.replicas:
            raise ValueError("replicas must be at least 2 for a standard error, this solution has one")
        values = np.array([of(one) for one in self.replicas])
        return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def solve(
    problem, steps: int, *, sites: int = 20_000, rng=None, replicas: int = 4, cutoff: float = CUTOFF
) -> MLPTheory:
    """Solve for `steps` updates, on `sites` neurons in `replicas` groups that know nothing of each other.

    Sites of a group are whitened: their Gaussians have exactly the covariance they should. `cutoff`: in each family
    of fields, directions whose variance is below this fraction of the largest are left to noise; from there to 1.25
    times as much they come in by degrees. The solution is a continuous function of the problem: what is drawn depends
    on shapes and `rng` alone, and no eigenvector's sign or order enters. Memory: 16 L sites K bytes, K the number of
    pairs (step, sample) that are visited. `activation="linear"` is exact and needs no `rng`.
    Warns (InstabilityWarning) when replicas part, see `MLPTheory.parted`. Raises ValueError on bad input or
    parametrization "ntk" (its infinite width learns no features), DivergenceError, with `.step` and `.partial` (all
    before that step), when the loss is not finite or above RUNAWAY times its start, and ConvergenceError, with
    `.partial`, when the sites are too few for all the independent fields that appear.
    """
    if not isinstance(problem, problems.MLP):
        raise ValueError(f"problem must be a problems.MLP, got {type(problem).__name__}")
    if problem.parametrization != "mup":
        raise ValueError(f"problem must be in muP, got parametrization {problem.parametrization!r}")
    steps = arguments.whole("steps", steps)
    record = _record(problem, steps)
    if problem.activation == "linear":
        return _march_linear(problem, steps, record)
    replicas = arguments.whole("replicas", replicas, at_least=1)
    sites = arguments.whole("sites", sites, at_least=100 * replicas) // replicas
    cutoff = arguments.number("cutoff", cutoff, above=0)
    theory = _march(problem, steps, record, _Sites(replicas, sites, arguments.generator("rng", rng)), cutoff)
    if theory.parted is not None:
        message = f"replicas part at step {theory.parted}: the learning rate is too large for one solution"
        warnings.warn(message, InstabilityWarning, stacklevel=2)
    return theory


@dataclass(frozen=True)
class _Record:
    """Which samples each step visits, where their pairs begin, and the rate c of each pair."""

    batches: list
    ends: np.ndarray
    sample: np.ndarray
    c: np.ndarray
    kernel: np.ndarray


def _record(problem, steps: int) -> _Record:
    batches = [np.asarray(problem.batch(step)) for step in range(steps)]
    sizes = np.array([len(batch) for batch in batches], dtype=int)
    c = np.repeat(problem.rates(steps) * problem.output_scale / np.maximum(sizes, 1), sizes)
    sample = np.concatenate([np.zeros(0, int), *batches])
    kernel = problem.inputs @ problem.inputs.T / problem.inputs.shape[1]
    return _Record(batches, np.concatenate([[0], np.cumsum(sizes)]), sample, c, kernel)


# ---------------------------------------------------------------- sites


class _Sites:
    """Neurons in groups, and Gaussians on them. Fields are arrays (groups, fields, sites of a group)."""

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


# ---------------------------------------------------------------- the march, by sampling


class _State:
    """Everything that the march carries: fields of the record and their order parameters, per group of sites."""

    def __init__(self, problem, record: _Record, sites: _Sites, cutoff: float):
        depth, pairs = problem.depth, len(record.sample)
        self.problem, self.record, self.sites, self.cutoff = problem, record, sites, cutoff
        inner = range(1, depth)
        self.phi = [None] + [np.empty((sites.groups, pairs, sites.count)) for _ in range(depth)]
        self.g = [None] + [np.empty((sites.groups, pairs, sites.count)) for _ in range(depth)]
        square = (sites.groups, pairs, pairs)
        self.Phi, self.G = ([None] + [np.zeros(square) for _ in range(depth)] for _ in range(2))
        self.A, self.B = ([None] + [np.zeros(square) for _ in inner] for _ in range(2))
        self.u, self.r = ([None] + [_Family(sites, problem.weight_std, cutoff) for _ in inner] for _ in range(2))
        root = _kernel_root(problem.inputs)
        self.u_1 = problem.weight_std * root @ sites.draw(root.shape[1])
        self.w = None
        self.site_errors = []  # of the predictions, variance of the mean over the sites of a group


def _kernel_root(inputs):
    """R with R R^T = X X^T/D: X/sqrt(D) itself, or the symmetric root where there are fewer samples than inputs.

    That root is the positive factor of X/sqrt(D), which moves no more than X does, also where it is singular.
    """
    samples, dimension = inputs.shape
    scaled = inputs / np.sqrt(dimension)
    return scaled if dimension <= samples else linalg.polar(scaled, side="left")[1]


def _march(problem, steps: int, record: _Record, sites: _Sites, cutoff: float) -> MLPTheory:
    state, series = _State(problem, record, sites, cutoff), ([], [], [])
    for t in range(steps + 1):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                _march_step(state, t, *series)
        except ConvergenceError as error:
            raise ConvergenceError(f"at step {t} {error}", _solution(state, *series)) from None
        except np.linalg.LinAlgError:  # fields have overflowed before a loss was known
            message = f"training diverged at step {t}: fields are not finite"
            raise DivergenceError(message, t, _solution(state, *series)) from None
    return _solution(state, *series)


def _march_step(state: _State, t: int, losses, predictions, kernels) -> None:
    """What the network is at step t, and the update that it makes there."""
    problem, record, sites = state.problem, state.record, state.sites
    last = t == len(record.batches)
    batch = np.zeros(0, dtype=int) if last else record.batches[t]
    others = np.setdiff1d(np.arange(problem.samples), batch)
    h, phi = _forward(state, t, batch, kept=True)
    rest = _forward(state, t, others, kept=False)[1]
    first = np.unique(np.concatenate([batch, others]), return_index=True)[1]
    whole = [np.concatenate(pair, axis=1)[:, first] for pair in zip(phi, rest, strict=True)]
    if t == 0:  # f(0) = 0, whatever the sites
        state.w = problem.weight_std * sites.draw(problem.outputs, avoid=whole[-1])
    f = sites.mean(whole[-1], state.w) / problem.output_scale * (t > 0)
    loss = np.sum((problem.targets - f) ** 2, axis=(1, 2)) / problem.samples
    if not np.all(loss <= RUNAWAY * (np.maximum(losses[0], ROUNDING) if losses else np.inf)):
        partial = _solution(state, losses, predictions, kernels)
        raise DivergenceError(f"training diverged at step {t}: the loss is {loss.max():.3g}", t, partial)
    losses.append(loss)
    predictions.append(f)
    scatter = sites.mean(whole[-1] ** 2, state.w**2) / problem.output_scale**2 - f**2
    state.site_errors.append(np.mean(scatter, axis=(1, 2)) / sites.count)
    kernels.append(np.stack([sites.mean(field, field) for field in whole], axis=1))
    if not last:
        delta = problem.targets[batch] - f[:, batch]
        _backward(state, t, h, delta)
        state.w = state.w + (record.c[record.ends[t]] * delta).swapaxes(1, 2) @ phi[-1]


def _forward(state: _State, t: int, samples, kept: bool):
    """h^1 .. h^L and phi(h^1) .. phi(h^L) of some samples at step t; those that are `kept` enter the record."""
    problem, record, sites = state.problem, state.record, state.sites
    k, new = record.ends[t], slice(record.ends[t], record.ends[t] + len(samples))
    c = record.c[:k]
    h = [state.u_1[:, samples] + (c * record.kernel[np.ix_(samples, record.sample[:k])]) @ state.g[1][:, :k]]
    phi = [problem.phi(h[0])]
    for l in range(1, problem.depth + 1):
        known = k if kept else record.ends[min(t + 1, len(record.batches))]
        cross, block = sites.mean(phi[-1], state.phi[l][:, :known]), sites.mean(phi[-1], phi[-1])
        if kept:
            state.phi[l][:, new] = phi[-1]
            _set(state.Phi[l], new, cross, block)
        if l == problem.depth:
            return h, phi
        M, A = state.r[l].response(phi[-1])
        if kept:
            state.A[l][:, new, state.r[l].pivots] = A
        u = state.u[l].extend(cross[:, :, state.u[l].pivots], block, phi[-1], k, state.r[l].white, kept)
        h.append(u + problem.weight_std * M @ state.r[l].white + (c * cross[:, :, :k]) @ state.g[l + 1][:, :k])
        phi.append(problem.phi(h[-1]))


def _backward(state: _State, t: int, h, delta) -> None:
    """g^L .. g^1 of the batch of step t, into the record."""
    problem, record, sites = state.problem, state.record, state.sites
    k, new = record.ends[t], slice(record.ends[t], record.ends[t + 1])
    z = delta @ state.w
    for l in range(problem.depth, 0, -1):
        g = problem.phi_prime(h[l - 1]) * z
        cross, block = sites.mean(g, state.g[l][:, :k]), sites.mean(g, g)
        state.g[l][:, new] = g
        _set(state.G[l], new, cross, block)
        if l > 1:
            r = state.r[l - 1].extend(
                cross[:, :, state.r[l - 1].pivots], block, g, k, state.u[l - 1].white, kept=True
            )
            M, B = state.u[l - 1].response(g)
            state.B[l - 1][:, new, state.u[l - 1].pivots] = B
            learned = (record.c[:k] * cross) @ state.phi[l - 1][:, :k]
            z = r + problem.weight_std * M @ state.u[l - 1].white + learned


def _set(correlation, new: slice, cross, block) -> None:
    correlation[:, new, : new.start], correlation[:, new, new] = cross, block
    correlation[:, : new.start, new] = cross.swapaxes(1, 2)


def _solution(state: _State, losses, predictions, kernels) -> MLPTheory:
    """One solution for each group of sites, and their mean."""
    problem, record = state.problem, state.record
    pairs = record.ends[max(len(losses) - 1, 0)]
    steps = np.repeat(np.arange(len(record.batches)), np.diff(record.ends))[:pairs]
    index, c = np.column_stack([steps, record.sample[:pairs]]), record.c[:pairs]
    series = [np.array(one) for one in (losses, predictions, kernels)]
    square = record.kernel[np.ix_(record.sample[:pairs], record.sample[:pairs])]

    def solution(groups, replicas=()) -> MLPTheory:
        def mean(matrices):
            return tuple(None if one is None else one[groups, :pairs, :pairs].mean(axis=0) for one in matrices)

        found = [one[:, groups].mean(axis=1) for one in series]
        features = (square, *mean(state.Phi)[1:])
        matrices = features, mean(state.G), mean(state.A), mean(state.B)
        parting = amplification if replicas else np.full(len(found[0]), np.nan)
        return MLPTheory(problem, *found, index, c, *matrices, replicas, state.cutoff, parting)

    groups = range(state.sites.groups)
    if len(groups) == 1:
        return solution([0])
    scatter = np.mean(series[1].var(axis=1, ddof=1), axis=(1, 2))
    amplification = np.sqrt(scatter / np.mean(state.site_errors, axis=1)) if len(scatter) else scatter
    return solution(list(groups), tuple(solution([one]) for one in groups))


# ---------------------------------------------------------------- the march, exactly, of a linear network


class _Linear:
    """hhat^l = H_u u^l + H_r r^l, ghat^l = G_u u^l + G_r r^l for l = 1 .. L, over indices (step, output).

    `C[l]` = <hhat^l hhat^l> for l = 0 .. L, `G[l]` = <ghat^l ghat^l> for l = 1 .. L + 1: the last one is that of the
    readout's direction, 1 for equal outputs.
    """

    def __init__(self, problem, steps: int, record: _Record):
        depth, outputs = problem.depth, problem.outputs
        size = (steps + 1) * outputs
        self.s2, self.depth = problem.weight_std**2, depth
        self.c = np.append(np.repeat(record.c[record.ends[:-1]], outputs), np.zeros(outputs))
        self.seen = np.zeros((size, problem.samples))  # Phi^0 between the record and the samples
        self.H_u, self.H_r, self.G_u, self.G_r = (
            [None] + [np.zeros((size, size)) for _ in range(depth)] for _ in "1234"
        )
        self.C = [np.zeros((size, size)) for _ in range(depth + 1)]
        self.G = (
            [None]
            + [np.zeros((size, size)) for _ in range(depth)]
            + [np.kron(np.ones((steps + 1, steps + 1)), np.eye(outputs))]
        )

    def forward(self, past: slice, l: int, A, cross, own):
        """Rows of H_u^l and H_r^l from A^{l-1} and C^{l-1} with the past, and where u^l itself has its 1."""
        drift = self.s2 * A + self.c[past] * cross
        return own + drift @ self.G_u[l][past], drift @ self.G_r[l][past]

    def backward(self, past: slice, now: slice) -> None:
        """ghat^L .. ghat^1 of a step: the weights know the steps before it."""
        for l in range(self.depth, 0, -1):
            B = self.G_u[l + 1][now, past] if l < self.depth else 0.0
            drift = self.s2 * B + self.c[past] * self.G[l + 1][now, past]
            self.G_u[l][now] = drift @ self.H_u[l][past]
            self.G_r[l][now] = drift @ self.H_r[l][past]
            self.G_r[l][now, now] += np.eye(now.stop - now.start)
            upto = slice(0, now.stop)
            rows = self._covariance(self.G_u[l], self.G_r[l], l, now, upto)
            self.G[l][now, upto], self.G[l][upto, now] = rows, rows.T

    def _covariance(self, u, r, l: int, now: slice, upto: slice):
        """s2 (u C^{l-1} u^T + r G^{l+1} r^T), rows of now."""
        C, G = self.C[l - 1][upto, upto], self.G[l + 1][upto, upto]
        return self.s2 * (u[now, upto] @ C @ u[upto, upto].T + r[now, upto] @ G @ r[upto, upto].T)

    def predictions(self, past: slice, now: slice, output_scale: float):
        """f (P, outputs) = <ghat^1 h^1>/gamma0, h^1 = W^0(0) x + sum c ghat^1 Phi^0."""
        B = self.s2 * self.G_u[1][now, past]
        return ((B + self.c[past] * self.G[1][now, past]) @ self.seen[past]).T / output_scale

    def remember(self, now: slice, weights, kernel) -> None:
        """hhat^l of a step, l = 0 .. L: `weights` (outputs, P) are Delta on the batch and 0 elsewhere."""
        upto, past = slice(0, now.stop), slice(0, now.start)
        self.seen[now] = weights @ kernel
        rows = weights @ self.seen[upto].T
        self.C[0][now, upto], self.C[0][upto, now] = rows, rows.T
        for l in range(1, self.depth + 1):
            A = self.H_r[l - 1][now, past] if l > 1 else 0.0
            own = np.eye(len(self.c))[now]
            self.H_u[l][now], self.H_r[l][now] = self.forward(past, l, A, self.C[l - 1][now, past], own)
            rows = self._covariance(self.H_u[l], self.H_r[l], l, now, upto)
            self.C[l][now, upto], self.C[l][upto, now] = rows, rows.T

    def kernels(self, past: slice, kernel):
        """(L, P, P) <h^l h^l> of the samples at a step: each has a Gaussian of its own, known by its covariances."""
        A, cross, square, found = 0.0, self.seen[past].T, kernel, []
        for l in range(1, self.depth + 1):
            drift = self.s2 * A + self.c[past] * cross
            u, r = drift @ self.G_u[l][past, past], drift @ self.G_r[l][past, past]
            C, G = self.C[l - 1][past, past], self.G[l + 1][past, past]
            H_u, H_r = self.H_u[l][past, past], self.H_r[l][past, past]
            known = cross + u @ C  # <(u_mu + u u) u^l>/s2
            square = self.s2 * (square + cross @ u.T + u @ cross.T + u @ C @ u.T + r @ G @ r.T)
            A, cross = r, self.s2 * (known @ H_u.T + r @ G @ H_r.T)
            found.append(square)
        return np.array(found).reshape(self.depth, len(kernel), len(kernel))


def _march_linear(problem, steps: int, record: _Record) -> MLPTheory:
    outputs = problem.outputs
    state = _Linear(problem, steps, record)
    losses, predictions, kernels = [], [], []

    def run() -> MLPTheory:
        k = slice(0, max(len(losses) - 1, 0) * outputs)
        index = np.column_stack([np.arange(k.stop) // outputs, np.arange(k.stop) % outputs])
        C, G = ([None if one is None else one[k, k] for one in side] for side in (state.C, state.G[:-1]))
        A = [None] + [one[k, k] for one in state.H_r[1:-1]]
        B = [None] + [one[k, k] for one in state.G_u[2:]]
        series = np.array(losses), np.array(predictions), np.array(kernels)
        parting = np.full(len(losses), np.nan)
        record = index, state.c[k], tuple(C), tuple(G), tuple(A), tuple(B)
        return MLPTheory(problem, *series, *record, amplification=parting)

    for t in range(steps + 1):
        past, now = slice(0, t * outputs), slice(t * outputs, (t + 1) * outputs)
        with np.errstate(over="ignore", invalid="ignore"):
            state.backward(past, now)
            f = state.predictions(past, now, problem.output_scale)
            loss = np.sum((problem.targets - f) ** 2) / problem.samples
        if not loss <= RUNAWAY * (np.maximum(losses[0], ROUNDING) if losses else np.inf):
            raise DivergenceError(f"training diverged at step {t}: the loss is {loss:.3g}", t, run())
        losses.append(loss)
        predictions.append(f)
        kernels.append(state.kernels(past, record.kernel))
        if t < steps:
            weights = np.zeros((outputs, problem.samples))
            np.add.at(weights.T, record.batches[t], (problem.targets - f)[record.batches[t]])
            state.remember(now, weights, record.kernel)
    return run()

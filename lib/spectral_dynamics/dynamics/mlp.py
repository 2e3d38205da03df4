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
training, see `sites`. A linear network needs none, see `mlp_linear`. The programme is that of Bordelon and Pehlevan
(2022) and Lauditi, Pehlevan and Bordelon (2026).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .. import arguments, problems
from ..errors import ConvergenceError, DivergenceError, InstabilityWarning
from ..progress import bar
from .mlp_linear import LinearMarch
from .mlp_sampled import SampledMarch
from .order import OrderParameters

RUNAWAY = 1e6  # a loss that many times its start, or times rounding, has diverged
ROUNDING = 1e-15  # a loss that is this small at the start does not diverge when it doubles
CUTOFF = 1e-6  # of the largest variance of a field: directions below are not followed
PARTED = 2.0  # replicas may scatter by this many errors of fresh sites: 0.1 to 0.95 was seen where training is stable


@dataclass(frozen=True, eq=False)
class MLPTheory:
    """Gradient descent of an infinitely wide network: losses, kernels, and what the spectra of its weights need.

    `train_loss` (steps + 1,), `predictions` (steps + 1, P, outputs): as in networks.MLPRun. `kernels` (steps + 1, L,
    P, P): <phi(h^l_mu) phi(h^l_nu)> of all samples, l = 1 .. L. `index` (K, 2): (step, sample) of every pair that
    was visited; for activation "linear" (step, output), the record being sum_mu Delta_{o mu} h_mu and g^l/Delta.
    `replicas`: the solutions on separate sites, of which all this is the mean; () when it is exact, or one.
    `amplification` (steps + 1,): the scatter of the replicas' predictions, in units of the error that the sites of
    that step alone would make if all before it were exact; nan for one replica or when exact.
    """

    problem: problems.MLP
    train_loss: np.ndarray
    predictions: np.ndarray
    kernels: np.ndarray
    index: np.ndarray
    _order: Callable
    replicas: tuple = ()
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
        return replace(self._order(layer, step), replicas=tuple(one.order(layer, step) for one in self.replicas))

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
    problem, steps: int, *, sites: int = 20_000, rng=None, replicas: int = 4, cutoff: float = CUTOFF, progress=None
) -> MLPTheory:
    """Solve for `steps` updates, on `sites` neurons in `replicas` groups that know nothing of each other.

    Sites of a group are whitened: their Gaussians have exactly the covariance they should. `cutoff`: in each family
    of fields, directions whose variance is below this fraction of the largest are left to noise; from there to 1.25
    times as much they come in by degrees. The solution is a continuous function of the problem: what is drawn depends
    on shapes and `rng` alone, and no eigenvector's sign or order enters. Memory: 16 L sites K bytes, K the number of
    pairs (step, sample) that are visited. `activation="linear"` is exact and needs no `rng`. `progress`: show a bar
    on standard error; None: only on a terminal, and only once a second has passed.
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
        return _solved(LinearMarch(problem, record), steps, progress)
    replicas = arguments.whole("replicas", replicas, at_least=1)
    sites = arguments.whole("sites", sites, at_least=100 * replicas) // replicas
    cutoff = arguments.number("cutoff", cutoff, above=0)
    march = SampledMarch(problem, record, replicas, sites, arguments.generator("rng", rng), cutoff)
    theory = _solved(march, steps, progress)
    if theory.parted is not None:
        message = f"replicas part at step {theory.parted}: the learning rate is too large for one solution"
        warnings.warn(message, InstabilityWarning, stacklevel=2)
    return theory


@dataclass(frozen=True)
class _Record:
    """Which samples each step visits, how many times each, and the rate c = eta gamma0/|batch| of one visit."""

    batches: list
    times: list
    rates: np.ndarray
    kernel: np.ndarray

    def c(self, step: int):
        """The rate of each sample of a step's batch."""
        return self.rates[step] * self.times[step]

    def index(self, steps: int):
        """(step, sample) of all pairs before a step."""
        pairs = [np.column_stack([np.full(len(one), step), one]) for step, one in enumerate(self.batches[:steps])]
        return np.concatenate([np.zeros((0, 2), int), *pairs])


def _record(problem, steps: int) -> _Record:
    visited = [np.unique(problem.batch(step), return_counts=True) for step in range(steps)]
    sizes = np.array([max(times.sum(), 1) for _, times in visited])
    rates = problem.rates(steps) * problem.output_scale / sizes
    kernel = problem.inputs @ problem.inputs.T / problem.inputs.shape[1]
    return _Record([batch for batch, _ in visited], [times for _, times in visited], rates, kernel)


# ---------------------------------------------------------------- either march


def _solved(march, steps: int, progress) -> MLPTheory:
    """A march through `steps` updates. It carries `groups` solutions: `observe(t)` says what they are at step t (see
    _Series), `update(t)` makes the step, `found(steps, groups)` is the record so far; its work grows as t^`work`.
    """
    seen, work = _Series([], [], [], []), np.arange(steps + 2) ** march.work
    # Counted in work done, so that the time left is told right.
    ticks = bar(f"infinitely wide, {steps} steps", int(work[-1]), progress)
    with ticks, np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps + 1):
            try:
                now = march.observe(t)
                _unless_diverged(march, t, seen, now[0])
                for series, value in zip(seen, now, strict=True):
                    series.append(value)
                if t < steps:
                    march.update(t)
            except ConvergenceError as error:
                raise ConvergenceError(f"at step {t} {error}", _solution(march, seen)) from None
            except np.linalg.LinAlgError:  # fields have overflowed before a loss was known
                message = f"training diverged at step {t}: fields are not finite"
                raise DivergenceError(message, t, _solution(march, seen)) from None
            ticks.update(int(work[t + 1] - work[t]))
    return _solution(march, seen)


class _Series(NamedTuple):
    """Of every step, per group. `site_errors`: the variance of predictions that the sites of the step alone make."""

    losses: list
    predictions: list
    kernels: list
    site_errors: list


def _unless_diverged(march, t: int, seen: _Series, loss) -> None:
    limit = RUNAWAY * np.maximum(seen.losses[0], ROUNDING) if t else np.inf
    if not np.all(loss <= limit):
        message = f"training diverged at step {t}: the loss is {loss.max():.3g}"
        raise DivergenceError(message, t, _solution(march, seen))


def _solution(march, seen: _Series) -> MLPTheory:
    """One solution for each group of sites, and their mean."""
    problem, steps, groups = march.problem, len(seen.losses), list(range(march.groups))
    shapes = (), (problem.samples, problem.outputs), (problem.depth, problem.samples, problem.samples), ()
    losses, predictions, kernels, site_errors = (
        np.reshape(series, (steps, len(groups), *shape)) for series, shape in zip(seen, shapes, strict=True)
    )

    def solution(groups, amplification, replicas=()) -> MLPTheory:
        found = (one[:, groups].mean(axis=1) for one in (losses, predictions, kernels))
        index, order = march.found(max(steps - 1, 0), groups[0])
        return MLPTheory(problem, *found, index, order, replicas=replicas, amplification=amplification)

    unknown = np.full(steps, np.nan)
    if len(groups) == 1:
        return solution(groups, unknown)
    scatter = np.mean(predictions.var(axis=1, ddof=1), axis=(1, 2))
    amplification = np.sqrt(scatter / np.mean(site_errors, axis=1))
    return solution(groups, amplification, tuple(solution([one], unknown) for one in groups))

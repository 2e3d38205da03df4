"""Level one for infinitely wide networks in muP: order parameters of gradient descent in training time.

A network of problems.MLP with N -> infinity at fixed samples. A pair (step s, sample mu of its batch) is one index k;
Phi^l = <phi(h^l) phi(h^l)>, G^l = <g^l g^l>. c_k is what the push of pair k weighs in the weights now, for plain
descent eta gamma0/|batch| when k is of an earlier step; d is what weight decay has left of the initial weights. Every
neuron is a draw of the same process:

    h^{l+1}_k = d u_k + sum_k' [ d s2 A^l + c Phi^l ]_{k k'} g^{l+1}_k' ,    u ~ N(0, s2 Phi^l) ,
    z^l_k     = d r_k + sum_k' [ d s2 B^l + c G^{l+1} ]_{k k'} phi(h^l_k') , r ~ N(0, s2 G^{l+1}) ,
    g^l = phi'(h^l) z^l ,   A^l = <d phi(h^l)/d r^l> ,  B^l = <d g^{l+1}/d u^{l+1}> ,
    z^L_k = sum_o Delta_{o k} w_o ,  w_o = d w_o(0) + sum_k' c Delta_{o k'} phi(h^L_k') ,
    f_o = <w_o phi(h^L)>/gamma0 ,

with Phi^0 = x.x'/D, A^0 = 0 and no B^L; Delta is the residual of the problem's loss. It is solved by sampling: a
fixed set of neurons ("sites") is carried through training, and of all pairs a basis of what they span, see `sites`.
A linear network needs no sites, see `mlp_linear`. The programme is that of Bordelon and Pehlevan (2022) and Lauditi,
Pehlevan and Bordelon (2026).
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from .. import arguments, problems
from ..errors import ConvergenceError, DivergenceError, InstabilityWarning
from ..progress import bar
from .descent import schedule
from .mlp_linear import LinearMarch
from .mlp_sampled import Replica
from .order import OrderParameters

RUNAWAY = 1e6  # a loss that many times its start, or times rounding, has diverged
ROUNDING = 1e-15  # a loss that is this small at the start does not diverge when it doubles
CUTOFF, MANY = 4e-3, 300  # of the largest variance of a field, for so many samples: directions below are noise
SITES, EACH, DOUBLINGS = 5000, 32, 5  # of a replica: at least, for each of up to MANY samples, and when too few
PARTED = 2.0  # replicas may scatter by this many errors of fresh sites: 0.1 to 0.95 was seen where training is stable


@dataclass(frozen=True)
class Orders(Sequence):
    """The order parameters of replicas, made when one is looked at: those of many samples fill the memory."""

    of: tuple
    asked: tuple

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, place):
        some = self.of[place]
        return Orders(some, self.asked) if isinstance(place, slice) else some.order(*self.asked)


@dataclass(frozen=True, eq=False)
class MLPTheory:
    """Gradient descent of an infinitely wide network: losses, kernels, and what the spectra of its weights need.

    `train_loss` (steps + 1,), `predictions` (steps + 1, P, outputs): as in networks.MLPRun. `kernels` (S, L, P, P):
    <phi(h^l_mu) phi(h^l_nu)> of all samples, l = 1 .. L, at the S steps `kernel_steps`. `index` (K, 2): (step,
    sample) of every pair that was visited; for activation "linear" (step, output), the record being
    sum_mu Delta_{o mu} h_mu and g^l/Delta.
    `neglected` (steps, L - 1, 2): of the features and of the gradients that a hidden matrix was shown at each step,
    the share of their variance that lies in directions below the cut-off, which are noise and teach nothing.
    `decay` (steps + 1,): what weight decay has left of the initial weights.
    `replicas`: the solutions on separate sites, of which all this is the mean; () when it is exact, or one.
    `amplification` (steps + 1,): the scatter of the replicas' predictions, in units of the error that the sites of
    that step alone would make if all before it were exact; nan for one replica or when exact. `sites`: neurons of
    each replica; 0 when exact.
    """

    problem: problems.MLP
    train_loss: np.ndarray
    predictions: np.ndarray
    kernels: np.ndarray
    kernel_steps: np.ndarray
    index: np.ndarray
    neglected: np.ndarray
    decay: np.ndarray
    _order: Callable = field(repr=False)
    _tangent: dict = field(repr=False)
    sites: int = 0
    replicas: tuple = ()
    amplification: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return len(self.train_loss) - 1

    @property
    def tangent_steps(self) -> tuple[int, ...]:
        """Where `tangent_kernel` is known, ascending."""
        return tuple(sorted(self._tangent))

    @property
    def parted(self) -> int | None:
        """The first step at which replicas have parted: `amplification` above PARTED; None where they never did.

        From there on small differences grow faster than training wipes them out. The mean over replicas is then no
        solution, and wide networks of different seeds part as well: the learning rate is too large for one answer.
        """
        beyond = np.flatnonzero(np.nan_to_num(self.amplification, nan=0.0) > PARTED)
        return int(beyond[0]) if beyond.size else None

    def order(self, layer: int, step: int, through: int | None = None) -> OrderParameters:
        """What level two needs of the hidden weights Wbar^layer, layer = 1 .. L - 1, after `step` updates.

        In orthonormal bases of the features and gradients visited so far, with the coordinates of those themselves,
        in the order of `index`: alignments are with them. `through`: of all that is visited before this step, at
        least `step`, the default; step + 1 adds what the weights after `step` updates are shown next. Replicas have
        bases of their own; the tables outside `replicas` are those of the first. Raises ValueError for another layer
        or step, and where weight decay has left nothing of the initial weights. (Of W^0, N x D at fixed D, there is
        no bulk in this limit.)
        """
        depth, last = self.problem.depth, self.steps
        if not 1 <= arguments.whole("layer", layer) < depth:
            raise ValueError(f"layer must be one between hidden layers, 1 to {depth - 1}, got {layer}")
        if not 1 <= arguments.whole("step", step) <= last:
            raise ValueError(f"step must be 1 to {last}, got {step}")
        through = step if through is None else arguments.whole("through", through)
        if not step <= through <= last:
            raise ValueError(f"through must be {step} to {last}, got {through}")
        if not self.decay[step] > 0:
            left = f"got decay {self.decay[step]:.3g}"
            raise ValueError(f"step must be one with something left of the initial weights, {left}")
        first = self._order(layer, step, through)
        return replace(first, replicas=Orders(self.replicas, (layer, step, through))) if self.replicas else first

    def tangent_kernel(self, step: int) -> np.ndarray:
        """K (P, outputs, P, outputs), in whose units f' = eta K Delta/|batch|, the mean over replicas.

        K^{oo'}_{mu nu} = sum_{l=0..L} Phi^l_{mu nu} <g^{l+1,o}_mu g^{l+1,o'}_nu>, with g^{l,o} the gradient of
        w_o . phi(h^L) (last term: Phi^L where o = o'). At one of the `tangent_steps` that were given to `solve`;
        raises ValueError for another.
        """
        if arguments.whole("step", step) not in self._tangent:
            raise ValueError(f"step must be one of the tangent_steps, {self.tangent_steps}, got {step}")
        return self._tangent[step]

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
    problem,
    steps: int,
    *,
    sites: int | None = None,
    rng=None,
    replicas: int = 4,
    cutoff: float | None = None,
    precision: str = "double",
    kernel_steps=None,
    tangent_steps=(),
    workers: int = 1,
    progress=None,
) -> MLPTheory:
    """Solve for `steps` updates, on `sites` neurons in `replicas` groups that know nothing of each other.

    Sites of a group are whitened: their Gaussians have exactly the covariance they should. `sites=None`: 5000 to
    9600 in each replica, by the number of samples, and twice as many again where the independent fields that appear
    are more than half of them. `cutoff`: directions of features and gradients whose variance is below this fraction
    of the largest are noise (see `neglected`); None: 0.004 (P/300)^2, at most 0.004, for P samples that are visited.
    `precision`: "double", or "single" for the sites, twice as fast. `kernel_steps`, `tangent_steps`: where `kernels`
    and `tangent_kernel` are kept; None: at all steps, (): nowhere. `workers`: how many replicas are solved at once,
    each on one core; memory is that of so many. `activation="linear"` is exact and needs no `rng`. `progress`: show a
    bar on standard error; None: only on a terminal, and only once a second has passed.
    A step costs P r sites in each replica, with r directions; memory is about 16 L r sites bytes. What is drawn
    depends on shapes and `rng` alone; no eigenvector's sign or order enters.
    Warns (InstabilityWarning) when replicas part, see `MLPTheory.parted`. Raises ValueError on bad input or
    parametrization "ntk" (its infinite width learns no features), DivergenceError, with `.step` and `.partial` (all
    before that step), when the loss is not finite or above RUNAWAY times its start, and ConvergenceError, with
    `.partial`, when the sites are too few for all the independent fields that appear.
    """
    plan, asked = _plan(problem, steps, kernel_steps, tangent_steps)
    workers = arguments.whole("workers", workers, at_least=1)
    if problem.activation == "linear":
        return _solved(problem, [lambda: LinearMarch(problem, plan, asked[1])], plan, asked, progress)
    return _sampled(problem, plan, asked, (progress, workers), sites, rng, replicas, cutoff, precision)


def _plan(problem, steps, *given) -> tuple:
    """What the steps are, and where kernels and tangent kernels are asked for."""
    if not isinstance(problem, problems.MLP):
        raise ValueError(f"problem must be a problems.MLP, got {type(problem).__name__}")
    if problem.parametrization != "mup":
        raise ValueError(f"problem must be in muP, got parametrization {problem.parametrization!r}")
    steps, found = arguments.whole("steps", steps), []
    for name, value in zip(("kernel_steps", "tangent_steps"), given, strict=True):
        if value is not None and not np.iterable(value):
            raise ValueError(f"{name} must be a sequence of steps, or None for all of them, got {value!r}")
        found.append(sorted({arguments.whole(name, step) for step in (range(steps + 1) if value is None else value)}))
        if max(found[-1], default=0) > steps:
            raise ValueError(f"{name} must be 0 to {steps}, got {found[-1][-1]}")
    return schedule(problem, steps), found


def _sampled(problem, plan, asked, how, sites, rng, replicas, cutoff, precision) -> MLPTheory:
    """By replicas, with more sites where they were too few and their number was left open."""
    replicas = arguments.whole("replicas", replicas, at_least=1)
    groups = arguments.generator("rng", rng).spawn(replicas)
    visited = min(MANY, len(np.unique(np.concatenate([np.zeros(1, int), *plan.batches]))))
    cutoff = CUTOFF * (visited / MANY) ** 2 if cutoff is None else arguments.number("cutoff", cutoff, above=0)
    precision = arguments.one_of("precision", precision, ("double", "single"))
    count = max(SITES, EACH * visited)
    if sites is not None:
        count = arguments.whole("sites", sites, at_least=100 * replicas) // replicas

    def march(group, count: int) -> Replica:
        return Replica(problem, plan, count, copy.deepcopy(group), cutoff, precision, asked[1])

    for attempt in range(DOUBLINGS):
        try:
            marches = [partial(march, group, count * 2**attempt) for group in groups]
            theory = _solved(problem, marches, plan, asked, *how)
            break
        except ConvergenceError:
            if sites is not None or attempt == DOUBLINGS - 1:
                raise
    if theory.parted is not None:
        message = f"replicas part at step {theory.parted}: the learning rate is too large for one solution"
        warnings.warn(message, InstabilityWarning, stacklevel=3)
    return theory


# ---------------------------------------------------------------- either march


@dataclass(frozen=True)
class _Run:
    """One march: `rows`, what the network was at each step, until `failure`, an error or None. See `found`."""

    rows: list
    order: Callable
    index: Callable
    neglected: np.ndarray
    failure: Exception | None
    sites: int


def _solved(problem, marches, plan, asked, progress, workers: int = 1) -> MLPTheory:
    """The marches, `workers` at a time so that only these have sites in memory, and the mean of what they found."""
    steps, decay = plan.steps, plan.decay
    work = np.arange(steps + 2) ** (3 if problem.activation == "linear" else 1)
    # Counted in work done, so that the time left is told right.
    ticks = bar(f"infinitely wide, {steps} steps", int(work[-1]) * len(marches), progress)
    until = [steps]  # as far as all have come that have failed

    def run(make) -> _Run:
        return _marched(make(), steps, until, asked[0], lambda t: ticks.update(int(work[t + 1] - work[t])))

    with ticks, ThreadPoolExecutor(workers) as pool, threadpool_limits(1 if workers > 1 else None, "blas"):
        try:
            runs = list((pool.map if workers > 1 else map)(run, marches))
        except BaseException:
            until[0] = -1  # the others stop as well
            raise
    failures = [(len(run.rows), run.failure) for run in runs if run.failure]
    solution = _solution(problem, runs, asked, decay)
    if not failures:
        return solution
    failure = min(failures, key=lambda pair: pair[0])[1]
    failure.partial = solution
    raise failure


@np.errstate(over="ignore", invalid="ignore")
def _marched(march, steps: int, until: list, kernel_steps, tick) -> _Run:
    """One of them through `steps` updates, or only to where another has failed: `observe(t)` says what it is at step
    t, `update(t)` makes the step, `found()` is what it knows.
    """
    rows, failure, t = [], None, 0
    while t <= until[0] and not failure:
        try:
            now = march.observe(t)
            limit = RUNAWAY * max(rows[0]["loss"], ROUNDING) if t else np.inf
            if not now["loss"] <= limit:
                raise DivergenceError(f"training diverged at step {t}: the loss is {now['loss']:.3g}", t)
            rows.append(now if t in kernel_steps else now | {"kernels": None})
            if t < steps:
                march.update(t)
            tick(t)
            t += 1
        except DivergenceError as error:
            failure = error
        except ConvergenceError as error:
            failure = ConvergenceError(f"at step {t} {error}")
        except np.linalg.LinAlgError:  # fields have overflowed before a loss was known
            failure = DivergenceError(f"training diverged at step {t}: fields are not finite", t)
    if failure:
        until[0] = min(until[0], len(rows) - 1)
    return _Run(rows, *march.found(), failure, march.count)


def _solution(problem, runs: list[_Run], asked, decay) -> MLPTheory:
    """One solution for each run, as far as all of them came, and their mean."""
    length = min(len(run.rows) for run in runs)
    kernel_steps, tangent_steps = ([step for step in steps if step < length] for steps in asked)

    def mean(runs, name: str, steps, shape):
        values = [[run.rows[step][name] for step in steps] for run in runs]
        return np.mean(values, axis=0).reshape(len(steps), *shape)

    samples, outputs, every = problem.samples, problem.outputs, range(length)
    kernel, tangent = (problem.depth, samples, samples), (samples, outputs, samples, outputs)

    def solution(runs, amplification, replicas=()) -> MLPTheory:
        kernels = mean(runs, "tangent", tangent_steps, tangent)
        return MLPTheory(
            problem,
            train_loss=mean(runs, "loss", every, ()),
            predictions=mean(runs, "predictions", every, (samples, outputs)),
            kernels=mean(runs, "kernels", kernel_steps, kernel),
            kernel_steps=np.array(kernel_steps, int),
            index=runs[0].index(max(length - 1, 0)),
            neglected=np.mean([run.neglected[: max(length - 1, 0)] for run in runs], axis=0),
            decay=decay[:length],
            _order=runs[0].order,
            _tangent=dict(zip(tangent_steps, kernels, strict=True)),
            sites=runs[0].sites,
            replicas=replicas,
            amplification=amplification,
        )

    unknown = np.full(length, np.nan)
    if len(runs) == 1:
        return solution(runs, unknown)
    predictions = np.array([[row["predictions"] for row in run.rows[:length]] for run in runs])
    predictions = predictions.reshape(len(runs), length, samples, outputs)
    scatter = np.mean(predictions.var(axis=0, ddof=1), axis=(1, 2))
    amplification = np.sqrt(scatter / mean(runs, "site_error", every, ()))
    return solution(runs, amplification, tuple(solution([run], unknown) for run in runs))

"""As many outputs as neurons: no outlier leaves, the bulk itself moves.

A linear network f = V Wbar x with whitened inputs x in R^D, N neurons and C = kappa N outputs learns tau Tbar x by
gradient flow. V (C, N) has entries of variance 1/N, Wbar(0) (N, D) of variance s2/D, Tbar (C, D) of variance 1/D, all
independent; nu = N/D. While V is frozen, every eigenvector of S = V^T V learns on its own,

    Wbar(t) = e^{-tS} Wbar(0) + S^{-1} (1 - e^{-tS}) V^T tau Tbar      (S^{-1} (1 - e^{-tS}) = t where S = 0) ,

so that, given S, the columns of Wbar(t) are independent Gaussian vectors of covariance f_t(S)/D,

    f_t(S) = s2 e^{-2tS} + tau^2 (1 - e^{-tS})^2 / S .

Their spectrum is a generalized Marchenko-Pastur law. Its population is the law of S, Marchenko-Pastur with an atom
1 - kappa at 0 for kappa < 1, pushed through f_t, which need not be monotone. It is represented by the nodes of a
quadrature that converges exponentially: in s = 1 + kappa - 2 sqrt(kappa) cos(theta) the law of S is smooth.

With finitely many outputs S has C eigenvalues 1: a spiked population (Baik and Silverstein 2006). One joint step from
random weights leaves both layers with such a law as well; a second one does not, and needs `linearization`. The
programme is that of Lauditi, Pehlevan and Bordelon (2026), the toy model and its solution are the book's.
"""

import numpy as np

from .. import arguments, problems
from ..errors import ConvergenceError
from . import laws, linearization

NODES, MOST = 64, 8192  # of the quadrature: at first, and at most
ROUNDING = 1e-12  # of a sum of weights
POINTS = 40  # in each band, at which two quadratures are compared


def column_variance(problem, eigenvalue, time: float):
    """f_t(S) = s2 e^{-2tS} + tau^2 (1 - e^{-tS})^2/S at eigenvalues of S, any shape; s2 at 0. Raises ValueError."""
    problem, time = _frozen(problem), arguments.number("time", time, at_least=0)
    s = arguments.array("eigenvalue", eigenvalue)
    if np.any(s < 0):
        raise ValueError(f"eigenvalue must be at least 0, got {s.min()}")
    learned = -np.expm1(-time * s)
    growth = np.divide(learned, s, out=np.full_like(s, time), where=s > 0)
    return problem.weight_std**2 * np.exp(-2 * time * s) + problem.target_scale**2 * learned * growth


def change_variance(problem, eigenvalue, time: float):
    """(s2 + tau^2/S) (1 - e^{-tS})^2 at eigenvalues of S, any shape: the columns of Wbar(t) - Wbar(0). ValueError."""
    problem, time = _frozen(problem), arguments.number("time", time, at_least=0)
    s = arguments.array("eigenvalue", eigenvalue)
    kept = np.exp(-time * s)
    of_start = problem.weight_std**2 * (np.expm1(-time * s) ** 2 - kept**2)
    return np.maximum(column_variance(problem, s, time) + of_start, 0.0)


def change(problem, time: float, *, accuracy: float = 5e-3) -> laws.SingularValues:
    """The singular values of what is learned, Wbar(t) - Wbar(0) (N, D), a law of N values; 1 - kappa of them 0.

    Given S its columns are Gaussian too, of covariance (s2 + tau^2/S) (1 - e^{-tS})^2/D: W(0) is forgotten by as much
    as the target is learned. `accuracy`: nodes are doubled until the upper edge, relative, and the distribution
    function, at places evenly apart, move by less. They soon do by far less, but where S has an edge at 0, as for
    kappa = 1: there it takes 1/accuracy nodes, and minutes. Raises as `bulk`, and ValueError also for an output_ratio
    or a time of 0, with which there is no law.
    """
    problem, time = _frozen(problem), arguments.number("time", time, above=0)
    if not problem.output_ratio:
        raise ValueError("output_ratio must be above 0 for a law of the learned change, got 0")
    return _refined(
        lambda nodes: _pushed(problem, nodes, lambda s: change_variance(problem, s, time), problem.width_ratio),
        accuracy,
        change=True,
    )


def bulk(problem, time: float, *, accuracy: float = 1e-8) -> laws.SingularValues:
    """The singular values of Wbar (N, D) after `time`, N -> infinity, a law of N values.

    `accuracy`: nodes are doubled until the edges, relative to the largest, and the distribution function, absolute,
    move by less. With output_ratio 0 (finitely many outputs) the bulk is that of the start: see `outlier`.
    Raises ValueError on bad input, and ConvergenceError, with `.partial` the best law and `.residual` its error.
    """
    problem, time = _frozen(problem), arguments.number("time", time, at_least=0)
    return _refined(
        lambda nodes: _pushed(problem, nodes, lambda s: column_variance(problem, s, time), problem.width_ratio),
        accuracy,
    )


def outlier(problem, time: float) -> float | None:
    """Where the singular values of finitely many outputs lie after `time`, all C at one place; None: in the bulk.

    S has C eigenvalues 1, so that the population has C spikes l = f_t(1) among s2. With x = l/s2 they are seen at

        z^2 = s2 x (1 + nu/(x - 1))   while |x - 1| > sqrt(nu) ,

    above the bulk for x > 1 and, for nu < 1, below it for x < 1 (Baik and Silverstein 2006). Raises ValueError,
    also for an output_ratio that is not 0.
    """
    problem = _frozen(problem)
    if problem.output_ratio:
        raise ValueError(f"output_ratio must be 0, finitely many outputs, got {problem.output_ratio!r}")
    s2, nu = problem.weight_std**2, problem.width_ratio
    x = float(column_variance(problem, 1.0, time)) / s2
    if abs(x - 1) <= np.sqrt(nu):
        return None
    return float(np.sqrt(s2 * x * (1 + nu / (x - 1))))


def one_step(
    problem, rate: float, readout_rate: float | None = None, *, change: bool = False, accuracy: float = 1e-8
):
    """The laws of Wbar (N, D) and of V (C, N) after one joint step of gradient descent from random weights.

    With E = tau Tbar - V Wbar at the start, Wbar + rate V^T E and V + readout_rate E Wbar^T have populations

        s2 (1 - rate S)^2 + rate^2 tau^2 S ,     (1 - readout_rate M)^2 + readout_rate^2 tau^2 nu M ,

    M = Wbar Wbar^T. The second law is that of the N singular values of V, N - C of them 0 when C < N. Returns a pair
    of laws. `readout_rate`: the same as `rate` by default. `change`: the laws of the steps alone, 1 - rate S and
    1 - readout_rate M without the 1, to the `accuracy` of `change`; rates must be above 0. Raises ValueError, also
    for an output_ratio of 0, and ConvergenceError as `bulk`.
    """
    rate, readout_rate = _step_rates(problem, rate, readout_rate)
    s2, tau2, nu, start = problem.weight_std**2, problem.target_scale**2, problem.width_ratio, 0 if change else 1

    def of_weights(s):
        return s2 * (start - rate * s) ** 2 + rate**2 * tau2 * s

    def of_readout(m):
        return (start - readout_rate * m) ** 2 + readout_rate**2 * tau2 * nu * m

    def readout(nodes):
        m, weights = _quadrature(nodes, 1 / nu, s2 * nu)
        return _law(1 / problem.output_ratio, problem.output_ratio * of_readout(m), weights)

    first = _refined(lambda nodes: _pushed(problem, nodes, of_weights, nu), accuracy, change)
    return first, _refined(readout, accuracy, change)


def two_steps(problem, rate: float, readout_rate: float | None = None, *, accuracy: float = 1e-3):
    """The laws of Wbar (N, D) and of V (C, N), as one of N values, after two joint steps from random weights.

    W and V of the first step depend on each other, so that no population is left that the other layer could be given:
    the laws are those of two expressions in the three Gaussian matrices of the start, see `linearization.Spectrum`,
    which says what `accuracy` is. Returns a pair; seconds. Raises ValueError and ConvergenceError as `one_step`.
    """
    rates = _step_rates(problem, rate, readout_rate)
    neurons = linearization.Space("neurons", 1.0)
    inputs = linearization.Space("inputs", 1 / problem.width_ratio)
    outputs = linearization.Space("outputs", problem.output_ratio)
    w = linearization.Gaussian(neurons, inputs, problem.weight_std**2 * problem.width_ratio)
    v = linearization.Gaussian(outputs, neurons)
    target = linearization.Gaussian(outputs, inputs, problem.target_scale**2 * problem.width_ratio)
    for _ in range(2):
        error = target - v @ w
        w, v = w + rates[0] * v.T @ error, v + rates[1] * error @ w.T
    return linearization.Spectrum(w, accuracy=accuracy), linearization.Spectrum(v.T, accuracy=accuracy)


def distance(values, law, *, removed: int = 0) -> float:
    """How far singular values are from a law once the `removed` largest are taken away: sup |F_values - F_law|.

    Kolmogorov and Smirnov's distance. `values` (n,), at least 0; those below 1e-9 of the largest count as 0, where
    a law may have an atom. `law` has a `.cdf`. `removed`, less than n, are outliers, or might be: taking k values of
    an unmoved bulk away makes a distance of k/n by itself. Raises ValueError.
    """
    values = np.sort(arguments.array("values", values, ndim=1))
    if not values.size or values[0] < 0:
        raise ValueError(f"values must be at least 0, and there must be one, got {values}")
    removed = arguments.whole("removed", removed)
    if removed >= len(values):
        raise ValueError(f"removed must be less than the {len(values)} values, got {removed}")
    kept = values[: len(values) - removed]
    zeros, steps = np.count_nonzero(kept <= 1e-9 * values[-1]), np.arange(len(kept) + 1) / len(kept)
    expected = law.cdf(np.append(0.0, kept[zeros:]))
    at_and_before = np.append(steps[zeros:] - expected, steps[zeros:-1] - expected[1:])
    return float(np.abs(at_and_before).max())


def _frozen(problem) -> problems.FrozenReadout:
    if not isinstance(problem, problems.FrozenReadout):
        raise ValueError(f"problem must be a problems.FrozenReadout, got {type(problem).__name__}")
    return problem


def _step_rates(problem, rate, readout_rate) -> tuple[float, float]:
    if not _frozen(problem).output_ratio:
        raise ValueError("output_ratio must be above 0 for a law of both layers, got 0")
    rate = arguments.number("rate", rate, at_least=0)
    return rate, rate if readout_rate is None else arguments.number("readout_rate", readout_rate, at_least=0)


def _quadrature(nodes: int, ratio: float, scale: float = 1.0):
    """Nodes and weights of the law of scale X^T X, X (ratio N, N) with entries of variance 1/N.

    The continuous part is sin^2(theta) dtheta 2 ratio/(pi s), s = 1 + ratio - 2 sqrt(ratio) cos(theta), by the
    trapezoidal rule. What it misses is the residue of the pole at s = 0, near the path when ratio is near 1: that is
    weight of the value there, like the atom 1 - ratio, so that all the weight that is missing belongs to s = 0. Where
    only rounding is missing there is no node: even 1e-16 would make a band of its own.
    """
    theta = np.pi * np.arange(1, nodes) / nodes
    s = (1 - np.sqrt(ratio)) ** 2 + 4 * np.sqrt(ratio) * np.sin(theta / 2) ** 2
    weights = 2 * ratio * np.sin(theta) ** 2 / (s * nodes)
    missing = 1 - weights.sum()
    if missing > ROUNDING:
        s, weights = np.append(s, 0.0), np.append(weights, missing)
    return scale * s, weights / weights.sum()


def _pushed(problem, nodes: int, population, width_ratio: float) -> laws.SingularValues:
    if not problem.output_ratio:
        return laws.singular_value_bulk(width_ratio, problem.weight_std**2)
    s, weights = _quadrature(nodes, problem.output_ratio)
    return _law(width_ratio, population(s), weights)


def _law(ratio: float, atoms, weights) -> laws.SingularValues:
    return laws.generalized_marchenko_pastur(ratio, atoms, weights).singular_values()


def _refined(law_of, accuracy: float, change: bool = False) -> laws.SingularValues:
    """The law from as many nodes as `accuracy` needs."""
    moved = _moved if change else _distance
    accuracy, nodes = arguments.number("accuracy", accuracy, above=0), NODES
    law, error = law_of(nodes), np.inf
    while nodes < MOST:
        nodes *= 2
        finer = law_of(nodes)
        error, law = moved(law, finer), finer
        if error <= accuracy:
            return law
    raise ConvergenceError(f"accuracy {accuracy:.1g} was not reached with {nodes} nodes: {error:.1g}", law, error)


def _distance(law, finer) -> float:
    if law.edges.shape != finer.edges.shape:
        return np.inf
    inside = np.linspace(0, 1, POINTS + 2)[1:-1]
    x = (finer.edges[:, :1] + np.diff(finer.edges, axis=1) * inside).ravel()
    moved = np.abs(law.edges - finer.edges).max() / finer.edges.max()
    return max(moved, np.abs(law.cdf(x) - finer.cdf(x)).max())


def _moved(law, finer) -> float:
    """The same for a learned change: what is learned little of has bands near 0 that no number of nodes joins."""
    top = finer.edges[-1, 1]
    x = np.linspace(0, top, 5 * POINTS + 1)[1:-1]
    return max(abs(law.edges[-1, 1] - top) / top, np.abs(law.cdf(x) - finer.cdf(x)).max())

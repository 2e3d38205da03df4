"""Curvature of a network: the operator of its tangent kernel and the Hessian of its loss, by products with vectors.

The passes that it takes, signals forwards and gradients backwards, come from the room that asks.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ..errors import ConvergenceError


@dataclass(frozen=True, eq=False)
class MeasuredMode:
    """The largest eigenvalue `value` of the tangent kernel's operator in one network, and where it points.

    `direction`, of length 1. Of a `DeepLinear` (D,): the eigenvector y of M Sigma (population: of M), along which the
    error vector v moves, on the side of v. Of an `MLP` (P, outputs): that of M K, along which the residual moves, on
    the side of the residual. `alignment`: its cosine with v or the residual.
    """

    value: float
    alignment: float
    direction: np.ndarray


# The tangent kernel: M = sum_{l=0..L} rho_l Pi_l^T Pi_l, Pi_l = Wbar^{l-1} ... Wbar^0


def tangent_rates(size: int, gradients) -> list[float]:
    """rho_0 .. rho_L: how fast each layer lets the function move."""
    width = len(gradients[-1])
    squares = [g @ g / width for g in gradients]
    return [squares[0], *(square * size / width for square in [*squares[1:], 1.0])]


def tangent(weights, rates, signals) -> np.ndarray:
    """M e^0, of the signals e^0 .. e^L on its way forwards: d^l = rho_l e^l + Wbar^{l,T} d^{l+1} backwards."""
    d = rates[-1] * signals[-1]
    for rate, matrix, signal in zip(rates[-2::-1], weights[-2::-1], signals[-2::-1], strict=True):
        d = rate * signal + matrix.T @ d
    return d


def leading_mode(product, inputs, v) -> MeasuredMode:
    """Of M Sigma, `product` being that of M with a vector; without `inputs` of M."""
    if inputs is None:
        value, y = _largest(product, v)
    else:
        value, chi = _largest(lambda x: inputs @ product(inputs.T @ x) / len(inputs), inputs @ v)
        y = product(inputs.T @ chi)
    y = y * np.copysign(1 / linalg.norm(y), y @ v)
    y.setflags(write=False)
    return MeasuredMode(value, float(y @ v / linalg.norm(v)), y)


def output_mode(product, metric, residual) -> MeasuredMode:
    """Of M K/P in the space of outputs: `product` is that of K with (P, outputs), `metric` M (P, outputs, outputs).

    With M = R R^T the eigenvalues are those of the symmetric R^T K R/P, and M K has the eigenvectors R u.
    """
    squares, vectors = np.linalg.eigh(metric)
    root = vectors * np.sqrt(np.maximum(squares, 0))[:, None, :]

    def scaled(flat):
        return (root @ flat.reshape(*residual.shape, 1))[..., 0]

    def symmetric(flat):
        return (product(scaled(flat))[:, None, :] @ root).ravel() / len(residual)

    start = np.random.default_rng(0).standard_normal(residual.size)  # a mode has no randomness of its own
    value, u = _largest(symmetric, start)
    z = scaled(u)
    tiny = np.finfo(float).tiny  # nothing is left to learn, or nothing moves: the cosine is 0
    z *= np.copysign(1 / max(linalg.norm(z), tiny), np.sum(z * residual))
    z.setflags(write=False)
    return MeasuredMode(value, float(np.sum(z * residual) / max(linalg.norm(residual), tiny)), z)


def ntk_spectrum(weights, rates, inputs) -> np.ndarray:
    """All eigenvalues of M Sigma, descending; without `inputs` of M."""
    forward = np.eye(weights[0].shape[1])
    M = np.zeros_like(forward)
    for l, rate in enumerate(rates):
        forward = weights[l - 1] @ forward if l else forward
        M += rate * forward.T @ forward
    if inputs is None:
        return linalg.eigvalsh(M)[::-1]
    sampled = inputs @ linalg.cholesky(M, lower=True)  # M is positive: at least rho_0
    return np.maximum(linalg.eigvalsh(sampled.T @ sampled / len(inputs))[::-1], 0)


# The Hessian


def hessian_top(gamma: float, weights, gradients, features, covariance) -> float:
    """The largest eigenvalue of gamma^2 D times the Hessian; `covariance`: the product of Sigma with a vector."""
    steepest = [np.outer(g, h) for g, h in zip(gradients, features[:-1], strict=True)]
    product = _hessian_product(gamma, weights, gradients, features, covariance)
    return _largest(product, _flat([*steepest, features[-1]]))[0]


def _hessian_product(gamma: float, weights, gradients, features, covariance):
    """gamma^2 D Hessian times a vector: minus the change of all plain steps when the raw weights move along it."""
    size, width = len(features[0]), len(weights[-1])
    scale, layers = gamma * np.sqrt(size / width), range(len(weights) - 1)
    fan_ins = [*(matrix.shape[1] for matrix in weights[:-1]), 1]
    ends = np.cumsum([0, *(part.size for part in weights)])

    def product(flat):
        raw = [flat[low:high] for low, high in pairwise(ends)]
        moves = [x.reshape(W.shape) / np.sqrt(n) for x, W, n in zip(raw, weights, fan_ins, strict=True)]
        back = [moves[-1]]
        for l in reversed(layers[1:]):
            back.insert(0, weights[l].T @ back[0] + moves[l].T @ gradients[l])
        beta = (weights[0].T @ back[0] + moves[0].T @ gradients[0]) * np.sqrt(size / width) / gamma
        forward = [-covariance(beta)]
        for l in layers:
            forward.append(weights[l] @ forward[-1] + moves[l] @ features[l])
        steps = [np.outer(back[l], features[l]) + np.outer(gradients[l], forward[l]) for l in layers]
        steps = [step / np.sqrt(n) for step, n in zip(steps, fan_ins[:-1], strict=True)]
        return -scale * _flat([*steps, forward[-1]])

    return product


def _flat(parts) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])


def _largest(product, start) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of a symmetric operator and its eigenvector."""
    size = len(start)
    if size < 20:
        values, vectors = linalg.eigh(np.column_stack([product(unit) for unit in np.eye(size)]))
        return float(values[-1]), vectors[:, -1]
    try:
        values, vectors = eigsh(
            LinearOperator((size, size), product, dtype=float), k=1, which="LA", v0=start, tol=1e-10
        )
    except ArpackNoConvergence as error:
        raise ConvergenceError("Lanczos did not reach the largest eigenvalue", error.eigenvalues) from error
    return float(values[0]), vectors[:, 0]

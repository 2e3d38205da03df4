"""What several chapters do in SymPy, exactly: Gaussian averages, pairings, moments, couplings of two kinds of sites.

Each function has been derived in a chapter, which its docstring names, and is imported by the chapters after it.
Only chapters import this room, which is the only one besides `checks` that needs SymPy.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import sympy as sp
from sympy.polys.matrices import DomainMatrix
from sympy.polys.matrices.exceptions import DMNonInvertibleMatrixError
from sympy.polys.polyerrors import BasePolynomialError

from . import arguments


def gaussian_average(polynomial, variables: Sequence, covariance) -> sp.Expr:
    """The average of a polynomial over centred Gaussian variables, expanded: Wick's theorem, by Stein's lemma,

        <x_i f> = sum_j C_ij <df/dx_j> .

    `covariance`: one number or symbol, the variance of each of independent variables; a sequence of variances; or
    the symmetric matrix C. Raises ValueError for what is not a polynomial in the variables, and for a covariance of
    another shape or not symmetric. Source: the chapter on the bulk (independent variables), four tools (the lemma).
    """
    C = _covariance(covariance, len(variables))

    @cache
    def moment(powers: tuple) -> sp.Expr:
        if not any(powers):
            return sp.S.One
        first = next(place for place, power in enumerate(powers) if power)
        rest = _lower(powers, first)
        partners = [place for place, power in enumerate(rest) if power and C[first, place] != 0]
        return sp.expand(sum(rest[place] * C[first, place] * moment(_lower(rest, place)) for place in partners))

    return sp.expand(sum(factor * moment(powers) for powers, factor in _terms(polynomial, variables)))


def gaussian_covariance(action, variables: Sequence) -> sp.Matrix:
    """<x_i x_j> under the weight exp(action), quadratic in the variables: the inverse of the curvature,

        C = (-d^2 action/dx_i dx_j)^{-1} ,

    with all letters in place. Raises ValueError for an action that is not a quadratic form, or whose curvature has no
    inverse. Source: the chapter on dynamics and resolvents.
    """
    slopes = [sp.diff(action, x) for x in variables]
    curvature = -sp.Matrix(slopes).jacobian(list(variables))
    at_zero = [sp.expand(slope.subs(dict.fromkeys(variables, 0))) for slope in slopes]
    if curvature.free_symbols & set(variables) or any(at_zero):
        raise ValueError(f"action must be a quadratic form in the variables, got {action}")
    try:
        return DomainMatrix.from_Matrix(curvature).to_field().inv().to_Matrix()
    except DMNonInvertibleMatrixError:
        raise ValueError("action must have a curvature that can be inverted, got a singular one") from None


def coupling_terms(polynomial, left: Sequence, right: Sequence) -> dict[tuple, sp.Expr]:
    """A polynomial in the fields of two sites as {(product of left fields, product of right fields): coefficient}.

    Summed over all pairs of sites each term becomes a product of two averages, and these are the order parameters.
    Raises ValueError for what is not a polynomial in the fields. Source: the chapter on spikes that remember.
    """
    found = {}
    for powers, factor in _terms(polynomial, (*left, *right)):
        parts = [field**power for field, power in zip((*left, *right), powers, strict=True)]
        found[sp.prod(parts[: len(left)]), sp.prod(parts[len(left) :])] = factor
    return found


def pairings(points: Sequence) -> Iterator[list[tuple]]:
    """All (n - 1)!! ways to join n points in pairs, n even, each as a list of pairs.

    By Wick's theorem the average of a product of Gaussian entries is a sum over them.
    Raises ValueError for an odd number of points. Source: the chapter on the bulk.
    """
    points = list(points)
    if len(points) % 2:
        raise ValueError(f"points must be even in number, got {len(points)}")
    return _pairings(points)


def free_indices(count: int, equal: Sequence[tuple[int, int]]) -> int:
    """How many of the indices 0, 1, ..., count - 1 stay different once each pair in `equal` is set equal.

    A sum over all of them is N to this power. Raises ValueError for a pair outside the indices. Source: the chapter
    on the bulk.
    """
    label = list(range(arguments.whole("count", count)))
    for one, other in equal:
        if not (0 <= one < count and 0 <= other < count):
            raise ValueError(f"equal must hold pairs of indices from 0 to {count - 1}, got {(one, other)}")
        old, new = label[one], label[other]
        label = [new if name == old else name for name in label]
    return len(set(label))


def marchenko_pastur_moment(k: int, ratio) -> sp.Expr:
    """Moment k of the Marchenko-Pastur law: tr (Z Z^T/n)^k / p, Z: p x n of unit variance, `ratio` = p/n, p -> oo,

        M_k = sum_{j=1}^k (1/k) binom(k, j) binom(k, j - 1) ratio^{j-1} ,    M_0 = 1 ,

    a Narayana polynomial; the Catalan number at ratio 1. Raises ValueError for k that is not a whole number >= 0.
    Source: the chapter on the bulk.
    """
    if arguments.whole("k", k) == 0:
        return sp.S.One
    ways = [sp.binomial(k, j) * sp.binomial(k, j - 1) for j in range(1, k + 1)]
    return sum(count * ratio**j for j, count in enumerate(ways)) / k


def doubled(matrix: sp.MatrixBase) -> sp.Matrix:
    """The symmetric matrix with `matrix` and its transpose off the diagonal, and zeros on it,

        H = [ 0   W ; W^T  0 ] ,

    whose eigenvalues are +- the singular values of W, and zeros. Raises ValueError for anything but a SymPy matrix.
    Source: the chapter on the bulk.
    """
    if not isinstance(matrix, sp.MatrixBase):
        raise ValueError(f"matrix must be a SymPy matrix, got {type(matrix).__name__}")
    rows, columns = (sp.zeros(size) for size in matrix.shape)
    return sp.Matrix(sp.BlockMatrix([[rows, matrix], [matrix.T, columns]]))


def _terms(polynomial, variables: Sequence) -> list[tuple]:
    """Its terms as (powers of the variables, coefficient)."""
    try:
        return sp.Poly(sp.expand(polynomial), *variables).terms()
    except BasePolynomialError as error:
        raise ValueError(f"polynomial must be one in {', '.join(map(str, variables))}: {error}") from None


def _covariance(covariance, size: int) -> sp.Matrix:
    if isinstance(covariance, sp.MatrixBase):
        if covariance.shape != (size, size) or covariance != covariance.T:
            raise ValueError(f"covariance must be a symmetric {size} x {size} matrix, got {covariance}")
        return covariance
    variances = list(covariance) if isinstance(covariance, Sequence) else [covariance] * size
    if len(variances) != size:
        raise ValueError(f"covariance must hold {size} variances, got {len(variances)}")
    return sp.diag(*variances)


def _lower(powers: tuple, place: int) -> tuple:
    return (*powers[:place], powers[place] - 1, *powers[place + 1 :])


def _pairings(points: list) -> Iterator[list[tuple]]:
    if not points:
        yield []
    for place in range(1, len(points)):
        for rest in _pairings(points[1:place] + points[place + 1 :]):
            yield [(points[0], points[place]), *rest]

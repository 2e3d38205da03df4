"""What chapters do in SymPy, against another way to compute it: integrals, matrices, counting."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import sympy as sp
from spectral_dynamics import symbols

x, y = sp.symbols("x y", real=True)
a, s, t = sp.symbols("a s t", positive=True)


GRID = np.linspace(-9, 9, 181)
X, Y = np.meshgrid(GRID, GRID, indexing="ij")
PRECISION = np.array([[2.0, -1.0], [-1.0, 3.0]])
WEIGHT = np.exp(-(PRECISION[0, 0] * X**2 + 2 * PRECISION[0, 1] * X * Y + PRECISION[1, 1] * Y**2) / 2)
COVARIANCE = sp.Matrix([[2, -1], [-1, 3]]).inv()


def integrated(values):
    """The average under exp(-(x, y) PRECISION (x, y)/2), by sums over a grid, which for a Gaussian are exact."""
    return np.sum(values * WEIGHT) / np.sum(WEIGHT)


@pytest.mark.parametrize("powers", [(0, 0), (2, 0), (1, 1), (4, 0), (3, 1), (2, 2), (2, 1), (3, 3), (4, 4)])
def test_averages_over_correlated_gaussians_are_the_integrals(powers):
    found = symbols.gaussian_average(x ** powers[0] * y ** powers[1], (x, y), COVARIANCE)
    assert float(found) == pytest.approx(integrated(X ** powers[0] * Y ** powers[1]), abs=1e-12)


def test_averages_over_independent_gaussians_are_the_integrals_with_letters():
    weight = sp.exp(-(x**2) / (2 * s)) / sp.sqrt(2 * sp.pi * s)
    for polynomial in (x**6, (x + a) ** 4, x**3):
        direct = sp.integrate(sp.expand(polynomial) * weight, (x, -sp.oo, sp.oo))
        assert sp.simplify(symbols.gaussian_average(polynomial, (x,), s) - direct) == 0
    assert symbols.gaussian_average((x * y) ** 2 * a, (x, y), (s, t)) == a * s * t
    assert symbols.gaussian_average((x + y) ** 2, (x, y), s) == 2 * s


def test_an_average_of_a_product_is_the_sum_over_its_pairings():
    C = sp.Matrix(3, 3, lambda i, j: sp.Symbol(f"C{min(i, j)}{max(i, j)}"))
    letters = sp.symbols("z:3")
    for places in ((0, 1), (0, 0, 1, 2), (0, 0, 1, 1, 2, 2), (0, 1, 2)):
        monomial = sp.prod([letters[place] for place in places])
        pairs = symbols.pairings(range(len(places))) if len(places) % 2 == 0 else []
        counted = sum(sp.prod([C[places[i], places[j]] for i, j in way]) for way in pairs)
        assert sp.expand(symbols.gaussian_average(monomial, letters, C) - counted) == 0


def test_the_covariance_under_a_quadratic_action_is_the_integral():
    found = symbols.gaussian_covariance(-(x**2) + x * y - 3 * y**2 / 2, (x, y))
    direct = [[integrated(one * other) for other in (X, Y)] for one in (X, Y)]
    assert np.array(found, float) == pytest.approx(np.array(direct), abs=1e-12)


def test_a_response_field_has_the_covariance_of_its_delta_function():
    tilde = sp.Symbol("tilde")  # exp(tilde (y - a x) - x^2/2s) says y = a x, and that <y tilde> = -1
    found = symbols.gaussian_covariance(tilde * (y - a * x) - x**2 / (2 * s), (x, y, tilde))
    assert sp.simplify(found - sp.Matrix([[s, a * s, 0], [a * s, a**2 * s, -1], [0, -1, 0]])) == sp.zeros(3)


def test_every_pairing_is_listed_once():
    for count, number in ((0, 1), (2, 1), (4, 3), (6, 15), (8, 105)):
        ways = [frozenset(frozenset(pair) for pair in way) for way in symbols.pairings(range(count))]
        assert len(ways) == len(set(ways)) == number
        assert all(sorted(place for pair in way for place in pair) == list(range(count)) for way in ways)


def test_free_indices_are_the_power_of_the_sum_over_them():
    for count, equal in (
        (3, []),
        (4, [(0, 1), (2, 3)]),
        (4, [(0, 1), (1, 2), (2, 0)]),
        (5, [(4, 0), (0, 3), (3, 3)]),
    ):
        values = product(range(3), repeat=count)
        ways = sum(all(value[i] == value[j] for i, j in equal) for value in values)
        assert ways == 3 ** symbols.free_indices(count, equal)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.0])
def test_moments_of_marchenko_and_pastur_are_those_of_the_density(ratio):
    angles = np.linspace(0, np.pi, 400)  # sums over angles are exact: the integrand is smooth and periodic
    places = 1 + ratio - 2 * np.sqrt(ratio) * np.cos(angles)
    density = 2 * np.sin(angles) ** 2 / (np.pi * places.clip(1e-300))  # with the change of variables
    for k in range(1, 6):
        direct = np.trapezoid(places**k * density, angles)
        assert float(symbols.marchenko_pastur_moment(k, ratio)) == pytest.approx(direct, rel=1e-12)
    assert symbols.marchenko_pastur_moment(0, ratio) == 1


def test_moments_of_marchenko_and_pastur_are_traces_of_gaussian_matrices_in_leading_order():
    p, n = sp.symbols("p n", positive=True)
    for k in (1, 2, 3):
        counts = Counter()
        for way in symbols.pairings(range(2 * k)):
            rows = [((i + 1) // 2 % k, (j + 1) // 2 % k) for i, j in way]
            columns = [(i // 2, j // 2) for i, j in way]
            counts[symbols.free_indices(k, rows), symbols.free_indices(k, columns)] += 1
        trace = sum(number * p**rows * n**columns for (rows, columns), number in counts.items()) / (p * n**k)
        leading = sp.limit(trace.subs(p, a * n), n, sp.oo)
        assert sp.expand(leading - symbols.marchenko_pastur_moment(k, a)) == 0


def test_coupling_terms_add_up_to_the_coupling():
    g, u, h, r = sp.symbols("g u h r")
    coupling = s * (u * h + g * r / a) ** 2 / 2 - 3 * g * h * u * h
    found = symbols.coupling_terms(coupling, (g, u), (h, r))
    assert sp.expand(sum(left * right * factor for (left, right), factor in found.items()) - coupling) == 0
    assert found[u**2, h**2] == s / 2 and found[g * u, h**2] == -3
    assert all(left.free_symbols <= {g, u} and right.free_symbols <= {h, r} for left, right in found)


def test_the_doubled_matrix_has_the_singular_values_twice_and_zeros():
    matrix = sp.Matrix([[1, 2, 0], [3, -1, 4]])
    values = np.linalg.svd(np.array(matrix, float), compute_uv=False)
    both = np.array(symbols.doubled(matrix), float)
    found = np.linalg.eigvalsh(both)
    assert np.array_equal(both, both.T) and found == pytest.approx(np.sort([*values, *-values, 0.0]), abs=1e-12)


@pytest.mark.parametrize(
    ("function", "given", "named"),
    [
        (symbols.gaussian_average, (sp.sin(x), (x,), 1), "polynomial must be one in x"),
        (symbols.gaussian_average, (1 / x, (x,), 1), "polynomial must be one in x"),
        (symbols.gaussian_average, (x, (x, y), (1, 2, 3)), "covariance must hold 2 variances, got 3"),
        (symbols.gaussian_average, (x, (x, y), sp.eye(3)), "covariance must be a symmetric 2 x 2 matrix"),
        (symbols.gaussian_average, (x, (x, y), sp.Matrix([[1, 2], [0, 1]])), "covariance must be a symmetric"),
        (symbols.gaussian_covariance, (x**3 - y**2, (x, y)), "action must be a quadratic form"),
        (symbols.gaussian_covariance, (x - x**2, (x,)), "action must be a quadratic form"),
        (symbols.gaussian_covariance, (-((x + y) ** 2), (x, y)), "action must have a curvature that can be inverted"),
        (symbols.coupling_terms, (sp.exp(x * y), (x,), (y,)), "polynomial must be one in x, y"),
        (symbols.pairings, ([1, 2, 3],), "points must be even in number, got 3"),
        (symbols.free_indices, (2, [(0, 2)]), "equal must hold pairs of indices from 0 to 1"),
        (symbols.free_indices, (-1, []), "count must be at least 0"),
        (symbols.marchenko_pastur_moment, (-1, a), "k must be at least 0"),
        (symbols.marchenko_pastur_moment, (1.5, a), "k must be an integer"),
        (symbols.doubled, (np.eye(2),), "matrix must be a SymPy matrix, got ndarray"),
    ],
)
def test_bad_input_is_named(function, given, named):
    with pytest.raises(ValueError, match=named):
        function(*given)

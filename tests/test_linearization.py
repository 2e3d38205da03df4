"""Matrices computed from Gaussian ones: exact laws where they are known, and finite matrices where they are not."""

import numpy as np
import pytest
from scipy import linalg
from scipy.integrate import quad
from scipy.optimize import brentq
from spectral_dynamics import problems
from spectral_dynamics.errors import ConvergenceError
from spectral_dynamics.spectra import laws, linearization, many_outputs
from spectral_dynamics.spectra.linearization import Gaussian, Space, Spectrum

N, D, C = Space("neurons", 1.0), Space("inputs", 0.4), Space("outputs", 0.7)
ABOVE = np.array([0.3 + 0.2j, 1.0 + 0.05j, 2.5 + 1.0j])


def values_of(matrix, rows: int):
    found = linalg.svdvals(matrix)
    return np.append(found, np.zeros(rows - len(found)))


@pytest.mark.parametrize(("rows", "columns"), [(N, N), (N, D), (D, N)])
def test_one_gaussian_matrix_has_marchenko_and_pasturs_law(rows, columns):
    law = laws.singular_value_bulk(rows.size / columns.size, 2.0 * columns.size)
    found = Spectrum(Gaussian(rows, columns, 2.0))
    assert found.stieltjes(ABOVE) == pytest.approx(law.stieltjes(ABOVE), abs=1e-9)
    assert found.edge == pytest.approx(law.edges[-1, 1], rel=5e-6)
    assert found.atom == pytest.approx(max(0, 1 - columns.size / rows.size), abs=1e-5)
    x = np.linspace(0.05, 3, 60)
    assert found.cdf(x) == pytest.approx(law.cdf(x), abs=1e-3)
    inside = found.edge * np.array([0.6, 0.8, 0.9])
    assert found.density(inside) == pytest.approx(law.density(inside), rel=2e-3)


@pytest.mark.parametrize("factors", [2, 3])
def test_products_of_square_matrices_have_fuss_catalan_edges_and_algebra(factors):
    """w = z m obeys (-w) = 1 + (...)^...: for the squares, z = (1 + t)^(k + 1)/t; the edge is the known one."""
    product = Gaussian(N, N)
    for _ in range(factors - 1):
        product = product @ Gaussian(N, N)
    found = Spectrum(product)
    k = factors
    assert found.edge == pytest.approx(np.sqrt((k + 1) ** (k + 1) / k**k), rel=1e-5)
    t = -ABOVE * found.stieltjes(ABOVE) - 1  # moments of the squares, at z^2
    assert (1 + t) ** (k + 1) / t == pytest.approx(ABOVE**2, rel=1e-8)


def test_a_sum_of_independent_matrices_is_one_matrix():
    found = Spectrum(0.6 * Gaussian(N, D) - Gaussian(N, D, 0.64))
    assert found.stieltjes(ABOVE) == pytest.approx(Spectrum(Gaussian(N, D)).stieltjes(ABOVE), abs=1e-9)


def test_the_same_matrix_twice_is_not_two_matrices():
    W = Gaussian(N, D)
    assert Spectrum(W + W).edge == pytest.approx(2 * Spectrum(W).edge, rel=1e-5)
    assert len(linearization.ForwardPass(W + W).lines) == 1


def test_a_product_with_its_transpose_squares_the_singular_values():
    W = Gaussian(N, D)
    one, square = Spectrum(W), Spectrum(W @ W.T)
    assert square.edge == pytest.approx(one.edge**2, rel=1e-5)
    assert square.atom == pytest.approx(0.6, abs=1e-5)
    x = np.linspace(0.1, 1.6, 20)
    assert square.cdf(x**2) == pytest.approx(one.cdf(x), abs=1e-3)


def test_a_matrix_ten_thousand_times_smaller_has_the_same_law_on_that_scale():
    """No length but the matrix's own enters, neither in heights above the axis nor in where a density is asked."""
    one, small = (Spectrum(Gaussian(N, N, v)) for v in (1.0, 1e-8))
    x = np.array([0.1, 0.7, 1.3, 1.9])
    assert small.edge == pytest.approx(1e-4 * one.edge, rel=1e-5)
    assert 1e-4 * small.density(1e-4 * x) == pytest.approx(one.density(x), rel=1e-5)
    assert small.cdf(1e-4 * x) == pytest.approx(one.cdf(x), abs=1e-5)


def test_a_transposed_matrix_has_the_same_singular_values():
    W, V = Gaussian(N, D), Gaussian(C, N)
    found, turned = Spectrum(V @ W), Spectrum((V @ W).T)
    assert turned.edge == pytest.approx(found.edge, rel=1e-5)
    assert turned.stieltjes(ABOVE) * D.size == pytest.approx(
        found.stieltjes(ABOVE) * C.size - (D.size - C.size) / ABOVE, abs=1e-9
    )


def test_products_of_many_square_matrices_have_no_atom():
    """Though their density has a high pole at 0: x^(-3/5) for four factors."""
    product = Gaussian(N, N)
    for _ in range(3):
        product = product @ Gaussian(N, N)
    found = Spectrum(product)
    assert found.atom == pytest.approx(0, abs=1e-5)
    x = np.array([1e-3, 1e-2, 0.1, 1.0])
    phi = np.empty(4)  # the squares are sin(5 phi)^5/(sin(phi) sin(4 phi)^4), the mass follows from their density
    for k, value in enumerate(x):
        phi[k] = brentq(lambda u, v=value: _fuss_catalan(u)[0] - v**2, 1e-9, np.pi / 5 - 1e-9)
    expected = [quad(lambda u: -_fuss_catalan(u)[1] * _slope(u), one, np.pi / 5)[0] for one in phi]
    assert found.cdf(x) == pytest.approx(expected, abs=2e-3)


def _fuss_catalan(phi):
    """A squared singular value of four factors, and its density (Haagerup and Moeller 2013)."""
    value = np.sin(5 * phi) ** 5 / (np.sin(phi) * np.sin(4 * phi) ** 4)
    return value, np.sin(phi) ** 2 * np.sin(4 * phi) ** 3 / (np.pi * np.sin(5 * phi) ** 4)


def _slope(phi):
    value = _fuss_catalan(phi)[0]
    return value * (25 / np.tan(5 * phi) - 1 / np.tan(phi) - 16 / np.tan(4 * phi))


@pytest.mark.parametrize("variance", [9.0, 25.0, 36.0])
def test_a_small_band_beyond_the_bulk_is_the_end_of_the_law(variance):
    """Two directions for a thousand neurons make spikes 1 + `variance` in a population of ones: see
    many_outputs.outlier. They are spread by 2 sqrt(0.002) to either side."""
    few = Space("few", 0.002)
    found = Spectrum(Gaussian(N, N) + Gaussian(N, few) @ Gaussian(few, N, variance))
    place = np.sqrt((1 + variance) * (1 + 1 / variance))
    assert place < found.edge < place * (1 + 2 * np.sqrt(few.size))
    assert 1 - found.cdf(2.2) == pytest.approx(few.size, abs=1e-3)


EXPRESSIONS = {
    "projected": lambda w, v, t, a: v.T @ v @ w,
    "few directions": lambda w, v, t, a: w + 0.5 * v.T @ t,
    "square": lambda w, v, t, a: a @ a,
    "with its transpose": lambda w, v, t, a: a @ a.T + a,
    "antisymmetric": lambda w, v, t, a: a - a.T,
    "cube": lambda w, v, t, a: a + a @ a + a @ a @ a,
    "three factors": lambda w, v, t, a: v @ a @ w,
    "through and back": lambda w, v, t, a: w @ w.T @ a,
    "wide sum": lambda w, v, t, a: v @ a @ a.T @ w - t,
    "tall": lambda w, v, t, a: w.T @ a @ v.T,
    "one step": lambda w, v, t, a: w + 0.2 * v.T @ (t - v @ w),
    "palindrome": lambda w, v, t, a: a.T @ v.T @ v @ a,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_one_large_matrix_has_the_law_of_its_expression(name):
    size, rng = 800, np.random.default_rng(7)
    few = Space("outputs", 0.3)
    symbols = Gaussian(N, D), Gaussian(few, N), Gaussian(few, D, 4.0), Gaussian(N, N)
    matrices = [
        np.sqrt(one.variance / size)
        * rng.standard_normal((round(one.rows.size * size), round(one.columns.size * size)))
        for one in symbols
    ]
    law, matrix = Spectrum(EXPRESSIONS[name](*symbols)), EXPRESSIONS[name](*matrices)
    values = values_of(matrix, len(matrix))
    assert many_outputs.distance(values, law) < 5 / min(matrix.shape)  # a few values, for they repel each other
    assert values[0] == pytest.approx(law.edge, rel=0.05)  # after Tracy and Widom, the more the more factors
    assert np.mean(values < 1e-6) == pytest.approx(law.atom, abs=1e-5)


@pytest.mark.parametrize(("kappa", "nu"), [(0.5, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_one_joint_step_has_the_laws_known_in_closed_form(kappa, nu):
    problem = problems.FrozenReadout(kappa, nu, 3.0, 0.8)
    neurons, inputs, outputs = Space("n", 1.0), Space("d", 1 / nu), Space("c", kappa)
    w, v, target = Gaussian(neurons, inputs, 0.64 * nu), Gaussian(outputs, neurons), Gaussian(outputs, inputs, 9 * nu)
    error = target - v @ w
    expected = many_outputs.one_step(problem, 0.2, 0.1)
    for matrix, law in zip((w + 0.2 * v.T @ error, (v + 0.1 * error @ w.T).T), expected, strict=True):
        found = Spectrum(matrix)
        assert found.stieltjes(ABOVE) == pytest.approx(law.stieltjes(ABOVE), abs=1e-9)
        assert found.edge == pytest.approx(law.edges[-1, 1], rel=1e-5)


@pytest.mark.parametrize(("kappa", "nu"), [(0.5, 1.0), (2.0, 0.5)])
def test_two_joint_steps_of_matrices_of_a_thousand_neurons(kappa, nu):
    problem, size, rng = problems.FrozenReadout(kappa, nu, 3.0, 0.8), 1000, np.random.default_rng(3)
    columns, rows = round(size / nu), round(kappa * size)
    w = 0.8 * rng.standard_normal((size, columns)) / np.sqrt(columns)
    v = rng.standard_normal((rows, size)) / np.sqrt(size)
    target = 3.0 * rng.standard_normal((rows, columns)) / np.sqrt(columns)
    for _ in range(2):
        error = target - v @ w
        w, v = w + 0.2 * v.T @ error, v + 0.1 * error @ w.T
    first, readout = many_outputs.two_steps(problem, 0.2, 0.1)
    for found, law in ((w, first), (v, readout)):
        found = values_of(found, size)
        assert many_outputs.distance(found, law) < 0.006
        assert found[0] == pytest.approx(law.edge, rel=0.015)
    # what one step would say is told apart
    assert many_outputs.distance(values_of(w, size), many_outputs.one_step(problem, 0.4, 0.2)[0]) > 0.02


def test_no_target_is_two_steps_of_forgetting():
    first, _ = many_outputs.two_steps(problems.FrozenReadout(0.5, 1.0, 0.0, 1.0), 0.1, 0.0)
    law = many_outputs._refined(
        lambda nodes: many_outputs._pushed(problems.FrozenReadout(0.5), nodes, lambda s: (1 - 0.1 * s) ** 4, 1.0),
        1e-8,
    )
    assert first.stieltjes(ABOVE) == pytest.approx(law.stieltjes(ABOVE), abs=1e-9)


def test_bad_expressions_are_refused_by_name():
    W, V = Gaussian(N, D), Gaussian(C, N)
    for call, message in (
        (lambda: Space("n", 0.0), "size must be greater than 0"),
        (lambda: Gaussian(N, 3), "columns must be a Space"),
        (lambda: Gaussian(N, D, -1.0), "variance must be at least 0"),
        (lambda: W + V, r"shapes must be equal in a sum, got \(neurons, inputs\) and \(outputs, neurons\)"),
        (lambda: W @ V, r"columns must be the rows of what follows, got \(neurons, inputs\) @"),
        (lambda: W + 1.0, "expression must be made of Gaussian matrices, got float"),
        (lambda: Spectrum(np.eye(3)), "expression must be made of Gaussian matrices, got ndarray"),
        (lambda: Spectrum(0.0 * W), "expression is zero"),
        (lambda: np.nan * W, "number must be a finite real number"),
        (lambda: Spectrum(W, accuracy=0), "accuracy must be greater than 0"),
        (lambda: Spectrum(W).stieltjes(1.0), "z must be finite and above the real axis"),
        (lambda: Spectrum(W).density(0.0), "x must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(linearization, "STEPS", 0)
    with pytest.raises(ConvergenceError, match="the table of traces was not found"):
        Spectrum(Gaussian(N, D) @ Gaussian(D, N))


def test_masses_that_do_not_add_up_are_told():
    found = Spectrum(Gaussian(N, N))
    found.__dict__["edge"] = 1.5
    with pytest.raises(ConvergenceError, match="the distribution function is known to") as caught:
        found.cdf(1.0)
    assert caught.value.partial[1][-1] == pytest.approx(laws.quarter_circle(1.0).cdf(1.5), abs=0.01)

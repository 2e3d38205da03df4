"""Laws against closed forms, polynomial roots, quadrature and simulation, none of which shares code with them."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spectral_dynamics.errors import ConvergenceError
from spectral_dynamics.spectra import covariance, laws

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def integrate(law, function=np.ones_like, start=-np.inf, stop=np.inf):
    """Adaptive Gauss quadrature over the continuous part; x = middle - half cos(angle) resolves the edges."""
    total = 0.0
    for low, high in law.edges:
        ends = 2 * np.arcsin(np.sqrt((np.clip([start, stop], low, high) - low) / (high - low)))
        panels = np.linspace(*ends, 9)
        panels = np.column_stack([panels[:-1], panels[1:]])
        while panels.size:
            middle = panels.mean(axis=1)
            halves = np.column_stack([panels[:, 0], middle, middle, panels[:, 1]]).reshape(-1, 2)
            coarse = _gauss(law, function, low, high, panels)
            fine = _gauss(law, function, low, high, halves).reshape(-1, 2).sum(axis=1)
            rough = (np.abs(fine - coarse) > 1e-10) & (np.ptp(panels, axis=1) > 1e-9)
            total += fine[~rough].sum()
            panels = halves.reshape(-1, 2, 2)[rough].reshape(-1, 2)
    return total


def _gauss(law, function, low, high, panels):
    half = np.ptp(panels, axis=1)[:, None] / 2
    angle = panels.mean(axis=1)[:, None] + half * NODES
    x = low + (high - low) * np.sin(angle / 2) ** 2
    return (half * WEIGHTS * function(x) * law.density(x) * (high - low) / 2 * np.sin(angle)).sum(axis=1)


def mass(law):
    return integrate(law) + sum(m for _, m in law.atoms)


def arrowhead_density(ratio, atoms, weights, x):
    """All roots of f(v) = x at once, as eigenvalues of an arrowhead matrix: slow, and chooses the complex one."""
    a = ratio * weights * atoms**2
    matrix = np.diag(np.append(0.0, atoms))
    matrix[0, 1:], matrix[1:, 0] = -np.sqrt(a), np.sqrt(a)
    density = []
    for point in np.ravel(x):
        matrix[0, 0] = point - ratio * weights @ atoms
        roots = np.linalg.eigvals(matrix)
        density.append(np.max((-1 / roots).imag) / (np.pi * ratio))
    return np.reshape(density, np.shape(x))


def stationary_edges(ratio, atoms, weights):
    """Real zeros of f', in 60 digits, mapped by f.

    f'(v) = 1 - sum a_k/(v - tau_k)^2 is a transfer function with one Jordan block for each atom; its zeros are the
    eigenvalues of a matrix of twice as many rows. Newton's method in 60 digits polishes each of them.
    """
    matrix = np.kron(np.diag(atoms), np.eye(2)) + np.kron(np.eye(len(atoms)), [[0.0, 1.0], [0.0, 0.0]])
    matrix[1::2, ::2] += (ratio * weights * atoms**2)[:, None]
    values = []
    with mpmath.workdps(60):
        tau = [mpmath.mpf(float(t)) for t in atoms]
        w = [mpmath.mpf(float(ratio)) * mpmath.mpf(float(w)) for w in weights]
        a = [x * t**2 for x, t in zip(w, tau, strict=True)]
        starts = np.linalg.eigvals(matrix)
        for start in starts[starts.imag >= 0]:  # the others are conjugates
            v = mpmath.mpc(complex(start))
            for _ in range(60):
                slope = 1 - sum(b / (v - t) ** 2 for b, t in zip(a, tau, strict=True))
                step = slope / sum(2 * b / (v - t) ** 3 for b, t in zip(a, tau, strict=True))
                v -= step
                if abs(step) < mpmath.mpf(10) ** -50:
                    break
            if abs(mpmath.im(v)) < mpmath.mpf(10) ** -40:
                s = mpmath.re(v)
                values.append(s + sum(x * t + b / (s - t) for x, b, t in zip(w, a, tau, strict=True)))
        return np.sort([float(value) for value in values])


def population(count, seed=0, decades=0.7):
    rng = np.random.default_rng([seed, count])
    return 10 ** rng.uniform(0, decades, count), rng.dirichlet(np.ones(count))


# Closed forms.


@pytest.mark.parametrize("ratio", [0.04, 0.5, 1.0, 1.7, 30.0])
def test_marchenko_pastur_has_its_textbook_edges_density_and_transform(ratio):
    variance = 1.7
    law = laws.marchenko_pastur(ratio, variance)
    low, high = variance * (1 - np.sqrt(ratio)) ** 2, variance * (1 + np.sqrt(ratio)) ** 2
    np.testing.assert_allclose(law.edges, [[low, high]], rtol=0, atol=1e-10)
    x = low + (high - low) * np.linspace(0.001, 0.999, 2001)
    closed = np.sqrt((x - low) * (high - x)) / (2 * np.pi * ratio * variance * x)
    np.testing.assert_allclose(law.density(x), closed, rtol=0, atol=1e-8)
    z = np.array([0.3 + 1e-3j, 2 + 0.4j, -1.5 + 0j, 50 - 3j])
    m = law.stieltjes(z)
    quadratic = [variance * ratio * z * m**2, (z - variance * (1 - ratio)) * m, np.ones(4)]
    rounding = 1e-13 * max(1, ratio)  # with an atom at 0 the transform is 1/ratio of what it is made of
    assert np.all(abs(sum(quadratic)) <= rounding * sum(map(abs, quadratic)))


def test_semicircle_has_its_textbook_edges_density_transform_and_moments():
    law = laws.semicircle(0.49)
    np.testing.assert_allclose(law.edges, [[-1.4, 1.4]], rtol=0, atol=1e-14)
    assert law.atoms == ()
    np.testing.assert_allclose(law.density([0.0, 1.4, 2.0]), [1 / (0.7 * np.pi), 0, 0], atol=1e-7)
    assert abs(mass(law) - 1) < 1e-10
    for z in (0.3 + 0.2j, -2.0, 1.5, -0.1 - 0.5j):
        assert abs(law.stieltjes(z) - integrate(law, lambda x, z=z: 1 / (x - z))) < 1e-8
    assert [law.moment(k) for k in range(7)] == pytest.approx([1, 0, 0.49, 0, 2 * 0.49**2, 0, 5 * 0.49**3])
    assert law.cdf(0.7) == pytest.approx(0.5 + integrate(law, start=0, stop=0.7), abs=1e-10)


def test_square_singular_values_fill_a_quarter_circle():
    law = laws.quarter_circle(0.25)
    np.testing.assert_allclose(law.edges, [[0, 1.0]], rtol=0, atol=1e-10)
    x = np.linspace(0, 1, 201)
    np.testing.assert_allclose(law.density(x), 4 / np.pi * np.sqrt(1 - x**2), rtol=0, atol=1e-8)
    assert law.density(-0.1) == 0
    assert abs(mass(law) - 1) < 1e-8


@pytest.mark.parametrize("width_ratio", [0.25, 1.0, 3.0])
def test_rectangular_singular_values_have_edges_sigma_one_plus_minus_root_nu(width_ratio):
    law = laws.singular_value_bulk(width_ratio, 0.36)
    edges = [[0.6 * abs(1 - np.sqrt(width_ratio)), 0.6 * (1 + np.sqrt(width_ratio))]]
    np.testing.assert_allclose(law.edges, edges, rtol=0, atol=1e-10)
    assert law.atoms == (((0.0, 1 - 1 / 3.0),) if width_ratio == 3 else ())
    assert abs(mass(law) - 1) < 1e-6
    assert law.moment(2) == pytest.approx(0.36)


@pytest.mark.parametrize("width_ratio", [0.25, 1.0, 3.0])
def test_singular_value_transforms_obey_the_pair_of_resolvent_equations(width_ratio):
    law = laws.singular_value_bulk(width_ratio, 0.36)
    z = np.array([0.5 + 0.1j, 1.7 + 0j, -0.2 + 0.6j, 0.4j, 3 - 2j])
    G_a, G_b = -law.stieltjes(z), -law.companion(z)
    np.testing.assert_allclose(z * G_a, 1 + 0.36 * G_a * G_b, rtol=1e-12)
    np.testing.assert_allclose(z * G_b, 1 + 0.36 * width_ratio * G_a * G_b, rtol=1e-12)
    assert np.all(law.stieltjes(z[z.imag > 0]).imag > 0)


# Any population.


@pytest.mark.parametrize("count", [1, 3, 10, 30, 100])
@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.4, 1.6])
def test_edges_are_the_stationary_points_found_in_sixty_digits(count, ratio):
    atoms, weights = population(count)
    edges = laws.generalized_marchenko_pastur(ratio, atoms, weights).edges
    np.testing.assert_allclose(np.ravel(edges), stationary_edges(ratio, atoms, weights), rtol=0, atol=1e-10)


@pytest.mark.parametrize("count", [1, 3, 10, 30, 100])
@pytest.mark.parametrize("ratio", [0.02, 0.4, 1.0, 2.5])
def test_density_is_the_complex_root_among_all_roots(count, ratio):
    atoms, weights = population(count)
    law = laws.generalized_marchenko_pastur(ratio, atoms, weights)
    fractions = np.linspace(0.02, 0.98, 7)
    x = (law.edges[:6, :1] + np.diff(law.edges[:6], axis=1) * fractions).ravel()
    np.testing.assert_allclose(law.density(x), arrowhead_density(ratio, atoms, weights, x), rtol=0, atol=1e-8)
    gaps = (law.edges[1:, 0] + law.edges[:-1, 1]) / 2
    assert np.all(law.density(gaps) == 0)


@pytest.mark.parametrize("zero", [0.0, 0.3])
@pytest.mark.parametrize("ratio", [0.02, 0.4, 1.0, 1 / 0.7, 2.5])
@pytest.mark.parametrize("count", [1, 3, 10, 30, 100])
def test_mass_is_one(count, ratio, zero):
    atoms, weights = population(count)
    law = laws.generalized_marchenko_pastur(ratio, np.append(0, atoms), np.append(zero, (1 - zero) * weights))
    assert abs(mass(law) - 1) < 1e-6
    assert abs(law.cdf(law.edges[-1, 1]) - 1) < 1e-12


@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 4.0])
def test_mass_is_one_when_the_population_spans_eight_decades(ratio):
    atoms, weights = population(30, seed=4, decades=8)
    law = laws.generalized_marchenko_pastur(ratio, atoms, weights)
    assert abs(mass(law) - 1) < 1e-6
    x = (law.edges[:, :1] + np.diff(law.edges, axis=1) * [0.1, 0.5, 0.9]).ravel()
    np.testing.assert_allclose(law.density(x), arrowhead_density(ratio, atoms, weights, x), rtol=1e-6)


def test_no_real_root_passes_for_the_physical_one_over_thirty_decades():
    law = laws.generalized_marchenko_pastur(1.0, *population(100, seed=41, decades=10))
    x = 10.0 ** np.linspace(-30, np.log10(law.edges[0, 1]), 400)[:-1]
    assert np.all(np.diff(law.cdf(x)) > -1e-12)
    assert np.all(law.density(x) > 0)


def test_bands_of_a_small_ratio_hold_the_weight_of_their_atoms():
    law = laws.generalized_marchenko_pastur(0.01, [1.0, 3.0, 9.0], [0.5, 0.2, 0.3])
    assert law.edges.shape == (3, 2)
    np.testing.assert_allclose(np.diff(law.cdf(law.edges), axis=1)[:, 0], [0.5, 0.2, 0.3], atol=1e-12)
    for band, weight in zip(law.edges, [0.5, 0.2, 0.3], strict=True):
        assert abs(integrate(law, start=band[0], stop=band[1]) - weight) < 1e-6


@pytest.mark.parametrize(
    ("ratio", "zero", "expected"),
    [(0.5, 0.0, 0), (1.0, 0.0, 0), (4.0, 0.0, 0.75), (0.5, 0.3, 0.3), (1.25, 0.2, 0.2), (2.0, 0.3, 0.5)],
)
def test_atom_at_zero_is_the_larger_of_the_two_rank_deficits(ratio, zero, expected):
    law = laws.generalized_marchenko_pastur(ratio, [0.0, 1.0, 2.0], [zero, (1 - zero) / 2, (1 - zero) / 2])
    assert sum(m for _, m in law.atoms) == pytest.approx(expected, abs=1e-15)
    assert law.cdf(0.0) == pytest.approx(expected, abs=1e-15)
    assert law.cdf(-1e-9) == 0
    tiny = law.edges[0, 0] / 2
    assert law.cdf(tiny) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("zero", [0.0, 0.3])
def test_hard_edge_is_at_zero_and_diverges_as_an_inverse_root(zero):
    ratio, atoms = 1 / (1 - zero), np.array([0.0, 1.0, 3.0])
    weights = np.array([zero, 0.6 * (1 - zero), 0.4 * (1 - zero)])
    law = laws.generalized_marchenko_pastur(ratio, atoms, weights)
    assert law.edges[0, 0] == 0
    assert law.density(0.0) == np.inf
    x = np.array([1e-12, 1e-9, 1e-6])
    # near 0: x = -v^2 psi sum w/tau, so rho = sqrt(psi sum w/tau)/(pi psi sqrt(x))
    leading = np.sqrt(ratio * (weights[1:] / atoms[1:]).sum()) / (np.pi * ratio * np.sqrt(x))
    np.testing.assert_allclose(law.density(x), leading, rtol=1e-5)
    roots = law.singular_values()
    assert roots.density(0.0) == pytest.approx(2 * leading[0] * np.sqrt(x[0]), rel=1e-6)


def test_singular_values_at_a_hard_edge_are_dense_on_the_scale_of_the_weakest_rows():
    atoms, weights = np.array([1e-10, 1e10]), np.array([0.5, 0.5])
    law = laws.generalized_marchenko_pastur(1.0, atoms, weights).singular_values()
    expected = 2 * np.sqrt((weights / atoms).sum()) / np.pi
    np.testing.assert_allclose(law.density([0.0, 1e-20, 1e-9]), expected, rtol=1e-6)


def test_hard_edge_survives_the_rounding_of_weights():
    weights = np.append(0.3, np.full(29, 0.7 / 29))
    law = laws.generalized_marchenko_pastur(1 / 0.7, np.arange(30.0), weights)
    assert law.edges[0, 0] == 0
    assert law.density(0.0) == np.inf
    assert law.atoms == ((0.0, pytest.approx(0.3, abs=1e-15)),)


def test_stieltjes_is_the_integral_over_the_density():
    atoms, weights = np.array([0.0, 1.0, 2.0, 7.0]), np.array([0.1, 0.4, 0.3, 0.2])
    law = laws.generalized_marchenko_pastur(0.05, atoms, weights)
    assert len(law.edges) == 3
    between = law.edges[1:, 0] / 2 + law.edges[:-1, 1] / 2
    for z in (-1.0, *between, 20.0, 1.2 + 0.3j, 6 - 0.7j, -0.4 + 0.01j):
        direct = integrate(law, lambda x, z=z: 1 / (x - z)) + 0.1 / (0 - z)
        assert abs(law.stieltjes(z) - direct) < 1e-8
        companion = 0.05 * law.stieltjes(z) - 0.95 / z
        assert abs(law.companion(z) - companion) < 1e-11


def test_transforms_at_zero_exist_where_no_eigenvalue_is():
    assert laws.marchenko_pastur(0.4).stieltjes(0.0) == pytest.approx(1 / 0.6)
    assert laws.marchenko_pastur(2.5).companion(0.0) == pytest.approx(1 / 1.5)


def test_boundary_value_of_the_transform_is_the_density():
    atoms, weights = population(10)
    law = laws.generalized_marchenko_pastur(0.4, atoms, weights)
    x = np.linspace(law.edges[0, 0] + 0.1, law.edges[-1, 1] - 0.1, 50)
    np.testing.assert_allclose(law.stieltjes(x + 1e-13j).imag / np.pi, law.density(x), atol=1e-8)


def test_cdf_is_the_integral_of_the_density():
    atoms, weights = np.array([1.0, 4.0]), np.array([0.4, 0.6])
    for ratio in (0.1, 0.7, 3.0):
        law = laws.generalized_marchenko_pastur(ratio, atoms, weights)
        for x in (0.9, 1.6, 4.0, 5.5):
            below = integrate(law, stop=x) + sum(m for _, m in law.atoms)
            assert law.cdf(x) == pytest.approx(below, abs=1e-9)


def test_moments_are_integrals_and_for_one_atom_narayana_polynomials():
    atoms, weights = population(3)
    for law in (laws.generalized_marchenko_pastur(0.6, atoms, weights), laws.marchenko_pastur(3.0, 0.5)):
        for order in range(1, 6):
            assert law.moment(order) == pytest.approx(integrate(law, lambda x, k=order: x**k), rel=1e-8)
    narayana = [1 + 3 * 0.7 + 0.7**2, 1 + 6 * 0.7 + 6 * 0.7**2 + 0.7**3]
    law = laws.marchenko_pastur(0.7)
    assert [law.moment(k) for k in (0, 1, 2, 3, 4)] == pytest.approx([1, 1, 1.7, *narayana])


# One random matrix of each kind.

CASES = {
    "semicircle": laws.semicircle(0.5),
    "quarter circle": laws.quarter_circle(0.5),
    "tall": laws.singular_value_bulk(2.0, 0.5),
    "wide": laws.singular_value_bulk(0.5, 0.5),
    "three bands": laws.generalized_marchenko_pastur(0.03, [1.0, 3.0, 9.0], [0.5, 0.25, 0.25]),
    "zero in the population": laws.generalized_marchenko_pastur(0.5, [0.0, 1.0, 6.0], [0.25, 0.5, 0.25]),
    "hard edge": laws.generalized_marchenko_pastur(2.0, [0.0, 1.0, 6.0], [0.5, 0.25, 0.25]),
    "hundred atoms": laws.generalized_marchenko_pastur(0.4, *population(100)),
}


@pytest.mark.parametrize("name", CASES)
def test_one_random_matrix_follows_its_law(name):
    law, size = CASES[name], 400
    values = law.sample(size, np.random.default_rng(7))
    assert values.shape == (size,)
    assert np.all(np.diff(values) >= 0)
    # Eigenvalues are rigid: their staircase stays within O(log N / N) of the law, far below 1/sqrt(N).
    # The centre of each stair is compared. An atom must come out to the eigenvalue.
    stairs = (np.arange(size) + 0.5) / size
    lowest = sum(m for _, m in law.atoms)
    zeros = np.sum(values == 0)
    assert zeros == round(lowest * size)
    distance = np.abs(law.cdf(values) - stairs)[zeros:].max()
    assert distance < 4 / size


def test_samples_are_seeded():
    law = laws.marchenko_pastur(0.5)
    np.testing.assert_array_equal(law.sample(20, np.random.default_rng(1)), law.sample(20, np.random.default_rng(1)))


# Properties over random populations.

populations = st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 1)), min_size=1, max_size=12).map(
    lambda pairs: (np.array([t for t, _ in pairs]), np.array([w for _, w in pairs]) / sum(w for _, w in pairs))
)
ratios = st.floats(0.01, 20) | st.just(1.0)


@settings(max_examples=60, deadline=None)
@given(populations, ratios, st.floats(-50, 300), st.floats(-8, 3))
def test_transforms_are_herglotz_and_solve_the_silverstein_equation(population, ratio, real, log_height):
    atoms, weights = population
    law = laws.generalized_marchenko_pastur(ratio, atoms, weights)
    z = real + 1j * 10**log_height
    m, companion = law.stieltjes(z), law.companion(z)
    assert m.imag > 0
    assert companion.imag > 0
    assert abs(m) <= 1 / z.imag * (1 + 1e-12)
    back = -1 / companion + ratio * (weights * atoms / (1 + atoms * companion)).sum()
    terms = abs(1 / companion) + ratio * abs(weights * atoms / (1 + atoms * companion)).sum()
    assert abs(back - z) <= 1e-12 * (terms + abs(z)) * (1 + ratio)
    assert law.stieltjes(np.conj(z)) == np.conj(m)


@settings(max_examples=25, deadline=None)
@given(populations, ratios)
def test_mass_is_one_for_random_populations(population, ratio):
    law = laws.generalized_marchenko_pastur(ratio, *population)
    assert abs(mass(law) - 1) < 1e-6
    assert np.all(np.diff(law.edges.ravel()) > 0)


@settings(max_examples=40, deadline=None)
@given(populations, ratios, st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_law_scales_with_its_population_and_forgets_order_and_splitting(population, ratio, factor, shuffler):
    atoms, weights = population
    law = laws.generalized_marchenko_pastur(ratio, atoms, weights)
    order = list(range(atoms.size))
    shuffler.shuffle(order)
    other = laws.generalized_marchenko_pastur(
        ratio,
        factor * np.concatenate([atoms[order], atoms[order]]),
        np.concatenate([0.25 * weights[order], 0.75 * weights[order]]),
    )
    np.testing.assert_allclose(other.edges / factor, law.edges, rtol=1e-9, atol=1e-10)
    x = (law.edges[:, :1] + np.diff(law.edges, axis=1) * [0.2, 0.5, 0.8]).ravel()
    np.testing.assert_allclose(other.density(factor * x) * factor, law.density(x), rtol=1e-7)


# At the door.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, [1.0], [1.0]), "ratio must be greater than 0"),
        ((-1.0, [1.0], [1.0]), "ratio must be greater than 0"),
        ((np.nan, [1.0], [1.0]), "ratio must be a finite"),
        ((0.5, [1.0, -2.0], [0.5, 0.5]), "atoms must be at least 0, got -2.0"),
        ((0.5, [1.0, np.inf], [0.5, 0.5]), "atoms holds 1 non-finite"),
        ((0.5, [0.0], [1.0]), "atoms must hold one above 0"),
        ((0.5, [0.0, 1.0], [1.0, 0.0]), "atoms must hold one above 0"),
        ((0.5, [], []), "atoms is empty"),
        ((0.5, [1.0, 2.0], [0.5, 0.6]), "weights must sum to 1, got a sum of 1.1"),
        ((0.5, [1.0, 2.0], [1.5, -0.5]), "weights must be at least 0, got -0.5"),
        ((0.5, [1.0, 2.0], [1.0]), r"weights must have shape \(2\), got \(1,\)"),
        ((1e-30, [1.0], [1.0]), "ratio must be above 1e-28"),
    ],
)
def test_impossible_populations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        laws.generalized_marchenko_pastur(*arguments)


@pytest.mark.parametrize("door", [laws.semicircle, laws.quarter_circle, lambda v: laws.marchenko_pastur(0.5, v)])
@pytest.mark.parametrize("variance", [0.0, -1.0, np.inf, "one"])
def test_variance_must_be_positive(door, variance):
    with pytest.raises(ValueError, match="variance must be"):
        door(variance)


def test_width_ratio_must_be_positive():
    with pytest.raises(ValueError, match="width_ratio must be greater than 0"):
        laws.singular_value_bulk(0.0)


@pytest.mark.parametrize(
    ("law", "z"),
    [
        (laws.semicircle(1.0), 0.5),
        (laws.quarter_circle(1.0), -0.5),
        (laws.marchenko_pastur(0.5), 1.0),
        (laws.marchenko_pastur(1.0), 0.0),
        (laws.marchenko_pastur(2.0), 0.0),
    ],
)
def test_a_real_z_inside_the_spectrum_is_refused_by_name(law, z):
    with pytest.raises(ValueError, match=f"z = {z} is not allowed"):
        law.stieltjes([10.0, z])


def test_points_must_be_finite_numbers():
    law = laws.marchenko_pastur(0.5)
    with pytest.raises(ValueError, match="x holds 1 non-finite"):
        law.density([1.0, np.nan])
    with pytest.raises(ValueError, match="z holds 1 non-finite"):
        law.stieltjes([np.inf, 1j])
    with pytest.raises(ValueError, match="z must be an array of complex"):
        law.stieltjes("here")
    with pytest.raises(ValueError, match="rng must be a numpy"):
        law.sample(10, np.random)
    with pytest.raises(ValueError, match="size must be at least 1"):
        law.sample(0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="order must be even"):
        laws.quarter_circle(1.0).moment(3)


def test_points_keep_their_shape():
    law = laws.marchenko_pastur(0.5)
    assert law.density(np.ones((2, 3))).shape == (2, 3)
    assert law.stieltjes(1j * np.ones((3, 1))).shape == (3, 1)
    assert np.ndim(law.density(1.0)) == np.ndim(law.cdf(1.0)) == np.ndim(law.stieltjes(1j)) == 0
    assert law.density([]).shape == (0,)


def test_giving_up_carries_the_best_iterate(monkeypatch):
    monkeypatch.setattr(covariance, "_ROUNDS", 0)
    law = laws.generalized_marchenko_pastur(0.5, [1.0, 2.0], [0.5, 0.5])
    with pytest.raises(ConvergenceError, match="relative residual") as caught:
        law.density([1.0, 1.5])
    assert caught.value.partial.shape == (2,)
    assert caught.value.residual > 0


def test_a_quarter_circle_of_tiny_rows_is_as_flat_at_zero_as_any():
    law = laws.generalized_marchenko_pastur(1.0, [1e-16], [1.0]).singular_values()
    assert law.density(0.0) == pytest.approx(2e8 / np.pi, rel=1e-9)

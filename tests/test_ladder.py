"""Information plus noise against polynomial roots in sixty digits, iteration, quadrature, limits, matrices."""

import mpmath
import numpy as np
import pytest
from spectral_dynamics.spectra import laws, many_outputs, outliers
from test_laws import integrate, mass

RNG = np.random.default_rng(18)
SIZE = 400


def spread(count, low, high):
    return 10 ** RNG.uniform(low, high, count)


LADDERS = {  # ratio, all M values, variance
    "power law, square": (1.0, np.append(np.zeros(200), 1 + RNG.pareto(1.5, 200)), 0.7),
    "power law, wide": (0.5, RNG.pareto(1.5, SIZE), 1.0),
    "four decades, wide": (0.25, spread(SIZE, -2, 2), 0.5),
    "four decades, square": (1.0, spread(SIZE, -2, 2), 0.5),
    "four decades, tall": (2.0, np.append(np.zeros(200), spread(200, -2, 2)), 0.5),
    "even steps, tall": (3.0, np.append(np.zeros(300), np.linspace(0, 4, 100)), 1.0),
    "one value many times": (0.5, np.append(np.zeros(300), np.full(100, 2.0)), 1.0),
    "no value near zero": (1.0, np.linspace(3, 4, SIZE), 1.0),
    "three values": (0.05, np.repeat([1.0, 2.0, 2.2], [100, 200, 100]), 0.1),
    "even steps": (0.6, np.linspace(0, 3, SIZE), 1.0),
}

FEW = [  # ratio, values, weights, variance
    (1.0, [0.0, 3.0], [0.9, 0.1], 1.0),
    (1.0, [2.9], [1.0], 1.0),
    (0.5, [0.0, 3.0], [0.9, 0.1], 1.0),
    (0.5, [1.0, 2.0, 2.5], [0.3, 0.3, 0.4], 0.01),
    (2.0, [0.0, 3.0], [0.6, 0.4], 1.0),
    (0.999, [0.01, 0.1, 1.0, 10.0, 100.0], [0.4, 0.3, 0.15, 0.1, 0.05], 0.3),
    (1.0, [0.01, 0.1, 1.0, 10.0, 100.0], [0.4, 0.3, 0.15, 0.1, 0.05], 0.3),
    (0.03, [0.01, 0.1, 1.0, 10.0, 100.0], [0.4, 0.3, 0.15, 0.1, 0.05], 0.3),
    (3.0, [0.0, 0.5, 1.0, 4.0], [0.7, 0.1, 0.1, 0.1], 0.2),
    (0.7, [1.5, 1.6, 1.7, 3.0], [0.25] * 4, 0.05),
]


def wide(ratio, values, weights, variance):
    """The same of a matrix with M <= N: squares, weights, ratio, variance."""
    squares, weights = np.square(values), np.array(weights, float)
    if ratio > 1:
        weights[0] -= 1 - 1 / ratio
        return squares, weights * ratio, 1 / ratio, ratio * variance
    return squares, weights, ratio, variance


def stationary_points(ratio, values, weights, variance):
    """Edges: zeros of dz/dy, z(y) = y p^2 + s2 (1 - nu) p, p = 1 + nu s2 <1/(y - s^2)>, with p > 0; in 60 digits.

    A double zero of z with p = 0 is the hard edge.
    """
    with mpmath.workdps(60):
        tau, w, nu, s2 = wide(*(mpmath.mpf(x) if np.ndim(x) == 0 else x for x in (ratio, values, weights, variance)))
        tau, w = [mpmath.mpf(float(t)) for t in tau], [mpmath.mpf(x) for x in w]
        D, N = np.array([mpmath.mpf(1)]), np.array([mpmath.mpf(0)])
        for t, x in zip(tau, w, strict=True):
            factor = np.array([mpmath.mpf(1), -t])
            N = np.polyadd(np.polymul(N, factor), nu * s2 * x * D)
            D = np.polymul(D, factor)
        N = np.polyadd(N, D)  # p = N/D
        slope = np.polysub(np.polymul(np.polyder(N), D), np.polymul(N, np.polyder(D)))  # p' = slope/D^2
        terms = [np.polymul(np.polymul(N, N), D), np.polymul(np.array([mpmath.mpf(2), 0]), np.polymul(N, slope))]
        total = np.polyadd(np.polyadd(*terms), s2 * (1 - nu) * np.polymul(slope, D))
        roots = mpmath.polyroots(list(total), maxsteps=500, extraprec=400)
        real = [mpmath.re(y) for y in roots if abs(mpmath.im(y)) < mpmath.mpf(10) ** -30]
        real = [y for y in real if min(abs(y - t) for t in tau) > mpmath.mpf(10) ** -30]  # D^3 may have been too much
        p = [np.polyval(N, y) / np.polyval(D, y) for y in real]
        squares = [y * q**2 + s2 * (1 - nu) * q for y, q in zip(real, p, strict=True) if q > mpmath.mpf(10) ** -30]
        edges = sorted(float(mpmath.sqrt(z)) for z in squares)
    return edges if len(edges) % 2 == 0 else [0.0, *edges]


def law_of(ratio, values, weights, variance):
    return laws.information_plus_noise(ratio, values, variance, weights)


# Edges, mass, transforms.


@pytest.mark.parametrize("case", FEW)
def test_edges_are_the_stationary_points_found_in_sixty_digits(case):
    np.testing.assert_allclose(law_of(*case).edges.ravel(), stationary_points(*case), rtol=0, atol=1e-10)


def test_edges_of_random_ladders_are_the_stationary_points():
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 4, 5):
        for ratio in (0.1, 0.8, 1.0):
            case = ratio, 10 ** rng.uniform(-1, 1, count), rng.dirichlet(np.ones(count)), 10 ** rng.uniform(-2, 0)
            np.testing.assert_allclose(law_of(*case).edges.ravel(), stationary_points(*case), rtol=0, atol=1e-10)


@pytest.mark.parametrize("ratio", [0.04, 0.5, 1.0, 3.0])
def test_nothing_learned_leaves_the_law_of_marchenko_and_pastur(ratio):
    law, old = laws.information_plus_noise(ratio, [0.0], 0.7), laws.singular_value_bulk(ratio, 0.7)
    np.testing.assert_allclose(law.edges, old.edges, rtol=0, atol=1e-12)
    assert law.atoms == old.atoms
    x, z = np.linspace(0, old.edges[0, 1] * 1.1, 101), np.array([0.3 + 0.2j, 3.0, -0.5 + 1e-3j, 2j, 1.1 - 0.4j])
    np.testing.assert_allclose(law.density(x), old.density(x), rtol=0, atol=1e-9)
    np.testing.assert_allclose(law.cdf(x), old.cdf(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(law.stieltjes(z), old.stieltjes(z), rtol=1e-11)
    np.testing.assert_allclose(law.companion(z), old.companion(z), rtol=1e-11)
    assert [law.moment(k) for k in (0, 2, 4, 6, 8)] == pytest.approx([old.moment(k) for k in (0, 2, 4, 6, 8)])


@pytest.mark.parametrize("case", FEW)
def test_mass_is_one_and_the_distribution_is_the_integral_of_the_density(case):
    law = law_of(*case)
    assert abs(mass(law) - 1) < 1e-6
    assert law.cdf(law.edges[-1, 1]) == pytest.approx(1, abs=1e-12)
    for x in (law.edges[:, :1] + np.diff(law.edges, axis=1) * [0.3, 0.9, 1.0]).ravel():
        below = integrate(law, stop=x) + sum(m for _, m in law.atoms)
        assert law.cdf(x) == pytest.approx(below, abs=1e-7)


@pytest.mark.parametrize("name", LADDERS)
def test_mass_is_one_for_whole_ladders(name):
    ratio, values, variance = LADDERS[name]
    values = values if ratio > 1 else values[::4]  # a quarter will do
    assert abs(mass(laws.information_plus_noise(ratio, values, variance)) - 1) < 1e-6


def iterated(case, z, rounds=4000):
    """G_a and G_b of M <= N by the plain iteration of a = z - s2 G_b, b = z - nu s2 G_a, half steps."""
    tau, w, nu, s2 = wide(*case)
    a = b = z
    for _ in range(rounds):
        R = (w / (a * b - tau)).sum()
        G_a, G_b = b * R, nu * a * R + (1 - nu) / b
        a, b = (a + z - s2 * G_b) / 2, (b + z - nu * s2 * G_a) / 2
    return G_a, G_b


@pytest.mark.parametrize("case", FEW)
def test_transforms_are_where_the_plain_iteration_ends_and_turn_with_the_signs_of_z(case):
    law = law_of(*case)
    for z in (0.4 + 0.3j, 2.5 + 0.2j, 0.7j, 12 + 0.4j):
        G = np.array(iterated(case, z))[:: -1 if case[0] > 1 else 1]
        np.testing.assert_allclose([-law.stieltjes(z), -law.companion(z)], G, rtol=1e-10)
        assert law.stieltjes(np.conj(z)) == pytest.approx(np.conj(law.stieltjes(z)), rel=1e-12)
        assert law.stieltjes(-z) == pytest.approx(-law.stieltjes(z), rel=1e-12)


@pytest.mark.parametrize("case", FEW)
def test_boundary_value_of_the_transform_is_the_density(case):
    law = law_of(*case)
    x = (law.edges[:, :1] + np.diff(law.edges, axis=1) * [0.1, 0.5, 0.8]).ravel()
    inside = 2 * law.stieltjes(x + 1e-12j).imag / np.pi
    np.testing.assert_allclose(inside, law.density(x), rtol=1e-5)
    assert np.all(law.density((law.edges[1:, 0] + law.edges[:-1, 1]) / 2) == 0)


@pytest.mark.parametrize("case", FEW)
def test_transform_in_gaps_and_beyond_is_the_integral(case):
    law = law_of(*case)
    for z in (*(law.edges[1:, 0] + law.edges[:-1, 1]) / 2, 1.2 * law.edges[-1, 1]):
        direct = integrate(law, lambda x, z=z: x * 0 + z / (x**2 - z**2)) + sum(-m / z for _, m in law.atoms)
        assert law.stieltjes(z) == pytest.approx(direct, rel=1e-7)


@pytest.mark.parametrize("case", FEW)
def test_moments_are_integrals_and_the_second_is_a_sum(case):
    law = law_of(*case)
    assert law.moment(0) == 1
    assert law.moment(2) == pytest.approx(np.dot(case[2], np.square(case[1])) + case[3])
    top = law.edges[-1, 1]
    for order in (4, 6, 8):
        direct = integrate(law, lambda x, k=order: (x / top) ** k)
        assert law.moment(order) / top**order == pytest.approx(direct, rel=1e-6)


def test_bands_hold_the_weight_of_what_they_come_from():
    law = laws.information_plus_noise(0.5, [1.0, 2.0, 2.5], 0.01, [0.3, 0.3, 0.4])
    np.testing.assert_allclose(law.cdf(law.edges[:, 1]), [0.3, 0.6, 1.0], atol=1e-12)
    assert law.cdf((law.edges[0, 1] + law.edges[1, 0]) / 2) == pytest.approx(0.3, abs=1e-15)
    assert law.cdf(law.edges[0, 0] / 2) == 0


def test_the_square_law_is_hard_at_zero_until_the_ladder_leaves_it():
    """One value s for all: the two halves of the symmetric law part at s = sigma, where 1 = sigma^2 <1/s^2>."""
    touching = laws.information_plus_noise(1.0, [0.999], 1.0)
    assert touching.edges[0, 0] == 0
    assert touching.density(0.0) > 0
    assert touching.density(0.0) == pytest.approx(touching.density(1e-9), rel=1e-4)
    assert touching.density(0.0) == pytest.approx(2 / np.pi * np.sqrt(1 - 0.999**2), rel=1e-9)  # b = i sqrt(1 - s^2)
    parted = laws.information_plus_noise(1.0, [1.001], 1.0)
    assert parted.edges[0, 0] > 1e-6
    assert parted.density(0.0) == parted.cdf(0.0) == parted.stieltjes(0.0) == 0


def test_tall_and_wide_are_one_matrix():
    tall = laws.information_plus_noise(2.5, [0.0, 1.0, 3.0], 0.4, [0.7, 0.2, 0.1])
    transposed = laws.information_plus_noise(0.4, [0.0, 1.0, 3.0], 1.0, [0.25, 0.5, 0.25])
    np.testing.assert_allclose(tall.edges, transposed.edges, rtol=1e-12)
    z = np.array([0.5 + 0.2j, 5.0, -1 + 0.1j])
    np.testing.assert_allclose(tall.stieltjes(z), transposed.companion(z), rtol=1e-11)
    np.testing.assert_allclose(tall.companion(z), transposed.stieltjes(z), rtol=1e-11)
    np.testing.assert_allclose(tall.cdf([0.0, 1.0, 9.0]), 0.6 + 0.4 * transposed.cdf([0.0, 1.0, 9.0]), atol=1e-12)
    assert tall.atoms == ((0.0, pytest.approx(0.6)),)


def test_order_splitting_and_units_do_not_matter():
    values, weights = np.array([0.0, 0.5, 2.0, 7.0]), np.array([0.4, 0.3, 0.2, 0.1])
    law = laws.information_plus_noise(0.6, values, 0.5, weights)
    other = laws.information_plus_noise(0.6, 10 * np.repeat(values[::-1], [1, 2, 3, 4]), 50.0)
    np.testing.assert_allclose(other.edges / 10, law.edges, rtol=1e-10)
    x = np.linspace(0, 8, 50)
    np.testing.assert_allclose(10 * other.density(10 * x), law.density(x), rtol=1e-8, atol=1e-12)


# Matrices.


@pytest.mark.parametrize("name", LADDERS)
def test_matrices_follow_the_law_and_no_simpler_one(name):
    """Singular values are rigid: within some 1/N. Rivals: all variance taken for noise; no term with 1 - nu."""
    ratio, values, variance = LADDERS[name]
    law = laws.information_plus_noise(ratio, values, variance)
    found = law.sample(SIZE, np.random.default_rng(7))
    assert many_outputs.distance(found, law) < 4 / SIZE
    rivals = [laws.singular_value_bulk(ratio, variance + np.mean(values**2))]
    if ratio < 1:  # z = y p^2 is the law of a square matrix with noise nu s2
        rivals.append(laws.information_plus_noise(1.0, values, ratio * variance))
    for rival in rivals:
        assert many_outputs.distance(found, rival) > 8 / SIZE


def test_sample_is_the_matrix_that_it_says():
    """Of its own making: rotated, N > M, entries of variance s2/N."""
    rng, M, N = np.random.default_rng(3), 300, 600
    values = np.linspace(0, 3, M)
    left, right = (np.linalg.qr(rng.standard_normal((n, M)))[0] for n in (M, N))
    matrix = left * values @ right.T + rng.standard_normal((M, N)) / np.sqrt(N)
    law = laws.information_plus_noise(0.5, values, 1.0)
    assert many_outputs.distance(np.linalg.svd(matrix, compute_uv=False), law) < 4 / M
    np.testing.assert_array_equal(law.sample(20, np.random.default_rng(1)), law.sample(20, np.random.default_rng(1)))
    tall = laws.information_plus_noise(2.0, [0.0, 1.0], 1.0, [0.5, 0.5]).sample(50, rng)
    assert np.sum(tall == 0) == 25


# Few learned values: outliers.


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.5])
def test_on_an_untouched_matrix_the_map_is_that_of_outliers(ratio):
    law = laws.information_plus_noise(ratio, [0.0], 0.64)
    strength = 0.8 * ratio**0.25 * np.array([[1.001, 1.1, 2.0], [5.0, 30.0, 1e3]])
    np.testing.assert_allclose(law.location(strength), outliers.location(strength, 0.64, ratio), rtol=0, atol=1e-10)
    for hidden in (0.799 * ratio**0.25, 0.1):
        with pytest.raises(ValueError, match="strength must leave the bands"):
            law.location([5.0, hidden])


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.5])
def test_a_band_closes_in_on_the_outlier_linearly_and_its_edges_with_the_root_of_the_weight(ratio):
    strength, weight = 2.0, np.array([1e-3, 3e-4, 1e-4, 3e-5, 1e-5]) / max(ratio, 1)
    bands = [laws.information_plus_noise(ratio, [0.0, strength], 0.64, [1 - w, w]).edges[-1] for w in weight]
    place = outliers.location(strength, 0.64, ratio)
    centre, half = abs(np.mean(bands, axis=1) - place), np.ptp(bands, axis=1) / 2
    slopes = [np.polyfit(np.log(weight), np.log(size), 1)[0] for size in (centre, half)]
    assert slopes[0] == pytest.approx(1, abs=0.02)
    assert slopes[1] == pytest.approx(0.5, abs=0.01)


def test_among_learned_values_a_further_one_is_seen_elsewhere():
    """At the middle of a band of vanishing weight, above the bands or between; not where noise alone puts it."""
    base = laws.information_plus_noise(0.5, [0.0, 4.0], 0.64, [0.8, 0.2])
    for strength in (2.2, 7.0):
        more = laws.information_plus_noise(0.5, [0.0, 4.0, strength], 0.64, [0.8 - 1e-7, 0.2, 1e-7]).edges
        place = base.location(strength)
        assert np.abs(more.mean(axis=1) - place).min() < 1e-5
        assert abs(outliers.location(strength, 0.64, 0.5) - place) > 1e-3


# At the door.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, [1.0], 1.0), "ratio must be greater than 0"),
        ((1.0, [1.0, -2.0], 1.0), "singular_values must be at least 0, got -2.0"),
        ((1.0, [], 1.0), "singular_values is empty"),
        ((1.0, [np.nan], 1.0), "singular_values holds 1 non-finite"),
        ((1.0, [1.0], 0.0), "variance must be greater than 0"),
        ((1.0, [1.0, 2.0], 1.0, [1.0]), r"weights must have shape \(2\), got \(1,\)"),
        ((1.0, [1.0, 2.0], 1.0, [1.5, -0.5]), "weights must be at least 0, got -0.5"),
        ((1.0, [1.0, 2.0], 1.0, [0.5, 0.6]), "weights must sum to 1, got a sum of 1.1"),
        ((2.0, [0.0, 1.0, 2.0], 1.0), "singular_values must hold a share of at least 0.5 zeros"),
    ],
)
def test_impossible_ladders_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        laws.information_plus_noise(*arguments)


def test_points_are_checked_and_keep_their_shape():
    law, tall = laws.information_plus_noise(0.5, [0.0, 2.0], 1.0), laws.information_plus_noise(2.0, [0.0, 2.0], 1.0)
    assert law.density(np.ones((2, 3))).shape == law.cdf(np.ones((2, 3))).shape == (2, 3)
    assert law.stieltjes(1j * np.ones((3, 1))).shape == (3, 1)
    assert (
        np.ndim(law.density(1.0))
        == np.ndim(law.cdf(1.0))
        == np.ndim(law.stieltjes(1j))
        == np.ndim(law.location(9.0))
        == 0
    )
    assert law.density([]).shape == (0,)
    with pytest.raises(ValueError, match=r"z = -2\.0 is not allowed: a real z must lie outside the bulk"):
        law.stieltjes([1j, -2.0])
    with pytest.raises(ValueError, match=r"z = 0\.0 is not allowed: the law has an atom at 0"):
        tall.stieltjes(0.0)
    with pytest.raises(ValueError, match=r"z = 0\.0 is not allowed: the companion law has an atom at 0"):
        law.companion(0.0)
    with pytest.raises(ValueError, match="order must be even"):
        law.moment(3)
    with pytest.raises(ValueError, match="rng must be a numpy"):
        law.sample(10, np.random)

"""Outliers: exact cases, both forms against each other, finite matrices, symmetries, bad input."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from spectral_dynamics.dynamics.order import OrderParameters
from spectral_dynamics.spectra import gram
from spectral_dynamics.spectra import outliers as room
from spectral_dynamics.spectra.outliers import from_recording, outliers, resolvent, spiked

ratios = st.floats(0.2, 5.0)
variances = st.floats(0.1, 3.0)


# ---------------------------------------------------------------- cases done by hand


def feature_known_gradient_made_by_the_bulk(kappa, g0, c, C_h, s2, nu):
    """h independent of Wbar(0), g = g0 + kappa Wbar(0) h: the order, and the norm^2 of the column Wbar h/|h|."""
    order = OrderParameters([[C_h]], [[g0 + kappa**2 * s2 * C_h]], [[0]], [[kappa]], [[c]], s2, nu)
    amplified = 1 + c * kappa * C_h / np.sqrt(nu)
    return order, s2 * nu * amplified**2 + c**2 * C_h * g0


def gradient_known_feature_made_by_the_bulk(kappa, h0, c, C_g, s2, nu):
    """g independent, h = h0 + kappa Wbar(0)^T g/sqrt(nu): the same with rows."""
    order = OrderParameters([[h0 + kappa**2 * s2 * C_g]], [[C_g]], [[kappa]], [[0]], [[c]], s2, nu)
    return order, s2 * (1 + c * kappa * C_g) ** 2 + c**2 * C_g * h0


def two_steps(s2=1.0, nu=1.0, alpha=0.6, beta=0.5, c=(0.9, 0.8)):
    """h(0), g(0) independent of Wbar(0); h(1) = h(0) + alpha r(0), g(1) = g(0) + beta u(0)."""
    step = np.array([[0.0, 0.0], [1.0, 0.0]])
    C_h = np.ones((2, 2)) + alpha**2 * s2 * np.diag([0, 1])
    C_g = np.ones((2, 2)) + beta**2 * s2 * np.diag([0, 1])
    return OrderParameters(C_h, C_g, alpha * step, beta * step, np.diag(c), s2, nu)


def train_two_steps(N, rng, s2=1.0, nu=1.0, alpha=0.6, beta=0.5, c=(0.9, 0.8)):
    """The finite matrix that `two_steps` describes."""
    M = round(nu * N)
    W = np.sqrt(s2 / N) * rng.standard_normal((M, N))
    h0, g0 = rng.standard_normal(N), rng.standard_normal(M)
    h0, g0 = h0 * np.sqrt(N) / np.linalg.norm(h0), g0 * np.sqrt(M) / np.linalg.norm(g0)
    h = np.stack([h0, h0 + alpha * W.T @ g0 / np.sqrt(M / N)], axis=1)
    g = np.stack([g0, g0 + beta * W @ h0], axis=1)
    return SimpleNamespace(initial=W, final=W + g @ np.diag(c) @ h.T / np.sqrt(M * N), features=h, gradients=g)


@given(theta=st.floats(0.05, 4.0), s2=variances, nu=ratios)
def test_a_spike_independent_of_the_bulk_is_bbp(theta, s2, nu):
    found = spiked([theta], s2, nu)
    if theta**2 <= s2 * np.sqrt(nu):
        assert found.singular_values.size == 0
        return
    if theta**2 < 1.0001 * s2 * np.sqrt(nu):
        return
    t = theta**2 / s2
    assert np.isclose(found.singular_values[0] ** 2, s2 * (1 + t) * (nu + t) / t, rtol=1e-12)
    assert np.isclose(found.left_alignment[0, 0] ** 2, 1 - nu * (1 + t) / (t * (t + nu)), atol=1e-9)
    assert np.isclose(found.right_alignment[0, 0] ** 2, 1 - (nu + t) / (t * (t + 1)), atol=1e-9)


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
def test_no_outlier_below_the_bbp_threshold(nu):
    threshold = 1.3 * nu**0.25
    assert spiked([0.999 * threshold], 1.69, nu).singular_values.size == 0
    above = spiked([1.001 * threshold, 0.5 * threshold], 1.69, nu)
    assert above.singular_values.size == 1
    assert above.singular_values[0] > above.bulk_edge == room.bulk_edge(1.69, nu)
    with pytest.raises(ValueError, match="strength must exceed the threshold"):
        room.location(0.9999 * threshold, 1.69, nu)


@given(
    kappa=st.floats(0.1, 2), g0=st.floats(0, 3), c=st.floats(0.3, 2), C_h=st.floats(0.3, 2), s2=variances, nu=ratios
)
def test_gradient_made_by_the_bulk_amplifies_one_column(kappa, g0, c, C_h, s2, nu):
    order, column = feature_known_gradient_made_by_the_bulk(kappa, g0, c, C_h, s2, nu)
    by_hand = [np.sqrt(column * (1 + s2 / (column - s2 * nu)))] if column - s2 * nu > s2 * np.sqrt(nu) else []
    assert np.allclose(outliers(order).singular_values, by_hand, rtol=1e-9)


@given(
    kappa=st.floats(0.1, 2), h0=st.floats(0, 3), c=st.floats(0.3, 2), C_g=st.floats(0.3, 2), s2=variances, nu=ratios
)
def test_feature_made_by_the_bulk_amplifies_one_row(kappa, h0, c, C_g, s2, nu):
    order, row = gradient_known_feature_made_by_the_bulk(kappa, h0, c, C_g, s2, nu)
    by_hand = [np.sqrt(row * (1 + s2 * nu / (row - s2)))] if row - s2 > s2 * np.sqrt(nu) else []
    assert np.allclose(outliers(order).singular_values, by_hand, rtol=1e-9)


@pytest.mark.parametrize("nu", [0.5, 1.0, 3.0])
def test_hebbian_step_is_the_spiked_covariance_model(nu):
    """g = Wbar(0) h: columns of covariance 1 + (l - 1) hh^T, of which the top eigenvector is known (Paul)."""
    s2, c = 0.8, 1.7
    order, _ = feature_known_gradient_made_by_the_bulk(1.0, 0.0, c, 1.0, s2, nu)
    spike = (1 + c / np.sqrt(nu)) ** 2
    found = outliers(order)
    cosine2 = (1 - 1 / (nu * (spike - 1) ** 2)) / (1 + 1 / (nu * (spike - 1)))
    assert np.isclose(found.singular_values[0] ** 2, s2 * spike * (nu + 1 / (spike - 1)), rtol=1e-12)
    assert np.isclose(found.right_alignment[0, 0] ** 2, cosine2, rtol=1e-12)


def test_learning_against_the_bulk_leaves_no_outlier_though_the_spike_is_strong():
    order, _ = feature_known_gradient_made_by_the_bulk(-1.0, 0.0, 1.9, 1.0, 1.0, 1.0)
    assert outliers(order).singular_values.size == 0
    assert outliers(order.independent()).singular_values.size == 1


# ---------------------------------------------------------------- the two forms, and finite matrices


def mean_field_matrix(N, alpha=0.6, beta=0.5, c=(0.9, 0.8), s2=1.0):
    """A matrix of size N whose products with the recorded directions take exactly their mean-field values."""
    W = np.zeros((N, N))
    # W e1 = f2; W^T f1 = e2; and W W^T f1 = f1 + fresh f3, W^T W e1 = e1 + fresh e3
    W[1, 0] = W[0, 1] = W[2, 1] = W[1, 2] = np.sqrt(s2)
    h0, g0 = np.sqrt(N) * np.eye(N)[:, 0], np.sqrt(N) * np.eye(N)[:, 0]
    h = np.stack([h0, h0 + alpha * W.T @ g0], axis=1)
    g = np.stack([g0, g0 + beta * W @ h0], axis=1)
    return SimpleNamespace(initial=W, final=W + g @ np.diag(c) @ h.T / N, features=h, gradients=g, weight_variance=s2)


def test_gram_form_and_response_form_agree_at_infinite_size():
    order = two_steps()
    exact = outliers(order)
    sizes = np.array([100, 200, 400, 800])
    found = [from_recording(mean_field_matrix(N)) for N in sizes]
    for name in ("singular_values", "right_alignment", "left_alignment", "right_overlaps"):
        values = np.array([getattr(each, name)[0] for each in found]).reshape(len(sizes), -1)
        intercept = np.polynomial.polynomial.polyfit(1 / sizes, values, 3)[0]
        assert np.allclose(intercept, getattr(exact, name)[0], atol=1e-6), name


@pytest.mark.parametrize("nu", [1.0, 0.5, 2.0])
def test_two_step_network_extrapolates_to_the_response_form(nu):
    rng = np.random.default_rng(11)
    sizes, seeds = np.array([50, 100, 200]), (2000, 1000, 400)
    means, errors = [], []
    for N, count in zip(sizes, seeds, strict=True):
        tops = [scipy.linalg.norm(train_two_steps(N, rng, nu=nu).final, 2) for _ in range(count)]
        means.append(np.mean(tops))
        errors.append(np.std(tops) / np.sqrt(count))
    (_, intercept), covariance = np.polyfit(1 / sizes, means, 1, w=1 / np.array(errors), cov="unscaled")
    error = np.sqrt(covariance[1, 1])
    order = two_steps(nu=nu)
    assert error < 0.01
    assert abs(intercept - outliers(order).singular_values[0]) < 4 * error
    assert abs(intercept - outliers(order.independent()).singular_values[0]) > 10 * error


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
def test_gram_form_predicts_one_matrix_and_its_singular_vectors(nu):
    recording = train_two_steps(600, np.random.default_rng(2), nu=nu, c=(1.5, 1.2))
    found = from_recording(recording)
    left, values, right = np.linalg.svd(recording.final, full_matrices=False)
    k = np.sum(values > 1.03 * found.bulk_edge)
    assert k >= 1
    assert np.allclose(found.singular_values[:k], values[:k], rtol=5e-3)
    assert found.neglected < 1e-12 and np.all(found.residual < 1e-10)
    for j in range(k):
        unit_h = recording.features / np.linalg.norm(recording.features, axis=0)
        unit_g = recording.gradients / np.linalg.norm(recording.gradients, axis=0)
        cosines_h, cosines_g = right[j] @ unit_h, left[:, j] @ unit_g
        sign = np.sign(cosines_h[np.argmax(np.abs(cosines_h))])
        assert np.allclose(found.right_alignment[j], sign * cosines_h, atol=0.01)
        assert np.allclose(found.left_alignment[j], sign * cosines_g, atol=0.01)


def tanh_recording(N, samples, steps, rng, rate=0.6, scale=4.0):
    """One hidden-to-hidden matrix of a three-layer tanh network, a few samples, full batch: written out here."""
    X, y = rng.standard_normal((12, samples)), rng.choice([-1.0, 1.0], samples)
    V, W, w = rng.standard_normal((N, 12)), rng.standard_normal((N, N)), rng.standard_normal(N)
    start, features, gradients = W.copy() / np.sqrt(N), [], []
    f0 = None
    for _ in range(steps):
        x1 = np.tanh(V @ X / np.sqrt(12))
        x2 = np.tanh(W @ x1 / np.sqrt(N))
        f = w @ x2 / (scale * N)
        f0 = f if f0 is None else f0
        residual = y - f + f0
        g2 = (1 - x2**2) * w[:, None]
        g1 = (1 - x1**2) * (W.T @ g2 / np.sqrt(N))
        features.append(x1)
        gradients.append(residual * g2)
        push = rate * scale / samples
        V, W, w = (
            V + push * (residual * g1) @ X.T / np.sqrt(12),
            W + push * (residual * g2) @ x1.T / np.sqrt(N),
            w + push * x2 @ residual,
        )
    return SimpleNamespace(
        initial=start, final=W / np.sqrt(N), features=np.hstack(features), gradients=np.hstack(gradients)
    )


@pytest.mark.parametrize(("samples", "steps"), [(4, 10), (8, 20), (6, 30)])
def test_gram_form_on_a_single_tanh_network_within_half_a_percent(samples, steps):
    recording = tanh_recording(500, samples, steps, np.random.default_rng(samples))
    found = from_recording(recording)
    values = scipy.linalg.svdvals(recording.final)
    measured = values[values > 1.03 * found.bulk_edge]
    assert measured.size >= 1
    assert np.allclose(found.singular_values[: measured.size], measured, rtol=5e-3)
    assert np.all(found.singular_values[measured.size :] < 1.03 * found.bulk_edge)


def test_many_kept_directions_shrink_the_untouched_block():
    """With 30 % of all directions recorded, the block correction is what keeps the prediction right."""
    rng = np.random.default_rng(5)
    N, k = 500, 150
    W = rng.standard_normal((N, N)) / np.sqrt(N)
    h, g = rng.standard_normal((N, k)), rng.standard_normal((N, k))
    final = W + 2.5 * np.outer(g[:, 0], h[:, 0]) / N
    found = from_recording(SimpleNamespace(initial=W, final=final, features=h, gradients=g))
    values = scipy.linalg.svdvals(final)
    assert np.isclose(found.singular_values[0], values[0], rtol=2e-3)
    assert np.all(found.singular_values[1:] < 1.02 * found.bulk_edge)


def test_independent_recording_is_bbp_of_the_learned_change():
    recording = train_two_steps(400, np.random.default_rng(4), nu=2.0, c=(1.5, 1.2))
    strengths = scipy.linalg.svdvals(recording.final - recording.initial)[:2]
    plain = from_recording(recording, independent=True, weight_variance=1.0)
    assert np.allclose(plain.singular_values, spiked(strengths, 1.0, 2.0).singular_values, rtol=1e-9)
    measured = scipy.linalg.norm(recording.final, 2)
    assert measured > 1.05 * plain.singular_values[0]


def more_gradients_than_features(rng, rows=300, columns=400, k_g=200, k_h=5):
    """Recorded directions of unequal number on the two sides, and three spikes along the first of them."""
    W = rng.standard_normal((rows, columns)) / np.sqrt(columns)
    h, g = np.linalg.qr(rng.standard_normal((columns, k_h)))[0], np.linalg.qr(rng.standard_normal((rows, k_g)))[0]
    final = W + g[:, :3] @ np.diag([1.7, 1.6, 1.5]) @ h[:, :3].T
    return SimpleNamespace(initial=W, final=final, features=h, gradients=g, weight_variance=1.0)


@pytest.mark.parametrize("turned", [False, True])
def test_the_untouched_block_is_what_either_side_leaves(turned):
    """G_a and G_b of the Gram form against the traces of the resolvent of the block itself, k_g unlike k_h."""
    r = more_gradients_than_features(np.random.default_rng(5))
    W, h, g, s2 = r.initial, r.features, r.gradients, 1.0
    if turned:
        W, h, g, s2 = W.T, g, h, 0.75  # variance s2/N of fan-in 300
    *_, s_a, s_b = gram.blocks(W, W, (g, np.ones(g.shape[1])), (h, np.ones(h.shape[1])), s2)
    block = scipy.linalg.null_space(g.T).T @ W @ scipy.linalg.null_space(h.T)
    z, squares = 2.1, scipy.linalg.svdvals(block) ** 2
    inside = np.sum(z / (z**2 - squares))
    direct = [(inside + (side - squares.size) / z) / side for side in block.shape]
    x = gram.product(z, s_a, s_b)
    found = (1 + s_a * x) / z, (1 + s_b * x) / z
    assert np.allclose(found, direct, rtol=1e-2)
    assert not np.allclose(found[::-1], direct, rtol=3e-2)


def test_unequal_numbers_of_directions_give_the_singular_values():
    """Mean error over eight matrices; exchanging the numbers of the two sides would be seen at each of the three."""
    errors, exchanged = [], []
    for seed in range(8):
        r = more_gradients_than_features(np.random.default_rng(seed))
        values = scipy.linalg.svdvals(r.final)[:3]
        errors.append(from_recording(r).singular_values[:3] / values - 1)
        known = gram.blocks(r.initial, r.final, (r.gradients, np.ones(200)), (r.features, np.ones(5)), 1.0)[:3]
        roots = gram.roots(*known, 1 - 200 / 400, (300 - 5) / 400, room.bulk_edge(1.0, 0.75))
        exchanged.append([root[0] for root in roots[:3]] / values - 1)
    assert np.all(np.abs(np.mean(errors, axis=0)) < 5e-3)
    assert np.all(np.abs(np.mean(exchanged, axis=0)) > 1e-2)


def test_change_outside_the_recorded_directions_is_reported():
    recording = train_two_steps(300, np.random.default_rng(8))
    recording.features = recording.features[:, :1]
    found = from_recording(recording)
    phi = recording.features[:, 0] / np.linalg.norm(recording.features[:, 0])
    change = recording.final - recording.initial
    left_out = change - np.outer(change @ phi, phi)
    assert np.isclose(found.neglected, np.linalg.norm(left_out) / np.linalg.norm(change), rtol=1e-9)


def test_repeated_columns_change_nothing():
    recording = train_two_steps(60, np.random.default_rng(8), c=(1.5, 1.2))
    repeated = SimpleNamespace(**vars(recording) | {"features": np.tile(recording.features, 40)})
    once, often = from_recording(recording), from_recording(repeated)
    assert np.allclose(often.singular_values, once.singular_values, rtol=1e-9)
    assert np.allclose(often.right_alignment, np.tile(once.right_alignment, 40), atol=1e-9)


@pytest.mark.parametrize("strength", [1e2, 1e5, 1e8])
def test_gram_form_holds_for_spikes_of_any_strength(strength):
    rng = np.random.default_rng(12)
    W = rng.standard_normal((80, 80)) / np.sqrt(80)
    h, g = np.linalg.qr(rng.standard_normal((80, 2)))[0], np.linalg.qr(rng.standard_normal((80, 2)))[0]
    final = W + g @ np.diag([strength, 2.5]) @ h.T
    found = from_recording(SimpleNamespace(initial=W, final=final, features=h, gradients=g))
    assert np.allclose(found.singular_values, scipy.linalg.svdvals(final)[:2], rtol=0.03)
    assert np.isclose(found.singular_values[0], strength, rtol=0.02)


def test_untrained_matrix_has_no_outlier():
    rng = np.random.default_rng(3)
    W = rng.standard_normal((300, 300)) / np.sqrt(300)
    directions = rng.standard_normal((300, 3))
    found = from_recording(SimpleNamespace(initial=W, final=W, features=directions, gradients=directions[:, :2]))
    assert np.all(found.singular_values < 1.03 * found.bulk_edge) and found.neglected == 0


def test_decayed_weights_scale_the_spectrum_in_both_forms():
    assert np.allclose(
        outliers(replace(two_steps(), decay=0.6)).singular_values, 0.6 * outliers(two_steps()).singular_values
    )
    recording = train_two_steps(300, np.random.default_rng(1))
    faded = SimpleNamespace(**vars(recording) | {"final": 0.6 * recording.final, "decay": 0.6})
    whole, part = from_recording(recording), from_recording(faded)
    assert np.allclose(part.singular_values, 0.6 * whole.singular_values, rtol=1e-9)
    assert np.allclose(part.right_alignment, whole.right_alignment, atol=1e-9) and part.neglected < 1e-12


# ---------------------------------------------------------------- structure of the eigenproblem


def random_order(seed, K=3, nu=1.0, s2=1.0, size=0.4):
    rng = np.random.default_rng(seed)
    h, g = rng.standard_normal((K, 2 * K)), rng.standard_normal((K, 2 * K))
    A, B = size * np.tril(rng.standard_normal((K, K))), size * np.tril(rng.standard_normal((K, K)), -1)
    c = np.diag(rng.uniform(0.5, 1.5, K))
    return OrderParameters(h @ h.T / (2 * K), g @ g.T / (2 * K), A, B, c, s2, nu)


def full_problem(order):
    """The equations of the module's docstring as one generalized eigenproblem of size 4K, x = (m, n, p, q)."""
    K, s2, root = len(order.C_h), order.weight_variance, np.sqrt(order.width_ratio)
    one, zero = np.eye(K), np.zeros((K, K))
    K0 = np.block(
        [
            [one, zero, zero, zero],
            [zero, one, zero, zero],
            [zero, -order.c.T, one, zero],
            [-order.c / root, zero, zero, one],
        ]
    )
    K1 = np.block(
        [
            [zero, s2 * root * order.A, root * order.C_h, zero],
            [s2 * order.B, zero, zero, order.C_g],
            [zero, zero, zero, s2 * root * order.B.T],
            [zero, zero, s2 * order.A.T, zero],
        ]
    )
    return scipy.linalg.eigvals(K1, K0)


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
def test_low_rank_halves_equal_the_full_eigenproblem(nu):
    """Five recorded vectors that are combinations of three: 20 unknowns against 6."""
    mix = np.random.default_rng(9).standard_normal((2, 5, 3))
    small = random_order(4, nu=nu)
    back_h, back_g = np.linalg.pinv(mix[0]), np.linalg.pinv(mix[1])
    order = OrderParameters(
        mix[0] @ small.C_h @ mix[0].T,
        mix[1] @ small.C_g @ mix[1].T,
        mix[0] @ small.A @ back_g,
        mix[1] @ small.B @ back_h,
        back_g.T @ small.c @ back_h,
        1.0,
        nu,
    )
    strengths = full_problem(order)
    real = strengths[(np.abs(strengths.imag) < 1e-7) & (strengths.real > nu**0.25)].real
    expected = room.location(np.sort(real)[::-1], 1.0, nu)
    found = outliers(order)
    assert found.singular_values.size >= 1
    assert np.allclose(found.singular_values, expected, rtol=1e-9)
    assert np.allclose(found.singular_values, outliers(small).singular_values, rtol=1e-9)
    assert np.allclose(found.right_overlaps, outliers(small).right_overlaps @ mix[0].T, atol=1e-8) or np.allclose(
        -found.right_overlaps, outliers(small).right_overlaps @ mix[0].T, atol=1e-8
    )


def test_responses_of_a_direction_that_is_not_in_the_record_do_nothing():
    """What sampling noise does: A and B get parts along null vectors of the correlations, where no vector points."""
    order = OrderParameters(*(np.pad(getattr(two_steps(), name), (0, 1)) for name in ("C_h", "C_g", "A", "B", "c")))
    ghost = np.zeros((3, 3))
    ghost[2, :2] = 3.0
    noisy = replace(order, A=order.A + ghost, B=order.B + ghost.T)
    assert np.allclose(outliers(noisy).singular_values, outliers(two_steps()).singular_values, rtol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), nu=ratios, s2=st.floats(0.3, 2.0))
def test_both_singular_vectors_have_one_length(seed, nu, s2):
    found = outliers(random_order(seed, nu=nu, s2=s2, size=0.2))
    clear = found.singular_values > 1.001 * found.bulk_edge
    assert np.all(found.residual[clear] < 1e-8)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), nu=ratios)
def test_outliers_do_not_depend_on_the_basis_of_the_record(seed, nu):
    order = random_order(seed, nu=nu, size=0.2)
    rng = np.random.default_rng(seed + 1)
    R_h, R_g = np.eye(3) + 0.3 * rng.uniform(-1, 1, (2, 3, 3))
    turned = OrderParameters(
        R_h @ order.C_h @ R_h.T,
        R_g @ order.C_g @ R_g.T,
        R_h @ order.A @ np.linalg.inv(R_g),
        R_g @ order.B @ np.linalg.inv(R_h),
        np.linalg.inv(R_g).T @ order.c @ np.linalg.inv(R_h),
        width_ratio=nu,
    )
    first, second = outliers(order).singular_values, outliers(turned).singular_values
    edge = 1.001 * room.bulk_edge(1.0, nu)
    assert np.allclose(first[first > edge], second[second > edge], rtol=1e-7)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), nu=ratios)
def test_transposed_matrix_has_the_same_outliers(seed, nu):
    """Wbar^T has g and h, A and B exchanged, fan-in N -> M: s2 -> s2 nu, nu -> 1/nu, u -> sqrt(nu) r."""
    order = random_order(seed, nu=nu, size=0.2)
    other = OrderParameters(order.C_g, order.C_h, order.B / np.sqrt(nu), order.A / np.sqrt(nu), order.c.T, nu, 1 / nu)
    here, there = outliers(order), outliers(other)
    assert np.allclose(here.singular_values, there.singular_values, rtol=1e-8)
    assert np.allclose(np.abs(here.left_alignment), np.abs(there.right_alignment), atol=1e-6)


def test_a_recorded_zero_has_alignment_zero_and_changes_nothing():
    order = two_steps()
    padded = OrderParameters(
        *(np.pad(getattr(order, name), (1, 0)) for name in ("C_h", "C_g", "A", "B", "c")), 1.0, 1.0
    )
    found = outliers(padded)
    assert np.allclose(found.singular_values, outliers(order).singular_values)
    assert found.right_alignment[0, 0] == found.left_alignment[0, 0] == 0
    assert np.allclose(found.right_alignment[:, 1:], outliers(order).right_alignment)
    nothing = OrderParameters(*np.zeros((5, 2, 2)))
    assert outliers(nothing).right_alignment.shape == (0, 2)


def test_eigenvalues_that_no_matrix_can_have_are_set_apart():
    turning = np.array([[0.0, 3.0], [-3.0, 0.0]])
    found = outliers(OrderParameters(np.eye(2), np.eye(2), turning, turning, np.eye(2)))
    assert found.rejected.size > 0 and np.all(np.abs(found.rejected.imag) > 0)
    assert np.all(np.isfinite(found.singular_values))
    for seed in range(30):  # order parameters that no dynamics has
        order = random_order(seed, size=1.5)
        strengths = full_problem(order)
        real = np.sum((np.abs(strengths.imag) < 1e-7) & (strengths.real > 1))
        found = outliers(order)
        assert found.singular_values.size <= real
    assert outliers(two_steps()).rejected.size == 0


def test_largest_right_alignment_is_positive():
    for seed in range(20):
        found = outliers(random_order(seed, size=0.2))
        largest = np.argmax(np.abs(found.right_alignment), axis=1)
        assert np.all(found.right_alignment[np.arange(len(largest)), largest] > 0)


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
def test_resolvent_transforms_are_traces_of_a_large_matrix(nu):
    rng = np.random.default_rng(6)
    N, s2 = 800, 0.7
    M = int(nu * N)
    W = rng.standard_normal((M, N))
    squares = scipy.linalg.svdvals(np.sqrt(s2 / N) * W / np.std(W)) ** 2
    z = 1.15 * room.bulk_edge(s2, nu)
    G_a, G_b = resolvent(z, s2, nu)
    sum_over_values = np.sum(z / (z**2 - squares))
    assert np.isclose(G_a, (sum_over_values + (M - squares.size) / z) / M, rtol=3e-3)
    assert np.isclose(G_b, (sum_over_values + (N - squares.size) / z) / N, rtol=3e-3)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("z", [0.0, 1.0, 2.0, np.array([3.0, 1.5])])
def test_z_inside_the_bulk_is_refused(z):
    with pytest.raises(ValueError, match="z must lie above the bulk edge 2"):
        resolvent(z, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: outliers("order"), "order must be OrderParameters"),
        (lambda: outliers(two_steps(), cutoff=0.0), "cutoff must be greater than 0"),
        (lambda: outliers(two_steps(), tolerance=1.5), "tolerance must be below 1"),
        (lambda: spiked([1.0, -2.0]), "strengths must be positive"),
        (lambda: spiked([]), "strengths is empty"),
        (lambda: spiked([1.0], weight_variance=-1.0), "weight_variance must be greater"),
        (lambda: room.bulk_edge(1.0, 0.0), "width_ratio must be greater"),
        (lambda: resolvent(np.nan, 1.0), "z holds 1 non-finite"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((40, 2))}, "features is zero"),
        ({"features": np.ones((40, 0))}, "features is empty"),
        ({"gradients": np.ones((39, 2))}, r"gradients must have shape \(40, any\)"),
        ({"gradients": np.full((40, 2), np.inf)}, "gradients holds 80 non-finite"),
        ({"final": np.ones((40, 41))}, "final must have shape"),
        ({"features": np.eye(40)}, "features spans all 40 directions"),
        ({"decay": 0.0}, "decay must be greater than 0"),
        ({"weight_variance": -1.0}, "weight_variance must be greater than 0"),
    ],
)
def test_bad_recordings_are_refused_by_name(changes, message):
    recording = train_two_steps(40, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        from_recording(SimpleNamespace(**vars(recording) | changes))


def test_a_recording_without_its_fields_is_refused():
    with pytest.raises(ValueError, match="got no features, gradients"):
        from_recording(SimpleNamespace(initial=np.eye(3), final=np.eye(3)))


def test_replicas_give_the_standard_error_of_their_mean():
    """To first order: the scatter of dz/dC_h times C_h over replicas, divided by the root of their number."""
    shifts = 1e-3 * np.array([-1.0, 0.4, 1.3, -0.7])
    zero, one = np.zeros((1, 1)), np.eye(1)

    def order(shift, replicas=()):
        return OrderParameters((1 + shift) * one, one, zero, zero, 2 * one, decay=0.9, replicas=replicas)

    found = outliers(order(0.0, tuple(order(shift) for shift in shifts)))
    slope = (outliers(order(1e-4)).singular_values - outliers(order(-1e-4)).singular_values) / 2e-4
    assert found.standard_error == pytest.approx(slope * np.std(shifts, ddof=1) / 2, rel=1e-2)
    assert outliers(order(0.0)).standard_error == 0


def test_values_that_no_matrix_can_have_are_told_largest_first():
    rng = np.random.default_rng(0)
    A, B, c = (size * rng.standard_normal((6, 6)) for size in (3.0, 3.0, 1.0))
    rejected = room.outliers(OrderParameters(np.eye(6), np.eye(6), A, B, c)).rejected
    odd, even = room.transfer(np.eye(6), np.eye(6), A, B, c)
    distance = np.abs(rejected[:, None] - scipy.linalg.eigvals(even @ odd)).min(axis=1)
    assert len(rejected) > 5 and distance.max() < 1e-8
    assert np.all(np.diff(rejected.real) <= 1e-9)

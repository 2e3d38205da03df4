"""The smallest DMFT: exact results, limits, laws, and finite networks that know nothing of it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from spectral_dynamics.dynamics.least_squares import marchenko_pastur_rule, quadrature, solve
from spectral_dynamics.errors import DivergenceError
from spectral_dynamics.problems import LeastSquares

FIELDS = ("C_v", "C_Delta", "A_x", "B_x", "overlap")


def upper_edge(alpha):
    return (1 + alpha**-0.5) ** 2


def stieltjes(z, alpha):
    """Marchenko-Pastur by its quadratic, off the spectrum: z = -1/m + 1/(1 + m/alpha)."""
    roots = np.roots([z / alpha, z + 1 / alpha - 1, 1])
    if np.imag(z) != 0:  # Im m has the sign of Im z
        return roots[np.argmax(roots.imag * np.imag(z))]
    return max(roots.real) if z < 0 else roots[np.argmin(np.abs(roots))]


@st.composite
def stable_problems(draw):
    alpha = draw(st.one_of(st.just(1.0), st.floats(0.05, 20)))
    ridge = draw(st.one_of(st.just(0.0), st.floats(1e-3, 2)))
    rate = draw(st.floats(0.01, 1.99)) / (upper_edge(alpha) + ridge)
    return LeastSquares(alpha, rate, ridge, draw(st.one_of(st.just(0.0), st.floats(0.01, 3))))


# --- exact results -----------------------------------------------------------------------------------------------


def test_losses_of_the_first_two_steps_are_the_polynomials_found_by_hand():
    a, eta, noise = 1.7, 0.3, 0.4
    theory = solve(LeastSquares(a, eta, noise_std=noise), 2)
    m = [1, 1, 1 + 1 / a, 1 + 3 / a + 1 / a**2, 1 + 6 / a + 6 / a**2 + 1 / a**3]  # Narayana moments
    one = 1 - 2 * eta + eta**2 * m[2] + eta**2 * noise**2 / a
    two = m[0] - 4 * eta * m[1] + 6 * eta**2 * m[2] - 4 * eta**3 * m[3] + eta**4 * m[4]
    two += noise**2 / a * eta**2 * (4 * m[1] - 4 * eta * m[2] + eta**2 * m[3])
    assert theory.test_loss == pytest.approx([1, one, two], rel=1e-14)
    train = m[1] - 2 * eta * m[2] + eta**2 * m[3] + noise**2 * (1 - 2 * eta / a + eta**2 * m[2] / a)
    assert theory.train_loss[:2] == pytest.approx([1 + noise**2, train], rel=1e-14)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_rule_gives_the_narayana_moments(alpha):
    nodes, weights = marchenko_pastur_rule(alpha, 3)
    r = 1 / alpha
    moments = [1, 1, 1 + r, 1 + 3 * r + r**2, 1 + 6 * r + 6 * r**2 + r**3]
    moments.append(1 + 10 * r + 20 * r**2 + 10 * r**3 + r**4)
    moments.append(1 + 15 * r + 50 * r**2 + 50 * r**3 + 15 * r**4 + r**5)
    assert [weights @ nodes**k for k in range(7)] == pytest.approx(moments, rel=1e-13)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problem=stable_problems(), steps=st.integers(0, 120))
def test_march_equals_quadrature(problem, steps):
    march, exact = solve(problem, steps), quadrature(problem, steps)
    for name in FIELDS:
        ours, theirs = getattr(march, name), getattr(exact, name)
        assert np.max(np.abs(ours - theirs)) <= 1e-12 * np.max(np.abs(theirs)), name
    assert march.test_loss == pytest.approx(exact.test_loss, rel=1e-12)
    if problem.noise_std > 0 or problem.data_ratio > 1.5 or problem.ridge > 0:  # else the training loss vanishes
        assert march.train_loss == pytest.approx(exact.train_loss, rel=1e-10)


def test_march_equals_quadrature_over_a_thousand_steps():
    problem = LeastSquares(1.0, 0.3, noise_std=0.5)
    march, exact = solve(problem, 1000), quadrature(problem, 1000)
    for name in FIELDS:
        ours, theirs = getattr(march, name), getattr(exact, name)
        assert np.max(np.abs(ours - theirs)) <= 1e-12 * np.max(np.abs(theirs)), name


@pytest.mark.parametrize(("alpha", "ridge"), [(0.5, 0.0), (1.0, 0.2), (3.0, 0.0)])
def test_transform_of_the_response_is_the_stieltjes_transform(alpha, ridge):
    problem = LeastSquares(alpha, 1 / (upper_edge(alpha) + ridge), ridge)
    theory = solve(problem, 200)
    for x in (1.3, -1.2, 1.25j, 0.9 + 0.9j):
        z = (1 - x) / problem.learning_rate - ridge
        assert problem.learning_rate * theory.response_transform(x) == pytest.approx(stieltjes(z, alpha), abs=1e-12)


# --- limits ------------------------------------------------------------------------------------------------------


def test_infinite_data_leave_one_number():
    eta, ridge = 0.3, 0.5
    theory = solve(LeastSquares(1e13, eta, ridge, noise_std=2.0), 20)
    kept = (1 - eta * (1 + ridge)) ** np.arange(21)
    v = (ridge + kept) / (1 + ridge)
    assert theory.C_v == pytest.approx(np.outer(v, v), abs=1e-11)
    assert theory.C_Delta == pytest.approx(np.outer(v, v) + 4, abs=1e-11)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_small_learning_rate_is_gradient_flow(alpha):
    flow_time, errors = 3.0, []
    lower, upper = (1 - alpha**-0.5) ** 2, upper_edge(alpha)

    def integrand(x):
        return np.exp(-2 * flow_time * x) * alpha * np.sqrt((upper - x) * (x - lower)) / (2 * np.pi * x)

    exact = quad(integrand, lower, upper, epsabs=1e-12)[0] + max(0, 1 - alpha)
    for steps in (150, 300):
        errors.append(solve(LeastSquares(alpha, flow_time / steps), steps).test_loss[-1] - exact)
    assert 2 * errors[1] - errors[0] == pytest.approx(0, abs=1e-5)  # first order in eta
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.5])
def test_stationary_state_is_ridge_regression(alpha):
    ridge, noise, h = 0.3, 0.7, 1e-5
    m = stieltjes(-ridge, alpha)
    slope = (stieltjes(-ridge + h, alpha) - stieltjes(-ridge - h, alpha)) / (2 * h)
    risk = ridge**2 * slope + noise**2 / alpha * (m - ridge * slope)  # <(ridge^2 + s2 l/alpha)/(l + ridge)^2>
    theory = solve(LeastSquares(alpha, 1 / (upper_edge(alpha) + ridge), ridge, noise), 400)
    assert theory.test_loss[-1] == pytest.approx(risk, rel=1e-8)


@pytest.mark.parametrize(("alpha", "risk"), [(0.5, 0.5 + 0.49), (2.5, 0.49 / 1.5)])
def test_stationary_state_without_ridge_interpolates_or_solves(alpha, risk):
    theory = solve(LeastSquares(alpha, 1.5 / upper_edge(alpha), noise_std=0.7), 500)
    assert theory.test_loss[-1] == pytest.approx(risk, rel=1e-10)
    assert theory.train_loss[-1] == pytest.approx(max(0, 0.49 * (1 - 1 / alpha)), abs=1e-10)


# --- laws over random inputs -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=stable_problems(), steps=st.integers(2, 60))
def test_causality(problem, steps):
    theory = solve(problem, steps)
    assert not np.any(np.triu(theory.A_x)) and not np.any(np.triu(theory.B_x, 1))
    assert np.all(np.diag(theory.B_x) == 1)
    shorter = solve(problem, steps // 2)
    for name in FIELDS:  # what comes later changes nothing
        longer = getattr(theory, name)[(slice(0, steps // 2 + 1),) * getattr(theory, name).ndim]
        assert longer == pytest.approx(getattr(shorter, name), rel=1e-13, abs=1e-15)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=stable_problems(), steps=st.integers(1, 60))
def test_correlations_are_symmetric_and_positive(problem, steps):
    theory = solve(problem, steps)
    for matrix in (theory.C_v, theory.C_Delta):
        assert np.array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix)[0] >= -1e-13 * np.trace(matrix)


def test_response_depends_on_elapsed_time_only():
    theory = solve(LeastSquares(0.8, 0.2, 0.1, 0.5), 40)
    for matrix in (theory.A_x, theory.B_x):
        assert matrix[1:, 1:] == pytest.approx(matrix[:-1, :-1], abs=1e-14)


# --- stability ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "ridge"), [(0.5, 0.0), (2.0, 0.3)])
def test_stable_up_to_two_over_the_upper_edge(alpha, ridge):
    critical = 2 / (upper_edge(alpha) + ridge)
    assert solve(LeastSquares(alpha, 0.999 * critical, ridge, 0.5), 300).train_loss[-1] < 1.25
    with pytest.raises(DivergenceError) as caught:
        solve(LeastSquares(alpha, 1.05 * critical, ridge, 0.5), 300)
    step, partial = caught.value.step, caught.value.partial
    assert 10 < step < 300 and partial.test_loss.shape == (step,)
    shorter = solve(LeastSquares(alpha, 1.05 * critical, ridge, 0.5), step - 1)
    assert np.array_equal(partial.test_loss, shorter.test_loss) or partial.test_loss == pytest.approx(
        shorter.test_loss
    )


@pytest.mark.parametrize("how", [solve, quadrature])
@pytest.mark.parametrize("rate", [40.0, 1e150])
def test_runaway_training_raises_and_keeps_what_was_computed(how, rate):
    with pytest.raises(DivergenceError, match="training diverged at step") as caught:
        how(LeastSquares(2.0, rate), 30)
    assert np.all(np.isfinite(caught.value.partial.C_v)) and caught.value.partial.test_loss[0] == pytest.approx(1)


def test_large_noise_is_not_taken_for_divergence():
    assert solve(LeastSquares(1.0, 0.4, noise_std=1e5), 100).test_loss[-1] > 1e6


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [solve, quadrature])
@pytest.mark.parametrize("steps", [-1, 2.5, None, True])
def test_steps_are_whole(how, steps):
    with pytest.raises(ValueError, match="steps must be"):
        how(LeastSquares(1.0, 0.1), steps)


@pytest.mark.parametrize("how", [solve, quadrature])
def test_problem_is_least_squares(how):
    with pytest.raises(ValueError, match=r"problem must be .* got dict"):
        how({"data_ratio": 1}, 3)


@pytest.mark.parametrize("name", ["data_ratio", "learning_rate", "ridge", "noise_std"])
@pytest.mark.parametrize("value", [np.nan, -1.0, "1"])
def test_problem_refuses_bad_numbers(name, value):
    good = LeastSquares(1.0, 0.1)
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(good, **{name: value})


def test_transform_refuses_what_its_series_cannot_reach():
    with pytest.raises(ValueError, match="x must have modulus above 1"):
        solve(LeastSquares(1.0, 0.1), 5).response_transform([2.0, 0.5])


def test_rule_refuses_bad_sizes():
    with pytest.raises(ValueError, match="size"):
        marchenko_pastur_rule(1.0, 0)
    with pytest.raises(ValueError, match="data_ratio"):
        marchenko_pastur_rule(0.0, 3)


# --- independent simulation --------------------------------------------------------------------------------------


def descend(problem, size, steps, rng):
    """Gradient descent on one finite draw; losses (2, steps + 1): test and train."""
    samples = round(problem.data_ratio * size)
    X = rng.standard_normal((samples, size))
    target = rng.standard_normal(size)
    target *= np.sqrt(size) / np.linalg.norm(target)
    y = X @ target / np.sqrt(size) + problem.noise_std * rng.standard_normal(samples)
    beta, losses = np.zeros(size), []
    for _ in range(steps + 1):
        residual = y - X @ beta / np.sqrt(size)
        losses.append((np.mean((target - beta) ** 2), np.mean(residual**2)))
        gradient = -np.sqrt(size) / samples * X.T @ residual + problem.ridge * beta
        beta = beta - problem.learning_rate * gradient
    return np.array(losses).T


@pytest.mark.parametrize(
    "problem",
    [LeastSquares(2.0, 0.4, 0.0, 0.5), LeastSquares(0.5, 0.2, 0.1, 0.8), LeastSquares(1.0, 0.4, 0.0, 0.5)],
    ids=["more_data", "less_data_ridge", "threshold"],
)
def test_finite_networks_extrapolate_to_the_theory(problem):
    rng, steps = np.random.default_rng(7), 20
    theory = solve(problem, steps)
    sizes, mean, error = np.array([40, 80, 160]), [], []
    for size, draws in zip(sizes, (1600, 800, 400), strict=True):
        runs = np.array([descend(problem, size, steps, rng) for _ in range(draws)])
        mean.append(runs.mean(0))
        error.append(runs.std(0, ddof=1) / np.sqrt(draws))
    # weighted fit of a + b/D at every step; the intercept is the prediction
    design = np.column_stack([np.ones(3), 1 / sizes])
    for k, predicted in enumerate((theory.test_loss, theory.train_loss)):
        for t in (1, 5, 20):
            weight = 1 / np.array([e[k, t] for e in error]) ** 2
            covariance = np.linalg.inv(design.T * weight @ design)
            intercept = (covariance @ (design.T * weight) @ np.array([m[k, t] for m in mean]))[0]
            assert abs(intercept - predicted[t]) < 4 * np.sqrt(covariance[0, 0])
            assert np.sqrt(covariance[0, 0]) < 0.03 * predicted[t]

"""Deep linear networks in the proportional limit: exact results, limits, laws, and finite networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, progress
from spectral_dynamics.dynamics import deep_linear, least_squares
from spectral_dynamics.dynamics.deep_linear import optimizer_kernel, solve
from spectral_dynamics.errors import DivergenceError
from spectral_dynamics.problems import DeepLinear, LeastSquares
from spectral_dynamics.spectra.outliers import outliers
from tqdm import tqdm

ALL = DeepLinear(  # everything switched on
    depth=3,
    width_ratio=0.6,
    data_ratio=1.5,
    output_scale=2.0,
    learning_rate=np.linspace(0.02, 0.1, 40),
    weight_std=0.7,
    noise_std=0.3,
    momentum=0.5,
    weight_decay=0.2,
)


def linear(**changed):
    given = {"depth": 2, "width_ratio": 0.8, "output_scale": 1.5, "learning_rate": 0.1, "weight_std": 0.8}
    return DeepLinear(**{**given, **changed})


def all_arrays(theory):
    """Name and array of every correlation, response and coefficient."""
    for name, part in [("data", theory.data), *((f"layer {l}", layer) for l, layer in enumerate(theory.layers, 1))]:
        for field, array in vars(part).items():
            yield f"{name} {field}", array


@st.composite
def problems(draw):
    ratio = draw(st.one_of(st.just({}), *(st.fixed_dictionaries({n: st.floats(0.3, 5)}) for n in RATIOS)))
    return DeepLinear(
        depth=draw(st.integers(1, 4)),
        width_ratio=draw(st.floats(0.25, 4)),
        output_scale=draw(st.floats(0.5, 4)),
        parametrization=draw(st.sampled_from(["mup", "ntk"])),
        learning_rate=draw(st.floats(0.005, 0.04)),
        weight_std=draw(st.floats(0.3, 1)),
        noise_std=draw(st.sampled_from([0.0, 0.3])),
        momentum=draw(st.sampled_from([0.0, 0.6])),
        weight_decay=draw(st.sampled_from([0.0, 0.3])),
        **ratio,
    )


RATIOS = ("data_ratio", "batch_ratio")


# --- figures found independently, by training networks of D = 1000 and more ---------------------------------------


@pytest.fixture(scope="module")
def rich():
    return solve(DeepLinear(3, 1.0, 2.0, output_scale=3.0, learning_rate=0.05, weight_std=0.5), 80)


def test_the_outlier_after_eighty_steps(rich):
    order = rich.order(layer=1, step=80)
    found = outliers(order)
    assert found.singular_values == pytest.approx([1.37594], abs=5e-6)  # networks: 1.372 +- 0.005
    assert outliers(order.independent()).singular_values == pytest.approx([1.10884], abs=5e-6)  # 20 % wrong


def test_the_alignment_with_an_early_feature(rich):
    alignment = outliers(rich.order(layer=1, step=60)).right_alignment
    assert alignment[0, 10] == pytest.approx(0.9017, abs=5e-5)  # networks: 0.8996


def test_the_outlier_of_the_rectangular_layer():
    problem = DeepLinear(2, 2.0, 2.0, output_scale=3.0, parametrization="ntk", learning_rate=0.05, weight_std=0.5)
    found = outliers(solve(problem, 40).order(layer=0, step=40))
    assert found.singular_values == pytest.approx([1.78280], abs=5e-6)  # networks: 1.781 +- 0.006
    assert found.bulk_edge == pytest.approx(0.5 * (1 + np.sqrt(2)))


def test_the_losses_after_ten_steps():
    problem = DeepLinear(2, 0.5, 2.0, output_scale=2.0, learning_rate=0.1, weight_std=1.0, noise_std=0.3)
    assert problem.gamma == pytest.approx(np.sqrt(2))
    theory = solve(problem, 10)
    assert theory.test_loss[10] == pytest.approx(0.26495, abs=5e-6)  # networks: 0.272 +- 0.012
    assert theory.train_loss[10] == pytest.approx(0.12556, abs=5e-6)  # networks: 0.127


@pytest.mark.parametrize(
    ("parametrization", "tops"),
    [("mup", [1.479, 1.502, 1.514, 1.523, 1.525]), ("ntk", [1.642, 1.502, 1.371, 1.145, 1.003])],
)
def test_the_outlier_across_widths(parametrization, tops):
    for width_ratio, top in zip((0.5, 1, 2, 8, 32), tops, strict=True):
        problem = DeepLinear(2, width_ratio, 4.0, None, 3.0, parametrization, 0.05, 0.5, 0.2)
        found = outliers(solve(problem, 60).order(layer=1, step=60))
        assert found.singular_values == pytest.approx([top], abs=6e-4)


# --- exact results -----------------------------------------------------------------------------------------------


def test_the_first_step_of_one_hidden_layer_is_the_polynomial_found_by_hand():
    """v(1) = a v - eta S v/nu, a = 1 - eta s2 + eta^2 s2^2/nu, with S = Wbar^T Wbar and v = wstar - beta(0)."""
    nu, gamma, eta, s2 = 1.7, 1.3, 0.3, 0.64
    problem = DeepLinear(1, nu, None, None, gamma, "ntk", eta, np.sqrt(s2))
    moments = [1, 1, 1 + 1 / nu, 1 + 3 / nu + 1 / nu**2]  # Marchenko-Pastur, of S/(s2 nu)
    moments = [m * (s2 * nu) ** k for k, m in enumerate(moments)]
    v = [moments[k] + s2 / (gamma**2 * nu) * moments[k + 1] for k in range(3)]  # <v S^k v>, beta(0) = W^T w
    a = 1 - eta * s2 + eta**2 * s2**2 / nu
    one = a**2 * v[0] - 2 * a * eta / nu * v[1] + (eta / nu) ** 2 * v[2]
    theory = solve(problem, 1)
    assert theory.test_loss == pytest.approx([v[0], one], rel=1e-13)
    assert theory.data.C_v[1, 0] == pytest.approx(a * v[0] - eta / nu * v[1], rel=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_start_is_the_target_plus_a_random_function(depth):
    theory = solve(linear(depth=depth, data_ratio=1.3, noise_std=0.5), 0)
    start = 1 + 0.8 ** (2 * depth + 2) / (1.5**2 * 0.8)
    assert theory.test_loss == pytest.approx([start], rel=1e-14)
    assert theory.train_loss == pytest.approx([start + 0.25], rel=1e-14)


def test_the_kernel_of_heavy_ball():
    kernel, decay = optimizer_kernel(linear(momentum=0.6), 12)
    t, s = np.indices((13, 13))
    assert kernel == pytest.approx(np.where(t > s, 0.1 * (1 - 0.6 ** np.maximum(t - s, 0)) / 0.4, 0), abs=1e-15)
    assert np.all(decay == 1)


def test_the_kernel_of_decay_under_a_schedule():
    rates = np.array([0.1, 0.3, 0.0, 0.2])
    kernel, decay = optimizer_kernel(linear(learning_rate=rates, weight_decay=0.5), 4)
    kept = 1 - 0.5 * rates
    assert decay == pytest.approx(np.cumprod([1, *kept]), rel=1e-15)
    for s in range(4):
        assert kernel[s + 1 :, s] == pytest.approx(rates[s] * np.cumprod([1, *kept[s + 1 :]]), abs=1e-15)
    assert not np.any(np.triu(kernel))


def test_the_kernel_is_that_of_the_optimizer_run_on_numbers():
    rng = np.random.default_rng(0)
    gradients, start = rng.standard_normal(40), 0.7
    kernel, decay = optimizer_kernel(ALL, 40)
    W, V = start, 0.0
    for t in range(40):
        assert decay[t] * start + kernel[t, :40] @ gradients == pytest.approx(W, abs=1e-13)
        V = ALL.momentum * V + gradients[t] - ALL.weight_decay * W
        W = W + ALL.rates(40)[t] * V


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RATIOS)
def test_infinite_data_are_the_population(name):
    endless, population = (
        solve(linear(noise_std=0.5, weight_std=0.6, **{name: ratio}), 25) for ratio in (1e14, None)
    )
    assert endless.test_loss == pytest.approx(population.test_loss, rel=1e-10)
    assert endless.train_loss == pytest.approx(population.train_loss, rel=1e-10)
    assert population.train_loss == pytest.approx(population.test_loss + 0.25, rel=1e-14)
    ours, theirs = (outliers(theory.order(1, 25)).singular_values for theory in (endless, population))
    assert len(ours) == 1 and ours == pytest.approx(theirs, rel=1e-8)


def test_a_small_output_scale_alone_is_not_lazy():
    """The random function at the start, of order 1/gamma, is then what is unlearned: weights move by 1/sqrt(nu)."""
    gaps, t = {}, np.arange(21)[:, None]
    for nu in (100, 200):
        for gamma in (0.01, 0.001):
            x, weights = least_squares.marchenko_pastur_rule(nu, 60)
            frozen = ((1 - 0.1 * (1 + x)) ** (2 * t) * (1 + x / gamma**2)) @ weights  # weights that stay put
            theory = solve(DeepLinear(1, nu, None, None, gamma, "ntk", 0.1), 20)
            gaps[nu, gamma] = np.abs(theory.test_loss / frozen - 1).max()
    assert gaps[100, 0.001] > 0.04 and gaps[100, 0.001] == pytest.approx(gaps[100, 0.01], rel=1e-3)
    assert gaps[100, 0.001] / gaps[200, 0.001] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("depth", [1, 3])
def test_ntk_parametrization_at_infinite_width_is_least_squares(depth):
    """Nothing is learned but the function: rate eta (L + 1) sigma^2L, and a start that is longer than wstar."""
    eta, noise, alpha, gamma, sigma = 0.07, 0.4, 1.6, 1.2, 0.9
    length = 1 + sigma ** (2 * depth + 2) / gamma**2
    lazy = solve(DeepLinear(depth, 1e13, alpha, None, gamma, "ntk", eta, sigma, noise), 40)
    rate = eta * (depth + 1) * sigma ** (2 * depth)
    exact = least_squares.quadrature(LeastSquares(alpha, rate, noise_std=noise / np.sqrt(length)), 40)
    assert lazy.test_loss == pytest.approx(length * exact.test_loss, rel=1e-6)
    assert lazy.train_loss == pytest.approx(length * exact.train_loss, rel=1e-6)
    for layer in range(depth):
        assert outliers(lazy.order(layer, 40)).singular_values.size == 0


def test_mup_with_a_small_output_scale_is_lazy_with_errors_of_second_order():
    rate = 0.05 * 3 * 0.9**4
    exact = least_squares.quadrature(LeastSquares(1.6, rate), 30).test_loss
    gaps = []
    for scale in (0.02, 0.01):  # width first: the random function at the start, of order 1/(gamma0^2 nu), is gone
        theory = solve(DeepLinear(2, 1e13, 1.6, None, scale, "mup", 0.05, 0.9), 30)
        gaps.append(np.abs(theory.test_loss - exact).max())
    assert gaps[0] < 1e-3 and gaps[0] / gaps[1] == pytest.approx(4, rel=0.01)


def test_one_wide_layer_in_mup_is_a_recursion_of_two_numbers():
    """Population, v = y wstar: Q += k w, w += k Q with k = gamma0 eta y(t), h = y Q and y = 1 - <w Q>/gamma0."""
    scale, eta, square, product, y = 2.0, 0.05, 0.64, 0.0, []
    for _ in range(41):
        y.append(1 - product / scale)
        k = scale * eta * y[-1]
        square, product = (1 + k**2) * square + 2 * k * product, (1 + k**2) * product + 2 * k * square
    theory = solve(DeepLinear(1, 1e13, None, None, scale, "mup", eta, 0.8), 40)
    assert theory.data.v_star == pytest.approx(np.array(y), abs=1e-6)
    assert theory.test_loss == pytest.approx(np.square(y), abs=1e-6)


def test_mup_converges_in_width_as_one_over_nu():
    def at(width_ratio):
        theory = solve(DeepLinear(2, width_ratio, 3.0, None, 2.0, "mup", 0.05, 0.6), 40)
        return theory.test_loss[-1], outliers(theory.order(1, 40)).singular_values[0]

    limit, *wide = (np.array(at(nu)) for nu in (1e10, 32, 64, 128))
    gaps = np.abs(np.array(wide) - limit)
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.05)
    assert np.log2(gaps[1] / gaps[2]) == pytest.approx(1, abs=0.03)


def test_fresh_batches_at_a_small_rate_are_gradient_flow():
    time, batch, extra, losses = 2.0, 3.0, [], []
    for steps in (100, 200):
        population, fresh = (
            solve(linear(learning_rate=time / steps, batch_ratio=ratio, noise_std=0.3), steps).test_loss[-1]
            for ratio in (None, batch)
        )
        extra.append(fresh - population)
        losses.append(population)
    assert extra[0] > 0 and extra[0] / extra[1] == pytest.approx(2, rel=0.05)  # of order eta/batch_ratio
    large = solve(linear(learning_rate=time / 200, batch_ratio=1e3 * batch, noise_std=0.3), 200).test_loss[-1]
    assert large - losses[1] == pytest.approx(1e-3 * extra[1], rel=0.1)


def test_no_learning_leaves_everything_as_it_was():
    theory = solve(linear(learning_rate=[0.0] * 5, data_ratio=1.0), 5)
    assert theory.test_loss == pytest.approx(np.full(6, theory.test_loss[0]), rel=1e-14)
    assert outliers(theory.order(1, 5)).singular_values.size == 0


# --- laws --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=problems(), steps=st.integers(2, 40))
def test_causality(problem, steps):
    theory = solve(problem, steps)
    for layer in theory.layers:
        assert not any(np.any(np.triu(part, 1)) for part in (layer.H_u, layer.H_r, layer.G_r))
        assert not np.any(np.triu(layer.G_u))
    data = theory.data
    assert not any(np.any(np.triu(part, 1)) for part in (data.V_0, data.F_0, data.F_x, data.B_x))
    assert not np.any(np.triu(data.V_x))
    shorter = dict(all_arrays(solve(problem, steps // 2)))
    for name, array in all_arrays(theory):  # what comes later changes nothing
        known = array[(slice(0, steps // 2 + 1),) * array.ndim]
        assert np.abs(known - shorter[name]).max() <= 1e-12 * np.abs(known).max(), name


def test_features_answer_to_the_gradients_of_the_same_step():
    theory = solve(ALL, 10)
    for part in (theory.data.F_0, *(layer.H_r for layer in theory.layers)):
        assert np.all(np.diag(part) < 0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=problems(), steps=st.integers(1, 40))
def test_correlations_are_symmetric_and_positive(problem, steps):
    theory = solve(problem, steps)
    for name, matrix in all_arrays(theory):
        if " C_" in name:
            assert np.array_equal(matrix, matrix.T), name
            assert np.linalg.eigvalsh(matrix)[0] >= -1e-12 * np.trace(matrix), name


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=problems())
def test_outliers_have_singular_vectors_of_one_length_and_real_places(problem):
    theory = solve(problem, 40)
    for layer in range(problem.depth):
        for step in (1, 3, 40):
            found = outliers(theory.order(layer, step))
            assert np.all(found.residual < 1e-8) and found.rejected.size == 0
            assert np.abs(found.right_alignment).max(initial=0) <= 1 + 1e-9


def test_the_first_features_know_the_random_function_made_of_the_same_weights():
    theory, s2, gamma = solve(linear(depth=3, width_ratio=1.0), 0), 0.64, 1.5
    for l, layer in enumerate(theory.layers, 1):
        assert layer.C_g[0, 0] == pytest.approx(s2 ** (4 - l), rel=1e-13)
    # h^1 = u + s2 A^0 g^1 with A^0(0,0) = -1/gamma
    square = s2 * theory.data.C_vhat[0, 0] + (s2 / gamma) ** 2 * s2**3
    assert theory.layers[0].C_h[0, 0] == pytest.approx(square, rel=1e-13)


# --- order parameters --------------------------------------------------------------------------------------------


def test_order_parameters_hold_the_record_that_made_the_weights():
    theory = solve(ALL, 20)
    first, second = theory.order(0, 12), theory.order(2, 12)
    assert first.width_ratio == 0.6 and second.width_ratio == 1.0
    assert first.weight_variance == second.weight_variance == pytest.approx(0.49)
    assert first.decay == second.decay == theory.decay[12] < 1
    for order, scale in ((first, ALL.gamma), (second, ALL.output_scale)):
        assert order.C_h.shape == (12, 12)
        assert order.c == pytest.approx(np.diag(scale * theory.kernel[12, :12] / theory.decay[12]))
    assert np.array_equal(first.C_h, theory.data.C_vhat[:12, :12])
    assert np.array_equal(first.A, theory.data.F_0[:12, :12])
    assert np.array_equal(second.C_h, theory.layers[1].C_h[:12, :12])
    assert np.array_equal(second.C_g, theory.layers[2].C_g[:12, :12])
    assert np.array_equal(second.A, theory.layers[1].H_r[:12, :12])
    assert np.array_equal(second.B, theory.layers[2].G_u[:12, :12])


def test_nothing_stands_outside_the_bulk_before_the_first_step(rich):
    for layer in range(3):
        assert outliers(rich.order(layer, 0)).singular_values.size == 0


def test_results_cannot_be_written_to(rich):
    with pytest.raises(ValueError, match="read-only"):
        rich.layers[0].C_h[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        rich.kernel[0, 0] = 1


# --- stability ---------------------------------------------------------------------------------------------------


def test_the_lazy_network_is_stable_up_to_two_over_the_upper_edge():
    alpha, sigma = 2.0, 0.8
    critical = 2 / (3 * sigma**4 * (1 + alpha**-0.5) ** 2)
    wide = {"depth": 2, "width_ratio": 1e13, "data_ratio": alpha, "parametrization": "ntk", "weight_std": sigma}
    assert solve(DeepLinear(learning_rate=0.99 * critical, **wide), 200).train_loss[-1] < 1e-2
    with pytest.raises(DivergenceError):
        solve(DeepLinear(learning_rate=1.05 * critical, **wide), 200)


@pytest.mark.parametrize(
    "ratio", [{"data_ratio": 2.0}, {"batch_ratio": 2.0}, {}], ids=["full", "fresh", "population"]
)
def test_runaway_training_raises_where_networks_run_away(ratio):
    problem = linear(learning_rate=3.0, output_scale=2.0, **ratio)
    with pytest.raises(DivergenceError, match="training diverged at step") as caught:
        solve(problem, 100)
    step, partial = caught.value.step, caught.value.partial
    assert partial.test_loss.shape == (step,) and partial.steps == step - 1
    assert np.array_equal(partial.test_loss, solve(problem, step - 1).test_loss)
    assert all(np.all(np.isfinite(array)) for _, array in all_arrays(partial))
    assert partial.order(1, step - 1).C_h.shape == (step - 1, step - 1)
    with pytest.raises(DivergenceError) as network:
        networks.train(problem, size=200, steps=100, rng=np.random.default_rng(0))
    assert abs(network.value.step - step) <= 1


def test_overflow_is_divergence():
    with pytest.raises(DivergenceError) as caught:
        solve(linear(learning_rate=1e200, data_ratio=1.0), 10)
    assert 1 <= caught.value.step <= 2 and np.all(np.isfinite(caught.value.partial.test_loss))


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [-1, 2.5, None, True])
def test_steps_are_whole(steps):
    with pytest.raises(ValueError, match="steps must be"):
        solve(linear(), steps)


def test_the_problem_is_deep_linear():
    with pytest.raises(ValueError, match=r"problem must be a problems.DeepLinear, got LeastSquares"):
        solve(LeastSquares(1.0, 0.1), 3)


def test_the_schedule_covers_the_steps():
    with pytest.raises(ValueError, match="learning_rate has 40 entries, 41 steps need as many"):
        solve(ALL, 41)


@pytest.mark.parametrize(
    ("layer", "step", "message"),
    [
        (3, 1, "layer must be 0 to 2, got 3"),
        (-1, 1, "layer must be at least 0"),
        (0, 81, "step must be 0 to 80, got 81"),
        (0, 1.0, "step must be an integer"),
    ],
)
def test_bad_questions_are_refused_by_name(rich, layer, step, message):
    with pytest.raises(ValueError, match=message):
        rich.order(layer, step)


def test_initial_weights_that_have_been_turned_over_are_refused():
    theory = solve(linear(learning_rate=0.3, weight_decay=4.0), 3)
    assert theory.decay[1] == pytest.approx(-0.2)
    with pytest.raises(ValueError, match="step must be one with something left of the initial weights"):
        theory.order(1, 1)
    assert theory.order(1, 2).decay == pytest.approx(0.04)


def test_the_bar_is_shown_when_asked_for_and_never_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**{**options, "delay": 0}))
    solve(linear(), 5)
    assert capsys.readouterr().err == ""
    solve(linear(), 5, progress=True)
    assert "deep linear, 5 steps: 100%" in capsys.readouterr().err


# --- finite networks ---------------------------------------------------------------------------------------------

FINITE = {
    "full": linear(depth=3, width_ratio=1.0, data_ratio=2.0, output_scale=2.0, weight_std=0.6, noise_std=0.3),
    "fresh": linear(
        width_ratio=0.5,
        batch_ratio=1.5,
        parametrization="ntk",
        learning_rate=np.linspace(0.02, 0.08, 12),
        noise_std=0.3,
        momentum=0.5,
        weight_decay=0.4,
    ),
    "one layer": linear(depth=1, width_ratio=2.0, data_ratio=0.75, output_scale=2.0, momentum=0.4, weight_decay=0.2),
    "population": linear(width_ratio=1.5, learning_rate=0.08, weight_std=0.6, output_scale=2.5, weight_decay=0.3),
}


def measured(network):
    """Losses at the last step; of every layer the largest singular value and its vectors' cosines with the past."""
    result, step = [network.test_loss[-1], network.train_loss[-1]], network.steps
    for layer in range(network.problem.depth):
        h, g = network.features(layer)[:, step // 2], network.gradients(layer)[:, step // 2]
        left, values, right = svds(network.weights(layer, step), k=1, v0=h if len(h) <= len(g) else g)
        cosines = abs(right @ h) / np.linalg.norm(h), abs(g @ left) / np.linalg.norm(g)
        result += [float(x[0]) for x in (values, *cosines)]
    return np.array(result)


def predicted(theory):
    result, step = [theory.test_loss[-1], theory.train_loss[-1]], theory.steps
    for layer in range(theory.problem.depth):
        found = outliers(theory.order(layer, step))
        cosines = found.right_alignment[0, step // 2], found.left_alignment[0, step // 2]
        result += [found.singular_values[0], *np.abs(cosines)]
    return np.array(result)


@pytest.mark.parametrize("name", FINITE)
def test_finite_networks_extrapolate_to_the_theory(name):
    problem, rng, steps = FINITE[name], np.random.default_rng(11), 12
    sizes, mean, error = np.array([40, 80, 160]), [], []
    for size, seeds in zip(sizes, (320, 160, 80), strict=True):
        runs = [measured(networks.train(problem, size=size, steps=steps, rng=rng)) for _ in range(seeds)]
        mean.append(np.mean(runs, axis=0))
        error.append(np.std(runs, axis=0, ddof=1) / np.sqrt(seeds))
    for k, value in enumerate(predicted(solve(problem, steps))):  # weighted fit of a + b/D; a is the prediction
        weight = 1 / np.array([e[k] for e in error]) ** 2
        design = np.column_stack([np.ones(3), 1 / sizes])
        covariance = np.linalg.inv(design.T * weight @ design)
        intercept = (covariance @ (design.T * weight) @ np.array([m[k] for m in mean]))[0]
        assert abs(intercept - value) < 4 * np.sqrt(covariance[0, 0])
        assert np.sqrt(covariance[0, 0]) < (0.06 if k < 2 else 0.02) * value  # losses scatter most


@pytest.mark.parametrize(("scale", "std"), [(1.5, 0.7), (0.6, 1.1)])
def test_the_flow_of_one_wide_layer_is_the_limit_of_wide_layers_and_small_steps(scale, std):
    stated = deep_linear.wide_flow_loss(0.5, scale, std)
    coarse, fine = (
        solve(DeepLinear(1, 1e8, output_scale=scale, learning_rate=0.5 / steps, weight_std=std), steps).test_loss[-1]
        for steps in (100, 200)
    )
    assert 0.05 < stated < 0.8 and 2 * fine - coarse == pytest.approx(stated, abs=1e-4)
    assert deep_linear.wide_flow_loss(0, scale, std) == 1 and deep_linear.wide_flow_loss(30, scale, std) < 1e-12
    coarser = deep_linear.wide_flow_loss(0.5, scale, std, steps=1000) - stated
    assert abs(coarser) < 1e-6 and deep_linear.wide_flow_loss(0.5, scale, std, steps=1) != stated


@pytest.mark.parametrize("bad", [(-1, 1, 1), (1, 0, 1), (1, 1, -1), (1, 1, 1, 0)])
def test_a_flow_needs_a_time_and_positive_scales(bad):
    with pytest.raises(ValueError, match=r"^(time|output_scale|weight_std|steps) must be"):
        deep_linear.wide_flow_loss(*bad)

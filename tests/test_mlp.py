"""Infinitely wide networks in muP: exact solutions, limits, sampling error, finite networks."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from spectral_dynamics import networks, progress, sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.errors import ConvergenceError, DivergenceError, InstabilityWarning
from spectral_dynamics.problems import MLP
from spectral_dynamics.spectra import outliers, sharpness
from threadpoolctl import threadpool_limits
from tqdm import tqdm

IDENTITY = (lambda h: h, np.ones_like)  # for the sampler, which does not know that it is linear


def data(samples=6, dimension=20, outputs=None, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((samples, dimension))
    inputs *= np.sqrt(dimension) / np.linalg.norm(inputs, axis=1)[:, None]
    return {"inputs": inputs, "targets": rng.standard_normal((samples, outputs) if outputs else samples)}


def solved(problem, steps, sites=8000, seed=0, **options):
    return mlp.solve(problem, steps, sites=sites, rng=np.random.default_rng(seed), **options)


# --- exact solutions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_one_linear_hidden_layer_obeys_its_closed_recursion(rate):
    """With q = gamma0 f, everything that one hidden layer needs is f, <w w> and <h h>."""
    given, steps, scale = data(20, 30), 100, 2.0
    theory = mlp.solve(MLP(**given, depth=1, activation="linear", output_scale=scale, learning_rate=rate), steps)
    y, K = given["targets"], given["inputs"] @ given["inputs"].T / 30
    a, H, G, q = rate * scale / 20, K.copy(), 1.0, np.zeros(20)
    for t in range(steps + 1):
        delta = y - q / scale
        assert theory.train_loss[t] == pytest.approx(np.mean(delta**2), rel=1e-10)
        assert theory.predictions[t, :, 0] == pytest.approx(q / scale, rel=1e-10, abs=1e-12)
        assert theory.kernels[t, 0] == pytest.approx(H, rel=1e-10, abs=1e-10)
        K_delta, H_delta = K @ delta, H @ delta
        H = H + a * (np.outer(q, K_delta) + np.outer(K_delta, q)) + a**2 * G * np.outer(K_delta, K_delta)
        G, q = (
            G + 2 * a * q @ delta + a**2 * delta @ H_delta,
            q + a * (H_delta + G * K_delta) + a**2 * K_delta * (delta @ q),
        )


BATCHES = np.array([[0, 1, 2], [5, 3, 4], [1, 5, 3], [0, 0, 4]] * 4)


HEAVY = {"momentum": 0.7, "weight_decay": 0.05, "learning_rate": 0.04}
LABELS = {"loss": "cross_entropy", "targets": np.arange(6) % 3, "momentum": 0.5, "weight_decay": 0.02}
WAYS = [
    {},
    {"batches": BATCHES, "learning_rate": np.linspace(0.14, 0.06, 16)},
    HEAVY,
    HEAVY | {"batches": BATCHES},
    LABELS | {"learning_rate": 0.3},
]


@pytest.mark.parametrize("changed", WAYS)
def test_the_sampler_agrees_with_the_exact_linear_solution(changed):
    given = data(outputs=2) | {"depth": 3, "output_scale": 2.0, "learning_rate": 0.08, "weight_std": 0.9} | changed
    exact = mlp.solve(MLP(**given, activation="linear"), 15, tangent_steps=(0, 15))
    sampled = solved(MLP(**given, activation=IDENTITY), 15, tangent_steps=(0, 15))
    for step in (0, 15):
        expected = sharpness.leading_mode(exact, step).value
        assert sharpness.leading_mode(sampled, step).value == pytest.approx(expected, rel=1e-3)
    assert sharpness.leading_mode(exact, 15).value > 1.1 * sharpness.leading_mode(exact, 0).value
    assert sampled.decay == pytest.approx(exact.decay) and (exact.decay[-1] < 1) == ("weight_decay" in changed)
    assert not exact.standard_error(lambda one: one.train_loss).any()
    assert sampled.train_loss == pytest.approx(exact.train_loss, rel=2e-3)
    assert sampled.predictions == pytest.approx(exact.predictions, abs=2e-3)
    assert sampled.kernels == pytest.approx(exact.kernels, rel=2e-3, abs=5e-3)
    for layer in (1, 2):
        expected = outliers.outliers(exact.order(layer, 15)).singular_values
        found = outliers.outliers(sampled.order(layer, 15)).singular_values
        assert len(expected) > 0 and found == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("dropped", ["momentum", "weight_decay"])
def test_momentum_and_decay_are_seen_by_the_exact_solution(dropped):
    """As far from what is without them as the sampler would have to be to be wrong."""
    given = data(outputs=2) | {"depth": 3, "output_scale": 2.0, "weight_std": 0.9, "activation": "linear"} | HEAVY
    whole, without = (mlp.solve(MLP(**one), 15).train_loss for one in (given, given | {dropped: 0.0}))
    assert np.abs(whole / without - 1).max() > 0.02


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_networks_with_momentum_and_decay_follow_the_theory_and_neither_can_be_dropped(activation):
    given = data(outputs=1) | {"depth": 2, "activation": activation, "output_scale": 2.0} | HEAVY
    problem, losses = MLP(**given), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        losses.append(networks.train(problem, size=1500, steps=12, rng=rng, subtract_initial=True).train_loss[1:])
    error = np.std(losses, axis=0, ddof=1) / np.sqrt(8)

    def off(**changed):
        theory = solved(replace(problem, **changed), 12)
        return np.abs((np.mean(losses, axis=0) - theory.train_loss[1:]) / error).max()

    assert off() < 3.5
    assert min(off(momentum=0.0), off(weight_decay=0.0)) > 7


def test_batches_of_everything_are_full_batch():
    given = data() | {"output_scale": 2.0, "learning_rate": 0.3}
    whole = solved(MLP(**given), 8, sites=1200)
    batches = solved(MLP(**given, batches=np.tile(np.arange(6), (8, 1))), 8, sites=1200)
    assert np.array_equal(whole.train_loss, batches.train_loss)


def test_replicas_may_be_solved_at_once():
    problem = MLP(**data(), output_scale=2.0, learning_rate=0.3)
    with threadpool_limits(1, "blas"):  # as many as several workers have: then not a bit differs
        one, two = (solved(problem, 6, sites=1600, workers=workers) for workers in (1, 2))
    assert np.array_equal(one.predictions, two.predictions)
    fast = replace(problem, learning_rate=60.0)
    for workers in (1, 3):
        with pytest.raises(DivergenceError) as error:
            solved(fast, 30, sites=1600, workers=workers)
        assert error.value.partial.steps + 1 == error.value.step
    with pytest.raises(ValueError, match="workers"):
        solved(problem, 2, workers=0)


def test_pairs_stand_in_the_order_of_the_batches():
    given = data() | {"batches": BATCHES, "depth": 2, "output_scale": 6.0, "learning_rate": 0.3}
    theory = solved(MLP(**given), 6, sites=800)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 5), (1, 3), (1, 4), (2, 1), (2, 5), (2, 3), (3, 0), (3, 4)]
    assert theory.index[:11].tolist() == [list(pair) for pair in pairs]
    right = outliers.outliers(theory.order(1, 6)).right_alignment
    assert right.shape[1] == len(theory.index) and np.abs(right[:, 3] - right[:, 7]).max() < 0.3  # 5 again


def test_the_future_does_not_act_on_the_past():
    given = data()
    early = solved(MLP(**given, learning_rate=np.full(8, 0.3)), 8, sites=1200)
    other = solved(MLP(**given, learning_rate=np.array([0.3] * 5 + [0.05] * 3)), 8, sites=1200)
    assert np.array_equal(early.predictions[:6], other.predictions[:6])
    assert not np.allclose(early.predictions[6:], other.predictions[6:])
    order = early.replicas[0].order(1, 8)
    sizes = [early.replicas[0].order(1, step).c.shape for step in range(1, 9)]
    for known_g, known_h in [(0, sizes[0][1]), *((sizes[s][0], sizes[s + 1][1]) for s in range(7))]:
        assert not order.A[:known_h, known_g:].any()  # features of a step, Gaussians of its z
        assert not order.B[:known_g, known_h:].any()
    assert np.abs(order.A).max() > 0.05 and np.abs(order.B).max() > 0.05


# --- limits -------------------------------------------------------------------------------------------------------


def arcsine(K):
    """<erf erf> of Gaussians with covariance K."""
    d = np.sqrt(1 + 2 * np.diag(K))
    return 2 / np.pi * np.arcsin(2 * K / np.outer(d, d))


def arcsine_slope(K):
    d = 1 + 2 * np.diag(K)
    return 4 / np.pi / np.sqrt(np.outer(d, d) - 4 * K**2)


def arccosine(K):
    d = np.sqrt(np.diag(K))
    angle = np.arccos(np.clip(K / np.outer(d, d), -1, 1))
    return np.outer(d, d) / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle))


def arccosine_slope(K):
    d = np.sqrt(np.diag(K))
    return (np.pi - np.arccos(np.clip(K / np.outer(d, d), -1, 1))) / (2 * np.pi)


@pytest.mark.parametrize(
    ("activation", "kernel", "slope"), [("erf", arcsine, arcsine_slope), ("relu", arccosine, arccosine_slope)]
)
def test_small_output_scales_are_lazy(activation, kernel, slope):
    """f <- f + eta K Delta/P with the tangent kernel of the start, in closed form; kernels stay."""
    given, std, rate = data(), 1.2, 0.1
    problem = MLP(**given, depth=2, activation=activation, output_scale=1e-3, learning_rate=rate, weight_std=std)
    theory = solved(problem, 12, sites=40_000)
    K = given["inputs"] @ given["inputs"].T / 20
    C_1 = std**2 * K
    Phi_1 = kernel(C_1)
    C_2 = std**2 * Phi_1
    Phi_2, G_2 = kernel(C_2), std**2 * slope(C_2)
    tangent = Phi_2 + G_2 * Phi_1 + std**2 * G_2 * slope(C_1) * K
    f = np.zeros(6)
    for t in range(13):
        assert theory.predictions[t, :, 0] == pytest.approx(f, abs=0.01)
        f = f + rate * tangent @ (given["targets"] - f) / 6
    for t in (0, 12):
        assert theory.kernels[t, 0] == pytest.approx(Phi_1, abs=0.02)
        assert theory.kernels[t, 1] == pytest.approx(Phi_2, abs=0.02)
    assert outliers.outliers(theory.order(1, 12)).singular_values.size == 0


def test_zero_targets_teach_nothing():
    given = data() | {"targets": np.zeros(6)}
    for activation in ("tanh", "linear"):
        theory = solved(MLP(**given, activation=activation), 4, sites=800)
        assert theory.train_loss.max() < 1e-25 and np.abs(theory.predictions).max() < 1e-12
        assert theory.kernels[4] == pytest.approx(theory.kernels[0], rel=1e-2)


def test_repeated_inputs_have_one_prediction():
    given = data()
    twice = {"inputs": np.tile(given["inputs"], (2, 1)), "targets": np.tile(given["targets"], 2)}
    theory = solved(MLP(**twice, output_scale=2.0, learning_rate=0.3), 10)
    assert theory.predictions[:, :6] == pytest.approx(theory.predictions[:, 6:], abs=1e-2)
    once = solved(MLP(**given, output_scale=2.0, learning_rate=0.3), 10)
    assert theory.train_loss == pytest.approx(once.train_loss, abs=5e-3)


# --- figures found independently, finite networks -----------------------------------------------------------------


def reference():
    inputs = np.random.default_rng(123).standard_normal((6, 20))
    inputs *= np.sqrt(20) / np.linalg.norm(inputs, axis=1)[:, None]
    targets = np.random.default_rng(5).choice([-1.0, 1.0], 6)
    return MLP(inputs, targets, depth=2, activation="tanh", output_scale=3.0, learning_rate=0.5)


def test_a_trained_tanh_network_has_the_outlier_found_before():
    """2.9373 +- 0.0004; a network of width 3000: 2.936."""
    theory = solved(reference(), 30, sites=16_000)
    found = [outliers.outliers(one.order(1, 30)).singular_values for one in theory.replicas]
    assert all(len(values) == 1 for values in found)
    error, alone = np.std(found) / np.sqrt(len(found)), theory.order(1, 30).replicas[0].independent()
    assert np.mean(found) == pytest.approx(2.9373, abs=4 * error)
    assert abs(outliers.outliers(alone).singular_values[0] - 2.9373) > 100 * error
    assert np.std(found) < 0.01


BATCHES_OF_REFERENCE = np.random.default_rng(1).integers(0, 6, (20, 3))
NUMBERS_OF_OUTLIERS = [  # what is changed, and how many outliers W^1 has after 20 steps
    ({}, 1),
    ({"activation": "erf", "output_scale": 0.3, "learning_rate": 1.0}, 0),
    ({"activation": "relu", "weight_std": 1.3, "learning_rate": 0.1, "batches": BATCHES_OF_REFERENCE}, 1),
]


@pytest.mark.parametrize(("changed", "number"), NUMBERS_OF_OUTLIERS)
@pytest.mark.parametrize(("sites", "replicas"), [(2000, 1), (2000, 4), (10_000, 4), (100_000, 2)])
def test_sampling_noise_makes_no_outliers(changed, number, sites, replicas):
    problem = replace(reference(), **changed)
    for cutoff in (3e-5, 1e-4, 3e-4) if sites < 100_000 else (1e-4,):
        theory = solved(problem, 20, sites=sites, replicas=replicas, cutoff=cutoff)
        found = outliers.outliers(theory.order(1, 20))
        assert len(found.singular_values) == number
        assert len(found.rejected) == 0


def test_the_error_of_an_outlier_is_the_scatter_over_seeds():
    for activation, rate in (("tanh", 0.5), ("relu", 0.2)):
        problem = replace(reference(), activation=activation, learning_rate=rate)
        orders = [solved(problem, 15, sites=2000, seed=seed).order(1, 15) for seed in range(40)]
        found = [outliers.outliers(order) for order in orders]
        scatter = np.std([one.singular_values for one in found], axis=0, ddof=1)
        reported = np.sqrt(np.mean([one.standard_error**2 for one in found], axis=0))
        assert reported == pytest.approx(scatter, rel=0.6)


@pytest.mark.parametrize(("changed", "rate"), [({}, 4.0), ({"depth": 3, "activation": "erf"}, 4.0)])
def test_replicas_part_where_networks_part(changed, rate):
    """Two networks of width 2000 agree within a few per cent at the smaller rate, and not at all at the larger."""
    for learning_rate, parts in ((rate, True), (rate / 8, False)):
        problem = replace(reference(), **changed, learning_rate=learning_rate)
        with pytest.warns(InstabilityWarning, match="replicas part at step") if parts else nullcontext():
            theory = solved(problem, 9, sites=4000)
        rngs = [np.random.default_rng(seed) for seed in range(2)]
        runs = [networks.train(problem, size=2000, steps=9, rng=rng, subtract_initial=True) for rng in rngs]
        apart = np.abs(runs[0].predictions - runs[1].predictions).max(axis=(1, 2))
        assert (theory.parted is not None) == parts
        assert (apart.max() > 1) == parts
        if parts:
            assert theory.amplification[theory.parted] > 2 >= theory.amplification[: theory.parted].max()


def test_the_sampling_error_is_the_one_reported_and_falls_as_the_root_of_the_sites():
    spread, reported = [], []
    for sites in (1000, 4000, 16_000):
        runs = [solved(reference(), 8, sites=sites, seed=seed) for seed in range(6)]
        spread.append(np.std([run.train_loss[3:] for run in runs], axis=0).mean())
        reported.append(np.mean([run.standard_error(lambda one: one.train_loss)[3:] for run in runs]))
    slopes = [np.polyfit(np.log([1000, 4000, 16_000]), np.log(errors), 1)[0] for errors in (spread, reported)]
    assert slopes == pytest.approx([-0.5, -0.5], abs=0.2)
    assert np.array(reported) == pytest.approx(spread, rel=0.5)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_networks_extrapolate_to_the_theory(activation):
    problem = MLP(**data(outputs=2), depth=2, activation=activation, output_scale=2.0, learning_rate=0.15)
    theory, sizes, losses = solved(problem, 10, sites=40_000), [], []
    for size, seeds in ((100, 80), (200, 60), (400, 40)):
        for seed in range(seeds):
            rng = np.random.default_rng([size, seed])
            run = networks.train(problem, size=size, steps=10, rng=rng, record=(0,), subtract_initial=True)
            sizes.append(size)
            losses.append(run.train_loss[1:])
    found = sweeps.extrapolate(np.array(sizes), np.array(losses))
    error = np.hypot(found.standard_error, theory.standard_error(lambda one: one.train_loss[1:]))
    assert np.all(np.abs(found.limit - theory.train_loss[1:]) < 4 * error)
    assert np.all(error < 0.03 * theory.train_loss[1:])


# --- bases --------------------------------------------------------------------------------------------------------


def test_what_is_cut_off_is_counted_and_what_it_costs_falls_with_it():
    found = {cutoff: solved(reference(), 12, sites=4000, cutoff=cutoff) for cutoff in (0.1, 1e-3, 1e-5, 1e-8)}
    shares = [theory.neglected.max() for theory in found.values()]
    assert shares[0] > 5 * shares[1] > 25 * shares[2] > 125 * shares[3]
    best = found[1e-8].train_loss
    gaps = [np.abs(found[cutoff].train_loss / best - 1).max() for cutoff in (0.1, 1e-3, 1e-5)]
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2] and gaps[2] < 5e-3
    sizes = [theory.replicas[0].order(1, 12).c.shape[0] for theory in found.values()]
    assert sizes == sorted(sizes) and sizes[-1] <= 72


def test_bases_level_off_while_pairs_do_not():
    theory = solved(reference(), 40, sites=4000, replicas=2, cutoff=1e-3)
    sizes = [theory.replicas[0].order(1, step).c.shape[0] for step in (1, 10, 40)]
    assert sizes[0] == 6 and 20 < sizes[1] < 60 and sizes[2] - sizes[1] <= 3 < 240 - 60


def test_single_precision_stays_far_below_the_sampling_error():
    double, single = (solved(reference(), 12, precision=name) for name in ("double", "single"))
    error = double.standard_error(lambda one: one.train_loss)[1:]
    assert np.all(np.abs(single.train_loss - double.train_loss)[1:] < 0.1 * error)
    z, w = (outliers.outliers(one.order(1, 12)) for one in (double, single))
    assert np.all(np.abs(z.singular_values - w.singular_values) < 0.1 * z.standard_error)


def test_sites_are_doubled_where_they_are_too_few_and_their_number_was_left_open(monkeypatch):
    monkeypatch.setattr(mlp, "SITES", 150)
    monkeypatch.setattr(mlp, "EACH", 1)
    rng = np.random.default_rng(0)
    theory = mlp.solve(reference(), 6, rng=rng, replicas=2)
    assert theory.sites in (300, 600)
    again = mlp.solve(reference(), 6, sites=2 * theory.sites, rng=np.random.default_rng(0), replicas=2)
    assert np.array_equal(again.train_loss, theory.train_loss)
    monkeypatch.setattr(mlp, "DOUBLINGS", 1)
    with pytest.raises(ConvergenceError, match="sites must be more: 150 in a group"):
        mlp.solve(reference(), 6, rng=np.random.default_rng(0), replicas=2)


def test_alignments_with_what_comes_next():
    """Asked for one step more, the values are the same, and the first alignments too."""
    theory = solved(reference(), 15, sites=4000)
    before, after = (outliers.outliers(theory.order(1, 12, through=through)) for through in (12, 13))
    assert after.singular_values == pytest.approx(before.singular_values, rel=1e-3)
    assert after.right_alignment.shape == (1, 78) and before.right_alignment.shape == (1, 72)
    assert after.right_alignment[:, :72] == pytest.approx(before.right_alignment, abs=5e-3)


def test_what_is_kept_can_be_chosen():
    every = solved(reference(), 6, sites=1200, tangent_steps=None)
    some = solved(reference(), 6, sites=1200, kernel_steps=(2, 6), tangent_steps=[4])
    assert np.array_equal(some.kernels, every.kernels[[2, 6]]) and list(some.kernel_steps) == [2, 6]
    assert np.array_equal(some.train_loss, every.train_loss)  # looking does not disturb
    assert every.tangent_steps == tuple(range(7)) and some.tangent_steps == (4,)
    assert np.array_equal(some.tangent_kernel(4), every.tangent_kernel(4))
    with pytest.raises(ValueError, match=r"step must be one of the tangent_steps, \(4,\), got 2"):
        some.tangent_kernel(2)


# --- bad input ----------------------------------------------------------------------------------------------------


def test_bad_input_is_named():
    problem, rng = MLP(**data()), np.random.default_rng(0)
    for given, message in (
        (("problem", 3), "problem must be a problems.MLP"),
        ((MLP(**data(), parametrization="ntk"), 3), "problem must be in muP"),
        ((problem, -1), "steps must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            mlp.solve(*given, rng=rng)
    with pytest.raises(ValueError, match=r"rng must be a numpy\.random\.Generator"):
        mlp.solve(problem, 3)
    with pytest.raises(ValueError, match="sites must be at least 400"):
        mlp.solve(problem, 3, sites=300, rng=rng)
    with pytest.raises(ValueError, match="replicas must be at least 1"):
        mlp.solve(problem, 3, replicas=0, rng=rng)
    with pytest.raises(ValueError, match="cutoff must be greater than 0"):
        mlp.solve(problem, 3, cutoff=0, rng=rng)
    with pytest.raises(ValueError, match="replicas must be at least 2 for a standard error"):
        mlp.solve(problem, 3, sites=400, replicas=1, rng=rng).standard_error(lambda one: one.train_loss)
    for name, value, message in (
        ("precision", "half", "precision must be one of 'double', 'single'"),
        ("kernel_steps", 2, "kernel_steps must be a sequence of steps"),
        ("tangent_steps", (0, 4), "tangent_steps must be 0 to 3, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            mlp.solve(problem, 3, rng=rng, **{name: value})
    gone = mlp.solve(MLP(**data(), activation="linear", weight_decay=10.0, learning_rate=0.1), 1)
    with pytest.raises(ValueError, match="step must be one with something left of the initial weights, got decay 0"):
        gone.order(1, 1)
    theory = mlp.solve(problem, 3, sites=400, rng=rng)
    with pytest.raises(ValueError, match="through must be 2 to 3, got 4"):
        theory.order(1, 2, through=4)
    for layer in (0, 2):
        with pytest.raises(ValueError, match="layer must be one between hidden layers, 1 to 1"):
            theory.order(layer, 3)
    for step in (0, 4):
        with pytest.raises(ValueError, match="step must be 1 to 3"):
            theory.order(1, step)


def test_running_out_of_sites_keeps_what_came_before():
    with pytest.raises(ConvergenceError, match="at step 1 sites must be more: 100 in a group") as caught:
        mlp.solve(MLP(**data(12), learning_rate=0.3), 9, sites=400, rng=np.random.default_rng(0))
    partial = caught.value.partial
    assert partial.steps == 1 and np.all(partial.train_loss > 0)
    assert outliers.outliers(partial.order(1, 1)).bulk_edge == 2


def test_too_few_sites_for_the_first_step_are_too_few_at_step_0():
    with pytest.raises(ConvergenceError, match="at step 0 sites must be more: 100 in a group") as caught:
        mlp.solve(MLP(**data(40, 60)), 2, sites=400, rng=np.random.default_rng(0))
    assert caught.value.partial.train_loss.size == 0


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_divergence_keeps_what_came_before(activation):
    problem = MLP(**data(), activation=activation, output_scale=1.0, learning_rate=30.0)
    with pytest.raises(DivergenceError, match="training diverged at step") as caught:
        solved(problem, 40, sites=800)
    partial = caught.value.partial
    assert partial.steps == caught.value.step - 1 and np.all(np.isfinite(partial.train_loss))
    assert partial.order(1, partial.steps).C_h.shape[0] == len(partial.index)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_bar_is_shown_when_asked_for_and_never_in_a_log(activation, capsys, monkeypatch):
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**{**options, "delay": 0}))
    problem = MLP(**data(), activation=activation)
    solved(problem, 5, sites=400)
    assert capsys.readouterr().err == ""
    solved(problem, 5, sites=400, progress=True)
    assert "infinitely wide, 5 steps: 100%" in capsys.readouterr().err
    with pytest.raises(ValueError, match="progress must be True, False or None, got 'yes'"):
        solved(problem, 5, sites=400, progress="yes")

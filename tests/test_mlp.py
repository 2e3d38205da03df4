"""Infinitely wide networks in muP: exact solutions, limits, sampling error, finite networks."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from spectral_dynamics import networks, progress, sweeps
from spectral_dynamics.dynamics import mlp
from spectral_dynamics.errors import ConvergenceError, DivergenceError, InstabilityWarning
from spectral_dynamics.problems import MLP
from spectral_dynamics.spectra import outliers
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


BATCHES = np.array([[0, 1, 2], [3, 4, 5], [1, 3, 5], [0, 0, 4]] * 4)


@pytest.mark.parametrize("changed", [{}, {"batches": BATCHES, "learning_rate": np.linspace(0.14, 0.06, 16)}])
def test_the_sampler_agrees_with_the_exact_linear_solution(changed):
    given = data(outputs=2) | {"depth": 3, "output_scale": 2.0, "learning_rate": 0.08, "weight_std": 0.9} | changed
    exact = mlp.solve(MLP(**given, activation="linear"), 15)
    sampled = solved(MLP(**given, activation=IDENTITY), 15)
    assert not exact.standard_error(lambda one: one.train_loss).any()
    assert sampled.train_loss == pytest.approx(exact.train_loss, rel=2e-3)
    assert sampled.predictions == pytest.approx(exact.predictions, abs=2e-3)
    assert sampled.kernels == pytest.approx(exact.kernels, rel=2e-3, abs=5e-3)
    for layer in (1, 2):
        expected = outliers.outliers(exact.order(layer, 15)).singular_values
        found = outliers.outliers(sampled.order(layer, 15)).singular_values
        assert len(expected) > 0 and found == pytest.approx(expected, rel=2e-3)


def test_batches_of_everything_are_full_batch():
    given = data() | {"output_scale": 2.0, "learning_rate": 0.3}
    whole = solved(MLP(**given), 8, sites=1200)
    batches = solved(MLP(**given, batches=np.tile(np.arange(6), (8, 1))), 8, sites=1200)
    assert np.array_equal(whole.train_loss, batches.train_loss)


def test_the_future_does_not_act_on_the_past():
    given = data()
    early = solved(MLP(**given, learning_rate=np.full(8, 0.3)), 8, sites=1200)
    other = solved(MLP(**given, learning_rate=np.array([0.3] * 5 + [0.05] * 3)), 8, sites=1200)
    assert np.array_equal(early.predictions[:6], other.predictions[:6])
    assert not np.allclose(early.predictions[6:], other.predictions[6:])
    order = early.replicas[0].order(1, 8)
    sizes = [early.replicas[0].order(1, step).c.shape for step in range(1, 9)]
    for known_g, known_h in [(0, sizes[0][1]), *((sizes[s][0], sizes[s + 1][1]) for s in range(7))]:
        assert np.abs(order.A[:known_h, known_g:]).max(initial=0) < 1e-9  # features of a step, Gaussians of its z
        assert np.abs(order.B[:known_g, known_h:]).max(initial=0) < 1e-9
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
    assert np.mean(found) == pytest.approx(2.9373, abs=4 * np.std(found) / np.sqrt(len(found)))
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
        orders = [solved(problem, 15, sites=2000, seed=seed).order(1, 15) for seed in range(16)]
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
    theory = mlp.solve(problem, 3, sites=400, rng=rng)
    for layer in (0, 2):
        with pytest.raises(ValueError, match="layer must be one between hidden layers, 1 to 1"):
            theory.order(layer, 3)
    for step in (0, 4):
        with pytest.raises(ValueError, match="step must be 1 to 3"):
            theory.order(1, step)


def test_running_out_of_sites_keeps_what_came_before():
    with pytest.raises(ConvergenceError, match="at step 2 sites must be more: 100 in a group") as caught:
        mlp.solve(MLP(**data(12), learning_rate=0.3), 9, sites=400, rng=np.random.default_rng(0))
    partial = caught.value.partial
    assert partial.steps == 2 and np.all(partial.train_loss > 0)
    assert outliers.outliers(partial.order(1, 2)).bulk_edge == 2


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

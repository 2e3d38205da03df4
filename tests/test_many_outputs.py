"""Many outputs: the law of a bulk that moves, its limits, one joint step, finite networks."""

import numpy as np
import pytest
from scipy import linalg, stats
from spectral_dynamics import networks, sweeps
from spectral_dynamics.errors import ConvergenceError
from spectral_dynamics.problems import FrozenReadout
from spectral_dynamics.spectra import laws, many_outputs

TARGET = {"width_ratio": 1.0, "target_scale": 3.0, "weight_std": 1.0}


# --- the law ------------------------------------------------------------------------------------------------------


def test_the_edge_found_before():
    """4.32168, quoted with five decimals."""
    law = many_outputs.bulk(FrozenReadout(0.5, **TARGET), 2.0)
    assert law.edges[-1, 1] == pytest.approx(4.32168, abs=5e-6)


def test_rounding_makes_no_band_of_its_own():
    """More outputs than neurons: no eigenvalue of S is 0, so that the law has one band, with S down to 0.17."""
    problem = FrozenReadout(2.0, 0.5, 3.0, 1.0)
    found = many_outputs.bulk(problem, 5.0)
    assert found.edges.shape == (1, 2)
    rng = np.random.default_rng(0)
    v = rng.standard_normal((4000, 2000)) / np.sqrt(2000)
    f = many_outputs.column_variance(problem, linalg.eigvalsh(v.T @ v), 5.0)
    atoms = laws.generalized_marchenko_pastur(0.5, f, np.full(2000, 1 / 2000)).singular_values()
    assert found.edges[0] == pytest.approx([atoms.edges[0, 0], atoms.edges[-1, 1]], rel=2e-3)


def mass_of_a_band(law, low, high):
    """In u, x = low + (high - low) sin^2(u): the density's roots and poles at the edges are gone."""
    nodes, weights = np.polynomial.legendre.leggauss(1000)
    u = np.pi / 4 * (nodes + 1)
    density = law.density(low + (high - low) * np.sin(u) ** 2)
    return np.pi / 4 * weights @ (density * (high - low) * np.sin(2 * u))


@pytest.mark.parametrize("kappa", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("time", [0.1, 0.5, 2.0, 10.0])
def test_mass_is_one(kappa, time):
    for nu in (0.5, 1.0, 2.0):
        law = many_outputs.bulk(FrozenReadout(kappa, nu, 3.0, 1.0), time, accuracy=1e-6)
        mass = sum(weight for _, weight in law.atoms) + sum(mass_of_a_band(law, *band) for band in law.edges)
        assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0, 3.0])
def test_nothing_has_moved_at_time_zero(kappa):
    problem = FrozenReadout(kappa, 0.5, 3.0, 0.7)
    assert many_outputs.bulk(problem, 0.0).edges == pytest.approx(laws.singular_value_bulk(0.5, 0.49).edges)


def test_the_mean_square_is_that_of_the_population():
    """<z^2> = <f_t(S)>, over eigenvalues of a large S."""
    rng = np.random.default_rng(0)
    for kappa in (0.4, 1.0, 2.5):
        problem = FrozenReadout(kappa, 1.5, 2.0, 0.8)
        s = laws.marchenko_pastur(1 / kappa, kappa).sample(2000, rng)
        expected = many_outputs.column_variance(problem, np.maximum(s, 0), 1.3).mean()
        assert many_outputs.bulk(problem, 1.3).moment(2) == pytest.approx(expected, rel=0.01)


def test_a_frozen_readout_of_many_more_outputs_than_neurons_acts_as_a_number():
    """S -> kappa for large kappa: W keeps a Marchenko-Pastur law of variance f_t(kappa)."""
    problem = FrozenReadout(1e4, 0.5, 3.0, 1.0)
    time = 1e-4
    variance = float(many_outputs.column_variance(problem, 1e4, time))
    expected = laws.singular_value_bulk(0.5, variance).edges
    assert many_outputs.bulk(problem, time).edges == pytest.approx(expected, rel=2e-2)


def test_few_outputs_are_outliers_of_the_old_bulk():
    """As kappa -> 0 a band of mass kappa gathers at the outlier, the other one is the bulk of the start."""
    few = FrozenReadout(0.0, 0.5, 3.0, 1.0)
    place = many_outputs.outlier(few, 2.0)
    for kappa in (1e-2, 1e-3, 1e-4):
        law = many_outputs.bulk(FrozenReadout(kappa, 0.5, 3.0, 1.0), 2.0, accuracy=1e-6)
        assert len(law.edges) == 2
        assert law.edges[1].mean() == pytest.approx(place, rel=5 * kappa)
        assert 1 - law.cdf(law.edges[0, 1]) == pytest.approx(kappa, rel=1e-6)
        assert law.edges[0] == pytest.approx(many_outputs.bulk(few, 2.0).edges[0], rel=5 * kappa)


def test_outliers_escape_above_and_below_and_not_at_once():
    assert many_outputs.outlier(FrozenReadout(0.0, 0.5, 3.0, 1.0), 0.1) is None
    assert many_outputs.outlier(FrozenReadout(0.0, 0.5, 3.0, 1.0), 3.0) > 1 + np.sqrt(0.5)
    below = many_outputs.outlier(FrozenReadout(0.0, 0.2, 0.1, 1.0), 3.0)
    assert below < 1 - np.sqrt(0.2)
    assert many_outputs.outlier(FrozenReadout(0.0, 1.5, 0.1, 1.0), 3.0) is None


@pytest.mark.parametrize("kappa", [0.9, 0.999, 1.0, 1.001, 1.1])
def test_as_many_outputs_as_neurons_is_not_special(kappa):
    """The law of S has an edge at 0 there; few nodes suffice as elsewhere, and the law is continuous in kappa."""
    law = many_outputs.bulk(FrozenReadout(kappa, **TARGET), 0.5)
    assert len(law.squares.population_atoms) <= 129
    middle = many_outputs.bulk(FrozenReadout(1.0, **TARGET), 0.5)
    assert law.edges[-1, 1] == pytest.approx(middle.edges[-1, 1], rel=abs(kappa - 1) + 1e-12)


# --- finite networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kappa", "nu"), [(0.5, 1.0), (1.0, 0.5), (2.0, 2.0)])
def test_networks_have_the_law(kappa, nu):
    problem, times = FrozenReadout(kappa, nu, 3.0, 1.0), [0.1, 0.5, 2.0]
    run = networks.flow(problem, size=500, times=times, rng=np.random.default_rng(0))
    for time in times:
        assert many_outputs.distance(run.singular_values(time), many_outputs.bulk(problem, time)) < 0.015


@pytest.mark.parametrize(("nu", "tau", "below"), [(1.0, 3.0, False), (0.1, 0.7, True)])
def test_finitely_many_outputs_of_networks_are_where_they_should_be(nu, tau, below):
    problem, outputs = FrozenReadout(0.0, nu, tau, 1.0), 12
    sizes, found = [], []
    for size, seeds in ((60, 240), (120, 120), (240, 60)) if not below else ((60, 80), (120, 48), (240, 16)):
        for seed in range(seeds):
            rng = np.random.default_rng([size, seed])
            run = networks.flow(problem, size=size, times=[2.0], rng=rng, outputs=outputs, accuracy=1e-4)
            values = run.singular_values(2.0)
            found.append(np.mean(values[-outputs:] if below else values[:outputs]))
            sizes.append(size)
    limit = sweeps.extrapolate(np.array(sizes), np.array(found))
    expected = many_outputs.outlier(problem, 2.0)
    assert limit.standard_error < 0.0025 * expected
    assert limit.limit == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(("kappa", "nu"), [(0.5, 1.0), (2.0, 0.5)])
def test_one_joint_step_from_random_weights(kappa, nu):
    """Both layers, matrices of 1000 neurons against the two laws, with rates of their own."""
    problem, rng = FrozenReadout(kappa, nu, 2.0, 0.8), np.random.default_rng(1)
    N, D, C = 1000, round(1000 / nu), round(1000 * kappa)
    wbar = 0.8 * rng.standard_normal((N, D)) / np.sqrt(D)
    v = rng.standard_normal((C, N)) / np.sqrt(N)
    error = 2.0 * rng.standard_normal((C, D)) / np.sqrt(D) - v @ wbar
    first, readout = many_outputs.one_step(problem, 0.4, 0.3)
    stepped = np.linalg.svd(wbar + 0.4 * v.T @ error, compute_uv=False)
    assert many_outputs.distance(np.append(stepped, np.zeros(N - len(stepped))), first) < 0.008
    stepped = np.linalg.svd(v + 0.3 * error @ wbar.T, compute_uv=False)
    assert many_outputs.distance(np.append(stepped, np.zeros(N - len(stepped))), readout) < 0.008


def test_one_joint_step_of_a_network_is_a_short_flow():
    problem, time = FrozenReadout(0.5, 1.0, 2.0, 1.0), 0.02
    run = networks.flow(problem, size=600, times=[time], rng=np.random.default_rng(2), joint=True)
    first, readout = many_outputs.one_step(problem, time)
    assert many_outputs.distance(run.singular_values(time), first) < 0.012
    assert many_outputs.distance(run.singular_values(time, readout=True), readout) < 0.012


def test_a_joint_flow_leaves_the_frozen_law():
    problem = FrozenReadout(0.5, **TARGET)
    rngs = [np.random.default_rng(3) for _ in range(2)]
    times = [0.1, 2.0]
    joint, frozen = (
        networks.flow(problem, size=300, times=times, rng=rng, joint=flag, accuracy=1e-5)
        for rng, flag in zip(rngs, (True, False), strict=True)
    )
    law = [many_outputs.bulk(problem, time) for time in times]
    assert many_outputs.distance(joint.singular_values(0.1), law[0]) < 0.04
    late = [many_outputs.distance(run.singular_values(2.0), law[1]) for run in (joint, frozen)]
    assert late[0] > 0.15 > late[1]


def test_the_flow_is_the_exact_solution_of_one_matrix():
    """By the eigenvectors of V^T V, at a time when some directions have learned and others not; N > C."""
    problem = FrozenReadout(0.5, 1.0, 3.0, 1.0)
    run = networks.flow(problem, size=60, times=[0.0, 1.5], rng=np.random.default_rng(4), accuracy=1e-9)
    v, start = run.readout(0.0), run.weights(0.0)
    rng = np.random.default_rng(4)
    rng.standard_normal(start.size + v.size)
    target = 3.0 * rng.standard_normal((30, 60)) / np.sqrt(60)
    s, vectors = np.linalg.eigh(v.T @ v)
    s = np.maximum(s, 0)
    growth = np.where(s > 1e-12, (1 - np.exp(-1.5 * s)) / np.maximum(s, 1e-12), 1.5)
    expected = vectors @ (
        np.exp(-1.5 * s)[:, None] * (vectors.T @ start) + growth[:, None] * (vectors.T @ v.T @ target)
    )
    assert run.weights(1.5) == pytest.approx(expected, abs=1e-6)


def started(problem, size: int, seed: int):
    """Wbar, V and tau Tbar as networks.flow draws them."""
    rng, C, D = np.random.default_rng(seed), round(problem.output_ratio * size), round(size / problem.width_ratio)
    wbar = problem.weight_std * rng.standard_normal((size, D)) / np.sqrt(D)
    v = rng.standard_normal((C, size)) / np.sqrt(size)
    return wbar, v, problem.target_scale * rng.standard_normal((C, D)) / np.sqrt(D)


@pytest.mark.parametrize("joint", [False, True])
def test_bent_neurons_flow_down_the_gradient_of_their_loss(joint):
    """For a short time, against finite differences of |tau Tbar - V tanh(sqrt(D) Wbar)/sqrt(D)|^2/2."""
    problem, time = FrozenReadout(0.5, 0.8, 3.0, 1.2), 1e-5
    options = {"size": 8, "times": [time], "rng": np.random.default_rng(5), "accuracy": 1e-12}
    run = networks.flow(problem, activation="tanh", joint=joint, **options)
    wbar, v, target = started(problem, 8, 5)

    def loss(w, v):
        return np.sum((target - v @ np.tanh(np.sqrt(w.shape[1]) * w) / np.sqrt(w.shape[1])) ** 2) / 2

    def downhill(function, matrix, step=1e-5):
        units = np.eye(matrix.size).reshape(-1, *matrix.shape) * step
        return np.reshape([(function(matrix - u) - function(matrix + u)) / (2 * step) for u in units], matrix.shape)

    assert (run.weights(time) - wbar) / time == pytest.approx(downhill(lambda w: loss(w, v), wbar), abs=1e-3)
    moved = (run.readout(time) - v) / time
    assert moved == pytest.approx(downhill(lambda v: loss(wbar, v), v) if joint else 0 * v, abs=1e-3)


@pytest.mark.parametrize("joint", [False, True])
def test_bent_neurons_that_are_straight_are_straight(joint):
    """By an activation that is a pair, phi(h) = h, which takes the way of the bent ones."""
    problem = FrozenReadout(0.5, **TARGET)
    runs = [
        networks.flow(problem, size=30, times=[1.0], rng=np.random.default_rng(6), joint=joint, accuracy=1e-9, **bent)
        for bent in ({}, {"activation": "linear"}, {"activation": (lambda h: h, np.ones_like)})
    ]
    for run in runs[1:]:
        assert run.weights(1.0) == pytest.approx(runs[0].weights(1.0), abs=1e-6)
        assert run.readout(1.0) == pytest.approx(runs[0].readout(1.0), abs=1e-6)


def test_bent_neurons_never_lose_by_learning():
    """The loss falls along the flow, and more of it when the readout learns too."""
    problem, times = FrozenReadout(0.5, **TARGET), [0.0, 0.5, 2.0]
    _, _, target = started(problem, 40, 7)
    left = []
    for joint in (False, True):
        options = {"size": 40, "times": times, "rng": np.random.default_rng(7), "joint": joint}
        run = networks.flow(problem, activation="tanh", **options)
        hidden = [np.tanh(np.sqrt(40) * run.weights(time)) / np.sqrt(40) for time in times]
        left.append([np.sum((target - run.readout(t) @ h) ** 2) for t, h in zip(times, hidden, strict=True)])
    assert np.all(np.diff(left) < 0) and left[1][-1] < left[0][-1]


# --- bad input ----------------------------------------------------------------------------------------------------


def test_bad_input_is_named():
    problem, rng = FrozenReadout(0.5), np.random.default_rng(0)
    for call, message in (
        (lambda: FrozenReadout(-0.1), "output_ratio must be at least 0"),
        (lambda: FrozenReadout(0.5, weight_std=0.0), "weight_std must be greater than 0"),
        (lambda: many_outputs.bulk(3, 1.0), "problem must be a problems.FrozenReadout"),
        (lambda: many_outputs.bulk(problem, -1.0), "time must be at least 0"),
        (lambda: many_outputs.bulk(problem, 1.0, accuracy=0), "accuracy must be greater than 0"),
        (lambda: many_outputs.outlier(problem, 1.0), "output_ratio must be 0"),
        (lambda: many_outputs.one_step(FrozenReadout(0.0), 0.1), "output_ratio must be above 0"),
        (lambda: many_outputs.column_variance(problem, [-1.0], 1.0), "eigenvalue must be at least 0"),
        (lambda: networks.flow(problem, size=10, times=[1.0, 0.5], rng=rng), "times must be ascending"),
        (lambda: networks.flow(problem, size=10, times=[1.0], rng=rng, outputs=3), "outputs must be None"),
        (lambda: networks.flow(FrozenReadout(0.0), size=10, times=[1.0], rng=rng), "outputs must be an integer"),
        (lambda: networks.flow(problem, size=10, times=[1.0], rng=rng).weights(0.5), "time must be one of"),
        (lambda: networks.flow(problem, size=10, times=[1.0], rng=rng, activation="bent"), "activation must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_too_few_nodes_are_told(monkeypatch):
    monkeypatch.setattr(many_outputs, "MOST", 256)
    with pytest.raises(ConvergenceError, match="accuracy 1e-18 was not reached") as caught:
        many_outputs.bulk(FrozenReadout(0.5), 1.0, accuracy=1e-18)
    assert caught.value.partial.edges.shape == (1, 2) and caught.value.residual > 1e-18


# --- the distance -------------------------------------------------------------------------------------------------


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    law = laws.quarter_circle(1.0)
    values = np.abs(np.random.default_rng(0).standard_normal(200))
    assert many_outputs.distance(values, law) == pytest.approx(stats.kstest(values, law.cdf).statistic, abs=1e-12)
    kept = np.sort(values)[:-7]
    expected = stats.kstest(kept, law.cdf).statistic
    assert many_outputs.distance(values, law, removed=7) == pytest.approx(expected, abs=1e-12)


def test_removing_values_of_an_unmoved_bulk_is_seen():
    law = laws.quarter_circle(1.0)
    quantiles = np.interp((np.arange(1000) + 0.5) / 1000, law.cdf(np.linspace(0, 2, 4001)), np.linspace(0, 2, 4001))
    assert many_outputs.distance(quantiles, law) == pytest.approx(0.0005, abs=1e-5)
    assert many_outputs.distance(quantiles, law, removed=50) == pytest.approx(0.05, abs=0.002)


def test_zeros_are_held_against_the_atom():
    """A tall matrix has 1 - 1/nu zeros for certain; without them the distance is that part of all values."""
    law = laws.singular_value_bulk(2.0, 1.0)
    wbar = np.random.default_rng(0).standard_normal((600, 300)) / np.sqrt(300)
    values = linalg.svdvals(wbar)
    assert many_outputs.distance(np.append(values, np.zeros(300)), law) < 0.01
    assert many_outputs.distance(values, law) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "removed", "named"),
    [([], 0, "values"), ([1.0, -1.0], 0, "values"), ([1.0, 2.0], 2, "removed"), ([1.0, np.nan], 0, "values")],
)
def test_a_distance_of_nothing_is_refused(values, removed, named):
    with pytest.raises(ValueError, match=named):
        many_outputs.distance(np.array(values), laws.quarter_circle(1.0), removed=removed)


def test_before_training_nothing_stands_out_whatever_the_deviation_of_the_weights():
    for weight_std in (0.5, 1.0, 2.0):
        problem = FrozenReadout(output_ratio=0.0, width_ratio=0.25, target_scale=3.0, weight_std=weight_std)
        assert many_outputs.outlier(problem, 0.0) is None

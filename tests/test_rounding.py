"""Answers that rounding does not choose: signs and order of eigenvectors turned over, directions across a cut-off."""

import numpy as np
import pytest
import scipy.linalg
from spectral_dynamics import networks
from spectral_dynamics.dynamics import deep_linear, mlp, sites
from spectral_dynamics.dynamics.order import OrderParameters
from spectral_dynamics.problems import MLP, DeepLinear
from spectral_dynamics.spectra import laws, outliers, sharpness

LINEAR = DeepLinear(2, 0.8, 2.0, output_scale=2.0, learning_rate=0.1, weight_std=0.6)


def turned(function, rng):
    """A decomposition that returns other eigenvectors of the same matrix: signs by chance, of eig the order too."""

    shuffled = function.__name__ == "eig"

    def other(*args, **options):
        found = function(*args, **options)
        if not isinstance(found, tuple):
            return found
        if len(found) == 3:  # U, values, V^T
            signs = rng.choice([-1.0, 1.0], len(found[1]))
            left, right = np.array(found[0]), np.array(found[2])
            left[:, : len(signs)] *= signs
            right[: len(signs)] *= signs[:, None]
            return left, found[1], right
        values, vectors = found
        order = rng.permutation(len(values)) if shuffled else slice(None)
        return values[..., order], (vectors * rng.choice([-1.0, 1.0], values.shape[-1]))[..., order]

    return other


def symmetric_network():
    """Labels +-1 and inputs that come in pairs +-x: cosines of features come in pairs +-c as well."""
    rng = np.random.default_rng(3)
    half = rng.standard_normal((3, 6))
    return MLP(np.vstack([half, -half]), np.repeat([1.0, -1.0], 3), 2, output_scale=4.0, learning_rate=0.5)


def everything():
    """Arrays from every public function that decomposes a matrix."""
    theory = deep_linear.solve(LINEAR, 12)
    for layer in (0, 1):
        yield from fields(outliers.outliers(theory.order(layer, 12)))
    turning = np.array([[0.0, 3.0], [-2.0, 0.0]])  # no dynamics has such responses
    yield outliers.outliers(OrderParameters(np.eye(2), np.eye(2), turning, turning, np.diag([1.0, 0.7]))).rejected
    rng = np.random.default_rng(2)
    sampled = mlp.solve(symmetric_network(), 10, sites=4000, rng=rng, tangent_steps=(10,))
    yield from (sampled.train_loss, sampled.kernels, *fields(outliers.outliers(sampled.order(1, 10))))
    yield from (sampled.tangent_kernel(10), np.array([sharpness.leading_mode(sampled, 10).value]))
    mode = sharpness.leading_mode(theory, 12)
    yield np.array([mode.value, mode.alignment])
    run = networks.train(LINEAR, size=60, steps=6, rng=np.random.default_rng(0))
    small = networks.train(LINEAR, size=15, steps=6, rng=np.random.default_rng(0))
    yield from (run.leading_mode(6).direction, small.leading_mode(6).direction)
    recordings = [run.recording(1, 6), *(run.recording(1, 6, directions=count, matvecs=1) for count in (3, 20))]
    network = networks.train(symmetric_network(), size=100, steps=10, rng=np.random.default_rng(1))
    for recording in [*recordings, network.recording(1, 10)]:
        yield from (recording.features, recording.gradients)
        yield from fields(outliers.from_recording(recording))


def test_of_equal_alignments_the_first_is_positive():
    """The spike points along h(0) - h(1): cosines c and -c, whose sizes differ by rounding alone."""
    nothing, spike = np.zeros((2, 2)), np.array([[2.0, -2.0], [0.0, 0.0]])
    for rounding in (-1e-12, 0, 1e-12):
        C_h = np.array([[1.0, 0.3], [0.3, 1 + rounding]])
        found = outliers.outliers(OrderParameters(C_h, np.eye(2), nothing, nothing, spike))
        first, second = found.right_alignment[0]
        assert first > 0.1 and abs(first + second) < 1e-9


def fields(found):
    assert found.singular_values.size
    return found.singular_values, found.right_alignment, found.left_alignment, found.right_overlaps


@pytest.mark.parametrize("seed", range(4))
def test_no_sign_or_order_of_eigenvectors_shows_in_an_answer(seed, monkeypatch):
    expected, rng = list(everything()), np.random.default_rng(seed)
    for home in (np.linalg, scipy.linalg):
        for name in ("eigh", "svd", "eig"):
            monkeypatch.setattr(home, name, turned(getattr(home, name), rng))
    for home, name in ((networks.curvature, "eigsh"), (networks.run, "svds")):
        monkeypatch.setattr(home, name, turned(getattr(home, name), rng))
    for number, (found, before) in enumerate(zip(everything(), expected, strict=True)):
        np.testing.assert_allclose(found, before, rtol=1e-9, atol=1e-9, err_msg=str(number))


def jump(answer, cutoff):
    """How far an answer moves when the cut-off passes a direction; and how far from well below it to well above."""
    sides = [answer(cutoff * (1 + side)) for side in (-1e-9, 1e-9)]
    ends = [answer(cutoff * factor) for factor in (0.2, 1.01)]
    return np.abs(sides[1] - sides[0]).max(), np.abs(ends[1] - ends[0]).max()


@pytest.mark.parametrize("inputs", [np.eye(3) * np.sqrt(3), np.random.default_rng(0).standard_normal((6, 9))])
def test_a_direction_of_the_sampled_fields_fades_in_at_the_cut_off(inputs):
    """Bisection between two cut-offs with different numbers of directions: it ends at one that passes the cut-off."""
    targets = np.resize([1.0, -1.0], len(inputs))
    problem = MLP(inputs, targets, 2, output_scale=4.0, learning_rate=0.5)

    def answer(cutoff):
        theory = mlp.solve(problem, 6, sites=2400, replicas=2, cutoff=cutoff, rng=np.random.default_rng(0))
        order = theory.order(1, 6)
        values = outliers.outliers(order).singular_values
        return sum(sum(one.c.shape) for one in order.replicas), np.append(theory.train_loss[-1], values)

    low, high = 1e-3, 1e-2
    (fewest, end), (most, start) = answer(high), answer(low)
    assert most > fewest
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if answer(middle)[0] == most else (low, middle)
    assert answer(low)[0] != answer(high)[0]
    assert np.abs(answer(low)[1] - answer(high)[1]).max() < 1e-9
    assert np.abs(start - end).min() > 1e-5  # in full the same directions do move the answer


def test_what_is_left_of_a_direction_is_below_the_cut_off():
    """Or fields that stay would have a new direction at every step, for ever."""
    layer = sites.Layer(100, np.random.default_rng(0), "double")
    basis = sites.Basis(layer, layer, 1e-3, 2)
    basis.top = 2.0
    values = 2e-3 * (1 + np.append(np.logspace(-14, 1, 60), -1e-14))
    share, rest = basis.split(values)
    assert np.all(rest <= 2e-3) and np.all(share[:-1] > 0) and share[-1] == 0
    assert np.all(rest[:-1] < 2e-3) and share.max() == 1 and rest[share == 1].max() == 0
    assert share**2 * values + rest == pytest.approx(values, rel=1e-12)
    assert np.abs(share[:-1] - share[-1])[0] < 1e-5  # where it begins


def test_a_direction_of_the_order_parameters_fades_out_at_the_cut_off():
    order = deep_linear.solve(LINEAR, 12).order(1, 12)
    for share in (1, 0.3):
        cutoff = share * scipy.linalg.eigvalsh(order.C_h)[-2] / scipy.linalg.eigvalsh(order.C_h)[-1]
        moved, whole = jump(lambda c: outliers.outliers(order, cutoff=c).right_overlaps, cutoff)
        assert moved < 1e-7 and whole > 1e-4


@pytest.mark.parametrize("independent", [False, True])
def test_a_recorded_direction_fades_out_at_the_cut_off(independent):
    run = networks.train(LINEAR, size=60, steps=6, rng=np.random.default_rng(0))
    recording = run.recording(1, 6)
    sizes = scipy.linalg.svdvals(recording.features)

    def answer(cutoff):
        found = outliers.from_recording(recording, cutoff=cutoff, independent=independent)
        return np.append(found.singular_values, found.neglected)

    moved, whole = jump(answer, sizes[2] / sizes[0])
    assert moved < 1e-7 and whole > 1e-4


def test_a_direction_of_the_tangent_kernel_fades_out_at_the_cut_off(monkeypatch):
    theory = deep_linear.solve(LINEAR, 12)

    def answer(cutoff):
        monkeypatch.setattr(sharpness, "CUTOFF", cutoff)
        return sharpness.leading_mode(theory, 12).value

    values = scipy.linalg.eigvalsh(theory.layers[0].C_h[:12, :12])
    moved, whole = jump(answer, values[-2] / values[-1])
    assert moved < 1e-7 and whole > 1e-4


@pytest.mark.parametrize("directions", [8, 20])  # the iterative and the full decomposition
def test_a_change_of_low_rank_has_no_directions_beyond_it(directions):
    """Three steps of a linear network make a change of rank three; the rest of it is rounding."""
    run = networks.train(LINEAR, size=60, steps=3, rng=np.random.default_rng(0))
    recording = run.recording(1, 3, directions=directions)
    for columns in (recording.features, recording.gradients):
        lengths = np.linalg.norm(columns, axis=0)
        assert np.allclose(lengths[:3], 1) and np.all(lengths[3:] < 1e-8)


def test_a_measured_mode_points_to_the_side_of_the_error():
    run = networks.train(LINEAR, size=60, steps=6, rng=np.random.default_rng(0))
    mode = run.leading_mode(6)
    assert mode.direction @ run.error(6) == pytest.approx(mode.alignment * np.linalg.norm(run.error(6)), rel=1e-12)


def test_a_row_on_the_border_of_two_atoms_is_of_the_lower_one():
    """The middle one of five rows is where the weights 1/2 meet, to rounding."""
    for rounding in (-1e-15, 0, 1e-15):
        law = laws.generalized_marchenko_pastur(0.01, [1.0, 100.0], [0.5 + rounding, 0.5 - rounding])
        assert np.sum(law.sample(5, np.random.default_rng(0)) < 20) == 3


def test_a_change_of_the_size_of_rounding_leaves_no_direction():
    """Rounding grows with the matrix: 1e-13 is lost in entries of 100, and well seen in entries of 0.01."""
    rng = np.random.default_rng(0)
    start, a, b = rng.standard_normal((60, 40)), rng.standard_normal(60), rng.standard_normal(40)
    spike = 1e-10 * np.outer(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    lengths = []
    for size in (1e2, 1e-2):
        recording = networks.directions(size * start, size * start + spike, count=1)
        lengths.append(np.linalg.norm(recording.features[:, 0]))
    assert lengths[0] < 0.1 and lengths[1] == pytest.approx(1)

"""Classifiers of real data: the step is the gradient's, precision, bad input; the tasks are what they say."""

import numpy as np
import pytest
from scipy import sparse, special
from spectral_dynamics import networks
from spectral_dynamics.errors import DivergenceError
from spectral_dynamics.networks import classifier
from spectral_dynamics.problems import Classifier
from spectral_experiments import tasks

D, N, B = 5, 7, 6


def made(outputs, seed=0, **options):
    """A classifier that sees the same small batch at every step."""
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((B, D)), rng.integers(max(outputs, 2), size=B)
    options = {"depth": 3, "output_scale": 0.7, "learning_rate": 0.3} | options
    return Classifier(lambda rng: (x, labels), D, outputs, **options), x, labels


def loss_of(weights, x, labels, gamma0, outputs):
    """Plain formulas: W with its own entries, logistic function for one output."""
    h = weights[0] @ x.T / np.sqrt(D)
    for matrix in weights[1:-1]:
        h = matrix @ np.tanh(h) / np.sqrt(N)
    f = (weights[-1].T @ np.tanh(h)).T / (gamma0 * N)
    if outputs == 1:
        return -np.mean(np.log(special.expit(np.where(labels == 1, f[:, 0], -f[:, 0]))))
    return -np.mean(np.log(special.softmax(f, axis=1)[np.arange(len(labels)), labels]))


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_a_step_follows_the_gradient_by_differences(outputs):
    """W moves by -eta gamma0^2 N times the gradient of the loss with respect to W, not to Wbar."""
    problem, x, labels = made(outputs)
    run = networks.train(problem, size=N, steps=1, rng=np.random.default_rng(1), record=[1])
    roots = [np.sqrt(D), np.sqrt(N), np.sqrt(N), 1.0]
    start = [root * matrix for root, matrix in zip(roots, run._kept(0), strict=True)]
    end = [root * matrix for root, matrix in zip(roots, run._kept(1), strict=True)]
    assert run.train_loss[0] == pytest.approx(loss_of(start, x, labels, 0.7, outputs), rel=1e-12)
    for place, matrix in enumerate(start):
        for entry in [(0, 0), (3, 0), (6, matrix.shape[1] - 1)]:
            nudged = []
            for sign in (1, -1):
                changed = [one.copy() for one in start]
                changed[place][entry] += sign * 1e-5
                nudged.append(loss_of(changed, x, labels, 0.7, outputs))
            gradient = (nudged[0] - nudged[1]) / 2e-5
            assert end[place][entry] - matrix[entry] == pytest.approx(-0.3 * 0.49 * N * gradient, abs=1e-9)


def test_two_outputs_are_one_with_half_the_room():
    """Softmax of (f1, f2) sees f2 - f1 alone."""
    f = np.random.default_rng(0).standard_normal((9, 2))
    labels = np.arange(9) % 2
    two = classifier._cross_entropy(f, labels)
    one = classifier._cross_entropy(f[:, 1:] - f[:, :1], labels)
    assert two[:2] == pytest.approx(one[:2])
    np.testing.assert_allclose(two[2][:, 1:], one[2])


def test_sparse_inputs_are_dense_ones():
    problem, x, labels = made(4)
    thin = Classifier(lambda rng: (sparse.csr_array(x), labels), D, 4, 3, output_scale=0.7, learning_rate=0.3)
    dense, found = (networks.train(one, size=N, steps=5, rng=np.random.default_rng(1)) for one in (problem, thin))
    for layer in range(3):
        np.testing.assert_allclose(found.weights(layer, 5), dense.weights(layer, 5), atol=1e-14)


def test_momentum_is_heavy_ball():
    """With the gradient constant over two small steps the second step is 1 + momentum of the first."""
    problem, _, _ = made(4, momentum=0.5, learning_rate=1e-6)
    run = networks.train(problem, size=N, steps=2, rng=np.random.default_rng(1), record=[0, 1, 2])
    first, second = run.readout(1) - run.readout(0), run.readout(2) - run.readout(1)
    np.testing.assert_allclose(second, 1.5 * first, rtol=1e-3, atol=1e-14)


def test_single_precision_is_double_precision_to_its_rounding():
    problem = tasks.ten_digits(0.25)
    runs = [
        networks.train(problem, size=64, steps=50, rng=np.random.default_rng(0), dtype=dtype)
        for dtype in (np.float64, np.float32)
    ]
    assert runs[1].train_loss[-1] != runs[0].train_loss[-1]
    np.testing.assert_allclose(runs[1].train_loss, runs[0].train_loss, rtol=1e-4)
    np.testing.assert_allclose(runs[1].singular_values(1, 50), runs[0].singular_values(1, 50), atol=1e-4)


def test_a_recording_gives_the_outliers():
    run = networks.train(tasks.ten_digits(0.25), size=64, steps=50, rng=np.random.default_rng(0))
    recording = run.recording(layer=1, step=50, directions=5, matvecs=1)
    assert recording.features.shape == (64, 10)
    with pytest.raises(ValueError, match="record_fields"):
        run.recording(layer=1, step=50)


def test_divergence_carries_the_run_so_far():
    def stream(rng):
        return 1e200 * rng.standard_normal((B, D)), rng.integers(2, size=B)

    problem = Classifier(stream, D, 2, depth=1, activation="linear", learning_rate=1e9)
    with pytest.raises(DivergenceError) as caught:
        networks.train(problem, size=N, steps=50, rng=np.random.default_rng(0))
    assert caught.value.partial.steps == caught.value.step - 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"stream": 3}, "stream"),
        ({"dimension": 0}, "dimension"),
        ({"outputs": 0}, "outputs"),
        ({"depth": 0}, "depth"),
        ({"activation": "sine"}, "activation"),
        ({"output_scale": 0.0}, "output_scale"),
        ({"learning_rate": np.nan}, "learning_rate"),
        ({"weight_std": -1.0}, "weight_std"),
        ({"momentum": 1.0}, "momentum"),
    ],
)
def test_bad_classifiers_are_refused_by_name(changes, named):
    options = {"stream": lambda rng: None, "dimension": D, "outputs": 3} | changes
    with pytest.raises(ValueError, match=named):
        Classifier(**options)


@pytest.mark.parametrize(
    ("x", "labels", "named"),
    [
        (np.ones((B, D + 1)), np.zeros(B, int), "inputs"),
        (np.ones((B - 1, D)), np.zeros(B, int), "inputs"),
        (np.ones((B, D)), np.full(B, 3), "labels"),
        (np.ones((B, D)), np.zeros(B), "labels"),
    ],
)
def test_bad_batches_are_refused(x, labels, named):
    problem = Classifier(lambda rng: (x, labels), D, 3)
    with pytest.raises(ValueError, match=f"stream must give .*{named}"):
        networks.train(problem, size=N, steps=1, rng=np.random.default_rng(0))


def test_bad_precision_is_refused():
    with pytest.raises(ValueError, match="dtype"):
        networks.train(made(3)[0], size=N, steps=1, rng=np.random.default_rng(0), dtype=np.int64)


# --- the tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [tasks.odd_or_even(0.1), tasks.ten_digits(0.1), tasks.next_word(0.1, 200), tasks.which_patch(0.1, 100)],
    ids=["odd or even", "ten digits", "next word", "which patch"],
)
def test_inputs_have_the_norm_of_their_dimension(task):
    rng = np.random.default_rng(0)
    batches = [task.stream(rng) for _ in range(40)]
    square = (
        np.mean(
            [inputs.multiply(inputs).sum() if sparse.issparse(inputs) else np.sum(inputs**2) for inputs, _ in batches]
        )
        / tasks.BATCH
    )
    assert square == pytest.approx(task.dimension, rel=0.05)
    labels = np.concatenate([labels for _, labels in batches])
    assert set(labels) <= set(range(max(task.outputs, 2)))
    assert len(set(labels)) > 0.5 * task.outputs


def test_windows_hold_the_words_before():
    words = tasks.tokens(300)
    inputs, follows = tasks.next_word(0.1, 300).stream(np.random.default_rng(0))
    dense = inputs.toarray().reshape(tasks.BATCH, tasks.WINDOW, 300)
    assert np.all(np.count_nonzero(dense, axis=2) == 1)
    window = np.argmax(dense, axis=2)[0]
    starts = np.flatnonzero(words[tasks.WINDOW :] == follows[0]) + tasks.WINDOW
    assert any(np.array_equal(words[start - tasks.WINDOW : start][::-1], window) for start in starts)


def test_the_vocabulary_is_the_most_frequent_words():
    words = tasks.tokens(1024)
    counts = np.bincount(words, minlength=1024)
    assert counts.min() > 0 and np.all(np.diff(counts[:-1]) <= 0)
    assert counts[-1] < 0.1 * len(words)
    assert len(words) > 50_000


def test_patches_differ_and_are_seen_changed():
    places = tasks.places(512)
    assert places.shape == (512, 12, 12, 3)
    assert len(np.unique(places.reshape(512, -1), axis=0)) == 512
    inputs, shown = tasks.which_patch(0.1, 8).stream(np.random.default_rng(0))
    same = inputs[shown == shown[0]]
    assert len(same) > 1 and np.ptp(same, axis=0).max() > 0.01

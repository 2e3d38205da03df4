"""The measured half of a prediction: networks on handwritten digits, at several widths, and their limit."""

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import networks, sweeps
from spectral_experiments import digits_all, digits_widths

LINE = 1.03 * 2  # what stands less than 3 % above the edge has corrections of N^(-2/3), not of 1/N


@pytest.fixture(scope="module")
def tables():
    return {name: spectral_experiments.table(name) for name in ("digits_widths", "digits_all")}


def rows(tables, name, key, least=500):
    """Widths and one column of the networks of a setting that are wide enough for a straight line in 1/N."""
    if name == digits_all.NAME:
        table = tables["digits_all"]
        chosen = table["size"] >= least
    else:
        table = tables["digits_widths"]
        chosen = (table["size"] >= least) & (table["setting"] == digits_widths.NAMES.index(name))
    return table["size"][chosen], table[key][chosen].astype(float)


SETTINGS = [*digits_widths.NAMES, digits_all.NAME]
OUTSIDE = {
    "squared": [5, 9, 9, 10],
    "cross_entropy": [5, 8, 9, 9],
    digits_all.NAME: [7, 9],
}  # values above LINE, at each mark
ERRORS = {
    "squared": 0.003,
    "cross_entropy": 0.005,
    digits_all.NAME: 0.006,
}  # standard errors of these values, at most
PLACES = [(table, row) for table in (digits_widths.TABLE, digits_all.TABLE) for row in table.rows]


@pytest.mark.parametrize("table, row", PLACES, ids=[row for _, row in PLACES])
def test_a_small_case_runs_to_its_stored_row(table, row):
    """Forty steps at a stable rate: all that is stored."""
    assert not table.changed_rows(row)


def test_every_network_of_the_script_is_in_the_table(tables):
    for name, counts in (digits_widths.COUNT | {digits_all.NAME: digits_all.COUNT}).items():
        sizes, seeds = rows(tables, name, "seed", least=0)
        found = {size: seeds[sizes == size].tolist() for size in np.unique(sizes)}
        assert found == {size: list(range(count)) for size, count in counts.items()}


def test_each_epoch_goes_through_the_images_once():
    batches, images = digits_all.batches(), digits_all.IMAGES
    assert batches.shape == (34, 100) and digits_all.problem().samples == images
    for epoch in batches.reshape(2, -1):
        assert len(np.unique(epoch)) == 1700 and epoch.max() < images
    assert np.mean(batches[:17] == batches[17:]) < 0.01


def test_the_sparse_solver_finds_what_a_full_decomposition_does():
    rng = np.random.default_rng(0)
    size = digits_widths.DENSE + 100
    matrix = rng.standard_normal((size, size)) / np.sqrt(size)
    matrix += 3 * np.linalg.qr(rng.standard_normal((size, 9)))[0] @ rng.standard_normal((9, size)) / np.sqrt(size)
    left, values, right = np.linalg.svd(matrix)
    found = digits_widths.leading(matrix)
    kept = digits_widths.KEPT
    assert found[1] == pytest.approx(values[:kept], rel=1e-10)
    for mine, theirs in ((found[0].T, left.T[:kept]), (found[2], right[:kept])):
        assert np.sum(mine * theirs, axis=1) ** 2 == pytest.approx(1, abs=1e-6)


def test_alignments_are_those_with_the_means_of_the_recorded_fields_of_a_class():
    """Features and gradients of a step as the training itself recorded them, cosines by an own road."""
    for name in digits_widths.NAMES:
        learned, step = digits_widths.problem(name), 6
        options = {"size": 40, "steps": step + 1, "rng": np.random.default_rng(0), "subtract_initial": True}
        run = networks.train(learned, record=(step,), **options)
        found, labels = digits_widths.spectrum(run, step), learned.targets.argmax(axis=1)
        left, values, right = np.linalg.svd(run.weights(1, step))
        assert found["values"] == pytest.approx(values[:14], rel=1e-12)
        for key, fields, vectors in (("right", run.features(1), right), ("left", run.gradients(1), left.T)):
            fields = fields[:, -learned.samples :]
            for digit in range(10):
                mean = fields[:, labels == digit].mean(axis=1)
                expected = (vectors[:14] @ mean) ** 2 / (mean @ mean)
                assert found[key][:, digit] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_learned_at_the_start_is_f_less_its_initial_value(tables, name):
    loss = rows(tables, name, "loss", least=0)[1][:, 0]
    assert loss == pytest.approx(np.log(10) if name == "cross_entropy" else 1.0, rel=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_lie_on_a_straight_line_in_one_over_the_width(tables, name):
    fit = sweeps.extrapolate(*rows(tables, name, "loss"))
    after = slice(1, None)
    assert np.all(fit.standard_error[after] < 0.003 * fit.limit[after])
    assert np.all(fit.p_value[after] > 1e-3)


@pytest.mark.parametrize("name", SETTINGS)
def test_all_that_stands_clearly_outside_lies_on_a_straight_line_in_one_over_the_width(tables, name):
    sizes, values = rows(tables, name, "values")
    fit = sweeps.extrapolate(sizes, values)
    out = fit.limit > LINE
    assert out.sum(axis=1).tolist() == OUTSIDE[name]
    assert np.all(fit.standard_error[out] < ERRORS[name] * fit.limit[out])
    assert np.all(fit.p_value[out] > 1e-3)


@pytest.mark.parametrize("name", SETTINGS)
def test_almost_every_image_is_told_right_at_the_end(tables, name):
    sizes, accuracy = rows(tables, name, "accuracy")
    ends = np.array([accuracy[sizes == size, -1].mean() for size in np.unique(sizes)])
    assert np.all(ends > 0.95) and np.ptp(ends) < 0.005
    assert np.all(accuracy[:, -1] > accuracy[:, 1])


@pytest.mark.parametrize("name", SETTINGS)
def test_outliers_know_the_classes_and_the_bulk_does_not(tables, name):
    """What a class means to the features and to the gradients lies in the span of the outliers' vectors."""
    sizes, right = rows(tables, name, "right")
    left = rows(tables, name, "left")[1]
    number = OUTSIDE[name][-1]
    for aligned, least in ((right, 0.75), (left, 0.6)):
        assert aligned.min() >= 0 and aligned.sum(axis=2).max() < 1 + 1e-5
        widest = aligned[sizes == sizes.max(), -1]
        assert np.all(widest[:, :number].sum(axis=1).mean(axis=0) > least)
        assert np.all(widest[:, -2:].mean(axis=(0, 1)) < 0.01)


@pytest.mark.parametrize("name", digits_widths.NAMES)
def test_the_movie_is_of_a_network_of_the_table(tables, name):
    table, number = tables["digits_widths"], digits_widths.NAMES.index(name)
    row = spectral_experiments.first_row(table, setting=number, size=digits_widths.MOVIE, seed=0)
    movie = table["movie"][number]
    at = [table["frames"].tolist().index(step) for step in table["marks"]]
    apart = np.abs(movie[at, : digits_widths.KEPT] - table["values"][[row, row + 1]]).max(axis=(1, 2))
    assert apart[0] < 1e-5 and apart[1] > 0.01
    assert np.all(np.diff(movie, axis=1) <= 0)
    assert 1.95 < movie[0, 0] < 2.03 and np.sum(movie[0] ** 2) == pytest.approx(digits_widths.MOVIE, rel=0.01)

"""What the chapter on the first real network promises, asserted on its stored table and on networks trained here."""

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import networks, problems
from spectral_dynamics.spectra import laws, outliers
from spectral_experiments import digits

LINE = 1.03 * 2  # what stands higher than this counts


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("digits")


def misfit(predicted, measured, line=LINE):
    """Relative error of values paired in descending order, where either of a pair stands above the line."""
    return np.where(np.maximum(predicted, measured) > line, np.abs(predicted / measured - 1), 0)


def test_a_missed_value_and_an_invented_one_are_whole_errors():
    assert misfit(np.array([3.0, 0.0]), np.array([3.0, 2.5])).max() == 1
    assert misfit(np.array([3.0, 2.5]), np.array([3.0, 1.9])).max() > 0.3
    assert misfit(np.array([2.05]), np.array([1.9])).max() == 0


# The stored table


def test_the_smallest_case_runs_to_its_stored_row():
    """The loss falls at every step: forty of them do not amplify rounding, and everything stored is compared."""
    assert not digits.TABLE.changed_rows()


def test_the_table_holds_three_seeds_at_the_width_of_the_chapter_and_every_second_step(table):
    assert np.sum(table["widths"] == 1000) == 3
    np.testing.assert_array_equal(table["steps"], np.arange(2, 41, 2))


def test_every_outlier_is_predicted_and_none_is_invented_at_every_step_and_seed(table):
    wide = table["widths"] == 1000
    error = misfit(table["predicted"], table["measured"])[wide]
    early = table["steps"] < 20
    assert error[:, early].max() < 0.01
    assert error[:, ~early].max() < 0.005


def test_nine_outliers_stand_clear_at_the_end_and_agree_to_one_in_ten_thousand(table):
    wide = table["widths"] == 1000
    measured, predicted = (table[name][wide, -1] for name in ("measured", "predicted"))
    assert np.all(measured[:, 8] > 2.9)
    assert np.all(measured[:, 9] < 2.3)
    assert np.abs(predicted / measured - 1)[:, :9].max() < 1.2e-4


def test_independent_spikes_are_twelve_to_seventeen_per_cent_low(table):
    wide = table["widths"] == 1000
    low = 1 - (table["independent"] / table["measured"])[wide, -1, :9]
    assert low.min() > 0.12
    assert low.max() < 0.175


def test_nothing_is_predicted_before_anything_is_there(table):
    assert table["measured"][:, :2].max() < LINE
    assert table["predicted"][:, :2].max() < LINE


def test_too_few_directions_miss_outliers_and_images_under_the_initial_matrix_help(table):
    late, measured = table["steps"] >= 20, table["measured"][table["widths"] == 1000]
    worst = {option: misfit(table["fewer"][:, j], measured)[:, late].max() for j, option in enumerate(digits.OPTIONS)}
    assert all(worst[5, rounds] == 1 for rounds in (0, 1, 2))
    assert worst[20, 0] > 0.005 > worst[20, 1] >= worst[20, 2]


def test_every_network_reads_its_images(table):
    assert table["accuracy"][:, -1].min() > 0.99
    assert np.all(np.diff(table["loss"], axis=1) < 0)


def test_outliers_settle_as_the_width_grows(table):
    widths, size = table["widths"], np.sqrt(np.mean(table["measured"][:, -1, :9] ** 2, axis=1))
    narrow = widths <= 1000
    slope, limit = np.polyfit(1 / widths[narrow], size[narrow], 1)
    assert abs(size[widths == 2000].mean() - limit - slope / 2000) < 0.015


# Trained here


@pytest.fixture(scope="module")
def network():
    return digits.run(300, 3)


def test_the_bulk_stays_a_quarter_circle(network):
    bulk = np.sort(network.singular_values(1, 40)[10:])
    assert bulk[-1] < LINE
    distance = np.abs(np.arange(1, bulk.size + 1) / bulk.size - laws.quarter_circle(1.0).cdf(bulk)).max()
    assert distance < 10 / 300  # as much as the ten that have left it


def test_learned_directions_lean_on_the_initial_matrix(network):
    learned = network.recording(1, 40, directions=9)
    lean = np.sum(learned.gradients * (learned.initial @ learned.features), axis=0)
    assert np.all(lean > 0.5)  # independent directions would give 0 with standard deviation 0.06


def test_what_ten_classes_write_in_the_first_step_has_nine_directions():
    problem, _ = digits.digits()
    run = networks.train(problem, size=300, steps=1, rng=np.random.default_rng(0), record_fields=False)
    written = np.linalg.svd(run.weights(1, 1) - run.weights(1, 0), compute_uv=False)
    assert written[8] > 2.5 * written[9]


def test_a_linear_network_with_centred_inputs_writes_one_direction_fewer_than_classes():
    problem, _ = digits.digits()
    linear = problems.MLP(problem.inputs, problem.targets, activation="linear", output_scale=8.0)
    options = {"size": 50, "steps": 1, "record_fields": False, "subtract_initial": True}
    run = networks.train(linear, rng=np.random.default_rng(0), **options)
    written = np.linalg.svd(run.weights(1, 1) - run.weights(1, 0), compute_uv=False)
    assert written[8] > 1e-3
    assert written[9] < 1e-12


def test_the_first_layer_is_predicted_too(network):
    found = outliers.from_recording(network.recording(0, 40, directions=10, matvecs=1), weight_variance=1.0)
    measured = network.singular_values(0, 40)[: found.singular_values.size]
    assert found.singular_values.size == 9
    clear = measured > 1.2 * found.bulk_edge
    assert clear.sum() == 9
    np.testing.assert_allclose(found.singular_values[clear], measured[clear], rtol=2e-3)


def test_singular_vectors_point_where_they_are_predicted_to(network):
    recording = network.recording(1, 40, directions=20, matvecs=2)
    found = outliers.from_recording(recording, weight_variance=1.0)
    left, _, right = np.linalg.svd(recording.final)
    measured = right[:9] @ recording.features / np.linalg.norm(recording.features, axis=0)
    sign = np.sign(np.sum(measured * found.right_alignment[:9], axis=1, keepdims=True))
    np.testing.assert_allclose(sign * measured, found.right_alignment[:9], atol=0.02)
    measured = left[:, :9].T @ recording.gradients / np.linalg.norm(recording.gradients, axis=0)
    np.testing.assert_allclose(sign * measured, found.left_alignment[:9], atol=0.02)

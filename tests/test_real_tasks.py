"""Real tasks: the stored table, what decides between small and large, and the whole way at its smallest size."""

import numpy as np
import pytest
import spectral_experiments
from spectral_experiments import real_tasks as experiment


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("real_tasks")


def rows(table, *names):
    return np.isin(table["task"], [experiment.NAMES.index(name) for name in names])


SMALL = [name for name in experiment.NAMES if name not in experiment.LARGE]


def test_every_width_and_seed_is_there(table):
    found = {tuple(row) for row in np.transpose([table[key] for key in ("task", "outputs", "width", "seed")])}
    wanted = {
        (experiment.NAMES.index(one["name"]), one["outputs"], one["width"], one["seed"]) for one in experiment.cases()
    }
    assert found == wanted and len(table["task"]) == len(wanted)
    assert len(experiment.SEEDS) >= 3 and min(experiment.WIDTHS) <= 128 and max(experiment.WIDTHS) >= 1024


@pytest.mark.parametrize("name", ["ten digits, 10 outputs", "which patch, 64 outputs"])
def test_a_small_network_runs_to_its_stored_row(name):
    """A sixteenth of the training, what single precision leaves alone of it: see the docstring of `again`."""
    assert not experiment.TABLE.changed_rows(name)


def test_the_rule_gives_the_learning_rates(table):
    assert np.array_equal(table["rates"], experiment.RATES)
    for name, losses in zip(experiment.NAMES, table["tuning"], strict=True):
        assert experiment.gentlest(losses) == experiment.TASKS[name][1]


def test_every_task_is_learned(table):
    """Digits to the end; words and patches far above chance, which is log C for the loss and 1/C for the accuracy."""
    loss, accuracy = table["loss"][:, -1], table["accuracy"][:, -1]
    assert np.all(accuracy[rows(table, *SMALL)] > 0.99)
    large = rows(table, *experiment.LARGE)
    assert np.all(loss[large] < 0.75 * np.log(table["outputs"][large]))
    assert np.all(accuracy[large] > 15 / table["outputs"][large])


def test_the_threshold_leaves_the_digits_room_of_a_factor_two(table):
    assert experiment.THRESHOLD == 0.1
    assert 1.9 * table["distance"][rows(table, *SMALL), -1].max() < experiment.THRESHOLD


def test_the_deciding_number_separates_in_every_seed(table):
    """Both hidden matrices, every width, fixed number of outputs and fixed ratio."""
    last = table["distance"][:, -1]
    assert last[rows(table, *SMALL)].max() < experiment.THRESHOLD < last[rows(table, *experiment.LARGE)].min()


def test_the_deciding_number_is_that_of_the_stored_values(table):
    for row in range(0, len(table["task"]), 7):
        values = table[f"values_{row}"][-1, 1]
        assert experiment.deciding_number(values, table["outputs"][row]) == pytest.approx(
            table["distance"][row, -1, 1], abs=1e-5
        )


def test_the_whole_way_at_its_smallest_size(tmp_path):
    """Trained here and now; the same threshold."""
    found = experiment.reduced(1, store=tmp_path, widths=(128,), seeds=(0,), steps=1000)
    assert set(found) == set(experiment.NAMES)
    small = max(found[name].max() for name in SMALL)
    large = min(found[name].min() for name in experiment.LARGE)
    assert small < experiment.THRESHOLD < large


def test_removed_values():
    assert [experiment.removed(*pair) for pair in [(1, 128), (10, 128), (10, 1024), (512, 1024)]] == [2, 6, 20, 51]

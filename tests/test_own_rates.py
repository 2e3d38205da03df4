"""The large tasks with a rate of their own for every number of outputs: the stored table."""

import numpy as np
import pytest
import spectral_experiments
from spectral_experiments import own_rates as experiment
from spectral_experiments import real_tasks, tasks


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("own_rates")


def test_the_rule_gives_the_learning_rates(table):
    for task, outputs, losses in zip(table["tuned_task"], table["tuned_outputs"], table["tuning"], strict=True):
        rates = table["rate"][(table["task"] == task) & (table["outputs"] == outputs)]
        assert len(rates) == 3 and set(rates) == {real_tasks.gentlest(losses)}


@pytest.mark.parametrize("name", ["which patch, gentle", "at the end"])
def test_a_small_network_runs_to_its_stored_row(name):
    """What single precision leaves alone on every processor: see the docstrings of `again` and `again_at_the_end`."""
    if name == "at the end" and tasks.text_hash() != spectral_experiments.table("real_tasks")["text"]:
        pytest.skip("this version of Python has other help texts than the one that the words were learned from")
    assert not experiment.TABLE.changed_rows(name)


def test_own_rates_learn_better_and_still_separate(table):
    """Than the rate of 1024 words or 512 patches, where it is another one; and above the threshold everywhere."""
    main = spectral_experiments.table("real_tasks")
    for row in range(len(table["task"])):
        kind = real_tasks.NAMES.index(experiment.NAMES[table["task"][row]])
        same = (main["task"] == kind) & (main["outputs"] == table["outputs"][row])
        same &= (main["width"] == table["width"][row]) & (main["seed"] == table["seed"][row])
        assert table["distance"][row].min() > real_tasks.THRESHOLD
        if table["rate"][row] < real_tasks.TASKS[real_tasks.NAMES[kind]][1]:
            assert table["loss"][row] < main["loss"][same, -1].item() - 0.05
            assert np.all(table["distance"][row] < main["distance"][same, -1][0] - 0.1)

"""The large tasks with a rate of their own for every number of outputs: the stored table."""

import numpy as np
import pytest
import stored

experiment = stored.experiment("own_rates")
real_tasks = stored.experiment("real_tasks")


@pytest.fixture(scope="module")
def table():
    return stored.table(experiment)


def test_the_table_is_not_older_than_the_code_that_made_it(table):
    assert table["fingerprint"] == experiment.fingerprint(), "run python experiments/own_rates.py, and the chapters"


def test_the_rule_gives_the_learning_rates(table):
    for task, outputs, losses in zip(table["tuned_task"], table["tuned_outputs"], table["tuning"], strict=True):
        rates = table["rate"][(table["task"] == task) & (table["outputs"] == outputs)]
        assert len(rates) == 3 and set(rates) == {real_tasks.gentlest(losses)}


def test_a_small_network_runs_to_its_stored_row(table):
    """Single precision and another machine's BLAS: to 1e-2 after 3000 steps."""
    row = np.flatnonzero((table["width"] == 128) & (table["task"] == 1))[0]
    keys = {"outputs": 64, "width": 128, "seed": int(table["seed"][row]), "rate": float(table["rate"][row])}
    found = experiment.case("which patch", **keys, made_by="")
    np.testing.assert_allclose(found["values"][:, 0], table[f"values_{row}"][:, 0], rtol=0.05)
    np.testing.assert_allclose(found["distance"], table["distance"][row], atol=0.03)


def test_own_rates_learn_better_and_still_separate(table):
    """Than the rate of 1024 words or 512 patches, where it is another one; and above the threshold everywhere."""
    main = stored.table(real_tasks)
    for row in range(len(table["task"])):
        kind = real_tasks.NAMES.index(experiment.NAMES[table["task"][row]])
        same = (main["task"] == kind) & (main["outputs"] == table["outputs"][row])
        same &= (main["width"] == table["width"][row]) & (main["seed"] == table["seed"][row])
        assert table["distance"][row].min() > real_tasks.THRESHOLD
        if table["rate"][row] < real_tasks.TASKS[real_tasks.NAMES[kind]][1]:
            assert table["loss"][row] < main["loss"][same, -1].item() - 0.05
            assert np.all(table["distance"][row] < main["distance"][same, -1][0] - 0.1)

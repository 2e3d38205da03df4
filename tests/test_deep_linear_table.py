"""Theory against networks of sixteen kinds, extrapolated to infinite size, on the stored table."""

import json

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import problems, sweeps
from spectral_dynamics.dynamics import deep_linear
from spectral_dynamics.spectra import outliers
from spectral_experiments import deep_linear as experiment

LINE = experiment.LINE
LOSSES, VALUES, COSINES = 0.02, 0.005, 0.02  # allowed: relative, relative, absolute


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("deep_linear")


@pytest.fixture(scope="module", params=experiment.NAMES)
def setting(request, table):
    """The theory of one setting, and the limit of infinite size of everything that is stored of its networks."""
    number = experiment.NAMES.index(request.param)
    rows = table["setting"] == number
    problem = problems.DeepLinear(**json.loads(table["parameters"][number]))
    keys, sizes, controls = (
        ("test_loss", "train_loss", "values", "right", "left"),
        table["size"][rows],
        table["controls"][rows],
    )
    limits = {key: sweeps.extrapolate(sizes, table[key][rows], controls=controls) for key in keys}
    return deep_linear.solve(problem, experiment.STEPS), limits, sizes


def standing(theory):
    """(row, layer, step, result) of every recorded spectrum that has an outlier clear of the edge."""
    for row, step in enumerate(experiment.RECORDED):
        for layer in range(theory.problem.depth):
            found = outliers.outliers(theory.order(layer, step))
            if found.singular_values.size and found.singular_values[0] > LINE * found.bulk_edge:
                yield row, layer, step, found


def test_the_settings_are_those_of_the_script(table):
    assert list(table["names"]) == experiment.NAMES
    parameters_stored = [json.loads(parameters) for parameters in table["parameters"]]
    assert parameters_stored == [parameters for _, parameters in experiment.SETTINGS.values()]


def test_the_settings_span_what_is_promised():
    rows = [problems.DeepLinear(**parameters) for _, parameters in experiment.SETTINGS.values()]
    assert len(rows) >= 12
    assert {row.depth for row in rows} == {1, 2, 3, 4} and {row.parametrization for row in rows} == {"mup", "ntk"}
    for name, low, high in [("width_ratio", 0.25, 4), ("weight_std", 0.3, 1), ("noise_std", 0, 0.3)]:
        found = [getattr(row, name) for row in rows]
        assert min(found) <= low and max(found) >= high, name
    assert min(row.data_ratio for row in rows if row.data_ratio) <= 0.5
    assert any(row.data_ratio is None and row.batch_ratio is None for row in rows)
    for name in ("batch_ratio", "momentum", "weight_decay"):
        assert {bool(getattr(row, name)) for row in rows} == {False, True}, name


@pytest.mark.parametrize("name", ["one layer", "NTK, SGD, momentum, decay"])
def test_a_small_network_runs_to_its_stored_row(name):
    """Forty steps well below the edge of stability, where rounding is forgotten: all that is stored."""
    assert not experiment.TABLE.changed_rows(name)


def test_three_sizes_of_ratio_four_and_errors_of_the_limit_below_half_of_what_is_allowed(setting):
    theory, limits, sizes = setting
    assert len(np.unique(sizes)) >= 3 and sizes.max() >= 4 * sizes.min()
    for key in ("test_loss", "train_loss"):
        assert np.max(limits[key].standard_error / limits[key].limit) < LOSSES / 2
    for row, layer, _, _ in standing(theory):
        assert limits["values"].standard_error[row, layer] / limits["values"].limit[row, layer] < VALUES / 2
        for key in ("right", "left"):
            assert limits[key].standard_error[row, layer].max() < COSINES / 2


def test_losses_at_every_step(setting):
    theory, limits, _ = setting
    for key in ("test_loss", "train_loss"):
        assert np.abs(limits[key].limit / getattr(theory, key) - 1).max() < LOSSES


def test_outliers_and_alignments_of_every_layer(setting):
    theory, limits, _ = setting
    for row, layer, step, found in standing(theory):
        assert abs(limits["values"].limit[row, layer] / found.singular_values[0] - 1) < VALUES
        for key, predicted in (("right", found.right_alignment), ("left", found.left_alignment)):
            predicted = predicted[0, [0, step // 2, step - 1]]
            assert np.abs(limits[key].limit[row, layer] - predicted).max() < COSINES


def test_most_settings_have_outliers_that_count(table):
    counted = [
        len(list(standing(deep_linear.solve(problems.DeepLinear(**parameters), experiment.STEPS))))
        for _, parameters in experiment.SETTINGS.values()
    ]
    assert sum(count > 0 for count in counted) >= 12 and sum(counted) >= 30


def test_the_lines_are_straight(table):
    """Over everything that is fitted, chi^2 of three sizes on a line with one degree of freedom is about 1."""
    found = []
    for number in range(len(experiment.NAMES)):
        rows = table["setting"] == number
        losses = np.stack([table["test_loss"][rows], table["train_loss"][rows]], axis=1)[:, :, 10::10]
        found.append(sweeps.extrapolate(table["size"][rows], losses, controls=table["controls"][rows]).chi_square)
    assert np.mean(found) < 2

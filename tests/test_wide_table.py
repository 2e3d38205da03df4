"""Wide networks in muP against networks of thirteen kinds, extrapolated to infinite width, on stored tables."""

import numpy as np
import pytest
import spectral_experiments
from spectral_experiments import wide
from spectral_experiments import wide_theory as theory

LOSSES, VALUES, COSINES = 0.01, 0.005, 0.02  # allowed: relative, relative, absolute


@pytest.fixture(scope="module")
def tables():
    return spectral_experiments.table("wide"), spectral_experiments.table("wide_theory")


@pytest.fixture(scope="module", params=wide.NAMES)
def setting(request, tables):
    """Name, what the theory says, and the limit of infinite width of everything that is stored of its networks."""
    networks, expected = tables
    rows = networks["setting"] == wide.NAMES.index(request.param)
    measured = {key: networks[key][rows] for key in ("loss", "kernels", "values", "right", "left")}
    limits = wide.limits(request.param, networks["size"][rows], measured)
    depth, last = wide.problem(request.param).depth, wide.steps(request.param)
    cut = {"loss": slice(1, last + 1), "kernels": slice(depth)} | dict.fromkeys(
        ("values", "right", "left"), slice(depth - 1)
    )
    own = {key: expected[key][wide.NAMES.index(request.param)][part] for key, part in cut.items()}
    errors = {key: expected[f"{key}_error"][wide.NAMES.index(request.param)][part] for key, part in cut.items()}
    return request.param, own, errors, limits


def test_the_settings_span_what_is_promised(tables):
    assert all(list(table["names"]) == wide.NAMES for table in tables)
    rows = [wide.problem(name) for name in wide.NAMES]
    assert len(rows) == 13
    assert {row.depth for row in rows} == {2, 3, 4} and len({row.activation for row in rows}) == 3
    for name, low, high in [("output_scale", 0.3, 5), ("weight_std", 0.5, 1.5)]:
        found = [getattr(row, name) for row in rows]
        assert min(found) <= low and max(found) >= high, name
    assert {row.outputs for row in rows} == {1, 3, 10}
    assert {row.loss for row in rows} == {"squared", "cross_entropy"}
    assert any(row.momentum for row in rows) and any(row.weight_decay for row in rows)
    assert {row.batches is None for row in rows} == {True, False}
    assert set(tables[0]["size"]) == {500, 1000, 2000, 4000}


def test_a_small_network_runs_to_its_stored_row():
    """Two dozen steps at a stable rate, see test_no_setting_is_unstable: all that is stored."""
    assert not wide.TABLE.changed_rows("ten outputs, batches")


@pytest.mark.parametrize("name", ["tanh, two layers", "relu, batches"])
def test_a_small_theory_agrees_with_the_stored_one(name, tables):
    number, small = wide.NAMES.index(name), theory.case(name, 16_000, 8)
    for key in ("loss", "kernels", "values", "right", "left"):
        error = np.hypot(small[f"{key}_error"], tables[1][f"{key}_error"][number])
        np.testing.assert_array_less(np.abs(small[key] - tables[1][key][number]), 6 * error + 1e-9, err_msg=key)


def test_no_setting_is_unstable(tables):
    assert not tables[1]["parted"].any()


def test_errors_of_both_are_below_half_of_what_is_allowed(setting):
    name, own, errors, limits = setting
    out = wide.outside(name, own["values"])
    for error in (errors, {key: limit.standard_error for key, limit in limits.items()}):
        assert np.max(error["loss"] / own["loss"]) < LOSSES / 2
        assert np.max((error["values"] / own["values"].clip(1e-9))[out], initial=0) < VALUES / 2
        for key in ("right", "left"):
            assert np.max(error[key][out[:, 0]], initial=0) < COSINES / 2


def test_losses_at_every_step(setting):
    _, own, _, limits = setting
    assert np.abs(limits["loss"].limit / own["loss"] - 1).max() < LOSSES


def test_every_outlier_clear_of_the_edge(setting):
    name, own, _, limits = setting
    out = wide.outside(name, own["values"])
    assert out.any()
    assert np.abs(limits["values"].limit / own["values"].clip(1e-9) - 1)[out].max() < VALUES


def test_alignments_of_the_top_outlier(setting):
    name, own, _, limits = setting
    out = wide.outside(name, own["values"])[:, 0]
    for key in ("right", "left"):
        assert np.abs(limits[key].limit - own[key])[out].max() < COSINES


def test_kernels_after_the_last_step(setting):
    _, own, errors, limits = setting
    error = np.hypot(errors["kernels"], limits["kernels"].standard_error)
    away = np.abs(limits["kernels"].limit - own["kernels"])
    assert away.max() < 0.01 * own["kernels"].max()
    assert np.all(away < 6 * error + 1e-9)


def test_the_lines_are_straight(tables):
    """Over everything that is fitted, chi^2 of four widths on a line with two degrees of freedom is about 2."""
    found = []
    for number, name in enumerate(wide.NAMES):
        rows = tables[0]["setting"] == number
        measured = {key: tables[0][key][rows] for key in ("loss", "kernels", "values", "right", "left")}
        limits = wide.limits(name, tables[0]["size"][rows], measured)
        found.append(limits["loss"].chi_square[[2, -1]].mean())
        out = wide.outside(name, tables[1]["values"][number])[: len(limits["values"].limit)]
        found.append(limits["values"].chi_square[out].mean())
    assert np.mean(found) < 3.5

"""Every stored table is what today's code would make: its constants to the last bit, its tiny runs to rounding."""

import importlib
import importlib.util
from pathlib import Path

import mutations
import numpy as np
import pytest
import spectral_experiments


@pytest.fixture(params=spectral_experiments.NAMES)
def stored(request):
    return importlib.import_module(f"spectral_experiments.{request.param}").TABLE


def remedy(table):
    return f"run python experiments/{table.path.stem}.py, and the chapters that read it (or see CONTRIBUTING.md)"


def test_the_table_was_made_with_the_constants_of_its_script(stored):
    assert not stored.changed_constants(), remedy(stored)


def test_every_witness_comes_out_as_when_the_table_was_made(stored):
    if stored.needs and not importlib.util.find_spec(stored.needs):
        pytest.skip(f"the witnesses of {stored.path.name} need {stored.needs}, which is not installed")
    assert not stored.changed_witnesses(), remedy(stored)


def test_every_stored_file_has_a_name_by_which_it_is_read():
    stored = {path.stem for folder in spectral_experiments.__path__ for path in Path(folder).glob("*.npz")}
    assert stored == set(spectral_experiments.NAMES)


def test_a_table_is_read_by_its_name():
    table = spectral_experiments.table("widths")
    assert table["loss"].shape == (len(table["size"]), 25)
    assert not {"constants", "witnesses"} & set(table)
    with pytest.raises(ValueError, match="name must be one of deep_linear, digits"):
        spectral_experiments.table("width")


def test_the_first_row_is_the_first_with_all_values():
    table = {"setting": np.array([0, 1, 1, 1]), "size": np.array([2, 2, 4, 4])}
    assert spectral_experiments.first_row(table, setting=1) == 1
    assert spectral_experiments.first_row(table, size=4, setting=1) == 2
    with pytest.raises(ValueError, match=r"values must be those of a row, got .*'size': 4"):
        spectral_experiments.first_row(table, setting=0, size=4)


# Their worth: `python tests/mutations.py` tries thirty changes


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code").resolve()
    mutations.copy(folder)
    return folder


@pytest.mark.parametrize("change", ["loss averaged over outputs", "decay of momentum halved"])
def test_a_change_of_what_is_computed_is_seen(code, change):
    assert mutations.mutated(change, code, ["wide", "deep_linear"])


def test_other_names_for_all_that_is_private_are_not(code):
    assert len(mutations.rename(code)) > 40
    assert not mutations.red(code, [name for name in spectral_experiments.NAMES if name != "transformer"])

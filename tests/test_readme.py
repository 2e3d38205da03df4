"""The examples of the README do what they say."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def run(code: str) -> dict:
    names: dict = {}
    exec(code, names)
    return names


def test_the_first_example_predicts_the_one_value_that_left_the_bulk():
    names = run(EXAMPLES[0])
    network, spectra = names["network"], names["spectra"]
    measured = network.singular_values(layer=1, step=30)
    predicted = spectra.outliers.from_recording(names["recording"]).singular_values
    outside = measured[measured > 1.03 * 2]
    assert outside.size == predicted.size == 1
    assert abs(predicted[0] / outside[0] - 1) < 5e-3


@pytest.fixture(scope="module")
def second():
    return run(EXAMPLES[1])


def test_the_second_example_predicts_from_the_problem_alone(second):
    """The nearest wrong answer takes the learned directions for strangers to the bulk."""
    escape, network, spectra = second["escape"], second["network"], second["spectra"]
    assert escape.steps[escape.count > 0][0] == 7
    values = network.singular_values(layer=1, step=60)
    assert values[1] < escape.bulk_edge[60] < values[0]
    assert abs(escape.singular_values[60, 0] / values[0] - 1) < 0.02
    order = second["theory"].order(layer=1, step=60)
    echoless = replace(order, A=0 * order.A, B=0 * order.B)  # made independently of the bulk
    (rival,) = spectra.outliers.outliers(echoless).singular_values
    assert abs(rival / values[0] - 1) > 0.04


def test_the_numbers_of_the_second_example_are_those_of_its_comments(second):
    escape, network, theory = second["escape"], second["network"], second["theory"]
    assert f"{escape.singular_values[60, 0]:.2f} predicted" in EXAMPLES[1]
    first, next_one = network.singular_values(layer=1, step=60)[:2]
    assert f"{first:.2f} measured, then {next_one:.2f}" in EXAMPLES[1]
    assert f"{theory.test_loss[60]:.4f}, of 1 at the start, and {network.test_loss[60]:.4f}" in EXAMPLES[1]

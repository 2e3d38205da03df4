"""The ledger: a check that cannot fail is no check, and a line that was not printed does not count."""

import io
import json
import sys

import numpy as np
import pytest
import sympy
from spectral_dynamics import checks

x = sympy.symbols("x")


def notebook(tmp_path, markdown: str, printed: str = ""):
    path = tmp_path / "chapter.ipynb"
    output = {"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)}
    cells = [
        {"cell_type": "markdown", "source": markdown},
        {"cell_type": "code", "source": "", "outputs": [output] if printed else []},
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


@pytest.mark.parametrize("error", [2e-3, -2e-3, [0.0, 2e-3], np.nan, np.inf, 2e-3j])
def test_a_numerical_check_fails_beyond_its_tolerance(error):
    with pytest.raises(AssertionError, match="eq-a"):
        checks.check("eq-a", "numerical", error, 1e-3, "rounding")


@pytest.mark.parametrize("error", [x, [sympy.Integer(0), x], sympy.Matrix([[0, x]])])
def test_a_symbolic_check_fails_unless_everything_vanishes(error):
    with pytest.raises(AssertionError, match="eq-a"):
        checks.check("eq-a", "symbolic", error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eq-a", "guess", 0.0), "kind must be one of"),
        (("eq-a", "numerical", 0.0, 1e-3), "needs a reason"),
        (("eq-a", "numerical", 0.0, -1.0), "tolerance must be at least 0"),
        (("eq-a", "numerical", []), "error is empty"),
        (("eq-a", "symbolic", []), "error is empty"),
        (("eq-a", "symbolic", 0.0), "must be a SymPy expression"),
    ],
)
def test_a_check_that_cannot_fail_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        checks.check(*arguments)


@pytest.mark.parametrize("distance", [1.9e-3, [1.9e-3, -1e-3], -1.9e-3, np.nan])
def test_a_check_whose_rival_would_pass_too_fails(distance):
    with pytest.raises(AssertionError, match="eq-a: the lazy limit would pass too"):
        checks.check("eq-a", "limit", 0.0, 1e-3, "1/N", rival=("the lazy limit", distance))


@pytest.mark.parametrize(
    ("rival", "message"),
    [
        ("the lazy limit", "rival must be a pair of a name and an error"),
        (("", 1.0), "rival must be a pair of a name and an error"),
        ((1.0, "the lazy limit"), "rival must be a pair of a name and an error"),
        (("a: b", 1.0), "rival must have a name without"),
        (("a | b", 1.0), "rival must have a name without"),
        (("the lazy limit", []), "error is empty"),
    ],
)
def test_a_rival_that_is_none_is_refused(rival, message):
    with pytest.raises(ValueError, match=message):
        checks.check("eq-a", "limit", 0.0, 1e-3, "1/N", rival=rival)


def test_an_exact_check_has_no_rival():
    with pytest.raises(ValueError, match="rival is for a check with a tolerance above 0"):
        checks.check("eq-a", "symbolic", sympy.Integer(0), rival=("the lazy limit", 1.0))


def test_the_ledger_reads_back_what_the_checks_printed(tmp_path, capsys):
    checks.check("eq-a", "symbolic", sympy.sin(x) ** 2 + sympy.cos(x) ** 2 - 1)
    checks.check("eq-b", "simulation", np.array([1e-4, -3e-4]), 1e-3, "Monte Carlo | 20 matrices")
    far = np.array([-0.004, 0.0021])
    checks.check("eq-c", "limit", 2e-4, 1e-3, "1/N | two sizes", rival=("the lazy limit, gamma -> 0", far))
    printed = capsys.readouterr().out
    first, second, third = checks.ledger(notebook(tmp_path, "", "other text\n" + printed))
    assert first == checks.Check("eq-a", "symbolic", 0.0, 0.0)
    assert second == checks.Check("eq-b", "simulation", 3e-4, 1e-3, "Monte Carlo | 20 matrices")
    excluded = {"rival": "the lazy limit, gamma -> 0", "distance": 0.004}
    assert third == checks.Check("eq-c", "limit", 2e-4, 1e-3, "1/N | two sizes", **excluded)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_a_check_that_passed_raises_nothing_on_any_terminal(monkeypatch, encoding):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    checks.check("eq-a", "limit", 0.0, 1e-3, "γ × 1/N — rounding")
    terminal.flush()
    printed = terminal.buffer.getvalue().decode(encoding)
    assert "eq-a | limit | 0 <= 1.0e-03" in printed
    assert ("✓" in printed) == (encoding == "utf-8")


def test_numbered_equations_are_found_in_both_spellings(tmp_path):
    text = "$$\nx = 1\n$$ (eq-first)\n\n$$ y $$\n\n```{math}\n:label: eq-second\nx\n```\n\n$$\nz\n$$\n"
    assert checks.numbered_equations(notebook(tmp_path, text)) == ["eq-first", "eq-second"]


def test_tables_count_and_list_every_check():
    limit = checks.Check("eq-a", "limit", 1e-9, 1e-8, "rounding", "the lazy limit", 5e-8)
    lines = {"bulk": [checks.Check("eq-a", "symbolic", 0.0, 0.0), limit]}
    assert "| {doc}`bulk` | 1 | 1 | 0 | 1 | 0 | 0 | 0 | 0 |" in checks.summary_table(lines, {"bulk": ["eq-a"]})
    table = checks.full_table(lines).splitlines()
    assert table[2] == "| {eq}`eq-a` | symbolic identity | 0 | 0 | exact |  |  |"
    assert table[3] == "| {eq}`eq-a` | limit | 1.0e-09 | 1.0e-08 | rounding | the lazy limit | 5.0 |"


def test_rounding_does_not_choose_the_digits_of_a_decimal_that_is_a_tie():
    tie = 0.0325
    printed = {str(checks.Check("eq-a", "prose", x, 1.0)) for x in (tie, np.nextafter(tie, 0), np.nextafter(tie, 1))}
    assert printed == {"✓ eq-a | prose | 3.3e-02 <= 1.0e+00"}


def test_the_texts_of_an_equation_are_one_row_with_all_statements_and_the_nearest_slip():
    first = checks.Check("eq-a", "text", 0.0, 1e-9, "rounding, statement 1, 3 of 4", "any of 5 slips", 4e-9)
    second = checks.Check("eq-a", "text", 2e-4, 1e-3, "5/N, statement 2 of 4", "any of 2 slips", 1e-1)
    third = checks.Check("eq-a", "text", 0.0, 1e-9, "rounding, statement 4 of 4")
    lines = {"bulk": [first, checks.Check("eq-a", "symbolic", 0.0, 0.0), second, third]}
    table = checks.full_table(lines).splitlines()
    told = "2.0e-04 | 1.0e-03 | 5/N, statement 1, 2, 3, 4 of 4 | any of 7 slips | 4.0"
    assert table[2] == f"| {{eq}}`eq-a` | the displayed formula, parsed | {told} |"
    assert len(table) == 4 and "symbolic" in table[3]
    exact = checks.Check("eq-a", "text", 0.0, 1e-9, "rounding, statement 1 of 1", "any of 2 slips", 0.31)
    assert checks.full_table({"bulk": [exact]}).endswith("| any of 2 slips | 3e+08 |")
    assert (
        checks.summary_table(lines, {"bulk": ["eq-a"]}).splitlines()[-1]
        == "| {doc}`bulk` | 1 | 1 | 0 | 0 | 0 | 0 | 1 | 0 |"
    )


def test_what_is_not_read_is_listed_with_its_reason():
    one = checks.Reading(4, {1}, {2: "in words", 3: "a probability", 4: "in words"})
    table = checks.unread_table({"eq-a": one, "eq-b": checks.Reading(1, {1})}).splitlines()
    assert table[2:] == ["| {eq}`eq-a` | 2, 4 of 4 | in words |", "| {eq}`eq-a` | 3 of 4 | a probability |"]

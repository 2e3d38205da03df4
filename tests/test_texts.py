"""What a page displays is what its code has: formulas read from the text, and seen to be wrong when they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from spectral_dynamics import checks, formulas, texts

x, y = sp.symbols("x y", positive=True)
A, B = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[0.3, 0.1], [0.7, 2.0]])
column = np.array([[1.0], [3.0]])


def worth(latex: str, **values):
    """What a formula is worth; keywords are letters."""
    return formulas.Reader(values).value(texts.tokens(latex))


def page(tmp_path, latex: str) -> Path:
    cells = [{"cell_type": "markdown", "source": f"As we see,\n\n$$\n{latex}\n$$ (eq-a)\n\nand more."}]
    (tmp_path / "chapter.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"x\,y - \frac{x}{2} + 1", x * y - x / 2 + 1),
        (r"\frac12 x^{2}y", x**2 * y / 2),
        (r"-x/2y + x\cdot 3", -x / (2 * y) + 3 * x),
        (r"\sqrt{x^2+y}\,\bigl(1 - \tfrac1x\bigr)", sp.sqrt(x**2 + y) * (1 - 1 / x)),
        (r"\sqrt[3]{x}", x ** sp.Rational(1, 3)),
        (r"\sinh2x + \sin^2 y", sp.sinh(2 * x) + sp.sin(y) ** 2),
        (r"e^{-x}\ln\frac xy", sp.exp(-x) * sp.log(x / y)),
        (r"\sum_{k=1}^{3} \frac{x^k}{k} + y", x + x**2 / 2 + x**3 / 3 + y),
        (r"\prod_{j<3}(1 - jx)", (1 - x) * (1 - 2 * x)),
        (r"\binom 42 + 0.25x", 6 + x / 4),
        (r"|x - y|", sp.Abs(x - y)),
        (r"x^{-1}", 1 / x),
    ],
)
def test_formulas_are_worth_what_they_say(latex, expected):
    assert sp.simplify(worth(latex, x=x, y=y) - expected) == 0


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"A B^\top", A @ B.T),
        (r"(2 - A)^{-1}", np.linalg.inv(2 * np.eye(2) - A)),
        (r"A\circ B + 1", A * B + np.eye(2)),
        (r"\operatorname{tr} A B", np.trace(A @ B)),
        (r"\det A", np.linalg.det(A)),
        (r"v^\top A v", (column.T @ A @ column).item()),
        (r"v\cdot v", 10.0),
        (r"\begin{pmatrix} A & B \\ 0 & 2 \end{pmatrix}", np.block([[A, B], [np.zeros((2, 2)), 2 * np.eye(2)]])),
        (r"\sum_{s<2} c_s\,C(1, s)", 3 * 0.7 + 4 * 2.0),
        (r"\int_0^2 t^2\,\mathrm dt", 8 / 3),
        (r"\int_0^1\frac{dt}{1+t}", np.log(2)),
    ],
)
def test_matrices_tables_and_integrals_are_read(latex, expected):
    found = worth(latex, A=A, B=B, v=column, c=[3.0, 4.0], C=B)
    np.testing.assert_allclose(np.array(found, dtype=float), expected, rtol=1e-12)


def test_a_display_is_cut_into_its_statements():
    first, second = r"a &= b + c \\ & - d , \\[1ex] e &< 0.5 \quad\text{for } x > 0 ,", r"\qquad f(1,2) = 3 ."
    found = texts.statements(r"\begin{aligned}" + first + second + r"\end{aligned}")
    assert ["".join(part) for part in found] == ["a=b+c-d", "e<0.5", "x>0", "f(1,2)=3"]


def test_a_text_that_says_what_the_code_has_enters_the_ledger(tmp_path, capsys):
    folder = page(tmp_path, r"\lambda_\pm = (1 \pm \sqrt\psi)^2 , \qquad \lambda_- < 1 .")
    values = {r"\lambda_\pm": ((1 + sp.sqrt(x)) ** 2, (1 - sp.sqrt(x)) ** 2), r"\psi": x}
    checks.text("eq-a", values, only=(1,), folder=folder)
    printed = capsys.readouterr().out
    assert printed.startswith("✓ eq-a | text | 0 <= 1.0e-09 | rounding, statement 1 of 2 | not any of 3 slips: ")


@pytest.mark.parametrize(
    ("latex", "error", "message"),
    [
        ("y = 1 - x", AssertionError, "eq-a: the text is off by"),
        ("y = 2 + x", AssertionError, "eq-a: the text is off by"),
        ("y = 1 + z", ValueError, "eq-a: no meaning for z, in y = 1 [+] z"),
        ("y = 1 + (x", ValueError, "eq-a: "),
        ("y = 1 + x + 0x", AssertionError, "eq-a: with these values the sign [+]"),
    ],
)
def test_a_text_that_says_something_else_fails(tmp_path, latex, error, message):
    with pytest.raises(error, match=message):
        checks.text("eq-a", {"y": 1 + x, "x": x}, folder=page(tmp_path, latex))


def test_a_slip_that_the_values_cannot_tell_fails(tmp_path):
    with pytest.raises(AssertionError, match="with these values the sign - after y=x could be wrong"):
        checks.text("eq-a", {"y": 3.0, "x": 3.0, "u": 0.0}, folder=page(tmp_path, "y = x - u"))


def test_a_name_must_not_hold_a_formula(tmp_path):
    with pytest.raises(ValueError, match=r"values must name letters, not formulas, got 1 \+ x"):
        checks.text("eq-a", {"y": 1 + x, "1 + x": 1 + x}, folder=page(tmp_path, "y = 1 + x"))


def test_what_is_to_vanish_is_compared_with_what_is_given(tmp_path):
    folder = page(tmp_path, "x^2 - 2y = 0")
    checks.text("eq-a", {"x": x, "y": y, "=": x**2 - 2 * y}, folder=folder)
    with pytest.raises(AssertionError, match="off by"):
        checks.text("eq-a", {"x": x, "y": y, "=": x**2 - 3 * y}, folder=folder)


def test_misuse_is_refused(tmp_path):
    folder = page(tmp_path, "x = x")
    with pytest.raises(ValueError, match="only must name statements from 1 to 1"):
        checks.text("eq-a", {"x": 1.0}, only=(2,), folder=folder)
    with pytest.raises(ValueError, match="tolerance must be between 0 and 1"):
        checks.text("eq-a", {"x": 1.0}, tolerance=0.0, folder=folder)
    with pytest.raises(ValueError, match="because must say why"):
        checks.unread("eq-a", " ")


def test_away_from_the_notebook_nothing_is_compared_and_it_says_so(tmp_path, capsys):
    checks.text("eq-a", {"x": 1.0}, folder=tmp_path)
    assert "not at hand" in capsys.readouterr().out


def test_the_ledger_knows_what_was_read_and_what_was_left(tmp_path, capsys):
    folder = page(tmp_path, "y = 1 + x , x = 2 , u = v .")
    checks.text("eq-a", {"y": 1 + x, "x": x}, only=(1,), folder=folder)
    checks.unread("eq-a", "a definition", only=(3,), folder=folder)
    output = {"output_type": "stream", "text": capsys.readouterr().out}
    (tmp_path / "stored.ipynb").write_text(json.dumps({"cells": [{"outputs": [output]}]}), encoding="utf-8")
    found = checks.readings(tmp_path / "stored.ipynb")["eq-a"]
    assert (found.statements, found.read, found.left) == (3, {1}, {3: "a definition"})
    assert not found.whole

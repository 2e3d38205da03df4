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
        (r"x|y|/2", x * y / 2),
        (r"2|x - y|\,x", 2 * x * sp.Abs(x - y)),
        (r"x^{-1}", 1 / x),
        (r"2x|x - y|y/|x|", 2 * y * sp.Abs(x - y)),
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
        (r"v\cdot A v", -0.5),
        (r"e^{A+1} e^{-A} + A + B", A + B + np.e * np.eye(2)),
        (r"\operatorname{rank}v v^\top", 1),
        (r"\begin{pmatrix} A & B \\ 0 & 2 \end{pmatrix}", np.block([[A, B], [np.zeros((2, 2)), 2 * np.eye(2)]])),
        (r"\sum_{s<2} c_s\,C(1, s)", 3 * 0.7 + 4 * 2.0),
        (r"\sum_{s<2} c_s v", 7 * column),
        (r"\int_0^2 t^2\,\mathrm dt", 8 / 3),
        (r"\int_0^1\frac{dt}{1+t}", np.log(2)),
        (r"\int_0^1\tilde u\,\mathrm d\tilde u", 0.5),
        (r"A_{01} + B_{10}", 2.7),
        (r"\det(A)(1 + c_0)", -8.0),
        (r"\sum_{k=0}^1 c_k \frac{\partial f}{\partial x_k}", 3 * 0.5 + 4 * 0.25),
        (r"\langle e^{-2W}\rangle_W", np.cosh(2.0)),
        (r"\operatorname{Re}\langle e^{iW}\rangle", np.cos(1.0)),
    ],
)
def test_matrices_tables_and_integrals_are_read(latex, expected):
    slopes = {r"\frac{\partial f}{\partial x_k}": [0.5, 0.25]}
    coin = {"W": np.array([-1.0, 1.0]), r"\langle": np.mean}
    found = worth(latex, A=A, B=B, v=column, c=[3.0, 4.0], C=B, **slopes, **coin)
    np.testing.assert_allclose(np.array(found, dtype=float), expected, rtol=1e-12)


def test_whole_numbers_side_by_side_are_indices():
    assert worth(r"\sum_{s<2} C_{ts}", C=B, t=1) == 2.7


def test_a_list_is_counted_above():
    assert worth(r"\sum_{\ell=1}^2 C^{\ell-1}(0,1)\,x^2", C=[A, 4 * A], x=3.0) == 9 * 10


def test_what_has_no_relation_is_numbered_after_the_relations():
    found = texts.statements(
        r"h \mathrel\sim N^{-b} \quad (\sigma \to 0\text{ first, }L = 1), u \sim N^{-1}, f, a = b \;(s<t)"
    )
    shown = [r"h\mathrel\simN^{-b}", "a=b(s<t)", r"\sigma\to0", "L=1", r"u\simN^{-1}"]
    assert ["".join(part) for part in found] == shown


def test_a_part_without_relation_is_refused_unless_it_is_read_or_named(tmp_path, capsys):
    folder = page(tmp_path, r"y = 1 + x , \qquad y \sim x^2 \qquad (x \to 0) , \quad u\sim\mathcal N(0, 4x)")
    with pytest.raises(AssertionError, match=r"eq-a: the text is off by .*: y .sim"):
        checks.text("eq-a", {"y": 1 + x, "x": x}, folder=folder)
    checks.text("eq-a", {"y": 9.0, "x": 3.0}, only=(2,), folder=folder)
    checks.text("eq-a", {r"x \to": 0}, only=(3,), folder=folder)
    spread = {r"u \sim": 4 * x, "x": x, r"\mathcal N": lambda mean, variance: variance + mean}
    checks.text("eq-a", spread, only=(4,), folder=folder)
    checks.unread("eq-a", "a remark", only=(2,), folder=folder)
    assert "4 of 4 | not any of" in capsys.readouterr().out
    for values, which in (({"y": 9.0, "x": 3.1}, 2), ({r"x \to": sp.oo}, 3), (spread | {r"u \sim": 2 * x}, 4)):
        with pytest.raises(AssertionError, match="eq-a: the text is off by"):
            checks.text("eq-a", values, only=(which,), folder=folder)


def test_what_becomes_infinite_is_no_number(tmp_path):
    folder = page(tmp_path, r"x \to \infty")
    checks.text("eq-a", {r"x \to": sp.oo}, folder=folder)
    for wrong in (0, -sp.oo):
        with pytest.raises(AssertionError, match="off by inf"):
            checks.text("eq-a", {r"x \to": wrong}, folder=folder)


@pytest.mark.parametrize("latex", ["0 < x - 1 < 1", "1 > x - 1 > 0"])
def test_an_order_may_be_read_where_it_holds(tmp_path, latex):
    given = np.array([0.9, 1.0, 1.5, 2.0, 2.1])
    checks.text("eq-a", {"x": given, "=": (given > 1) & (given < 2)}, folder=page(tmp_path, latex))
    for wrong in ((given >= 1) & (given < 2), given > 1, given < 2):
        with pytest.raises(AssertionError, match="off by 1"):
            checks.text("eq-a", {"x": given, "=": wrong}, folder=page(tmp_path, latex))
    with pytest.raises(AssertionError, match=r"the order . could be wrong"):
        inside = np.array([1.5, 2.0])
        checks.text("eq-a", {"x": inside, "=": inside < 2}, folder=page(tmp_path, latex))


def test_what_a_table_lacks_names_the_equation(tmp_path):
    with pytest.raises(formulas.Unreadable, match=r"eq-a: KeyError \(1, 2\), in y = C \( 1 , 2 \)"):
        checks.text("eq-a", {"y": 1.0, "C": {(2, 1): 1.0}}, folder=page(tmp_path, "y = C(1, 2)"))


def test_a_function_may_stand_before_bars():
    values = {r"\max_x": np.max, "x": np.array([1.0, -3.0])}
    assert formulas.Reader(values).value(texts.tokens(r"2\max_x\big|x - 1\big|")) == 8


def test_proportional_sides_are_compared_as_ratios(tmp_path, capsys):
    folder = page(tmp_path, r"y \propto x^{-2}")
    checks.text("eq-a", {"y": 1 / x**2, "x": x}, folder=folder)
    assert "not any of 2 slips" in capsys.readouterr().out


def test_a_display_is_cut_into_its_statements():
    first, second = r"a &= b + c \\ & - d , \\[1ex] e &< 0.5 \quad\text{for } x > 0 ,", r"\qquad f(1,2) = 3 ."
    found = texts.statements(r"\begin{aligned}" + first + second + r"\end{aligned}")
    assert ["".join(part) for part in found] == ["a=b+c-d", "e<0.5", "x>0", "f(1,2)=3"]


def test_words_in_brackets_do_not_cut_a_statement_and_a_bracket_may_begin_a_line():
    cases = r"f = \begin{cases} x + 1 & \text{if } x > 0, \\ \big[\dfrac x2\big]\,, & \text{else.} \end{cases}"
    assert ["".join(part) for part in texts.statements(cases)[1:]] == ["x>0"]
    assert [worth(cases[4:], x=x, cases=k) for k in (0, 1)] == [x + 1, x / 2]


def test_a_name_that_holds_a_bound_letter_may_be_a_function_of_it():
    slope = {r"\sum_p": ("p", range(2)), r"\frac{\partial f}{\partial p}": lambda p: A[p, 0]}
    assert worth(r"\sum_p p\,\frac{\partial f}{\partial p}", **slope) == 0.5


def test_an_order_over_many_numbers_is_read_at_its_ends(tmp_path):
    folder = page(tmp_path, r"0.5 \le x \le 2y")
    checks.text("eq-a", {"x": np.linspace(0.5, 2.6, 5), "y": 1.3}, folder=folder)
    with pytest.raises(AssertionError, match="off by"):
        checks.text("eq-a", {"x": np.linspace(0.5, 2.5, 5), "y": 1.3}, folder=folder)


def test_words_within_a_formula_are_letters_of_it():
    assert worth(r"\sqrt{\frac{\text{fan-out}}x}", **{r"\text{fan-out}": 8.0}, x=2.0) == 2.0
    assert len(texts.statements(r"y = \sqrt{\text{fan-in}} \quad\text{for } x > 0")) == 2


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


def test_all_cases_are_read_together_or_one_at_a_time(tmp_path):
    folder = page(tmp_path, r"y = \begin{cases} x + 1 & x < 2 , \\ 3 - x & x > 2 , \end{cases}")
    checks.text("eq-a", {"y": sp.Matrix([x + 1, 3 - x]), "x": x}, only=(1,), folder=folder)
    checks.text("eq-a", {"y": 3 - x, "x": x, "cases": 1}, only=(1,), folder=folder)
    for which, first in ((2, True), (3, False)):
        checks.text(
            "eq-a", {"x": np.array([1, 2, 3]), "=": np.array([first, False, not first])}, only=(which,), folder=folder
        )
    with pytest.raises(AssertionError, match="off by"):
        checks.text("eq-a", {"y": sp.Matrix([x + 1, 2 - x]), "x": x}, folder=folder)


def test_letters_side_by_side_in_an_index_are_two_whether_bound_or_given():
    assert worth(r"\sum_{i=0}^1 C_{ij}", C=B, j=1) == B[0, 1] + B[1, 1]


def test_a_name_must_not_hold_a_formula(tmp_path):
    with pytest.raises(ValueError, match=r"values must name letters, not formulas, got 1 \+ x"):
        checks.text("eq-a", {"y": 1 + x, "1 + x": 1 + x}, folder=page(tmp_path, "y = 1 + x"))


def test_slips_without_a_value_warn_nobody(tmp_path, recwarn):
    checks.text("eq-a", {"y": np.log(7.5), "x": 1.5}, folder=page(tmp_path, r"y = \ln(9 - x)"))
    assert not recwarn


def test_a_name_may_say_in_its_index_where_it_is_taken(tmp_path):
    checks.text("eq-a", {r"y_{x=\infty}": 1 + x, "x": x}, folder=page(tmp_path, r"y_{x=\infty} = 1 + x"))


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


def test_a_formula_of_the_prose_must_stand_there_and_be_true(tmp_path, capsys):
    text = (
        "As $y = 1 + x$, and $a$,\n\n$$\nx = 2\n$$ (eq-a)\n\nwhere\n\n$$\nu = 3x , \\quad x < y\n$$\n\nand $2\\,x^2$."
    )
    (tmp_path / "chapter.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": text}]}))
    values = {"x": x, "y": 1 + x, "u": 3 * x}
    for said in ("y = 1+x", "u = 3x"):
        checks.prose("eq-a", said, values, folder=tmp_path)
    checks.prose("eq-a", "2x^2", values | {"=": 2 * x**2}, folder=tmp_path)
    assert "eq-a | prose | 0 <= 1.0e-09 | rounding | not any of 1 slips" in capsys.readouterr().out
    for said in ("y = 1 - x", "x = 2", "u = 3"):
        with pytest.raises(AssertionError, match="eq-a: the text does not say"):
            checks.prose("eq-a", said, values, folder=tmp_path)
    with pytest.raises(AssertionError, match="eq-a: the text is off"):
        checks.prose("eq-a", "y = 1 + x", {"x": x, "y": 2 + x}, folder=tmp_path)

"""The mutation test, its store and its page: what is changed, what is left alone, and how much of it is seen."""

import datetime
import json

import mutant_page
import mutant_sites
import mutants
import pytest

STORED = json.loads(mutants.STORE.read_text(encoding="utf-8"))
JUDGED = mutants.judged()


def after(source, **options):
    return {one.after for one in mutant_sites.changes(source, **options)}


def test_operators_numbers_terms_and_factors_are_changed():
    assert after("x = a + 2 * b") == {
        "x = a - 2 * b",
        "x = a",
        "x = 2 * b",
        "x = a + 2 / b",
        "x = a + 2",
        "x = a + b",
        "x = a + 3 * b",
    }


def test_transposes_indices_comparisons_and_named_opposites_are_changed():
    assert {"y = W @ C[1:]", "y = W.T @ C[2:]"} <= after("y = W.T @ C[1:]")
    assert {"ok = a <= b", "ok = a >= b"} <= after("ok = a < b")
    assert after("y = np.sin(x)") == {"y = np.cos(x)"}


def test_text_checks_tolerances_and_rivals_are_left_alone():
    for source in (
        "raise ValueError('a - b', 2)",
        "assert a + b < 2",
        "checks.check('eq-a', 'limit', a - b, 0.1)",
        "x = solve(y, tolerance=0.5)",
        "x = 1e-9",
        "room, rival = 3 * error, ('none', a + b)",
        "x = f'{a + b}'",
    ):
        assert not after(source), source


def test_a_formula_is_no_setting():
    """In chapters a number counts where it is calculated with."""
    assert not after("run = train(task, 30, steps=8, rate=0.1)", formulas=True)
    assert "y = x**3" in after("y = x**2", formulas=True)


def test_letters_of_more_than_one_byte_keep_their_places():
    assert "x = 'ν', a - b" in after("x = 'ν', a + b")


def test_the_draw_does_not_move_when_something_else_is_edited():
    source = "def f(a):\n    return a + 1\n\n\ndef g(a):\n    return a * a\n"
    (before,) = [one for one in mutant_sites.changes(source) if one.after == "return a - 1"]
    (moved,) = [one for one in mutant_sites.changes("x = y / z\n\n\n" + source) if one.after == "return a - 1"]
    assert moved.line == before.line + 3 and moved.key() == before.key()


@pytest.mark.parametrize("kind", ["library", "chapters"])
def test_two_hundred_were_tried_and_nineteen_of_twenty_that_change_a_result_were_seen(kind):
    counts = mutant_page.counts(STORED[kind], JUDGED)
    assert counts["tried"] >= 200
    assert counts["seen"] >= 0.95 * counts["changed"]


def test_nothing_unseen_is_without_a_reason():
    unseen = [one for kind in ("library", "chapters") for one in STORED[kind] if one["verdict"] == "survived"]
    assert [one for one in unseen if not JUDGED.get(mutant_page.identity(one), {}).get("reason")] == []


def test_the_page_says_what_is_stored():
    assert mutants.PAGE.read_text(encoding="utf-8") == mutants.page()


@pytest.mark.nightly
def test_twenty_that_were_red_are_red_again():
    """Others every night."""
    found = mutants.sample(mutants.Store(), 20, datetime.date.today().toordinal())
    assert len(found) == 20
    assert [one for one in found if one["verdict"] in ("survived", "output")] == []

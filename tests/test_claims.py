"""Claims: none without its check, none firmer than its check, and no clause of the abstract without an answer."""

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import checks, claims
from spectral_dynamics.claims import Claim

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import book  # noqa: E402
import downloads  # noqa: E402

import chapters  # noqa: E402

PAGE = ROOT / "chapters" / "claims.ipynb"
NOTEBOOKS = [path for path in chapters.notebooks() if path.stem not in book.LAST]
STATED = [one for path in NOTEBOOKS for one in claims.claims(path)]
LEDGER = [line for path in NOTEBOOKS for line in checks.ledger(path)]
FIGURES = {name for path in NOTEBOOKS for name in claims.figures(path)}
ABSTRACT = claims.clauses(PAGE)


# The book's own


def test_every_claim_is_borne_out_and_every_clause_of_the_abstract_answered():
    assert len(ABSTRACT) == 11 and len(STATED) > 60
    assert claims.faults(STATED, LEDGER, FIGURES, ABSTRACT) == []


def test_every_chapter_that_closes_with_what_it_has_states_claims():
    closing = {
        path.stem
        for path in NOTEBOOKS
        if any("## What we have" in "".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"])
    }
    assert len(closing) > 20 and {one.chapter for one in STATED} == closing


def test_claims_speak_of_their_own_chapter_and_of_tables_that_exist():
    for one in STATED:
        path = ROOT / "chapters" / f"{one.chapter}.ipynb"
        assert set(one.equations) <= set(checks.numbered_equations(path)), one
        assert set(one.figures) <= claims.figures(path), one
        assert all(claims.measured(spectral_experiments.table(name)) for name in one.tables), one


def test_no_claim_is_stated_twice():
    assert len({one.claim for one in STATED}) == len(STATED)


def test_what_was_not_looked_at_is_open():
    """Large trained networks of others are not in this book."""
    words = "ImageNet", "language models"
    far = [one for one in STATED if any(word in one.claim for word in words)]
    assert far and {one.status for one in far} == {"open"}


def test_the_page_shows_the_claims_as_they_are_now():
    printed = [
        "".join(output["data"]["text/markdown"])
        for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    shown = "\n".join(printed)
    for one in STATED:
        assert shown.count(f"| *{one.status}:* {one.claim}") == max(1, len(one.clauses)), one.claim
    assert all(f"**{number}. {words}**" in shown for number, words in ABSTRACT.items())


def test_pages_that_read_the_others_are_run_last_and_say_so_alone():
    assert set(downloads.SAYS) == book.LAST == {"claims", "ledger"}


# The rules


LINES = [
    checks.Check("eq-a", "symbolic", 0.0, 0.0),
    checks.Check("eq-a", "library", 1e-13, 1e-12, "rounding"),
    checks.Check(
        "eq-a", "text", 1e-13, 1e-9, "the displayed formula", "a sign flipped", 1.0
    ),  # no ground for a claim
    checks.Check("eq-b", "simulation", 1e-3, 1e-2, "1/N", "no echo", 0.5),
    checks.Check("eq-b", "limit", 1e-3, 1e-2, "order", "half", 0.9),
    checks.Check("eq-c", "simulation", 1e-3, 1e-2, "N = 100"),
]
GOOD = {
    "derived": Claim("a", "So it is.", "derived", (1,), ("eq-a",), ("fig-a",)),
    "checked": Claim("a", "So it is found.", "checked", (2,), ("eq-b", "eq-c"), ("fig-a",)),
    "illustrated": Claim("a", "So it looks.", "illustrated", (), (), ("fig-a",)),
    "open": Claim("a", "So it may be.", "open", missing="a proof"),
}
WORDS = {1: "First.", 2: "Second."}


def said(*changed):
    return claims.faults([*changed], LINES, {"fig-a"}, WORDS)


def test_claims_that_keep_the_rules_have_no_fault():
    assert said(*GOOD.values()) == []


@pytest.mark.parametrize(
    ("status", "change", "fault"),
    [
        ("derived", {"status": "proved"}, "must be one of derived, checked, illustrated, open, is 'proved'"),
        ("derived", {"equations": ("eq-a", "eq-z")}, "names an equation without a check, eq-z"),
        ("derived", {"figures": ("fig-z",)}, "names a figure that is not there, fig-z"),
        ("derived", {"equations": ("eq-b",)}, "is derived without a symbolic check"),
        ("derived", {"equations": ()}, "is derived without a symbolic check"),
        ("derived", {"missing": "nothing"}, "must say what is missing if it is open, and only then"),
        ("checked", {"equations": ("eq-a",)}, "is checked without a simulation, a limit or another computation"),
        ("checked", {"equations": ("eq-c",)}, "is checked without a rival or the reason why there is none"),
        ("checked", {"lines": ("N = 100",)}, "is checked without a rival or the reason why there is none"),
        ("checked", {"equations": ("eq-a",), "lines": ("the displayed formula",)}, "picks a check that is not there"),
        ("checked", {"lines": ("N = 200",)}, "picks a check that is not there, 'N = 200'"),
        ("illustrated", {"figures": ()}, "is illustrated without a figure"),
        ("open", {"missing": ""}, "must say what is missing if it is open, and only then"),
        ("open", {"clauses": (3,)}, "there is no clause 3 in the abstract"),
        ("checked", {"clauses": ()}, "clause 2 of the abstract has no claim"),
    ],
)
def test_a_claim_that_breaks_a_rule_is_named_with_the_rule(status, change, fault):
    found = said(*(GOOD | {status: replace(GOOD[status], **change)}).values())
    assert any(fault in one for one in found), found
    assert "clause" in fault or all(GOOD[status].claim in one for one in found)


def test_a_claim_without_a_rival_may_say_why():
    assert said(GOOD["derived"], replace(GOOD["checked"], equations=("eq-c",), because="nothing else is known")) == []


def test_the_table_shows_the_strongest_check_and_links_where_it_is():
    unproved = replace(GOOD["open"], equations=("eq-b",))  # no check speaks for it
    table = claims.table([*(GOOD | {"open": unproved}).values()], LINES, {})
    derived, checked, illustrated, opened = table.splitlines()[2:]
    assert "| symbolic; library, 1.0e-13 ≤ 1.0e-12 (rounding) |" in derived
    assert "{doc}`a`, {eq}`eq-b`, {eq}`eq-c`, {numref}`fig-a`" in checked
    assert checked.endswith("| simulation, 1.0e-03 ≤ 1.0e-02 (1/N), not no echo: 5.0e-01 |")
    assert illustrated.endswith("|  |") and opened.startswith("| *open:* So it may be. |")
    assert opened.endswith("{eq}`eq-b` | *missing:* a proof |")


def test_a_claim_picks_its_checks_by_their_reason_and_names_its_table():
    one = replace(GOOD["checked"], lines=("order", "N = 100"), tables=("t",), on="tanh | relu")
    row = claims.table([one], LINES, {"t": "12 rows, sizes 1 to 2"}).splitlines()[2]
    assert "| tanh \\| relu; table `t`, 12 rows, sizes 1 to 2; limit, 1.0e-03 ≤" in row
    assert row.index("limit, 1.0e-03") < row.index("simulation, 1.0e-03") and "no echo" not in row


def test_what_a_table_holds_is_counted():
    assert claims.measured({"size": np.array([60, 60, 120])}) == "3 rows, sizes 60 to 120"
    assert claims.measured({"widths": np.array([8]), "loss": np.ones(1)}) == "1 rows, sizes 8 to 8"
    assert claims.measured({"loss": np.ones(3)}) == ""


def stored(folder, **given):
    path = folder / "some.ipynb"
    cells = [
        {"cell_type": "markdown", "metadata": {"claims": [given]}, "source": ["1. One.\n", "2. Two, and\n"]},
        {"cell_type": "code", "metadata": {"mystnb": {"figure": {"name": "fig-a"}}}, "outputs": [], "source": []},
        {"cell_type": "code", "metadata": {"mystnb": {"image": {"alt": "a line"}}}, "outputs": [], "source": []},
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def test_claims_clauses_and_figures_are_read_from_a_notebook(tmp_path):
    path = stored(tmp_path, claim="So it is.", status="derived", clauses=[1], equations=["eq-a"])
    assert claims.claims(path) == [Claim("some", "So it is.", "derived", (1,), ("eq-a",))]
    assert claims.clauses(path) == {1: "One.", 2: "Two, and"} and claims.figures(path) == {"fig-a"}
    assert claims.summary(claims.claims(path)) == "1 derived, 0 checked, 0 illustrated, 0 open"


@pytest.mark.parametrize("given", [{"claim": "x"}, {"claim": "x", "status": "open", "note": "?"}])
def test_a_field_that_there_is_not_is_refused_by_name(tmp_path, given):
    with pytest.raises(ValueError, match=r"claims of some must have the fields .* got \['(status|note)'\]"):
        claims.claims(stored(tmp_path, **given))


def test_the_fields_of_a_claim_are_explained():
    assert all(f"`{field.name}`" in Claim.__doc__ for field in fields(Claim) if field.name != "claim")

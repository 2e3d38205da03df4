"""Claims: what the book says, where, on what grounds, and how firmly.

A chapter states its claims in the metadata of a text cell, under "claims": a list of dictionaries with the fields of
`Claim`. So they move with the text, and survive every execution. `claims` reads them, `faults` holds them against the
chapters' labels, figures and stored checks, and `table` shows each with the checks behind it.
"""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from . import checks

STATUS = {
    "derived": "from the equations of motion, with symbols",
    "checked": "against networks, a limit or another computation",
    "illustrated": "in examples",
    "open": "not shown here",
}
_KINDS = ("library", "limit", "numerical", "simulation")  # from that which says least about networks
_GROUNDS = _KINDS[1:]  # what can make a claim checked
_CLAUSE = re.compile(r"^(\d+)\. (.+)$", re.M)


@dataclass(frozen=True)
class Claim:
    """One claim of a `chapter`, in words, and its `status`, a key of `STATUS`.

    `clauses`: the numbers of the clauses of the abstract that it answers; none if it is the book's own. `equations`
    and `figures`: labels. `on`: networks, sizes, seeds. `tables`: stored tables behind it. `lines`: texts that pick
    checks by the reason of their tolerance; by default the strongest one is shown. `because`: why a checked claim has
    no check with a rival. `missing`: what an open claim lacks.
    """

    chapter: str
    claim: str
    status: str
    clauses: tuple[int, ...] = ()
    equations: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    on: str = ""
    because: str = ""
    missing: str = ""


def claims(notebook: Path) -> list[Claim]:
    """The claims in a chapter's text cells, in their order. Raises ValueError for a field that there is not."""
    notebook, found = Path(notebook), []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for given in cell["metadata"].get("claims", []):
            known = {field.name for field in fields(Claim)} - {"chapter"}
            if wrong := sorted(set(given) - known) + sorted({"claim", "status"} - set(given)):
                raise ValueError(f"claims of {notebook.stem} must have the fields {sorted(known)}, got {wrong}")
            parts = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
            found.append(Claim(notebook.stem, **parts))
    return found


def clauses(page: Path) -> dict[int, str]:
    """The numbered list of a page, {number: text}."""
    cells = json.loads(Path(page).read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {int(number): words for number, words in _CLAUSE.findall(text)}


def figures(notebook: Path) -> set[str]:
    """Labels of a chapter's figures, whether their pictures are stored with it or not."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    described = [cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in cells]
    return {figure["name"] for figure in described if "name" in figure}


def faults(found: list[Claim], ledger: list[checks.Check], labels: set[str], abstract: dict[int, str]) -> list[str]:
    """A sentence for everything that a claim says and the chapters do not bear out; [] when there is nothing.

    `ledger`: all stored checks. `labels`: of the figures. `abstract`: the clauses, of which none may be without a
    claim. "derived" needs a symbolic check of one of its equations; "checked" a simulation, limit or numerical check
    with a rival, or the reason; "illustrated" a figure; "open", and no other, what is missing.
    """
    by_label: dict[str, list[checks.Check]] = {}
    for line in ledger:
        by_label.setdefault(line.label, []).append(line)
    said = [f"{one.chapter}, {one.claim!r} {fault}" for one in found for fault in _faults(one, by_label, labels)]
    answered = {number for one in found for number in one.clauses}
    said += [f"clause {number} of the abstract has no claim" for number in sorted(set(abstract) - answered)]
    return said + [f"there is no clause {number} in the abstract" for number in sorted(answered - set(abstract))]


def _faults(one: Claim, by_label: dict, labels: set[str]) -> list[str]:
    if one.status not in STATUS:
        return [f"must be one of {', '.join(STATUS)}, is {one.status!r}"]
    lines = [line for label in one.equations for line in by_label.get(label, [])]
    said = [f"names an equation without a check, {label}" for label in one.equations if label not in by_label]
    said += [f"names a figure that is not there, {label}" for label in one.figures if label not in labels]
    said += [f"picks a check that is not there, {text!r}" for text in one.lines if not _picked(lines, text)]
    if one.status == "derived" and not any(line.kind == "symbolic" for line in lines):
        said.append("is derived without a symbolic check")
    told = [line for line in _told(one, lines) if line.kind in _GROUNDS]
    if one.status == "checked" and not told:
        said.append("is checked without a simulation, a limit or another computation")
    if one.status == "checked" and not (one.because or any(line.rival for line in told)):
        said.append("is checked without a rival or the reason why there is none")
    if one.status == "illustrated" and not one.figures:
        said.append("is illustrated without a figure")
    if (one.status == "open") != bool(one.missing):
        said.append("must say what is missing if it is open, and only then")
    return said


def _picked(lines: list, text: str) -> list:
    return [line for line in lines if line.because == text and line.kind in _KINDS]


def _told(one: Claim, lines: list) -> list:
    """The checks that are shown: those picked, or the strongest one; of what is open none."""
    if one.status == "open":
        return []
    if one.lines:
        return [max(found, key=_strength) for text in one.lines if (found := _picked(lines, text))]
    numbers = [line for line in lines if line.kind in _KINDS]
    return [max(numbers, key=_strength)] if numbers else []


def _strength(line: checks.Check) -> tuple:
    """First that it excludes a rival, then of what kind it is, then how far off the rival is."""
    return bool(line.rival), _KINDS.index(line.kind), line.distance / line.tolerance if line.tolerance else 0.0


def measured(table: dict[str, np.ndarray]) -> str:
    """What a stored table holds, in words: how many rows, of which sizes."""
    sizes = next((table[name] for name in ("size", "width", "widths") if name in table), None)
    if sizes is None:
        return ""
    return f"{len(sizes)} rows, sizes {sizes.min():g} to {sizes.max():g}"


def table(found: list[Claim], ledger: list[checks.Check], tables: dict[str, str]) -> str:
    """A Markdown table of claims: status and words, where, and on what by which checks. `tables`: what each holds."""
    rows = [["claim", "where", "on what, by which check"], ["---"] * 3]
    for one in found:
        lines = [line for line in ledger if line.label in one.equations]
        links = [f"{{eq}}`{label}`" for label in one.equations] + [f"{{numref}}`{label}`" for label in one.figures]
        where = ", ".join([f"{{doc}}`{one.chapter}`", *links])
        on = [f"*missing:* {one.missing.removesuffix('.')}" if one.missing else one.on]
        on += [f"table `{name}`, {tables[name]}" for name in one.tables]
        claim = f"*{one.status}:* {one.claim}"
        told = ["symbolic"] if one.status == "derived" else []
        told += [_said(line) for line in _told(one, lines)] + ([one.because] if one.because else [])
        rows.append([cell.replace("|", "\\|") for cell in (claim, where, "; ".join(filter(None, [*on, *told])))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _said(line: checks.Check) -> str:
    text = f"{line.kind}, {line.error:.1e} ≤ {line.tolerance:.1e} ({line.because or 'exact'})"
    return f"{text}, not {line.rival}: {line.distance:.1e}" if line.rival else text


def summary(found: list[Claim]) -> str:
    """How many claims of each status, in one line."""
    counts = {status: sum(one.status == status for one in found) for status in STATUS}
    return ", ".join(f"{count} {status}" for status, count in counts.items())

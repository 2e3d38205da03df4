"""The ledger: which executed check stands behind which numbered equation.

A chapter calls `check` under an equation; the line it prints is stored with the notebook. `ledger` reads the
stored lines back, `numbered_equations` the labels, and a test fails when an equation has no check.
"""

import itertools
import json
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sympy

from . import arithmetic, formulas, texts

KINDS = {
    "symbolic": "symbolic identity",
    "library": "agreement with the library",
    "limit": "limit",
    "numerical": "independent numerical evaluation",
    "simulation": "simulation",
    "text": "the displayed formula, parsed",
    "prose": "a formula of the prose, parsed",
}

TIES_UP = 1 + 1e-9  # a decimal such as 0.0325 is a tie between two printed ones, which rounding would decide
_LINE = re.compile(
    r"^✓ (?P<label>\S+) \| (?P<kind>[a-z]+) \| (?P<error>\S+) <= (?P<tolerance>\S+?)(?: \| (?P<because>.*?))?"
    r"(?: \| not (?P<rival>.+): (?P<distance>\S+))?$",
    re.M,
)
_UNREAD = re.compile(r"^– (?P<label>\S+) \| not read: (?P<which>.+) of (?P<total>\d+) \| (?P<because>.*)$", re.M)
_STATEMENTS = re.compile(r"statement ([\d, ]+) of (\d+)$")
_DOLLAR_LABEL = re.compile(r"^\$\$\s*\((?P<label>[\w-]+)\)\s*$", re.M)
_DIRECTIVE_LABEL = re.compile(r"```\{math\}[^`]*?:label:\s*(?P<label>[\w-]+)", re.S)


@dataclass(frozen=True)
class Check:
    """One executed check: the equation's `label`, its `kind`, the measured `error` and the `tolerance`.

    `rival`: the nearest wrong answer, by name; `distance`: the error that it has in the same check.
    """

    label: str
    kind: str
    error: float
    tolerance: float
    because: str = ""
    rival: str = ""
    distance: float = 0.0

    def __str__(self) -> str:
        line = f"✓ {self.label} | {self.kind} | {_brief(self.error)} <= {_brief(self.tolerance)}"
        line += f" | {self.because}" if self.because else ""
        return f"{line} | not {self.rival}: {_brief(self.distance)}" if self.rival else line


def check(
    label: str,
    kind: str,
    error,
    tolerance: float = 0.0,
    because: str = "",
    rival: tuple[str, object] | None = None,
) -> None:
    """Assert that `error` vanishes within `tolerance` and print the line that enters the ledger.

    `label`: the numbered equation that is checked. `kind`: a key of `KINDS`. `error`: for a "symbolic" check a
    SymPy expression (or matrix, or list of them) that must simplify to zero; otherwise a number or an array,
    of which the largest modulus counts. `tolerance`: in the units of `error`; `because` says where it comes
    from (rounding, Monte Carlo, 1/N) and is required when it is not zero.
    Raises ValueError on misuse and AssertionError, with the measured error, when the check fails.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if tolerance < 0 or (tolerance > 0 and not because):
        raise ValueError("tolerance must be at least 0, and a tolerance above 0 needs a reason in `because`")
    size = _symbolic_size(label, error) if kind == "symbolic" else _numerical_size(error)
    if not size <= tolerance:  # written so that nan fails
        raise AssertionError(f"{label}: {KINDS[kind]} fails, error {size:.3g} exceeds tolerance {tolerance:.3g}")
    name, distance = _excluded(label, tolerance, rival)
    _show(str(Check(label, kind, size, float(tolerance), because, name, distance)))


def text(
    label: str,
    values: dict,
    tolerance: float = 1e-9,
    because: str = "rounding",
    only: tuple[int, ...] | None = None,
    folder: Path = Path(),
) -> None:
    """Assert that the displayed LaTeX of equation `label` says what the code has, and that a slip in it would show.

    The display is read from the notebook in `folder` (the current one) that holds it and cut into its statements,
    numbered from 1; `only` picks some of them. `values` gives every letter its meaning (`formulas.Reader`):
    numbers, matrices, functions, or SymPy expressions, whose letters are replaced by numbers in the comparison.
    Both sides of a relation must agree within `tolerance`, relative to the larger if that is above 1; an order
    (<) is read at its edge, where both are equal, of many numbers at the outermost; with `values["="]` a list of
    True and False it has to hold in these cases, and no other order would. What stands without relation, or is to
    vanish, is compared with `values["="]` if that is given. A size (\\sim) is read as a ratio, a distribution as the
    value of "u \\sim" and a function "\\mathcal N". Conditions in brackets and of cases are statements, behind the
    others (`texts.statements`). Then every sign is changed into the other, and
    every digit into the next, one at a time: each time the sides must differ by more than two tolerances, or have
    no value.
    Where no notebook is at hand (a cell run elsewhere) it says so and compares nothing.
    Raises AssertionError when text and code differ or a slip would pass, formulas.Unreadable (a ValueError), which
    names what has no meaning, and ValueError on misuse.
    """
    if not (0 < tolerance < 1):
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance}")
    stated = _stated(label, only, folder)
    if stated is None:
        return
    chosen = range(1, len(stated) + 1) if only is None else only
    errors, seen = zip(*(_read(label, stated[k - 1], values, tolerance) for k in chosen), strict=True)
    slips = list(itertools.chain(*seen))
    named = {"rival": f"any of {len(slips)} slips", "distance": min(slips)} if slips else {}
    which = ", ".join(map(str, chosen))
    _show(
        str(Check(label, "text", max(errors), tolerance, f"{because}, statement {which} of {len(stated)}", **named))
    )


def prose(
    label: str,
    latex: str,
    values: dict,
    tolerance: float = 1e-9,
    because: str = "rounding",
    folder: Path = Path(),
) -> None:
    """Assert that the text around equation `label` says `latex` in its prose, and that this is what the code has.

    For a result that has no number of its own: `latex` must stand between dollars in the notebook that has the
    equation (spaces do not matter), whole or as one of the statements there; it is then read as by `text`.
    """
    if not (0 < tolerance < 1):
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance}")
    said = texts.prose(label, folder)
    if said is None:
        print(f"{label}: its text is not at hand here, nothing is compared")
        return
    signs = texts.tokens(latex)
    if signs not in said:
        raise AssertionError(f"{label}: the text does not say {latex}")
    error, seen = _read(label, signs, values, tolerance)
    named = {"rival": f"any of {len(seen)} slips", "distance": min(seen)} if seen else {}
    _show(str(Check(label, "prose", error, tolerance, because, **named)))


def unread(label: str, because: str, only: tuple[int, ...] | None = None, folder: Path = Path()) -> None:
    """Print that the display of `label`, or `only` some of its statements, is not parsed, and why; the ledger counts.

    Raises ValueError without a reason, and for statements that the display has not.
    """
    if not because.strip():
        raise ValueError("because must say why, got nothing")
    stated = _stated(label, only, folder)
    if stated is not None:
        which = "all" if only is None else ", ".join(map(str, only))
        _show(f"– {label} | not read: {which} of {len(stated)} | {because}")


def _stated(label: str, only, folder: Path) -> list[list[str]] | None:
    """The statements of a display; None, said, where no notebook is at hand."""
    latex = texts.display(label, folder)
    if latex is None:
        print(f"{label}: its text is not at hand here, nothing is compared")
        return None
    stated = texts.statements(latex)
    if only is not None and (not only or not set(only) <= set(range(1, len(stated) + 1))):
        raise ValueError(f"only must name statements from 1 to {len(stated)}, got {only}")
    return stated


def _read(label: str, stated: list[str], values: dict, tolerance: float) -> tuple[float, list[float]]:
    """How far the sides of a statement are apart, and how far they are after each slip that leaves them a value."""
    shown = " ".join(stated)
    try:
        apart = _apart(stated, values)
    except formulas.Unreadable as error:
        raise formulas.Unreadable(f"{label}: {error}, in {shown}") from None
    except Exception as error:  # an entry that a table lacks, a shape that does not fit: the equation is named
        raise formulas.Unreadable(f"{label}: {type(error).__name__} {error}, in {shown}") from error
    if not apart <= tolerance:
        raise AssertionError(f"{label}: the text is off by {apart:.3g}: {shown}")
    seen, truths = [], texts.turned(stated) if _is_truth(values.get("=")) else []
    for name, changed in texts.slips(stated, formulas.Reader(values).opaque) + truths:
        try:
            with warnings.catch_warnings(action="ignore"):  # a logarithm of less than nothing
                distance = _apart(changed, values)
        except Exception:  # what has no value is seen at once
            continue
        if distance <= 2 * tolerance:
            raise AssertionError(f"{label}: with these values {name} could be wrong: {shown}")
        seen += [distance] if np.isfinite(distance) else []
    return apart, seen


def _apart(stated: list[str], values: dict) -> float:
    """The largest distance of sides that are to be equal, for both signs of a double one."""
    parts, relations = texts.sides(stated)
    found = []
    for sign in (1, -1) if {r"\pm", r"\mp"} & set(stated) else (1,):
        reader = formulas.Reader(values, sign)
        before = [[*part, arrow] for part, arrow in zip(parts, [*relations, ""], strict=True)]
        worth = [reader.value(b if reader.has(b) else part) for part, b in zip(parts, before, strict=True)]
        if relations and set(relations) <= set(texts.ORDERS) and _is_truth(reader.special.get("=")):
            found.append(np.max(arithmetic.holds(worth, relations) != np.asarray(reader.special["="])))
            continue
        if "=" in reader.special and parts[1:] in ([], [["0"]]):
            worth = [worth[0], reader.special["="]]
        if len(worth) == 1:
            raise formulas.Unreadable('a statement without relation: values must say by "=" what it is worth')
        pairs = zip(itertools.pairwise(worth), relations or ["="], strict=True)
        found += [arithmetic.distance(*arithmetic.at_edge(a, relation, b)) for (a, b), relation in pairs]
    return float(np.max(found))


def _is_truth(told) -> bool:
    return told is not None and np.asarray(told).dtype == bool


def _excluded(label: str, tolerance: float, rival) -> tuple[str, float]:
    """The rival's name and how far off it is: more than two tolerances, or the check could not tell it."""
    if rival is None:
        return "", 0.0
    if not (isinstance(rival, tuple) and len(rival) == 2 and isinstance(rival[0], str) and rival[0].strip()):
        raise ValueError(f"rival must be a pair of a name and an error, got {rival!r}")
    if not tolerance:
        raise ValueError("rival is for a check with a tolerance above 0, got 0")
    name, distance = rival[0], _numerical_size(rival[1])
    if "|" in name or ":" in name or "\n" in name:
        raise ValueError(f"rival must have a name without '|', ':' and line breaks, got {name!r}")
    if not distance > 2 * tolerance:  # written so that nan fails
        raise AssertionError(
            f"{label}: {name} would pass too, error {distance:.3g}, not above twice the tolerance {tolerance:.3g}"
        )
    return name, distance


def _show(line: str) -> None:
    """Print; a terminal that lacks a letter gets its code instead of an error, since the check has passed."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _symbolic_size(label: str, error) -> float:
    """0 when every expression simplifies to zero, else infinity; the leftovers are named."""
    if isinstance(error, (int, float, np.ndarray)):
        raise ValueError(f"error of a symbolic check must be a SymPy expression, got {type(error).__name__}")
    expressions = list(error) if isinstance(error, (list, tuple, sympy.MatrixBase)) else [error]
    if not expressions:
        raise ValueError("error is empty, at least one expression is needed")
    leftovers = [e for e in map(sympy.simplify, expressions) if e != 0]
    if leftovers:
        raise AssertionError(f"{label}: symbolic identity fails, this does not vanish: {leftovers[0]}")
    return 0.0


def _numerical_size(error) -> float:
    values = np.abs(np.asarray(error))
    if values.size == 0:
        raise ValueError("error is empty, at least one number is needed")
    return float(np.max(values))


def numbered_equations(notebook: Path) -> list[str]:
    """Labels of the numbered equations in a notebook's or page's text, in order of appearance."""
    text = "\n\n".join(_markdown(Path(notebook)))
    found = [(m.start(), m["label"]) for p in (_DOLLAR_LABEL, _DIRECTIVE_LABEL) for m in p.finditer(text)]
    return [label for _, label in sorted(found)]


def ledger(notebook: Path) -> list[Check]:
    """The checks whose lines are stored in a notebook's outputs, in order of execution."""
    return [
        Check(
            m["label"],
            m["kind"],
            float(m["error"]),
            float(m["tolerance"]),
            m["because"] or "",
            m["rival"] or "",
            float(m["distance"] or 0),
        )
        for m in _LINE.finditer(_printed(notebook))
    ]


@dataclass
class Reading:
    """Of one equation's display: how many `statements` it has, those `read`, and why each of the others is `left`."""

    statements: int = 1
    read: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether every statement is read, or left for a reason."""
        return self.read | set(self.left) == set(range(1, self.statements + 1))


def readings(notebook: Path) -> dict[str, Reading]:
    """What `text` and `unread` have printed in a notebook, for each equation."""
    found: dict[str, Reading] = {}
    for line in (check for check in ledger(notebook) if check.kind == "text"):
        which, total = re.search(_STATEMENTS, line.because).groups()
        one = found.setdefault(line.label, Reading())
        one.statements, one.read = int(total), one.read | set(map(int, which.split(",")))
    for m in _UNREAD.finditer(_printed(notebook)):
        one, total = found.setdefault(m["label"], Reading()), int(m["total"])
        one.statements = total
        which = range(1, total + 1) if m["which"] == "all" else map(int, m["which"].split(","))
        one.left |= dict.fromkeys(which, m["because"])
    return found


def _printed(notebook: Path) -> str:
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", [])) for output in outputs if output["output_type"] == "stream")


def summary_table(ledgers: dict[str, list[Check]], equations: dict[str, list[str]]) -> str:
    """A Markdown table: for each chapter its numbered equations and its checks of each kind (of texts: equations)."""
    rows = [["chapter", "equations", *KINDS.values()]]
    for name, lines in ledgers.items():
        counts = [sum(line.kind == kind for line in _folded(lines)) for kind in KINDS]
        rows.append([f"{{doc}}`{name}`", len(equations[name]), *counts])
    return _table(rows)


def full_table(ledgers: dict[str, list[Check]]) -> str:
    """A Markdown table of every check: equation, kind, measured error, tolerance and where the tolerance is from, and
    the nearest wrong answer that it excludes, with the error of that in tolerances. Of an equation's text one row.
    """
    rows = [["equation", "kind", "error", "tolerance", "why this tolerance", "excludes", "off by"]]
    for line in (line for lines in ledgers.values() for line in _folded(lines)):
        why = line.because.replace("|", "\\|") or "exact"
        off = line.distance / line.tolerance * TIES_UP if line.rival and line.tolerance else ""
        off = (f"{off:.1f}" if off < 1e4 else f"{off:.0e}") if off else ""
        told = [_brief(line.error), _brief(line.tolerance), why, line.rival, off]
        rows.append([f"{{eq}}`{line.label}`", KINDS[line.kind], *told])
    return _table(rows)


def _folded(lines: list[Check]) -> list[Check]:
    """The lines, with those on the text of one equation as one."""
    groups: dict[str | int, list[Check]] = {}
    for i, line in enumerate(lines):
        groups.setdefault(line.label if line.kind == "text" else i, []).append(line)
    return [_together(group) if group[0].kind == "text" else group[0] for group in groups.values()]


def _together(lines: list[Check]) -> Check:
    """One line with all statements and slips, the largest error, and the slip that is fewest tolerances away."""
    found, total = zip(*(re.search(_STATEMENTS, line.because).groups() for line in lines), strict=True)
    which = sorted({int(k) for numbers in found for k in numbers.split(",")})
    slips = sum(int(line.rival.split()[2]) for line in lines if line.rival)
    told = min(lines, key=lambda line: line.distance / line.tolerance if line.rival else np.inf)
    loosest = max(lines, key=lambda line: line.tolerance)
    reason = f"{re.sub(_STATEMENTS, '', loosest.because)}statement {', '.join(map(str, which))} of {total[0]}"
    distance = told.distance / told.tolerance * loosest.tolerance
    rival = f"any of {slips} slips" if slips else ""
    error = max(line.error for line in lines)
    return Check(lines[0].label, "text", error, loosest.tolerance, reason, rival, distance if slips else 0.0)


def unread_table(found: dict[str, Reading]) -> str:
    """A Markdown table of the statements that are left unread: equation, which of its statements, and why."""
    rows = [["equation", "statement", "why it is not read"]]
    for label, one in found.items():
        for reason in dict.fromkeys(one.left.values()):
            which = ", ".join(str(k) for k in sorted(one.left) if one.left[k] == reason)
            rows.append([f"{{eq}}`{label}`", f"{which} of {one.statements}", reason])
    return _table(rows)


def _table(rows: list[list]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _brief(value: float) -> str:
    return f"{value * TIES_UP:.1e}" if value else "0"


def _markdown(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [text]
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]

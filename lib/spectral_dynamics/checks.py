"""The ledger: which executed check stands behind which numbered equation.

A chapter calls `check` under an equation; the line it prints is stored with the notebook. `ledger` reads the
stored lines back, `numbered_equations` the labels, and a test fails when an equation has no check.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sympy

KINDS = {
    "symbolic": "symbolic identity",
    "library": "agreement with the library",
    "limit": "limit",
    "numerical": "independent numerical evaluation",
    "simulation": "simulation",
}

_LINE = re.compile(
    r"^✓ (?P<label>\S+) \| (?P<kind>[a-z]+) \| (?P<error>\S+) <= (?P<tolerance>\S+?)(?: \| (?P<because>.*?))?"
    r"(?: \| not (?P<rival>.+): (?P<distance>\S+))?$",
    re.M,
)
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
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", [])) for output in outputs if output["output_type"] == "stream")
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
        for m in _LINE.finditer(text)
    ]


def summary_table(ledgers: dict[str, list[Check]], equations: dict[str, list[str]]) -> str:
    """A Markdown table: for each chapter its numbered equations and its checks of each kind."""
    rows = [["chapter", "equations", *KINDS.values()]]
    for name, lines in ledgers.items():
        counts = [sum(line.kind == kind for line in lines) for kind in KINDS]
        rows.append([f"{{doc}}`{name}`", len(equations[name]), *counts])
    return _table(rows)


def full_table(ledgers: dict[str, list[Check]]) -> str:
    """A Markdown table of every check: equation, kind, measured error, tolerance and where the tolerance is from, and
    the nearest wrong answer that it excludes, with the error of that in tolerances.
    """
    rows = [["equation", "kind", "error", "tolerance", "why this tolerance", "excludes", "off by"]]
    for line in (line for lines in ledgers.values() for line in lines):
        why = line.because.replace("|", "\\|") or "exact"
        off = f"{line.distance / line.tolerance:.1f}" if line.rival and line.tolerance else ""
        told = [_brief(line.error), _brief(line.tolerance), why, line.rival, off]
        rows.append([f"{{eq}}`{line.label}`", KINDS[line.kind], *told])
    return _table(rows)


def _table(rows: list[list]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _brief(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _markdown(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [text]
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]

"""Displayed formulas as signs: LaTeX as it stands in a page's text.

This room takes a display apart: `tokens` are its signs, `statements` its relations, `slips` the formulas that one
gets by a slip of the pen, a sign or a number changed. `formulas` evaluates them, `checks.text` puts both together.
"""

import json
import re
from pathlib import Path

_TOKEN = re.compile(r"\\mathrel\\sim|\\begin\{\w+\}|\\end\{\w+\}|\\[A-Za-z]+|\\.|\d|\S", re.S)
_SILENT = {  # they change how a formula looks, not what it says
    *(r"\,", r"\;", r"\:", r"\!", "\\ ", "~", r"\left", r"\right", r"\limits", r"\mathrel"),
    *(rf"\{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r", "m")),
    *(r"\displaystyle", r"\textstyle", r"\scriptstyle"),
    *(rf"\{end}{{{name}}}" for end in ("begin", "end") for name in ("aligned", "gathered", "split", "align")),
}
_SAME = {
    **dict.fromkeys((r"\dfrac", r"\tfrac"), r"\frac"),
    **dict.fromkeys((r"\lVert", r"\rVert"), r"\|"),
    **dict.fromkeys((r"\lvert", r"\rvert"), "|"),
    **dict.fromkeys((r"\leq",), r"\le"),
    **dict.fromkeys((r"\geq",), r"\ge"),
    **{r"\mathsf": r"\mathrm", r"\rm": r"\mathrm", r"\prime": "'", r"\{": "(", r"\}": ")"},
}
RELATIONS = {"=", r"\approx", r"\simeq", r"\to", r"\longrightarrow", r"\equiv", "<", ">", r"\le", r"\ge"}
RELATIONS |= {r"\mathrel\sim", r"\propto"}  # read as =, of ratios
_BREAKS = {r"\\", r"\quad", r"\qquad", ",", ";", ".", r"\Longrightarrow", r"\Longleftrightarrow", r"\iff", r"\text"}
_LOOSE = {r"\sim"}  # an order of magnitude or a distribution
ORDERS = {"<": (">", r"\le"), ">": ("<", r"\ge"), r"\le": (r"\ge", "<"), r"\ge": (r"\le", ">")}
_OPEN, _CLOSE = {"(", "[", "{", r"\langle"}, {")", "]", "}", r"\rangle"}


class Unreadable(ValueError):
    """A formula, or a part of one, that has no value: a letter without meaning, or a form that is not known."""


def display(label: str, folder: Path = Path()) -> str | None:
    """The LaTeX of the numbered equation `label` in the notebook of `folder` whose text has it; None without one."""
    found = _page(label, folder)
    return None if found is None else found[1]


def prose(label: str, folder: Path = Path()) -> list[list[str]] | None:
    """The signs of each formula without a number, and of its statements, in the text that has equation `label`."""
    found = _page(label, folder)
    if found is None:
        return None
    page = re.sub(r"^\$\$(?:(?!\$\$).)*\$\$ *\([\w-]+\)$", "", found[0], flags=re.M | re.S)
    pieces = [next(filter(None, piece)) for piece in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", page, re.S)]
    return [signs for piece in pieces for signs in (tokens(piece), *statements(piece))]


def _page(label: str, folder: Path) -> tuple[str, str] | None:
    """All markdown of the notebook that has an equation, and the equation's LaTeX."""
    ending = re.compile(rf"^\$\$\s*\({re.escape(label)}\)\s*$", re.M)
    for path in sorted(folder.glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        if f"({label})" not in text:
            continue
        sources = ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown"]
        for source in sources:
            if found := ending.search(source):
                before = source[: found.start()]
                return "\n\n".join(sources), before.rpartition("\n$$\n" if "\n$$\n" in before else "$$")[2]
    return None


def tokens(latex: str) -> list[str]:
    """The signs of a formula, less what only spaces or sizes them; digits come one by one."""
    found = [_SAME.get(token, token) for token in _TOKEN.findall(re.sub(r"(?<!\\)%.*", "", latex))]
    kept, space, inside = [], False, 0
    for before, token in zip(["", *found], found, strict=False):
        space = space or (before == r"\\" and token == "[")  # \\[1ex]: more space between two lines
        inside += depth(token) if token not in _SILENT and token.startswith((r"\begin", r"\end")) else 0
        if not space and token not in _SILENT and not (token == "&" and not inside):
            kept.append(token)
        space = space and token != "]"
    return _plain(kept)


def depth(token: str) -> int:
    """1 for what opens, -1 for what closes."""
    opens, closes = token in _OPEN or token.startswith(r"\begin{"), token in _CLOSE or token.startswith(r"\end{")
    return opens - closes


def _plain(found: list[str]) -> list[str]:
    """Without braces around one sign behind ^ or _, and with \\overset{...}{=} as =."""
    kept, at = [], 0
    while at < len(found):
        if found[at] == r"\overset":
            at = group(found, at + 1)[1]
            inner, at = group(found, at)
            kept += inner
            continue
        if found[at] in "^_" and found[at + 1 : at + 2] == ["{"] and found[at + 3 : at + 4] == ["}"]:
            kept += [found[at], found[at + 2]]
            at += 4
            continue
        kept.append(found[at])
        at += 1
    return kept


def group(found: list[str], at: int) -> tuple[list[str], int]:
    """What stands at `at`: one sign, or what is between braces; and where it ends."""
    if at >= len(found):
        raise Unreadable("the formula ends where something should follow")
    if found[at] != "{":
        return [found[at]], at + 1
    level, end = 0, at
    while True:
        level += (found[end] == "{") - (found[end] == "}")
        end += 1
        if not level:
            return found[at + 1 : end - 1], end
        if end == len(found):
            raise Unreadable("a brace is not closed")


def statements(latex: str) -> list[list[str]]:
    """The relations that a display states, each as its signs: cut at commas, wide spaces, lines and words.

    A line that begins with an operator or a relation goes on with the one before. What has no relation in it (a
    condition in brackets, an order of magnitude, a distribution, a remark) is numbered after those that have one, in
    the order of the text, less its brackets and words; behind it come the conditions of cases. Words or a letter
    alone say nothing there.
    """
    parts = _parts(tokens(latex))
    stated = [part for part in parts if len(sides(part, RELATIONS)[0]) > 1] or parts
    aside = [bare for part in parts if part not in stated for bare in _unbracketed(part)]
    return stated + aside + [bare for part in parts for bare in _conditions(part)]


def _conditions(part: list[str]) -> list[list[str]]:
    """What stands behind the cases of a statement."""
    found, inside, behind, row = [], 0, False, []
    for token in part:
        inside += (token == r"\begin{cases}") - (token == r"\end{cases}")
        if behind and token in (r"\\", r"\end{cases}"):
            found, behind, row = found + [bare for each in _parts(row) for bare in _unbracketed(each)], False, []
        elif inside and token == "&":
            behind = True
        elif behind:
            row.append(token)
    return found


def _unbracketed(part: list[str]) -> list[list[str]]:
    """The parts of what one bracket holds, or what stands without; not a letter alone."""
    inner = part[0] == "(" and part[-1] == ")" and all(sum(map(depth, part[:k])) for k in range(1, len(part)))
    parts = _parts(part[1:-1]) if inner else [part]
    return [part for part in parts if len(part) > 1 or part[0].isdigit()]


def _parts(found: list[str]) -> list[list[str]]:
    parts, level, at = [[]], 0, 0
    while at < len(found):
        token = found[at]
        level += depth(token)
        if token == r"\text" and not level:
            at = group(found, at + 1)[1]
            parts.append([])
            continue
        decimal = token == "." and "".join(found[max(at - 1, 0) : at + 2 : 2]).isdigit() and at + 1 < len(found)
        if level == 0 and token in _BREAKS and not decimal:
            ahead = next((t for t in found[at + 1 :] if t != "{" and t != "}"), "")
            if not (token == r"\\" and ahead in {"+", "-", r"\times", r"\cdot", *RELATIONS}):
                parts.append([])
        else:
            parts[-1].append(token)
        at += 1
    return [part for part in (_unbraced(part) for part in parts) if part]


def _unbraced(part: list[str]) -> list[str]:
    """Without the empty group that authors put before a binary sign."""
    return [
        t for i, t in enumerate(part) if part[i : i + 2] != ["{", "}"] and part[max(i - 1, 0) : i + 1] != ["{", "}"]
    ]


def sides(part: list[str], known: set[str] = RELATIONS | _LOOSE) -> tuple[list[list[str]], list[str]]:
    """What stands between a statement's relations, and these."""
    found, relations, level = [[]], [], 0
    for token in part:
        level += depth(token)
        if level == 0 and token in known:
            relations.append(token)
            found.append([])
        else:
            found[-1].append(token)
    return found, relations


def slips(part: list[str], opaque) -> list[tuple[str, list[str]]]:
    """Every formula that one slip makes of a statement: [(what was changed, the new signs)].

    A sign becomes the other, a digit the next. `opaque`: a function of the signs which says which of them belong to
    a letter that is given as a whole; there a change leaves no letter that is known.
    """
    swap = {"+": "-", "-": "+", r"\pm": r"\mp", r"\mp": r"\pm"}
    made, hidden = [], opaque(part)
    for at, token in enumerate(part):
        new = swap.get(token) or (str((int(token) + 1) % 10) if token.isdigit() else None)
        if new is None or at in hidden:
            continue
        kind = f"the number {token}" if token.isdigit() else f"the sign {token}"
        before = "".join(t + " " * t.startswith("\\") for t in part[max(0, at - 8) : at])
        made.append((f"{kind} after {before or 'the start'}", [*part[:at], new, *part[at + 1 :]]))
    return made


def turned(part: list[str]) -> list[tuple[str, list[str]]]:
    """As `slips`, of orders: each becomes its opposite, and the one that has the edge or has it not."""
    return [
        (f"the order {token}", [*part[:at], new, *part[at + 1 :]])
        for at, token in enumerate(part)
        for new in ORDERS.get(token, ())
    ]


def cut(found: list[str], separator: str) -> list[list[str]]:
    """The parts between separators that stand in no bracket."""
    parts, level = [[]], 0
    for token in found:
        level += depth(token)
        if level == 0 and token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts

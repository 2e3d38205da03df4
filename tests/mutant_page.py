"""The page on the mutation test, written from what is stored and what was judged by hand."""

from collections import Counter

RED = ("unit test", "check", "assertion", "error", "no end")
VERDICTS = (*RED, "output", "survived")
HEADS = ("unit test", "named check", "assertion", "error", "no end", "output only", "unseen")

HEAD = """# What a wrong formula does

A check that passes says little as long as nobody has seen it fail. So the formulas of this book are broken on
purpose, one at a time. A *mutant* is the library, or a chapter, with one place changed: a plus for a minus, a product
for a quotient, a power or an index one too large, a term, a factor or a transpose left out, a smaller for a larger.
A script draws the places at random, from a seed, and for each of them something has to turn red.

A mutant of the library meets the unit tests that run the changed line. A mutant of a chapter runs from the changed
cell to the end of the chapter. It may be seen at a *named check*, which is one that names its equation; at a plain
*assertion*; because the code stops with an *error*; or because it comes to *no end* in four times its normal time. If
all that stays green but a stored number has changed, then the re-run of the chapters sees it, by its *output only*.
What nothing sees is *unseen*.

Some changes change nothing: a cap on iterations that is never reached, a sign that is squared. They are *equivalent*,
they are told apart by hand, and do not count. Left out from the start are text, what is drawn or printed, tolerances,
seeds, sizes of samples, and the checks themselves.
"""
AGAIN = """## Once more

`make mutants` runs what has not been run: an edit of a function or of a cell draws its changes anew, and what is
stored for the same text stays. `.venv/bin/python -m pytest -m nightly` breaks twenty of those that were red again.
"""


def page(stored: dict, judged: dict, parts: dict[str, list[str]]) -> str:
    """`judged`: {(where, before, after): {"verdict", "reason"}}; `parts`: {part of the book: its chapters}."""
    groups = {"library": rooms(stored["library"]), "chapters": {}}
    for part, names in parts.items():
        groups["chapters"][part] = [one for one in stored["chapters"] if one["where"] in names]
    text = [HEAD, f"Last run: {stored['made']}, version {stored['version']}, seed {stored['seed']}.\n"]
    for kind, title in (("library", "The library"), ("chapters", "The chapters")):
        text += [f"## {title}\n", sentence(stored[kind], judged), table(groups[kind], judged)]
    text += signs(stored.get("signs", []))
    for verdict, title, why in (
        ("survived", "What nothing saw", "These change a result, and no test or check is red."),
        ("equivalent", "What changes nothing", "These cannot change a result; behind each, why."),
    ):
        text += [f"## {title}\n", listed(stored, judged, verdict, why)]
    return "\n".join([*text, AGAIN])


def rooms(found: list[dict]) -> dict[str, list[dict]]:
    names = dict.fromkeys(one["where"].partition("/")[0] for one in found)
    return {f"`{name}`": [one for one in found if one["where"].startswith(name + "/")] for name in names}


def identity(one: dict) -> tuple:
    return one["where"], one["before"], one["after"]


def is_equivalent(one: dict, judged: dict) -> bool:
    told = judged.get(identity(one), {})
    return one["verdict"] in ("survived", "output") and told.get("verdict") == "equivalent"


def counts(found: list[dict], judged: dict) -> dict[str, int]:
    """How many were tried, are equivalent, and met each verdict; `seen` is all that is not unseen."""
    real = [one for one in found if not is_equivalent(one, judged)]
    by = Counter(one["verdict"] for one in real)
    told = {"tried": len(found), "equivalent": len(found) - len(real), **{v: by[v] for v in VERDICTS}}
    return {**told, "changed": len(real), "red": sum(by[v] for v in RED), "seen": len(real) - by["survived"]}


def sentence(found: list[dict], judged: dict) -> str:
    n = counts(found, judged)
    share = n["changed"] and 100 / n["changed"]
    text = f"Of {n['tried']} mutants {n['equivalent']} are equivalent. Of the {n['changed']} that change a result"
    text += f" {n['seen']} were seen ({n['seen'] * share:.1f} %)"
    if n["output"]:
        text += f": {n['red']} where a check, an assertion or an error stopped them ({n['red'] * share:.1f} %),"
        text += f" {n['output']} by a stored number only"
    return text + ".\n"


def table(groups: dict[str, list[dict]], judged: dict) -> str:
    rows = [["", "tried", "equivalent", *HEADS]]
    for name, found in groups.items():
        n = counts(found, judged)
        rows.append([name, n["tried"], n["equivalent"], *(n[v] for v in VERDICTS)])
    used = [k for k, _ in enumerate(rows[0]) if k < 2 or any(row[k] for row in rows[1:])]
    rows = [[row[k] for k in used] for row in rows]
    rows.insert(1, ["---"] * len(used))
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"


def signs(found: list[dict]) -> list[str]:
    if not found:
        return []
    seen = sum(one["verdict"] in RED for one in found)
    text = (
        f"The text itself was broken too: in the displays of numbered equations {len(found)} signs, drawn at random,"
    )
    text += f" were turned over, and the chapters run from the cell that reads the display. Red were {seen}."
    left = [f"- {{eq}}`{one['label']}`: `{one['after']}`" for one in found if one["verdict"] not in RED]
    return ["## Signs in the text\n", text + "\n", *([*left, ""] if left else [])]


def listed(stored: dict, judged: dict, verdict: str, why: str) -> str:
    lines = []
    for kind in ("library", "chapters"):
        for one in stored[kind]:
            equal = is_equivalent(one, judged)
            if equal if verdict == "equivalent" else one["verdict"] == "survived" and not equal:
                reason = judged.get(identity(one), {}).get("reason", "not judged yet")
                where = (
                    f"`{one['where']}`" if kind == "library" else f"{{doc}}`{one['where']}`, code cell {one['cell']}"
                )
                lines.append(f"- {where}: {code(one['before'])} became {code(one['after'])}. {reason}")
    return "\n".join([why if lines else "None.", "", *lines, ""])


def code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"

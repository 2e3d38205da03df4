"""The mutation test: one place of the library or of a chapter is changed, and something has to turn red.

    python tests/mutants.py                       what the store lacks of all that is drawn
    python tests/mutants.py --only library        or chapters, or signs; with --where spectra/gram.py some of them
    python tests/mutants.py --sample 20 --seed 5  20 of the stored ones that were red, once more; nothing is stored
    python tests/mutants.py --page                only the page, from the store

COUNT changes of the library, EACH of every chapter and SIGNS in displays are drawn, each by its own key, so that an
edit elsewhere leaves it as it was. What is stored for the same text is not run again, except what no test or check
has seen. Whether that is equivalent or a weak test is judged by hand, in `mutants.toml`. The result goes to
`mutants.json` and to the page `chapters/mutants.md`.
"""

import argparse
import datetime
import json
import os
import random
import re
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import mutant_chapters
import mutant_coverage
import mutant_library
import mutant_page
import mutant_sites
import yaml

ROOT = mutant_coverage.ROOT
sys.path.insert(0, str(ROOT / "tools"))
import environment  # noqa: E402

import chapters  # noqa: E402

STORE, JUDGED = ROOT / "tests" / "mutants.json", ROOT / "tests" / "mutants.toml"
PAGE = ROOT / "chapters" / "mutants.md"
COVERING = ROOT / "_build" / "mutants" / "covering.json"
SEED, COUNT, EACH, SIGNS = 1, 210, 10, 50
KINDS = ("library", "chapters", "signs")


@dataclass(frozen=True)
class Mutant:
    """One change: `where` is a file of the library or the name of a chapter, `cell` its code cell or 0."""

    where: str
    cell: int
    around: str  # the text of the function or of the cell
    source: str  # of the file or of the cell
    change: mutant_sites.Change

    @cached_property
    def key(self) -> str:
        return self.change.key(SEED, self.where, self.around)[:16]

    @property
    def place(self) -> tuple:
        return self.where, self.cell, self.change.line

    def changed(self, folder: Path) -> tuple:
        """Which cell to run in what form, in which folder, how far; None: where the chapters are, to the end."""
        return self.cell, self.change.apply(self.source), None, None

    def told(self) -> dict:
        name = {"cell": self.cell} if self.cell else {}
        return {
            "key": self.key,
            "where": self.where,
            **name,
            "before": self.change.before,
            "after": self.change.after,
        }


def of_library() -> list[Mutant]:
    found = []
    for path in mutant_coverage.FILES:
        source, name = path.read_text(encoding="utf-8"), str(path.relative_to(mutant_coverage.LIBRARY))
        around = mutant_sites.functions(source)
        found += [Mutant(name, 0, around.get(one.line, ""), source, one) for one in mutant_sites.changes(source)]
    return lowest(found, COUNT)


def of_chapters() -> list[Mutant]:
    """As many of each chapter."""
    paths, found = [path for path in chapters.notebooks() if path.stem not in mutant_chapters.WITHOUT], []
    for path in paths:
        cells = ["", *mutant_chapters.sources(path)]
        mine = [Mutant(path.stem, cell, cells[cell], cells[cell], one) for cell, one in mutant_chapters.changes(path)]
        found += lowest(mine, EACH)
    return found


def lowest(mutants: list[Mutant], count: int) -> list[Mutant]:
    """Those with the lowest keys, no two of one line."""
    chosen = {}
    for one in sorted(mutants, key=lambda one: one.key):
        if len(chosen) < count and one.place not in chosen and mutant_sites.changes_something(one.change, one.source):
            chosen[one.place] = one
    return sorted(chosen.values(), key=lambda one: one.place)


def judged() -> dict[tuple, dict]:
    """What was judged by hand: {(where, before, after): {"verdict", "reason"}}."""
    entries = tomllib.loads(JUDGED.read_text(encoding="utf-8"))["judged"]
    return {(one["where"], one["before"], one["after"]): one for one in entries}


class Store:
    """The last result, on file after each mutant."""

    def __init__(self):
        stored = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}
        self.results = {kind: {one["key"]: one for one in stored.get(kind, [])} for kind in KINDS}

    def pending(self, kind: str, mutants: list) -> list:
        """Not yet run, or survived and judged no equivalent; what is no longer drawn is forgotten."""
        keys, equal = {one.key for one in mutants}, judged()
        self.results[kind] = {key: one for key, one in self.results[kind].items() if key in keys}
        for one in mutants:
            if one.key in self.results[kind]:
                self.results[kind][one.key] |= one.told()  # cells have moved
        for one in mutants:
            told = one.told()
            if equal.get(mutant_page.identity(told), {}).get("verdict") == "equivalent":
                self.results[kind][one.key] = {**told, "verdict": "survived", "seen": ""}
        done = {
            key
            for key, one in self.results[kind].items()
            if one["verdict"] not in ("survived", "output") or mutant_page.is_equivalent(one, equal)
        }
        return [one for one in mutants if one.key not in done]

    def tell(self, kind: str, mutant, result: dict) -> None:
        told = {**mutant.told(), **result}
        self.results[kind][mutant.key] = told
        self.write()
        print(" | ".join(str(part) for name, part in told.items() if name != "key"), flush=True)

    def write(self) -> None:
        about = {"seed": SEED, "made": datetime.date.today().isoformat(), "version": version()}
        lists = {kind: sorted(found.values(), key=order) for kind, found in self.results.items()}
        text = json.dumps({**about, **lists}, indent=1, ensure_ascii=False) + "\n"
        draft = STORE.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(STORE)


def order(one: dict) -> tuple:
    return one["where"], one.get("cell", 0), one["before"], one["after"]


def version() -> str:
    project = tomllib.loads((ROOT / "lib" / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["version"]


def covering() -> dict:
    """Which tests run which line, recorded anew when the library or its tests have changed."""
    files = [*mutant_coverage.FILES, *mutant_coverage.tests()]
    if not COVERING.exists() or COVERING.stat().st_mtime < max(path.stat().st_mtime for path in files):
        script = f"import mutant_coverage as c, pathlib; c.record(pathlib.Path({str(COVERING)!r}))"
        mutant_library.in_a_process(script)
    return json.loads(COVERING.read_text(encoding="utf-8"))


def run_library(store: Store, chosen: argparse.Namespace) -> None:
    pending = [one for one in store.pending("library", of_library()) if not chosen.where or one.where in chosen.where]
    if pending:
        known = covering()
        mutant_library.warm_up()
        for one in pending:
            path = f"lib/spectral_dynamics/{one.where}"
            store.tell("library", one, mutant_library.judge(path, one.change, known, chosen.seconds))


@dataclass(frozen=True)
class Flip:
    """One sign of a display turned over; `cell` is the first that reads the display, `last` the last one."""

    where: str
    label: str
    cell: int
    last: int
    before: str
    place: int

    @cached_property
    def after(self) -> str:
        other = {"+": "-", "-": "+"}[self.before[self.place]]
        return self.before[: self.place] + other + self.before[self.place + 1 :]

    @cached_property
    def key(self) -> str:
        return sha256(repr((SEED, self.where, self.label, self.before, self.place)).encode()).hexdigest()[:16]

    def changed(self, folder: Path) -> tuple:
        """As for a Mutant, with a copy of the chapter in the folder."""
        path = ROOT / "chapters" / f"{self.where}.ipynb"
        mutant_chapters.rewrite(path, self.before, self.after, folder)
        return self.cell, mutant_chapters.sources(path)[self.cell - 1], folder, self.last

    def told(self) -> dict:
        around = slice(max(self.place - 25, 0), self.place + 26)
        texts = {"before": " ".join(self.before[around].split()), "after": " ".join(self.after[around].split())}
        return {"key": self.key, "where": self.where, "label": self.label, **texts}


def of_signs() -> list[Flip]:
    """SIGNS of all signs in displays that a chapter reads (`checks.text`), by their keys."""
    found = []
    for path in chapters.notebooks():
        cells = mutant_chapters.sources(path)
        for label, latex in mutant_chapters.displays(path).items():
            reads = [k for k, cell in enumerate(cells, start=1) if re.search(rf'checks\.text\(\s*"{label}"', cell)]
            places = [k for k, letter in enumerate(latex) if letter in "+-"] if reads else []
            found += [Flip(path.stem, label, reads[0], reads[-1], latex, k) for k in places]
    return sorted(found, key=lambda one: one.key)[:SIGNS]


def run_chapters(store: Store, chosen: argparse.Namespace) -> None:
    """What is changed in the cells of a chapter and in its displays shares the chapter's one run."""
    drawn = {kind: draw for kind, draw in (("chapters", of_chapters), ("signs", of_signs)) if kind in chosen.only}
    pending = [(kind, one) for kind, draw in drawn.items() for one in store.pending(kind, draw())]
    if pending:
        mutant_chapters.warm_up()
    for name in dict.fromkeys(one.where for _, one in pending if not chosen.where or one.where in chosen.where):
        mine = [(kind, one) for kind, one in pending if one.where == name]
        with tempfile.TemporaryDirectory() as folder:
            changed = [one.changed(Path(folder, str(k))) for k, (_, one) in enumerate(mine)]
            for k, result in mutant_chapters.results(name, changed):
                store.tell(*mine[k], result)


def sample(store: Store, count: int, seed: int) -> list[dict]:
    """Some of those that were red, half of each kind, once more (the library by the test that saw it)."""
    mutant_library.warm_up()
    mutant_chapters.warm_up()
    found, rng = [], random.Random(seed)
    for kind, drawn in (("library", of_library()), ("chapters", of_chapters())):
        were = store.results[kind]
        red = [one for one in drawn if were.get(one.key, {}).get("verdict") in ("unit test", "check", "assertion")]
        for one in rng.sample(red, count // 2):
            if kind == "library":
                path, tests = f"lib/spectral_dynamics/{one.where}", [were[one.key]["seen"]]
                result = mutant_library.judge(path, one.change, {"seconds": {tests[0]: 60.0}}, 60.0, tests)
            else:
                ((_, result),) = mutant_chapters.results(one.where, [one.changed(ROOT)])
            found.append({**one.told(), **result})
    return found


def parts() -> dict[str, list[str]]:
    """The chapters of each part of the book."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    numbered = [part for part in contents["parts"] if "numbered" in part]
    return {part["caption"]: [Path(one["file"]).name for one in part["chapters"]] for part in numbered}


def page() -> str:
    return mutant_page.page(json.loads(STORE.read_text(encoding="utf-8")), judged(), parts())


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--where", nargs="+", default=[], help="some files of the library, or some chapters")
    parser.add_argument("--seconds", type=float, default=20, help="of unit tests for each change of the library")
    parser.add_argument("--sample", type=int, default=0, help="how many, once more; nothing is stored")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample")
    parser.add_argument("--page", action="store_true", help="nothing is run")
    return parser.parse_args()


def main() -> int:
    chosen, store = options(), Store()
    os.chdir(ROOT)
    os.environ.update({**environment.THREADS, "MPLBACKEND": "agg"})  # numpy is not loaded yet
    if chosen.sample:
        found = sample(store, chosen.sample, chosen.seed)
        print("\n".join(map(str, found)))
        return int(any(one["verdict"] == "survived" for one in found))
    if not chosen.page:
        if "library" in chosen.only:
            run_library(store, chosen)
        run_chapters(store, chosen)
    store.write()
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

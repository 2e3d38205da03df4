"""Changes of the formulas in chapters against the chapters' own checks.

A chapter is run once, cell by cell, in one process. Before a cell with a change a copy of the process is forked,
which waits. When the chapter has ended, so that its normal outputs and times are known, each copy runs the changed
cell and those after it: to the first check or assertion that fails, the first error, the end, or four times the
normal time.
"""

import contextlib
import json
import os
import resource
import select
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace

import mutant_coverage
import mutant_sites

ROOT = mutant_coverage.ROOT
FOLDER = ROOT / "chapters"
WITHOUT = {"preface", "many_machines", "claims", "ledger"}  # they hold no formulas
TIMES, MORE = 4, 10  # how much longer than normal a changed chapter may take: this often, and seconds


def code_cells(notebook: dict) -> list[dict]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def sources(path: Path) -> list[str]:
    """The code cells of a chapter."""
    return ["".join(cell["source"]) for cell in code_cells(json.loads(path.read_text(encoding="utf-8")))]


def changes(path: Path) -> list[tuple[int, mutant_sites.Change]]:
    """(cell, change) for all formulas of a chapter; code cells are numbered from 1."""
    found = []
    for number, cell in enumerate(code_cells(json.loads(path.read_text(encoding="utf-8"))), start=1):
        source = "".join(cell["source"])
        drawn = "plt." in source or "plots.Movie" in source
        found += [(number, one) for one in mutant_sites.changes(source, formulas=True, drawn=drawn)]
    return found


def displays(path: Path) -> dict[str, str]:
    """{label: LaTeX} of the numbered equations of a chapter."""
    from spectral_dynamics import checks, texts

    return {label: texts.display(label, path.parent) for label in checks.numbered_equations(path)}


def rewrite(path: Path, before: str, after: str, folder: Path) -> None:
    """A copy of a chapter in which a display reads otherwise."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = "".join(cell["source"]).replace(before, after)
    folder.mkdir()
    (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")


class Chapter:
    """A chapter in this process; `run(cell)` says what it printed, and how it failed if it did."""

    def __init__(self, path: Path):
        os.environ["MPLBACKEND"] = "agg"
        import matplotlib.pyplot as plt
        from IPython.core.interactiveshell import InteractiveShell
        from spectral_dynamics import checks
        from traitlets.config import Config

        quick = {"simplify": quick_to_refuse(checks.sympy.simplify)}
        checks.sympy = SimpleNamespace(**{**vars(checks.sympy), **quick})

        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
        silent = Config({"HistoryManager": {"enabled": False}})
        self.shell, self.plt = InteractiveShell.instance(config=silent), plt
        self.cells = code_cells(json.loads(path.read_text(encoding="utf-8")))

    def source(self, number: int) -> str:
        return "".join(self.cells[number - 1]["source"])

    def run(self, source: str) -> tuple[str, dict | None]:
        from IPython.utils.capture import capture_output

        with capture_output() as captured:
            done = self.shell.run_cell(source)
        self.plt.close("all")
        shown = [one.data.get(kind, "") for one in captured.outputs for kind in ("text/plain", "text/markdown")]
        text = "\n".join([captured.stdout, *(one for one in shown if not one.startswith("<Figure"))])
        error = done.error_before_exec or done.error_in_exec
        return text, failure(error) if error else None


def failure(error: BaseException) -> dict:
    """How a cell ended: at a check that names its equation, at an assertion, or in an error."""
    frames = traceback.extract_tb(error.__traceback__)
    in_check = any(Path(frame.filename).name == "checks.py" for frame in frames)
    message = str(error).strip().partition("\n")[0]
    if in_check and isinstance(error, AssertionError):
        return {"verdict": "check", "seen": message.partition(":")[0], "message": message[:120]}
    name = "assertion" if isinstance(error, AssertionError) else "error"
    return {"verdict": name, "seen": type(error).__name__, "message": message[:120]}


def same(text: str, other: str) -> bool:
    """As the re-run of chapters compares outputs: words to the letter, numbers to a relative 1e-6."""
    import nbval_tolerance as nbval

    def plain(one):
        return nbval.Tolerant(nbval._ADDRESS.sub("0x…", nbval._LEDGER_ERROR.sub(r"\1…\2", one)))

    return plain(text) == plain(other)


def quick_to_refuse(simplify):
    """`simplify` that gives up on what is not zero at a point, which takes SymPy long to find out."""
    import sympy

    def quick(expression):
        letters = sorted(expression.free_symbols, key=str)
        if any(letter.is_integer or letter.is_positive is False for letter in letters):
            return simplify(expression)
        point = {letter: sympy.Rational(37 + 11 * k, 29 + 7 * k) for k, letter in enumerate(letters)}
        try:
            value = complex(expression.subs(point, simultaneous=True).evalf(30))
        except (TypeError, ValueError, AttributeError):
            return simplify(expression)
        return expression if abs(value) > 1e-8 else simplify(expression)

    return quick


def follow(chapter: Chapter, number: int, source: str, last: int | None, normal: dict) -> dict:
    """Runs the changed cell and what comes after it. `normal`: for each cell the text and the seconds."""
    limit = MORE + TIMES * sum(normal[str(k)][1] for k in range(number, len(chapter.cells) + 1))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + limit) + 1, int(used + limit) + 3))
    differs = None
    for k in range(number, (last or len(chapter.cells)) + 1):
        text, failed = chapter.run(source if k == number else chapter.source(k))
        if failed:
            return {**failed, "at": k}
        if differs is None and not same(text, normal[str(k)][0]):
            differs = {"verdict": "output", "seen": "a stored output", "at": k}
    return differs or {"verdict": "survived", "seen": "", "at": 0}


class Waiting:
    """A copy of this process that is about to run a changed cell."""

    def __init__(self, chapter: Chapter, number: int, source: str, folder: Path | None, last: int | None):
        (wait, self.go), (told, tell) = os.pipe(), os.pipe()
        self.told, self.process = told, os.fork()
        if self.process == 0:
            os.close(self.go)
            os.close(told)
            self._be(chapter, number, source, wait, tell, folder, last)
        os.close(wait)
        os.close(tell)

    def _be(self, chapter, number, source, wait, tell, folder, last) -> None:
        try:
            while not select.select([wait], [], [], 5)[0]:
                if os.getppid() == 1:  # there is nobody left to ask
                    return
            with os.fdopen(wait) as pipe:
                normal = json.loads(pipe.readline())
            os.chdir(folder or Path.cwd())
            os.write(tell, json.dumps(follow(chapter, number, source, last, normal)).encode())
        except BaseException as error:
            os.write(tell, json.dumps({"verdict": "error", "seen": repr(error)[:80], "at": number}).encode())
        finally:
            os._exit(0)

    def result(self, normal: dict) -> dict:
        start = time.perf_counter()
        with os.fdopen(self.go, "w") as pipe:
            pipe.write(json.dumps(normal) + "\n")  # the others hold this end too: a line, not the end of the file
        with os.fdopen(self.told) as pipe:
            text = pipe.read()
        os.waitpid(self.process, 0)
        result = json.loads(text) if text else {"verdict": "no end", "seen": "", "at": 0}
        return {**result, "seconds": round(time.perf_counter() - start, 1)}


def run(path: Path, changed: list[tuple], tell) -> None:
    """`changed`: (cell, its changed source, a folder to run in or None, the last cell to run or None).

    `tell(k, result)` hears of each as it comes.
    """
    chapter, normal, waiting = Chapter(path), {}, {}
    os.chdir(FOLDER)
    for number in range(1, len(chapter.cells) + 1):
        for k, (cell, *what) in enumerate(changed):
            if cell == number:
                waiting[k] = Waiting(chapter, number, *what)
        start = time.process_time()
        text, failed = chapter.run(chapter.source(number))
        if failed:
            raise RuntimeError(f"{path.stem}, unchanged, fails in cell {number}: {failed}")
        normal[str(number)] = text, time.process_time() - start
    for k in sorted(waiting):
        tell(k, waiting[k].result(normal))


def results(name: str, changed: list[tuple]):
    """(k, result) of each change of a chapter, as it comes from a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            with os.fdopen(write, "w") as pipe:
                run(
                    FOLDER / f"{name}.ipynb",
                    changed,
                    lambda k, told: print(json.dumps([k, told]), file=pipe, flush=True),
                )
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        for line in pipe:
            yield json.loads(line)
    os.waitpid(child, 0)


def warm_up() -> None:
    """What most chapters need, loaded once."""
    os.environ["MPLBACKEND"] = "agg"
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
    for name in (
        "matplotlib.pyplot",
        "scipy.stats",
        "sympy",
        "spectral_dynamics",
        "spectral_experiments",
        "nbval.plugin",
    ):
        with contextlib.suppress(ImportError):
            __import__(name)
    import IPython.core.interactiveshell  # noqa: F401

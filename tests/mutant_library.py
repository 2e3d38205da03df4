"""Changes of the library against its unit tests: those that run the changed line, quickest first, to the first red.

A process that has numpy, SciPy, SymPy and pytest loaded is forked for each change, and loads the changed module.
"""

import contextlib
import importlib.abc
import importlib.util
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import mutant_coverage

ROOT, LIBRARY = mutant_coverage.ROOT, mutant_coverage.LIBRARY
FIRST = 15  # tests of the first round
SUSPECT, ALONE = 5.0, 50.0  # seconds after which a test may have no end, and seconds more until it has none
WARM = (
    "hypothesis",
    "joblib",
    "matplotlib.pyplot",
    "numpy",
    "pytest",
    "scipy.integrate",
    "scipy.linalg",
    "scipy.optimize",
)
WARM += ("scipy.sparse.linalg", "scipy.stats", "sklearn.datasets", "sympy", "xarray")


class Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Finds one module of the library, with another source."""

    def __init__(self, path: Path, source: str):
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        self.name, self.path, self.source = ".".join(parts), str(path), source

    def find_spec(self, fullname, path, target=None):
        return importlib.util.spec_from_loader(fullname, self, origin=self.path) if fullname == self.name else None

    def get_filename(self, fullname):
        return self.path

    def get_data(self, path):
        return self.source.encode()

    def path_stats(self, path):
        raise OSError("never from a cache")


class Chosen:
    """A plugin for pytest: of what was collected the chosen tests, in this order, and which one was red first."""

    def __init__(self):
        self.rank, self.red, self.now, self.since = {}, "", "", 0.0

    def pytest_runtest_logstart(self, nodeid):
        self.now, self.since = nodeid, time.process_time()

    def verdict(self) -> dict:
        """Where time ran out: one test has no end, or all were green so far."""
        stuck = time.process_time() - self.since > SUSPECT
        return {"verdict": "no end", "seen": self.now} if stuck else {"verdict": "survived", "seen": ""}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((i for i in items if i.nodeid in self.rank), key=lambda item: self.rank[item.nodeid])

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.red:
            self.red = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and not self.red:
            self.red = report.nodeid


def tests_of(path: str, change, covering: dict, most: float) -> list[str]:
    """Tests that run the line (for what stands outside functions: the file), `most` seconds of them.

    The quickest first, but no second variant of a test before the first one of every other.
    """
    lines = covering["lines"].get(path, {})
    source = (ROOT / path).read_text(encoding="utf-8")
    found = lines.get(str(change.line)) or lines.get(str(_first_line(source, change.line)))
    found = found or {test for tests in lines.values() for test in tests}
    seconds, taken, total, variants = covering["seconds"], [], 0.0, Counter()
    ranked = []
    for test in sorted(found, key=lambda one: (seconds[one], one)):
        function = test.partition("[")[0]
        ranked.append((variants[function], test))
        variants[function] += 1
    for _, test in sorted(ranked, key=lambda one: one[0]):
        total += seconds[test]
        if taken and total > most:
            break
        taken.append(test)
    return taken


def _first_line(source: str, line: int) -> int:
    """Coverage counts a statement of several lines at its first."""
    import ast

    around = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.stmt) and n.lineno <= line <= n.end_lineno]
    return max(node.lineno for node in around) if around else line


def in_a_fork(work, seconds: float, spent) -> dict | None:
    """What `work()` tells from a process of its own, or `spent()` once its seconds are used; None if killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.setsid()
        with os.fdopen(write, "w") as pipe, open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            signal.signal(signal.SIGXCPU, partial(_end, pipe, spent))
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds + 2 * ALONE)))
            try:
                pipe.write(json.dumps(work()))
            except BaseException as error:
                pipe.write(json.dumps({"verdict": "failed", "seen": repr(error)}))
            finally:
                pipe.flush()
                os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told) if told else None


def _end(pipe, spent, *_) -> None:
    """Time is up; a single test that seems to have no end gets ALONE seconds more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if spent()["verdict"] == "no end" and soft + ALONE < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (int(soft + ALONE), hard))
        return
    pipe.write(json.dumps(spent()))
    pipe.flush()
    os._exit(0)


def in_a_process(script: str) -> None:
    """Python code, in a process that has loaded nothing yet."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", script], env=env, cwd=ROOT, check=True)


def warm_up() -> None:
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.path.insert(0, str(ROOT / "tests"))


def first_red(path: str, change, tests: list[str], chosen: Chosen) -> dict:
    """Runs in a process of its own: {"verdict", "seen"}."""
    import hypothesis
    import pytest

    source = (ROOT / path).read_text(encoding="utf-8")
    for name in [name for name in sys.modules if name.startswith("spectral_")]:
        del sys.modules[name]
    sys.meta_path.insert(0, Changed(ROOT / path, change.apply(source)))
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
    hypothesis.settings.load_profile("mutants")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to load than most tests to run
    os.chdir(ROOT)
    for some in (tests[:FIRST], tests[FIRST:]):
        files = sorted({test.partition("::")[0] for test in some})
        chosen.rank = {test: k for k, test in enumerate(some)}
        with contextlib.redirect_stdout(io.StringIO()):
            if some:
                pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *files], plugins=[chosen])
        if chosen.red:
            return {"verdict": "unit test", "seen": chosen.red}
    return {"verdict": "survived", "seen": ""}


def judge(path: str, change, covering: dict, most: float, tests: list[str] | None = None) -> dict:
    """The verdict on one change of a file of the library, by all tests that run it or by those given."""
    tests = tests or tests_of(path, change, covering, most)
    start = time.perf_counter()
    expected = sum(covering["seconds"][test] for test in tests)
    chosen = Chosen()
    told = in_a_fork(lambda: first_red(path, change, tests, chosen), 10 + 1.5 * expected, chosen.verdict)
    if told and told["verdict"] == "failed":
        raise RuntimeError(f"the tests of {path} did not run: {told['seen']}")
    told = told or {"verdict": "no end", "seen": tests[0] if tests else ""}
    return {**told, "tests": len(tests), "seconds": round(time.perf_counter() - start, 1)}
